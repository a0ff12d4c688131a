/* An event loop for a process with one thread on it. */
#pragma once

struct event_base;

int loop_new(struct event_base **ret);

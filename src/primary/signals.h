/* Signals to the primary, as events on its loop. */
#pragma once

struct primary;

int signals_open(struct primary *p);

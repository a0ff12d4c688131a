/*
 * Processes that workers have started and left behind. The kernel gives us those whose worker has died; they are killed and
 * reaped, so that nothing a worker has started outlives it.
 */
#pragma once

struct primary;

int strays_open(struct primary *p);
void strays_look(struct primary *p);
void strays_close(struct primary *p);

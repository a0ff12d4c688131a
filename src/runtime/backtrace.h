/*
 * What this process was doing when it crashed, or when the primary asks: written by a signal handler into shared memory.
 */
#pragma once

#include <signal.h>

struct backtrace_slot;

/* Asks for it (besides the signals of crashes). Not SIGRTMIN itself: glibc and sanitizers use the first ones. */
#define BACKTRACE_SIGNAL (SIGRTMIN + 6)

void backtrace_preload(void);
int backtrace_install(struct backtrace_slot *slot);

/*
 * When the present turn of this thread's loop began to work: the first of our callbacks that runs after the loop has
 * waited reads the clock, all others of the turn use that.
 */
#pragma once

#include <stdint.h>

#include "base/clock.h"

struct mailbox;

struct turn {
	uint64_t begun_us; /* 0: none of our callbacks has run in this turn */
	uint64_t cpu_us;   /* of the thread, at the end of the last turn; valid while watch > 0 */
	unsigned watch;    /* turns for which the thread's CPU clock is still to be read */
	struct mailbox *mailbox; /* who is told that the loop is awake; NULL: nobody */
};

extern _Thread_local struct turn turn; /* each loop has a thread of its own */

void turn_begin(void);

/* Every callback of ours that may be the first one of a turn calls this. Returns when the turn began, in microseconds. */
static inline uint64_t turn_mark(void)
{
	if (turn.begun_us == 0)
		turn_begin();
	return turn.begun_us;
}

/* In a child: what it inherits over fork(2) is of a turn of its parent's loop. */
static inline void turn_forget(void)
{
	turn = (struct turn){0};
}

uint64_t turn_end(uint64_t now);

/*
 * Whether a loop that has nothing to do should look again at once instead of going to sleep. Waking a process up, and a CPU with it,
 * takes longer than most messages take to be answered; so while the next one is likely to come within a moment, that moment
 * is spent looking for it. Any process; for the loop's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

struct spin {
	uint64_t budget_us; /* the moment; 0: never */
	uint64_t n_seen;    /* of what is looked for, so far */
	uint64_t idle_us;   /* since when nothing has come */
	uint64_t last_us;   /* when it was looked last */
	uint64_t off_us;    /* not before */
	bool hot;           /* what came last came within a moment */
};

bool spin_goes_on(struct spin *s, uint64_t n_seen, uint64_t now);

/*
 * At the end of each turn of a loop. n_seen: how much has come so far of what may be worth the wait. Returns whether to look again
 * at once; else sleep. Reads the clock only where there is something to decide.
 */
static inline bool spin_again(struct spin *s, uint64_t n_seen)
{
	if (s->budget_us == 0 || (n_seen == s->n_seen && !s->hot))
		return false;
	return spin_goes_on(s, n_seen, now_us());
}

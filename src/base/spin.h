/*
 * Whether a loop that has nothing to do should look again at once instead of going to sleep. Waking a process up, and a CPU with it,
 * takes longer than most messages take to be answered; so while the next one is likely to come within a moment, that moment
 * is spent looking for it. Any process; for the loop's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

/* What has come so far. */
struct spin_seen {
	uint64_t n;      /* in all */
	uint64_t n_bulk; /* of that, in masses: they come more cheaply when they have gathered */
};

struct spin {
	uint64_t budget_us; /* the moment; 0: never */
	struct spin_seen seen;
	uint64_t idle_us; /* since when nothing has come */
	uint64_t last_us; /* when it was looked last */
	uint64_t off_us;  /* not before */
	uint64_t
		rest_us; /* how long it was not tried, the last time that somebody else wanted the CPU */
	unsigned streak; /* how many came since there were masses; counted up to some */
	bool hot;        /* what came last came within a moment */
};

bool spin_goes_on(struct spin *s, const struct spin_seen *seen, uint64_t now);

/* At the end of each turn of a loop. Returns whether to look again at once; else sleep. Reads the clock only where need be. */
static inline bool spin_again(struct spin *s, const struct spin_seen *seen)
{
	if (s->budget_us == 0 || (seen->n == s->seen.n && !s->hot))
		return false;
	return spin_goes_on(s, seen, now_us());
}

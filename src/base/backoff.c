/*
 * Back-off of one slot. Only the primary uses it, but it knows nothing of processes.
 */
#include "base/backoff.h"

#include <string.h>

/*
 * Counts a failure; true when it is more than the budget allows. The window slides: the one before counts as
 * much as still reaches into the last window_us, which needs no list of failures and is right for any count.
 */
static bool budget_spent(struct backoff *b, const struct rate *r, uint64_t now_us)
{
	uint64_t passed;

	if (r->count == 0)
		return false;
	passed = (now_us - b->window_us) / r->window_us;
	if (b->window_us == 0 || passed > 0) {
		b->n_before = b->window_us != 0 && passed == 1 ? b->n_now : 0;
		b->n_now = 0;
		b->window_us = b->window_us == 0 ? now_us : b->window_us + passed * r->window_us;
	}
	b->n_now++;
	return b->n_now +
		(uint64_t)((double)b->n_before *
			(1 - (double)(now_us - b->window_us) / (double)r->window_us)) >
		r->count;
}

/*
 * Records a failure. was_healthy: it had worked for a while, so this is the first failure of a new streak.
 * chance: any random number; spreads the delay by a quarter to either side, so that slots do not march in step.
 * Returns microseconds to wait before the next start (0: at once), or BACKOFF_SPENT.
 */
uint64_t backoff_failed(struct backoff *b, const struct backoff_limits *l, bool was_healthy,
	uint64_t now_us, uint32_t chance)
{
	uint64_t delay = l->min_us;

	b->streak = was_healthy ? 1 : b->streak + 1;
	if (budget_spent(b, &l->budget, now_us))
		return BACKOFF_SPENT;
	if (b->streak <= 1)
		return 0;
	for (unsigned i = 2; i < b->streak && delay < l->max_us; i++)
		delay *= 2;
	if (delay > l->max_us)
		delay = l->max_us;
	return delay - delay / 4 + chance % (delay / 2 + 1);
}

/* Forgets everything: the operator asked for a fresh start. */
void backoff_reset(struct backoff *b)
{
	memset(b, 0, sizeof(*b));
}

/*
 * A lazy timer wheel. Any process, one thread per wheel.
 *
 * Always: an entry lies in the bucket of tick `filed`, with now < filed <= due and filed - now <
 * WHEEL_BUCKETS. A bucket that comes due is emptied: entries whose deadline has come go to the
 * callback, the others into a later bucket, never into the one being emptied.
 */
#include "base/wheel.h"

#include <assert.h>

void wheel_init(struct wheel *w, uint64_t now_ms)
{
	w->start_ms = now_ms;
	w->now = 1;
	w->n_entries = 0;
	for (unsigned i = 0; i < WHEEL_BUCKETS; i++)
		LIST_INIT(&w->buckets[i]);
}

/* Files the entry by its deadline, wherever it was before. */
void wheel_refile(struct wheel *w, struct wheel_entry *e)
{
	uint32_t tick = e->due;

	if (tick <= w->now)
		tick = w->now + 1;
	if (tick - w->now >= WHEEL_BUCKETS)
		tick = w->now + WHEEL_BUCKETS - 1;
	wheel_remove(w, e);
	e->filed = tick;
	LIST_INSERT_HEAD(&w->buckets[tick % WHEEL_BUCKETS], e, link);
	w->n_entries++;
}

/* Takes the entry off the wheel; fine when it is on none. */
void wheel_remove(struct wheel *w, struct wheel_entry *e)
{
	if (e->filed == 0)
		return;
	assert(w->n_entries > 0);
	LIST_REMOVE(e, link);
	e->filed = 0;
	w->n_entries--;
}

static void wheel_empty_bucket(struct wheel *w, uint32_t until, wheel_fn on_due, void *arg)
{
	struct wheel_list *bucket = &w->buckets[w->now % WHEEL_BUCKETS];
	struct wheel_entry *e;

	while ((e = LIST_FIRST(bucket))) {
		if (e->due > until) {
			wheel_refile(w, e);
			continue;
		}
		wheel_remove(w, e);
		on_due(e, arg);
	}
}

/*
 * Calls on_due for every entry whose deadline has passed at now_ms; it is off the wheel then, and
 * the callback may set or remove any entry, this one included. A jump of time beyond the wheel's
 * size visits each bucket once.
 */
void wheel_advance(struct wheel *w, uint64_t now_ms, wheel_fn on_due, void *arg)
{
	uint32_t until = (uint32_t)((now_ms - w->start_ms) >> WHEEL_TICK_SHIFT) + 1;

	if (until <= w->now)
		return;
	if (until - w->now > WHEEL_BUCKETS)
		w->now = until - WHEEL_BUCKETS;
	while (w->now < until) {
		w->now++;
		wheel_empty_bucket(w, until, on_due, arg);
	}
}

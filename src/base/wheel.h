/*
 * Time-outs for very many things of which few ever expire: a timer wheel that moves an entry only
 * when it must. Making a deadline later is one store; the entry is filed anew when its old bucket
 * comes due. Time is a parameter, in milliseconds. One wheel belongs to one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define WHEEL_TICK_SHIFT \
	8 /* a tick is 256 ms: deadlines are kept to within one tick, never early */
#define WHEEL_TICK_MS (1u << WHEEL_TICK_SHIFT)
#define WHEEL_BUCKETS 256 /* power of two; deadlines further away are filed anew on the way */

/* Embedded in what has a deadline; all zero when not on a wheel. */
struct wheel_entry {
	LIST_ENTRY(wheel_entry) link;
	uint32_t due;   /* tick of the deadline */
	uint32_t filed; /* tick of the bucket it lies in, at most due; 0: not on the wheel */
};

LIST_HEAD(wheel_list, wheel_entry);

struct wheel {
	uint64_t start_ms;
	uint32_t now; /* last tick that was looked at; the first one is 1 */
	uint32_t n_entries;
	struct wheel_list buckets[WHEEL_BUCKETS];
};

typedef void (*wheel_fn)(struct wheel_entry *e, void *arg);

void wheel_init(struct wheel *w, uint64_t now_ms);
void wheel_refile(struct wheel *w, struct wheel_entry *e);
void wheel_remove(struct wheel *w, struct wheel_entry *e);
void wheel_advance(struct wheel *w, uint64_t now_ms, wheel_fn on_due, void *arg);

/* Sets or changes the entry's deadline. */
static inline void wheel_set(struct wheel *w, struct wheel_entry *e, uint64_t deadline_ms)
{
	e->due = (uint32_t)((deadline_ms - w->start_ms) >> WHEEL_TICK_SHIFT) + 2;
	if (e->filed == 0 || e->due < e->filed)
		wheel_refile(w, e);
}

static inline bool wheel_holds(const struct wheel_entry *e)
{
	return e->filed != 0;
}

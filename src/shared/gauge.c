/*
 * Gauges. Workers, and their threads; the admin process looks at them.
 *
 * An area with a cell for each process: its number as a taker of locks (shared/lock.h), by which the kernel knows whether it
 * lives, and its share of the sum. A cell whose process is dead is taken over by the next one that needs a cell; so there are
 * hardly more in use than there are processes. No locks: a worker can die anywhere in this.
 */
#include "shared/gauge.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#define N_CELLS  4096                 /* processes that can have a share at the same time */
#define CLAIMING UINT32_C(0x80000000) /* somebody is about to make it his own */

struct cell {
	_Atomic uint32_t owner; /* 0: never used */
	_Atomic int64_t share;
};

/* What is in the area. */
struct cells {
	_Alignas(64) _Atomic uint32_t n_used; /* those behind were never used */
	_Alignas(64) struct cell cells[N_CELLS];
};

struct tine_gauge {
	struct cells *all;
	struct cell *own;
	const struct lock_owner *owner;
};

static uint32_t n_used(const struct cells *all)
{
	uint32_t n = atomic_load_explicit(&all->n_used, memory_order_acquire);

	return n < N_CELLS ? n : N_CELLS;
}

static bool is_free(const struct lock_owner *o, uint32_t owner)
{
	return owner == 0 || !lock_is_alive(o->fd, owner & ~CLAIMING);
}

/* In two steps, so that nobody sees our number with another one's share. */
static bool claim(const struct lock_owner *o, struct cell *c, uint32_t seen)
{
	if (!atomic_compare_exchange_strong(&c->owner, &seen, o->id | CLAIMING))
		return false;
	atomic_store(&c->share, 0);
	atomic_store(&c->owner, o->id);
	return true;
}

static struct cell *find_own(const struct lock_owner *o, struct cells *all)
{
	for (uint32_t i = 0; i < n_used(all); i++) {
		if (atomic_load(&all->cells[i].owner) == o->id)
			return &all->cells[i];
	}
	return NULL;
}

static struct cell *find_free(const struct lock_owner *o, struct cells *all)
{
	for (uint32_t i = 0; i < N_CELLS; i++) {
		struct cell *c = &all->cells[i];
		uint32_t seen = atomic_load(&c->owner), n;

		if (!is_free(o, seen) || !claim(o, c, seen))
			continue;
		n = n_used(all);
		while (n <= i && !atomic_compare_exchange_weak(&all->n_used, &n, i + 1))
			;
		return c;
	}
	return NULL;
}

/*
 * Finds a gauge, or makes it, with a share of our own, which is 0 until we say something. One thread at a time. Returns 0 with
 * *ret, which lives until arena_detach(), or -errno and why.
 */
int gauge_find(struct arena *a, const char *name, struct tine_gauge **ret, char why[ARENA_WHY_MAX])
{
	struct arena_request q = {.name = name, .kind = ARENA_GAUGE, .size = sizeof(struct cells)};
	struct tine_shared *area;
	struct tine_gauge *g;
	int r = arena_find(a, &q, &area, why);

	if (r < 0)
		return r;
	g = arena_alloc(a, sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->all = area->data;
	g->owner = area->owner;
	g->own = find_own(g->owner, g->all);
	if (!g->own)
		g->own = find_free(g->owner, g->all);
	if (!g->own) {
		snprintf(why, ARENA_WHY_MAX,
			"shared memory: %d workers have a share of the gauge \"%.63s\" already",
			N_CELLS, name);
		return -ENOSPC;
	}
	*ret = g;
	return 0;
}

/* Changes our share. */
void gauge_add(struct tine_gauge *g, int64_t n)
{
	atomic_fetch_add_explicit(&g->own->share, n, memory_order_relaxed);
}

void gauge_set(struct tine_gauge *g, int64_t value)
{
	atomic_store_explicit(&g->own->share, value, memory_order_relaxed);
}

/* own: our own number, of which the kernel does not say that it lives; 0: we have none. */
static int64_t sum(int fd, const struct cells *all, uint32_t own)
{
	uint32_t n = n_used(all);
	uint64_t total = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t owner = atomic_load_explicit(&all->cells[i].owner, memory_order_acquire);
		uint64_t share =
			(uint64_t)atomic_load_explicit(&all->cells[i].share, memory_order_relaxed);

		if (owner == 0 || owner & CLAIMING)
			continue;
		if (owner == own || lock_is_alive(fd, owner))
			total += share;
	}
	return (int64_t)total;
}

/* The sum over all living workers; asks the kernel about each. */
int64_t gauge_get(const struct tine_gauge *g)
{
	return sum(g->owner->fd, g->all, g->owner->id);
}

/* The same, for a process without a share. fd: of the arena. 0 for an area that is too small to be a gauge. */
int64_t gauge_sum(int fd, const void *data, size_t size)
{
	return size >= sizeof(struct cells) ? sum(fd, data, 0) : 0;
}

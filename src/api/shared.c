/*
 * tine/shared.h: memory that all workers share, for modules. What finds or makes something runs on the loop's thread, all else
 * on any.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <tine/shared.h>

#include "base/clock.h"
#include "runtime/module.h"
#include "shared/arena.h"
#include "shared/gauge.h"
#include "shared/limiter.h"

/* In shared memory. */
struct tine_counter {
	_Atomic int64_t value;
};

static int find(struct tine_worker *worker, const struct arena_request *q, struct tine_shared **ret)
{
	char why[ARENA_WHY_MAX] = "";
	int r;

	if (!worker || !worker->arena || !q->name || !ret)
		return -EINVAL;
	r = arena_find(worker->arena, q, ret, why);
	if (r < 0 && *why)
		tine_worker_error(worker, "%s", why);
	return r;
}

/* --- areas --- */

int tine_shared_area(
	struct tine_worker *worker, const char *name, size_t size, struct tine_shared **ret_area)
{
	struct arena_request q = {.name = name, .kind = ARENA_AREA, .size = size};

	return find(worker, &q, ret_area);
}

void *tine_shared_data(const struct tine_shared *area)
{
	return area->data;
}

size_t tine_shared_size(const struct tine_shared *area)
{
	return area->size;
}

_Static_assert((int)TINE_SHARED_OWNER_DIED == LOCK_OWNER_DIED, "they are the same");

int tine_shared_lock(struct tine_shared *area, uint64_t timeout_us)
{
	return lock_take(area->owner, area->lock, timeout_us);
}

int tine_shared_unlock(struct tine_shared *area)
{
	return lock_give(area->owner, area->lock);
}

/* --- counters --- */

int tine_shared_counter(
	struct tine_worker *worker, const char *name, struct tine_counter **ret_counter)
{
	struct arena_request q = {
		.name = name, .kind = ARENA_COUNTER, .size = sizeof(struct tine_counter)};
	struct tine_shared *area;
	int r = ret_counter ? find(worker, &q, &area) : -EINVAL;

	if (r == 0)
		*ret_counter = area->data;
	return r;
}

int64_t tine_counter_add(struct tine_counter *counter, int64_t n)
{
	uint64_t before =
		(uint64_t)atomic_fetch_add_explicit(&counter->value, n, memory_order_relaxed);

	return (int64_t)(before + (uint64_t)n);
}

int64_t tine_counter_get(const struct tine_counter *counter)
{
	return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

void tine_counter_set(struct tine_counter *counter, int64_t value)
{
	atomic_store_explicit(&counter->value, value, memory_order_relaxed);
}

/* --- gauges --- */

int tine_shared_gauge(struct tine_worker *worker, const char *name, struct tine_gauge **ret_gauge)
{
	char why[ARENA_WHY_MAX] = "";
	int r;

	if (!worker || !worker->arena || !name || !ret_gauge)
		return -EINVAL;
	r = gauge_find(worker->arena, name, ret_gauge, why);
	if (r < 0 && *why)
		tine_worker_error(worker, "%s", why);
	return r;
}

void tine_gauge_add(struct tine_gauge *gauge, int64_t n)
{
	gauge_add(gauge, n);
}

void tine_gauge_set(struct tine_gauge *gauge, int64_t value)
{
	gauge_set(gauge, value);
}

int64_t tine_gauge_get(const struct tine_gauge *gauge)
{
	return gauge_get(gauge);
}

/* --- limits --- */

int tine_shared_limit(struct tine_worker *worker, const char *name,
	const struct tine_limit_options *options, struct tine_limit **ret_limit)
{
	char why[ARENA_WHY_MAX] = "";
	int r;

	if (!worker || !worker->arena || !name || !options || !ret_limit)
		return -EINVAL;
	r = limiter_find(worker->arena, name, options, ret_limit, why);
	if (r < 0 && *why)
		tine_worker_error(worker, "%s", why);
	return r;
}

int tine_limit_take(struct tine_limit *limit, const void *key, size_t len, uint64_t cost,
	struct tine_limit_answer *ret_answer)
{
	return limiter_take(limit, key, len, cost, now_ns(), ret_answer);
}

uint64_t tine_limit_forgotten(const struct tine_limit *limit)
{
	return limiter_forgotten(limit);
}

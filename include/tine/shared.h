/*
 * tine/shared.h - memory that all workers share: areas, locks, counters, gauges, limits.
 *
 * Everything here has a name and is found by it, whichever worker asks, in all modules and generations: it is there from the
 * first time it is asked for until tined is stopped, so it survives workers that crash, and reloads. There is
 * [workers] shared_memory of it; nothing is ever given back before the end.
 *
 * Names are 1 to 63 of the characters A-Z a-z 0-9 _ . : / -. An area, a counter and a gauge cannot have the same name. Modules
 * share them, too; begin names with the module's own to keep them apart. Counters, gauges and limits are shown by name in the
 * admin process's /metrics.
 *
 * The functions that find or make something (tine_shared_area, tine_shared_counter, tine_shared_gauge, tine_shared_limit) are
 * for the worker's loop thread, best in worker_start, where a failure fails the start or the reload: they say why, as
 * tine_worker_error() does. What they return lives until worker_stop has returned, and is not given back before: call them once, not
 * for each request. All others may be called on ANY thread of the
 * worker. None of this may be used in a process that a module forks itself.
 *
 * What is in shared memory, others can write to, also by mistake: check what you read there before you use it as a length, an
 * index or an offset, and keep no pointers in it (it lies elsewhere in each worker). A worker that scribbles over all
 * of it makes these functions return errors in the others and spoils what is in there; it cannot harm the
 * primary, which never looks into it.
 */
#ifndef TINE_SHARED_H
#define TINE_SHARED_H

#include <stddef.h>
#include <stdint.h>

#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Common to the functions that find or make: 0, or
 *   -EINVAL     the name, the size or an option is not possible
 *   -EEXIST     the name is taken by something of another kind or size; a reload does not change that, another name does
 *   -ENOSPC     [workers] shared_memory, or the number of names (1024), is used up
 *   -EUCLEAN    somebody has written over the directory of names; until tined is restarted nothing can be found
 *   -EUSERS     somebody has locked all of the file behind the memory (fcntl); until he ends nothing can be found
 *   -ETIMEDOUT  somebody has held the directory's lock for a second (a worker that was stopped in the middle)
 *   -ENOMEM
 */

/* --- areas --- */

/* A piece of shared memory with a lock of its own. */
struct tine_shared;

/*
 * Finds the area of that name, or makes it: of exactly `size` bytes (1 or more), all zero, aligned to 64. Of several workers
 * that ask at the same time one makes it and all get it.
 */
TINE_EXPORT int tine_shared_area(
	struct tine_worker *worker, const char *name, size_t size, struct tine_shared **ret_area);

/*
 * Where it is in this worker, and its size in bytes. Use C11 atomics on what is in it, or its lock. Pages that nobody has written
 * to use no memory; those that were count as resident memory of each worker that touches them ([workers] max_memory).
 */
TINE_EXPORT void *tine_shared_data(const struct tine_shared *area);
TINE_EXPORT size_t tine_shared_size(const struct tine_shared *area);

enum tine_shared_status {
	TINE_SHARED_OWNER_DIED = 1, /* we hold the lock; the last holder died holding it */
};

/*
 * Takes the area's lock: over all workers, and over the threads of this one. Waits for at most timeout_us microseconds;
 * 0: not at all. On the loop thread nothing else happens meanwhile: hold it for microseconds, and wait for no more than
 * a few milliseconds; where it is held for longer, take it on a thread. Not recursive, and not first come first served.
 *
 * Returns 0; TINE_SHARED_OWNER_DIED when the holder died (crashed, was killed) before giving it back: we hold it now, what it
 * was changing may be half done, put it right; -EBUSY when it is taken and timeout_us is 0; -ETIMEDOUT.
 */
TINE_EXPORT int tine_shared_lock(struct tine_shared *area, uint64_t timeout_us);

/* Gives it back. Returns 0, or -EPERM when this worker does not hold it (any more). */
TINE_EXPORT int tine_shared_unlock(struct tine_shared *area);

/* --- counters --- */

/* A number that all workers count with, atomically and without a lock; 0 at first. In a cache line of its own. */
struct tine_counter;

/* Finds the counter of that name, or makes it. */
TINE_EXPORT int tine_shared_counter(
	struct tine_worker *worker, const char *name, struct tine_counter **ret_counter);

/* Adds n, which may be negative, and returns the sum; it wraps around. Orders no other memory accesses (relaxed). */
TINE_EXPORT int64_t tine_counter_add(struct tine_counter *counter, int64_t n);
TINE_EXPORT int64_t tine_counter_get(const struct tine_counter *counter);
TINE_EXPORT void tine_counter_set(struct tine_counter *counter, int64_t value);

/* --- gauges --- */

/*
 * A number that is the sum of what each worker says of itself (connections it holds, say). What a worker said is gone with it, when it
 * crashes, too; a counter would keep it for ever.
 */
struct tine_gauge;

/* Finds the gauge of that name, or makes it; our share of it is 0 at first. 64 KiB of address space each, little of it used. */
TINE_EXPORT int tine_shared_gauge(
	struct tine_worker *worker, const char *name, struct tine_gauge **ret_gauge);

/* Changes this worker's share of it; all modules of the worker have one in common. */
TINE_EXPORT void tine_gauge_add(struct tine_gauge *gauge, int64_t n);
TINE_EXPORT void tine_gauge_set(struct tine_gauge *gauge, int64_t value);

/* The sum over all workers that live, draining ones included. Asks the kernel about each of them: a microsecond per worker. */
TINE_EXPORT int64_t tine_gauge_get(const struct tine_gauge *gauge);

/* --- limits --- */

enum tine_limit_kind {
	/*
	 * A bucket that holds `burst` and is refilled evenly, `amount` every period_us: smooth, and what is unused is kept only
	 * up to `burst`.
	 */
	TINE_LIMIT_BUCKET,
	/*
	 * `amount` in each period of period_us, which begin for all keys at the same time: simple to explain, but around a
	 * border up to twice as much gets through in one period's time.
	 */
	TINE_LIMIT_WINDOW,
};

struct tine_limit_options {
	size_t size; /* sizeof(struct tine_limit_options) */
	enum tine_limit_kind kind;
	uint64_t amount;    /* 1 to 10^9 */
	uint64_t period_us; /* 1 ms to 366 days; of a bucket: no shorter than amount microseconds */
	uint64_t burst;     /* 1 to 10^9, 0: `amount`; of a window: 0 */
	uint64_t
		keys; /* that are to be told apart at the same time, 1 to 16 million: 32 to 64 bytes of memory each */
};

/* How much each of many keys (clients, users) may do in a time, over all workers. Without any lock. */
struct tine_limit;

/*
 * Finds the limit of that name, or makes it. What was counted is kept over a reload that changes amount or burst (of a window,
 * unless period_us changes); another kind, or number of keys, makes another table, and counts anew: the old one's memory
 * stays in use until tined is restarted.
 */
TINE_EXPORT int tine_shared_limit(struct tine_worker *worker, const char *name,
	const struct tine_limit_options *options, struct tine_limit **ret_limit);

struct tine_limit_answer {
	uint64_t left; /* may still be taken now */
	uint64_t
		retry_us; /* when refused: microseconds until it would be allowed, if nobody else takes any; else 0 */
};

enum tine_limit_result {
	TINE_LIMITED = 1, /* refused: it would be too much */
};

/*
 * Takes `cost` of what a key may do. key: len bytes of any kind, compared by a 64-bit hash with a secret in it. cost: 0 takes
 * nothing and only looks. ret_answer: NULL, or where more about it goes. Time is CLOCK_MONOTONIC, the same for all workers.
 *
 * Returns 0: allowed; TINE_LIMITED: refused, and nothing was taken; -E2BIG: cost is more than can ever be allowed at once, and
 * *ret_answer is left as it was.
 *
 * A key takes up room for as long as it makes a difference: until its bucket is full again, or its window over. When more keys
 * than there is room for come at the same time, the key that is nearest to being free of its limit is forgotten in favour of
 * the new one: whoever is refused at the moment is the last to go, nobody is refused because of others, and somebody with very
 * many keys may get more through than he should. tine_limit_forgotten() counts it. When a worker takes
 * up room for a key in the very moment in which another one serves the key that had it, or that key, too, what one of them
 * takes may be counted to the wrong key, or not at all.
 */
TINE_EXPORT int tine_limit_take(struct tine_limit *limit, const void *key, size_t len,
	uint64_t cost, struct tine_limit_answer *ret_answer);

/* Keys forgotten for want of room, since the table was made, in all workers. If it grows, raise `keys`. */
TINE_EXPORT uint64_t tine_limit_forgotten(const struct tine_limit *limit);

#ifdef __cplusplus
}
#endif
#endif

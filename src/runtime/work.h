/*
 * One piece of work on the thread pool, with what the public handle needs: cancelling, also while it runs, and a deadline. Ready-made
 * work has a structure of its own with this at its beginning.
 */
#pragma once

#include <errno.h>
#include <event2/event_struct.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/pool.h"

/* The public opaque type of tine/work.h. Zeroed but for run, done, and the lane of its job. */
struct tine_work {
	struct pool_job job;              /* first */
	void (*run)(struct tine_work *w); /* on a thread */
	/* On the loop's thread, once: 0, or why it did not run or was told to stop. The last that is heard of it; may free it. */
	void (*done)(struct tine_work *w, int status);

	/* of work.c */
	struct pool *pool;
	atomic_int stop; /* 0, or why it is to end: -ECANCELED, -ETIMEDOUT */
	bool timed;
	struct event deadline; /* if it is; the loop's alone */
};

int work_submit(struct pool *p, struct tine_work *w, uint64_t timeout_us);
void work_cancel(struct tine_work *w);
const char *work_why(int status);

/* Why a piece of work that runs is to end; 0: it is not. On its thread. */
static inline int work_stopped(struct tine_work *w)
{
	int stop = atomic_load_explicit(&w->stop, memory_order_relaxed);

	if (stop != 0 || !pool_is_stopping(w->pool))
		return stop;
	atomic_store_explicit(&w->stop, -ECANCELED, memory_order_relaxed); /* done() says so */
	return -ECANCELED;
}

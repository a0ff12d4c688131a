/* A pool with one thread, a loop and a module's handle of both, for tests of work. */
#pragma once

#include <check.h>
#include <dirent.h>
#include <event2/event.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/mailbox.h"
#include "runtime/module.h"
#include "runtime/pool.h"
#include "runtime/work.h"

#define QUEUE_MAX 8

static struct event_base *base;
static struct mailbox mailbox;
static struct tine_worker worker;
static unsigned n_done; /* callbacks, of whatever kind */

/* Work that keeps the thread, so that what is submitted after it in the same lane waits. */
struct hold {
	struct tine_work work; /* first */
	sem_t begun, go;
	bool over;
};

static void work_setup(void)
{
	struct pool_options o = {.mailbox = &mailbox, .n_threads = 1, .queue_max = QUEUE_MAX};

	n_done = 0;
	memset(&worker, 0, sizeof(worker));
	ck_assert_int_eq(loop_new(&base), 0);
	ck_assert_int_eq(mailbox_open(&mailbox, base), 0);
	ck_assert_int_eq(pool_new(&o, &worker.pool), 0);
	worker.base = base;
	worker.mailbox = &mailbox;
}

static void work_teardown(void)
{
	worker.pool = pool_free(worker.pool);
	mailbox_close(&mailbox);
	event_base_free(base);
}

static void run_until(unsigned n)
{
	while (n_done < n)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(n_done, n);
}

/* Turns of the loop in which nothing is to be called. */
static inline void run_idle(void)
{
	unsigned n = n_done;

	for (int i = 0; i < 4; i++)
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	ck_assert_uint_eq(n_done, n);
}

static void hold_run(struct tine_work *w)
{
	struct hold *h = (struct hold *)w;

	sem_post(&h->begun);
	sem_wait(&h->go);
}

static void hold_done(struct tine_work *w, int status)
{
	((struct hold *)w)->over = true;
}

/* Returns when the thread has done all that was submitted before, and waits. */
static inline void hold_begin(struct hold *h, enum pool_lane lane)
{
	memset(h, 0, sizeof(*h));
	sem_init(&h->begun, 0, 0);
	sem_init(&h->go, 0, 0);
	h->work.job.lane = lane;
	h->work.run = hold_run;
	h->work.done = hold_done;
	ck_assert_int_eq(work_submit(worker.pool, &h->work, 0), 0);
	sem_wait(&h->begun);
}

static inline void hold_end(struct hold *h)
{
	sem_post(&h->go);
	while (!h->over)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	sem_destroy(&h->begun);
	sem_destroy(&h->go);
}

static inline unsigned count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static inline unsigned count_descriptors(void)
{
	return count_entries("/proc/self/fd") - 1;
}

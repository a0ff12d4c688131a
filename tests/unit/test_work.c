/* tine/work.h over runtime/work.c: results, cancelling, deadlines, bounds, the end of the worker. */
#include <errno.h>
#include <pthread.h>

#include <tine/loop.h>
#include <tine/work.h>

#include "base/clock.h"
#include "run.h"
#include "work_harness.h"

#define FOREVER (3600 * US_PER_S)

static pthread_t loop_thread;
static bool calling; /* a function that must not call back */

struct task {
	sem_t started, go;
	unsigned n_runs, n_done;
	int status, seen;
};

static void setup(void)
{
	loop_thread = pthread_self();
	calling = false;
	work_setup();
}

static struct task *task_new(void)
{
	struct task *t = calloc(1, sizeof(*t));

	sem_init(&t->started, 0, 0);
	sem_init(&t->go, 0, 0);
	t->status = t->seen = 1;
	return t;
}

/* At once. */
static void run_at_once(struct tine_work *work, void *arg)
{
	struct task *t = arg;

	t->n_runs++;
	t->seen = tine_work_stopped(work);
}

/* Until the test lets it go. */
static void run_held(struct tine_work *work, void *arg)
{
	struct task *t = arg;

	sem_post(&t->started);
	sem_wait(&t->go);
	run_at_once(work, arg);
}

/* Until it is told to stop. */
static void run_until_stopped(struct tine_work *work, void *arg)
{
	struct task *t = arg;

	sem_post(&t->started);
	while (tine_work_stopped(work) == 0)
		sched_yield();
	run_at_once(work, arg);
}

static void on_done(int status, void *arg)
{
	struct task *t = arg;

	ck_assert(pthread_equal(pthread_self(), loop_thread));
	ck_assert(!calling);
	t->n_done++;
	t->status = status;
	n_done++;
}

static int submit(struct task *t, void (*run)(struct tine_work *, void *), uint64_t timeout_us,
	struct tine_work **ret)
{
	struct tine_work_options o = {
		.size = sizeof(o), .run = run, .done = on_done, .arg = t, .timeout_us = timeout_us};

	return tine_work_submit(&worker, &o, ret);
}

/* One that holds the only thread. */
static struct task *hold(void)
{
	struct task *t = task_new();

	ck_assert_int_eq(submit(t, run_held, 0, NULL), 0);
	sem_wait(&t->started);
	return t;
}

START_TEST(test_bad_options)
{
	struct tine_worker nothing = {0};
	struct tine_work_options good = {.size = sizeof(good), .run = run_at_once}, o;

	ck_assert_int_eq(tine_work_submit(NULL, &good, NULL), -EINVAL);
	ck_assert_int_eq(tine_work_submit(&nothing, &good, NULL), -EINVAL);
	ck_assert_int_eq(tine_work_submit(&worker, NULL, NULL), -EINVAL);
	o = good;
	o.size = 1;
	ck_assert_int_eq(tine_work_submit(&worker, &o, NULL), -EINVAL);
	o = good;
	o.size = sizeof(void *); /* of a pointer to it */
	ck_assert_int_eq(tine_work_submit(&worker, &o, NULL), -EINVAL);
	o = good;
	o.lane = (enum tine_lane)3;
	ck_assert_int_eq(tine_work_submit(&worker, &o, NULL), -EINVAL);
	o.lane = (enum tine_lane) - 1;
	ck_assert_int_eq(tine_work_submit(&worker, &o, NULL), -EINVAL);
	tine_work_cancel(NULL);
}
END_TEST

START_TEST(test_done)
{
	struct task *t = task_new(), *quiet = task_new();
	struct tine_work_options o = {.size = sizeof(o), .run = run_at_once, .arg = quiet};
	struct tine_work *work = NULL;

	ck_assert_int_eq(tine_work_submit(&worker, &o, NULL), 0); /* no done */
	ck_assert_int_eq(submit(t, run_at_once, FOREVER, &work), 0);
	ck_assert_ptr_nonnull(work);
	run_until(1);
	ck_assert_int_eq(t->status, 0);
	ck_assert_int_eq(t->seen, 0);
	ck_assert_uint_eq(t->n_runs, 1);
	ck_assert_uint_eq(quiet->n_runs, 1);
	free(t);
	free(quiet);
}
END_TEST

START_TEST(test_cancel_queued)
{
	struct task *held = hold(), *t = task_new();
	struct tine_work *work;

	ck_assert_int_eq(submit(t, run_at_once, 0, &work), 0);
	calling = true;
	tine_work_cancel(work);
	tine_work_cancel(work);
	calling = false;
	run_until(1);
	ck_assert_int_eq(t->status, TINE_E_CANCELED);
	ck_assert_uint_eq(t->n_runs, 0);
	sem_post(&held->go);
	run_until(2);
	ck_assert_int_eq(held->status, 0);
	free(held);
	free(t);
}
END_TEST

START_TEST(test_cancel_running)
{
	struct task *t = task_new();
	struct tine_work *work;

	ck_assert_int_eq(submit(t, run_until_stopped, FOREVER, &work), 0);
	sem_wait(&t->started);
	tine_work_cancel(work);
	run_until(1);
	ck_assert_int_eq(t->status, TINE_E_CANCELED);
	ck_assert_int_eq(t->seen, TINE_E_CANCELED);
	ck_assert_uint_eq(t->n_runs, 1);
	free(t);
}
END_TEST

START_TEST(test_deadline_queued)
{
	struct task *held = hold(), *t = task_new();

	ck_assert_int_eq(submit(t, run_at_once, 1, NULL), 0);
	run_until(1); /* while the only thread is held */
	ck_assert_int_eq(t->status, TINE_E_TIMEOUT);
	ck_assert_uint_eq(t->n_runs, 0);
	sem_post(&held->go);
	run_until(2);
	free(held);
	free(t);
}
END_TEST

START_TEST(test_deadline_running)
{
	struct task *t = task_new();

	ck_assert_int_eq(submit(t, run_until_stopped, 20 * US_PER_MS, NULL), 0);
	run_until(1);
	ck_assert_int_eq(t->status, TINE_E_TIMEOUT);
	ck_assert(t->n_runs == 0 || t->seen == TINE_E_TIMEOUT);
	free(t);
}
END_TEST

START_TEST(test_full)
{
	struct task *held = hold(), *t[QUEUE_MAX + 1];

	for (int i = 0; i <= QUEUE_MAX; i++)
		t[i] = task_new();
	for (int i = 0; i < QUEUE_MAX; i++)
		ck_assert_int_eq(submit(t[i], run_at_once, FOREVER, NULL), 0);
	ck_assert_int_eq(submit(t[QUEUE_MAX], run_at_once, FOREVER, NULL), TINE_E_FULL);
	sem_post(&held->go);
	run_until(QUEUE_MAX + 1);
	ck_assert_uint_eq(t[QUEUE_MAX]->n_runs + t[QUEUE_MAX]->n_done, 0);
	ck_assert_int_eq(submit(t[QUEUE_MAX], run_at_once, FOREVER, NULL), 0);
	run_until(QUEUE_MAX + 2);
	for (int i = 0; i <= QUEUE_MAX; i++)
		free(t[i]);
	free(held);
}
END_TEST

static void on_done_submit(int status, void *arg)
{
	struct task *t = arg;
	struct task again = {0};

	on_done(status, arg);
	t->seen = submit(&again, run_at_once, FOREVER, NULL);
}

/* What waits is given back, what runs is told to stop. */
START_TEST(test_the_worker_ends)
{
	struct task *running = task_new(), *queued = task_new();
	struct tine_work_options o = {.size = sizeof(o),
		.run = run_at_once,
		.done = on_done_submit,
		.arg = queued,
		.timeout_us = FOREVER};

	ck_assert_int_eq(submit(running, run_until_stopped, 0, NULL), 0);
	sem_wait(&running->started);
	ck_assert_int_eq(tine_work_submit(&worker, &o, NULL), 0);
	pool_stop(worker.pool);
	ck_assert_uint_eq(n_done, 2);
	ck_assert_int_eq(running->status, TINE_E_CANCELED);
	ck_assert_int_eq(queued->status, TINE_E_CANCELED);
	ck_assert_uint_eq(queued->n_runs, 0);
	ck_assert_int_eq(queued->seen, TINE_E_CLOSED);
	ck_assert_int_eq(submit(queued, run_at_once, 0, NULL), TINE_E_CLOSED);
	free(running);
	free(queued);
}
END_TEST

static void on_post(void *arg)
{
	(*(unsigned *)arg)++;
}

START_TEST(test_posts_after_the_end_are_not_run)
{
	unsigned n = 0;

	ck_assert_int_eq(tine_loop_post(&worker, on_post, &n), 0);
	mailbox_run(&mailbox);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(tine_loop_post(&worker, on_post, &n), 0);
	worker.stopped = true;
	mailbox_run(&mailbox);
	ck_assert_uint_eq(n, 1);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, work_teardown);
	tcase_add_test(tc, test_bad_options);
	tcase_add_test(tc, test_done);
	tcase_add_test(tc, test_cancel_queued);
	tcase_add_test(tc, test_cancel_running);
	tcase_add_test(tc, test_deadline_queued);
	tcase_add_test(tc, test_deadline_running);
	tcase_add_test(tc, test_full);
	tcase_add_test(tc, test_the_worker_ends);
	tcase_add_test(tc, test_posts_after_the_end_are_not_run);
}

int main(void)
{
	return run_tests("work", add);
}

/* runtime/pool.c and base/mailbox.c: threads, the queue's bound, cancelling, and the way back to the loop. */
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/turn.h"
#include "run.h"
#include "runtime/pool.h"
#include "shared/histogram.h"

#define N_HELD    3 /* threads that POOL_CPU may hold */
#define N_THREADS 4
#define QUEUE_MAX 8
#define NOBODY    65534

static struct event_base *base;
static struct mailbox mailbox;
static struct pool *pool;
static unsigned n_done, n_canceled;
static _Atomic uint64_t n_submitted, n_begun, n_finished;
static struct histogram waits, runs;
static pthread_t loop_thread;

struct task {
	struct pool_job job; /* first */
	unsigned n_left;     /* times to submit it again */
	unsigned n_runs;
	int status;
	sem_t *started, *go; /* it says that it runs, and waits until it may end */
	pthread_t thread;
};

static void on_work(struct pool_job *job)
{
	struct task *t = (struct task *)job;

	t->thread = pthread_self();
	t->n_runs++;
	if (t->started)
		sem_post(t->started);
	if (t->go)
		sem_wait(t->go);
}

static void on_done(struct pool_job *job, int status)
{
	struct task *t = (struct task *)job;

	ck_assert(pthread_equal(pthread_self(), loop_thread));
	t->status = status;
	n_done++;
	n_canceled += status == -ECANCELED;
	if (t->n_left > 0 && status == 0) {
		t->n_left--;
		ck_assert_int_eq(pool_submit(pool, job), 0);
	}
}

static struct task task_init(sem_t *started, sem_t *go)
{
	return (struct task){
		.job = {.work = on_work, .done = on_done},
		.status = 1,
		.started = started,
		.go = go,
	};
}

static uint64_t n_queued(void)
{
	return n_submitted - n_begun;
}

static uint64_t n_running(void)
{
	return n_begun - n_finished;
}

static void new_pool(unsigned n_threads, unsigned queue_max)
{
	struct pool_options o = {.mailbox = &mailbox,
		.n_threads = n_threads,
		.queue_max = queue_max,
		.figures = {&n_submitted, &n_begun, &n_finished, &waits, &runs}};

	ck_assert_int_eq(pool_new(&o, &pool), 0);
}

static void setup(void)
{
	loop_thread = pthread_self();
	n_done = n_canceled = 0;
	n_submitted = n_begun = n_finished = 0;
	memset((void *)&waits, 0, sizeof(waits));
	memset((void *)&runs, 0, sizeof(runs));
	ck_assert_int_eq(loop_new(&base), 0);
	ck_assert_int_eq(mailbox_open(&mailbox, base), 0);
	new_pool(N_THREADS, QUEUE_MAX);
}

static void teardown(void)
{
	turn_end(now_us());
	pool = pool_free(pool);
	ck_assert_ptr_null(pool);
	ck_assert_uint_eq(n_queued(), 0);
	ck_assert_uint_eq(n_running(), 0);
	mailbox_close(&mailbox);
	event_base_free(base);
}

static void run_until_done(unsigned n)
{
	while (n_done < n)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(n_done, n);
}

/* One turn of the loop that waits for nothing. */
static void run_a_turn(void)
{
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

START_TEST(test_bad_options)
{
	struct pool_options none = {.mailbox = &mailbox, .queue_max = 1},
			    no_room = {.mailbox = &mailbox, .n_threads = 1};
	struct pool *p = NULL;

	ck_assert_int_eq(pool_new(&none, &p), -EINVAL);
	ck_assert_int_eq(pool_new(&no_room, &p), -EINVAL);
	ck_assert_ptr_null(p);
	ck_assert_ptr_null(pool_free(NULL));
}
END_TEST

START_TEST(test_one_job)
{
	struct task t = task_init(NULL, NULL);

	ck_assert_int_eq(pool_submit(pool, &t.job), 0);
	run_until_done(1);
	ck_assert_int_eq(t.status, 0);
	ck_assert_uint_eq(t.n_runs, 1);
	ck_assert(!pthread_equal(t.thread, loop_thread));
}
END_TEST

/* Jobs that submit themselves again from their own done(). */
START_TEST(test_many_jobs)
{
	struct task t[QUEUE_MAX];

	for (int i = 0; i < QUEUE_MAX; i++) {
		t[i] = task_init(NULL, NULL);
		t[i].n_left = 2000;
		ck_assert_int_eq(pool_submit(pool, &t[i].job), 0);
	}
	run_until_done(QUEUE_MAX * 2001);
	for (int i = 0; i < QUEUE_MAX; i++)
		ck_assert_uint_eq(t[i].n_runs, 2001);
}
END_TEST

/* As many at once as the lane may hold threads, and as many more as the queue holds. */
START_TEST(test_bounds)
{
	struct task t[N_HELD + QUEUE_MAX + 1];
	sem_t started, go;

	sem_init(&started, 0, 0);
	sem_init(&go, 0, 0);
	for (int i = 0; i < N_HELD + QUEUE_MAX + 1; i++)
		t[i] = task_init(&started, &go);
	for (int i = 0; i < N_HELD; i++) {
		ck_assert_int_eq(pool_submit(pool, &t[i].job), 0);
		sem_wait(&started);
	}
	for (int i = 0; i < QUEUE_MAX; i++)
		ck_assert_int_eq(pool_submit(pool, &t[N_HELD + i].job), 0);
	ck_assert_int_eq(pool_submit(pool, &t[N_HELD + QUEUE_MAX].job), -ENOBUFS);
	run_a_turn();
	ck_assert_uint_eq(n_done, 0);
	ck_assert_uint_eq(n_queued(), QUEUE_MAX);
	ck_assert_uint_eq(n_running(), N_HELD);
	ck_assert_uint_eq(n_finished, 0);
	for (int i = 0; i < N_HELD + QUEUE_MAX; i++)
		sem_post(&go);
	run_until_done(N_HELD + QUEUE_MAX);
	ck_assert_uint_eq(t[N_HELD + QUEUE_MAX].n_runs, 0);
	ck_assert_int_eq(pool_submit(pool, &t[0].job), 0);
	sem_post(&go);
	run_until_done(N_HELD + QUEUE_MAX + 1);
	while (n_finished < N_HELD + QUEUE_MAX + 1) /* a thread counts after it has reported */
		sched_yield();
	ck_assert_uint_eq(n_finished, N_HELD + QUEUE_MAX + 1);
	ck_assert_uint_eq(n_queued(), 0);
	ck_assert_uint_eq(n_running(), 0);
}
END_TEST

/* A thread that sleeps is not enough for several jobs that wait for each other. */
START_TEST(test_more_threads_when_needed)
{
	struct task first = task_init(NULL, NULL), t[N_HELD];
	sem_t started, go;

	sem_init(&started, 0, 0);
	sem_init(&go, 0, 0);
	ck_assert_int_eq(pool_submit(pool, &first.job), 0);
	run_until_done(1);
	for (int i = 0; i < N_HELD; i++) {
		t[i] = task_init(&started, &go);
		ck_assert_int_eq(pool_submit(pool, &t[i].job), 0);
	}
	for (int i = 0; i < N_HELD; i++)
		sem_wait(&started); /* all of them run at the same time */
	for (int i = 0; i < N_HELD; i++)
		sem_post(&go);
	run_until_done(1 + N_HELD);
}
END_TEST

START_TEST(test_cancel)
{
	struct task t[N_HELD], queued = task_init(NULL, NULL);
	sem_t started, go;

	sem_init(&started, 0, 0);
	sem_init(&go, 0, 0);
	for (int i = 0; i < N_HELD; i++) {
		t[i] = task_init(&started, &go);
		ck_assert_int_eq(pool_submit(pool, &t[i].job), 0);
		sem_wait(&started);
	}
	ck_assert_int_eq(pool_submit(pool, &queued.job), 0);
	ck_assert_uint_eq(n_queued(), 1);
	ck_assert(pool_cancel(pool, &queued.job));
	ck_assert_uint_eq(n_queued(), 0);
	ck_assert_uint_eq(n_done, 0); /* never from within pool_cancel() */
	ck_assert(!pool_cancel(pool, &queued.job));
	ck_assert(!pool_cancel(pool, &t[0].job));
	run_until_done(1);
	ck_assert_int_eq(queued.status, -ECANCELED);
	for (int i = 0; i < N_HELD; i++)
		sem_post(&go);
	run_until_done(1 + N_HELD);
	ck_assert_uint_eq(queued.n_runs, 0);
	ck_assert_int_eq(t[0].status, 0);
	ck_assert_uint_eq(n_canceled, 1);
}
END_TEST

static void *let_go_soon(void *sem)
{
	usleep(20000);
	sem_post(sem);
	return NULL;
}

static int late_result;

static void on_done_submit(struct pool_job *job, int status)
{
	on_done(job, status);
	late_result = pool_submit(pool, job);
}

/* Freed while a job runs and others wait. */
START_TEST(test_free)
{
	struct task running, queued[3];
	sem_t started, go;
	pthread_t helper;

	pool_free(pool);
	new_pool(1, QUEUE_MAX);
	sem_init(&started, 0, 0);
	sem_init(&go, 0, 0);
	running = task_init(&started, &go);
	ck_assert_int_eq(pool_submit(pool, &running.job), 0);
	sem_wait(&started);
	for (int i = 0; i < 3; i++) {
		queued[i] = task_init(NULL, NULL);
		queued[i].job.done = on_done_submit;
		ck_assert_int_eq(pool_submit(pool, &queued[i].job), 0);
	}
	late_result = 0;
	pthread_create(&helper, NULL, let_go_soon, &go);
	pool = pool_free(pool);
	pthread_join(helper, NULL);
	ck_assert_uint_eq(n_done, 4);
	ck_assert_uint_eq(n_canceled, 3);
	ck_assert_int_eq(running.status, 0);
	ck_assert_int_eq(late_result, -ESHUTDOWN);
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(queued[i].n_runs, 0);
}
END_TEST

/* --- lanes --- */

static void submit_lane(struct task *t, enum pool_lane lane, sem_t *started, sem_t *go)
{
	*t = task_init(started, go);
	t->job.lane = lane;
	ck_assert_int_eq(pool_submit(pool, &t->job), 0);
}

/* Of four threads the slow lanes hold two each, three together. */
START_TEST(test_slow_lanes_leave_threads)
{
	struct task dns[3], io[2], cpu;
	sem_t started, go;

	sem_init(&started, 0, 0);
	sem_init(&go, 0, 0);
	for (int i = 0; i < 3; i++)
		submit_lane(&dns[i], POOL_DNS, &started, &go);
	sem_wait(&started);
	sem_wait(&started);
	for (int i = 0; i < 2; i++)
		submit_lane(&io[i], POOL_IO, &started, &go);
	sem_wait(&started);
	submit_lane(&cpu, POOL_CPU, NULL, NULL);
	run_until_done(1);
	ck_assert_int_eq(cpu.status, 0);
	ck_assert_uint_eq(dns[2].n_runs + io[1].n_runs, 0);
	ck_assert_uint_eq(n_queued(), 2);
	for (int i = 0; i < 5; i++)
		sem_post(&go);
	run_until_done(6);
}
END_TEST

/* Whichever of the slow lanes stands still, with as many threads as _i says: the other lanes go on. */
START_TEST(test_one_slow_lane_keeps_nobody_waiting)
{
	static const enum pool_lane others[POOL_LANES] = {
		[POOL_IO] = POOL_DNS, [POOL_DNS] = POOL_IO};
	static const enum pool_lane slow[] = {POOL_IO, POOL_DNS};
	unsigned n = (unsigned)_i;

	for (int i = 0; i < 2; i++) {
		struct task stuck[8], other, cpu;
		sem_t started, go;

		pool_free(pool);
		new_pool(n, QUEUE_MAX);
		sem_init(&started, 0, 0);
		sem_init(&go, 0, 0);
		for (unsigned k = 0; k < n; k++)
			submit_lane(&stuck[k], slow[i], &started, &go);
		for (unsigned k = 0; k < n / 2; k++)
			sem_wait(&started);
		submit_lane(&other, others[slow[i]], NULL, NULL);
		submit_lane(&cpu, POOL_CPU, NULL, NULL);
		n_done = 0;
		run_until_done(2);
		ck_assert_int_eq(other.status + cpu.status, 0);
		for (unsigned k = 0; k < n; k++)
			sem_post(&go);
		run_until_done(2 + n);
	}
}
END_TEST

static enum pool_lane order[16];
static unsigned n_order;

static void on_work_in_order(struct pool_job *job)
{
	order[n_order++] = job->lane;
}

START_TEST(test_lanes_take_turns)
{
	static const enum pool_lane lanes[] = {POOL_CPU, POOL_CPU, POOL_CPU, POOL_DNS, POOL_IO},
				    wanted[] = {POOL_IO, POOL_DNS, POOL_CPU, POOL_CPU, POOL_CPU};
	struct task first, t[5];
	sem_t started, go;

	pool_free(pool);
	new_pool(1, QUEUE_MAX);
	n_order = 0;
	sem_init(&started, 0, 0);
	sem_init(&go, 0, 0);
	submit_lane(&first, POOL_CPU, &started, &go);
	sem_wait(&started);
	for (int i = 0; i < 5; i++) {
		t[i] = task_init(NULL, NULL);
		t[i].job.lane = lanes[i];
		t[i].job.work = on_work_in_order;
		ck_assert_int_eq(pool_submit(pool, &t[i].job), 0);
	}
	sem_post(&go);
	run_until_done(6);
	ck_assert_mem_eq(order, wanted, sizeof(wanted));
}
END_TEST

START_TEST(test_a_full_lane_refuses_only_its_own)
{
	struct task first, t[QUEUE_MAX + 2];
	sem_t started, go;

	pool_free(pool);
	new_pool(1, QUEUE_MAX);
	sem_init(&started, 0, 0);
	sem_init(&go, 0, 0);
	submit_lane(&first, POOL_DNS, &started, &go);
	sem_wait(&started);
	for (int i = 0; i < QUEUE_MAX; i++)
		submit_lane(&t[i], POOL_DNS, NULL, NULL);
	t[QUEUE_MAX] = task_init(NULL, NULL);
	t[QUEUE_MAX].job.lane = POOL_DNS;
	ck_assert_int_eq(pool_submit(pool, &t[QUEUE_MAX].job), -ENOBUFS);
	ck_assert_uint_eq(n_queued(), QUEUE_MAX);
	submit_lane(&t[QUEUE_MAX + 1], POOL_CPU, NULL, NULL);
	ck_assert(pool_cancel(pool, &t[0].job));
	ck_assert_int_eq(pool_submit(pool, &t[QUEUE_MAX].job), 0);
	sem_post(&go);
	run_until_done(QUEUE_MAX + 3);
}
END_TEST

/* --- short jobs, which keep few threads awake --- */

static struct task blocked, releasing;

static void on_work_release(struct pool_job *job)
{
	on_work(job);
	sem_post(blocked.go);
}

static void on_done_block(struct pool_job *job, int status)
{
	struct task *t = (struct task *)job;

	if (t->n_left == 0 && blocked.n_left == 1) {
		blocked.n_left = 0;
		ck_assert_int_eq(pool_submit(pool, &blocked.job), 0);
		ck_assert_int_eq(pool_submit(pool, &releasing.job), 0);
	}
	on_done(job, status);
}

/* In the midst of short ones a job that needs another one, behind it, to be done. */
START_TEST(test_a_long_job_among_short_ones)
{
	struct task t[QUEUE_MAX - 2];
	sem_t go;

	sem_init(&go, 0, 0);
	for (unsigned round = 0; round < 5; round++) {
		n_done = 0;
		blocked = task_init(NULL, &go);
		blocked.n_left = 1;
		releasing = task_init(NULL, NULL);
		releasing.job.work = on_work_release;
		for (int i = 0; i < QUEUE_MAX - 2; i++) {
			t[i] = task_init(NULL, NULL);
			t[i].n_left = 5000;
			t[i].job.done = on_done_block;
			ck_assert_int_eq(pool_submit(pool, &t[i].job), 0);
		}
		run_until_done((QUEUE_MAX - 2) * 5001 + 2);
		ck_assert_uint_eq(blocked.n_runs, 1);
	}
}
END_TEST

static void new_pool_that_looks_again(unsigned n_threads)
{
	struct pool_options o = {.mailbox = &mailbox,
		.n_threads = n_threads,
		.queue_max = QUEUE_MAX,
		.spin_us = 1000};

	pool_free(pool);
	ck_assert_int_eq(pool_new(&o, &pool), 0);
}

/* The same jobs as in test_many_jobs with threads that look again before they sleep. */
START_TEST(test_threads_that_look_again)
{
	struct task t = task_init(NULL, NULL);

	new_pool_that_looks_again(N_THREADS);
	t.n_left = 5000;
	ck_assert_int_eq(pool_submit(pool, &t.job), 0);
	run_until_done(5001);
}
END_TEST

/* What is moved into the queues by somebody else while a thread looks again is not forgotten. */
START_TEST(test_cancel_while_a_thread_looks_again)
{
	struct task warm, t, other;

	new_pool_that_looks_again(1);
	for (int i = 0; i < 300; i++) {
		n_done = 0;
		warm = t = other = task_init(NULL, NULL);
		warm.n_left = 20; /* one after the other, so that it is worth it */
		ck_assert_int_eq(pool_submit(pool, &warm.job), 0);
		run_until_done(21);
		ck_assert_int_eq(pool_submit(pool, &t.job), 0);
		ck_assert_int_eq(pool_submit(pool, &other.job), 0);
		pool_cancel(pool, &other.job);
		run_until_done(23);
	}
}
END_TEST

/* Nor that it is time to stop. */
START_TEST(test_free_while_a_thread_looks_again)
{
	struct task t;

	for (int i = 0; i < 400; i++) {
		new_pool_that_looks_again(1);
		n_done = 0;
		t = task_init(NULL, NULL);
		t.n_left = 20;
		ck_assert_int_eq(pool_submit(pool, &t.job), 0);
		run_until_done(21);
		for (uint64_t end = now_us() + 900 + (uint64_t)i % 200; now_us() < end;)
			;
		pool = pool_free(pool);
	}
	new_pool(N_THREADS, QUEUE_MAX);
}
END_TEST

START_TEST(test_measures)
{
	struct task one = task_init(NULL, NULL), t[QUEUE_MAX];

	ck_assert_int_eq(pool_submit(pool, &one.job), 0);
	run_until_done(1);
	ck_assert_uint_eq(histogram_count(&waits), 1);
	ck_assert_uint_eq(histogram_count(&runs), 1);
	for (int i = 0; i < QUEUE_MAX; i++) {
		t[i] = task_init(NULL, NULL);
		t[i].n_left = 99;
		ck_assert_int_eq(pool_submit(pool, &t[i].job), 0);
	}
	run_until_done(1 + 100 * QUEUE_MAX);
	/* the last few may not be accounted for yet */
	ck_assert_uint_le(histogram_count(&waits), 1 + 100 * QUEUE_MAX);
	ck_assert_uint_gt(histogram_count(&waits), 1 + 100 * QUEUE_MAX - 16);
	ck_assert_uint_eq(histogram_count(&waits), histogram_count(&runs));
}
END_TEST

/* --- the mailbox --- */

struct message {
	struct mail mail; /* first */
	unsigned from, number;
};

#define N_FROM    4
#define N_MESSAGE 20000

static struct message messages[N_FROM][N_MESSAGE];
static unsigned next_number[N_FROM], n_wrong;

static void on_message(struct mail *post)
{
	struct message *m = (struct message *)post;

	n_wrong += m->number != next_number[m->from] || !pthread_equal(pthread_self(), loop_thread);
	next_number[m->from]++;
	n_done++;
}

static void *post_all(void *arg)
{
	struct message *m = arg;

	for (unsigned i = 0; i < N_MESSAGE; i++)
		if (mailbox_post(&mailbox, &m[i].mail) < 0)
			abort();
	return NULL;
}

static void init_messages(void)
{
	memset(messages, 0, sizeof(messages));
	memset(next_number, 0, sizeof(next_number));
	n_wrong = 0;
	for (unsigned k = 0; k < N_FROM; k++)
		for (unsigned i = 0; i < N_MESSAGE; i++)
			messages[k][i] =
				(struct message){.mail.fn = on_message, .from = k, .number = i};
}

START_TEST(test_posts)
{
	pthread_t threads[N_FROM];

	init_messages();
	for (unsigned k = 0; k < N_FROM; k++)
		pthread_create(&threads[k], NULL, post_all, messages[k]);
	run_until_done(N_FROM * N_MESSAGE);
	for (unsigned k = 0; k < N_FROM; k++)
		pthread_join(threads[k], NULL);
	ck_assert_uint_eq(n_wrong, 0);
}
END_TEST

/* Its value is how often it was written, for it is never read. */
static unsigned long eventfd_count(void)
{
	char path[64], line[128];
	unsigned long count = 0;

	for (int fd = 3; fd < 256; fd++) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
		f = fopen(path, "re");
		while (f && fgets(line, sizeof(line), f))
			if (sscanf(line, "eventfd-count: %lx", &count) == 1)
				break;
		if (f)
			fclose(f);
		if (count > 0)
			break;
	}
	return count;
}

START_TEST(test_a_burst_is_one_wake_up)
{
	pthread_t thread;

	init_messages();
	pthread_create(&thread, NULL, post_all, messages[0]);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(eventfd_count(), 1);
	run_until_done(N_MESSAGE);
	pthread_create(&thread, NULL, post_all, messages[1]);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(eventfd_count(), 2);
	run_until_done(2 * N_MESSAGE);
	ck_assert_uint_eq(n_wrong, 0);
}
END_TEST

static void post_from_a_thread(unsigned k)
{
	pthread_t thread;

	pthread_create(&thread, NULL, post_all, messages[k]);
	pthread_join(thread, NULL);
}

/* A loop that looks at the end of its turns is woken when it sleeps, once, and not when it works. */
START_TEST(test_no_wake_up_while_awake)
{
	init_messages();
	mailbox_attend(&mailbox);
	post_from_a_thread(0);
	ck_assert_uint_eq(eventfd_count(), 0);
	ck_assert(!mailbox_may_sleep(&mailbox));
	ck_assert(!mailbox_end_turn(&mailbox));
	ck_assert_uint_eq(n_done, N_MESSAGE);
	ck_assert(mailbox_may_sleep(&mailbox));
	turn_end(now_us());

	post_from_a_thread(1);
	ck_assert_uint_eq(eventfd_count(), 1);
	run_a_turn();
	ck_assert_uint_eq(n_done, N_MESSAGE); /* not before the end of the turn */
	mailbox_end_turn(&mailbox);
	ck_assert_uint_eq(n_done, 2 * N_MESSAGE);

	/* it works, whatever has woken it */
	ck_assert(mailbox_may_sleep(&mailbox));
	turn_end(now_us());
	turn_mark();
	post_from_a_thread(2);
	ck_assert_uint_eq(eventfd_count(), 1);
	mailbox_end_turn(&mailbox);
	ck_assert_uint_eq(n_done, 3 * N_MESSAGE);
	ck_assert_uint_eq(n_wrong, 0);
}
END_TEST

/* The results of jobs that were done while the loop worked. */
START_TEST(test_no_wake_up_for_jobs_of_the_turn)
{
	struct task t[QUEUE_MAX];

	mailbox_attend(&mailbox);
	turn_mark();
	for (int i = 0; i < QUEUE_MAX; i++) {
		t[i] = task_init(NULL, NULL);
		ck_assert_int_eq(pool_submit(pool, &t[i].job), 0);
	}
	while (n_finished < QUEUE_MAX)
		sched_yield();
	ck_assert_uint_eq(eventfd_count(), 0);
	mailbox_end_turn(&mailbox);
	ck_assert_uint_eq(n_done, QUEUE_MAX);
}
END_TEST

static void on_message_again(struct mail *post)
{
	if (++n_done < 100)
		ck_assert_int_eq(mailbox_post(&mailbox, post), 0);
}

/* Who posts from within a post goes on in turns of its own: a timer is not starved. */
START_TEST(test_post_again)
{
	struct mail post = {.fn = on_message_again};

	ck_assert_int_eq(mailbox_post(&mailbox, &post), 0);
	ck_assert_int_eq(mailbox_post(&mailbox, &post), -EALREADY);
	run_a_turn();
	ck_assert_uint_ge(n_done, 1);
	ck_assert_uint_lt(n_done, 100);
	run_until_done(100);
	run_a_turn();
	ck_assert_uint_eq(n_done, 100);
}
END_TEST

static void on_message_for_ever(struct mail *post)
{
	n_done++;
	ck_assert_int_eq(mailbox_post(&mailbox, post), 0);
}

/* Whoever posts from within a post without end does not keep the pool from ending. */
START_TEST(test_free_with_posts_without_end)
{
	static struct mail post;

	post = (struct mail){.fn = on_message_for_ever};
	ck_assert_int_eq(mailbox_post(&mailbox, &post), 0);
	pool = pool_free(pool);
	ck_assert_uint_ge(n_done, 1);
}
END_TEST

START_TEST(test_posts_arrive_when_freed)
{
	struct mail post = {.fn = on_message_again};

	n_done = 99;
	ck_assert_int_eq(mailbox_post(&mailbox, &post), 0);
	pool = pool_free(pool);
	ck_assert_uint_eq(n_done, 100);
}
END_TEST

static void look_at_thread(struct pool_job *job)
{
	char name[16] = "";
	sigset_t set;

	sem_wait(((struct task *)job)->go);
	pthread_getname_np(pthread_self(), name, sizeof(name));
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	n_wrong = strncmp(name, "tined-pool-", 11) != 0;
	for (int sig = 1; sig < SIGSYS; sig++)
		if (sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGUSR1 ||
			sig == SIGCHLD || sig == SIGALRM || sig == SIGPIPE)
			n_wrong += !sigismember(&set, sig);
	n_wrong += sigismember(&set, SIGSEGV);
}

START_TEST(test_threads_are_quiet)
{
	sem_t go;
	struct task t = task_init(NULL, &go);
	sigset_t before, after;

	n_wrong = 99;
	t.job.work = look_at_thread;
	sem_init(&go, 0, 0);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	ck_assert_int_eq(pool_submit(pool, &t.job), 0);
	sem_post(&go); /* the name is given when the thread has been made */
	run_until_done(1);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	ck_assert_uint_eq(n_wrong, 0);
	for (int sig = 1; sig < SIGSYS; sig++)
		ck_assert_int_eq(sigismember(&before, sig), sigismember(&after, sig));
}
END_TEST

/* A user may have no thread beside those there are; root always may, and so is somebody else meanwhile. */
static void forbid_threads(bool on)
{
	static uid_t user;
	static struct rlimit old;
	struct rlimit none;

	if (on) {
		user = getuid();
		ck_assert_int_eq(getrlimit(RLIMIT_NPROC, &old), 0);
		none = (struct rlimit){0, old.rlim_max};
		if (user == 0)
			ck_assert_int_eq(setresuid(NOBODY, NOBODY, 0), 0);
	}
	ck_assert_int_eq(setrlimit(RLIMIT_NPROC, on ? &none : &old), 0);
	if (!on && user == 0)
		ck_assert_int_eq(setresuid(0, 0, 0), 0);
}

START_TEST(test_no_thread)
{
	struct task t = task_init(NULL, NULL);

	forbid_threads(true);
	t.status = pool_submit(pool, &t.job);
	forbid_threads(false);
	ck_assert_int_eq(t.status, -EAGAIN);
	ck_assert_int_eq(pool_submit(pool, &t.job), 0);
	run_until_done(1);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_bad_options);
	tcase_add_test(tc, test_no_thread);
	tcase_add_test(tc, test_one_job);
	tcase_add_test(tc, test_many_jobs);
	tcase_add_test(tc, test_bounds);
	tcase_add_test(tc, test_more_threads_when_needed);
	tcase_add_test(tc, test_cancel);
	tcase_add_test(tc, test_free);
	tcase_add_test(tc, test_slow_lanes_leave_threads);
	tcase_add_loop_test(tc, test_one_slow_lane_keeps_nobody_waiting, 3, 9);
	tcase_add_test(tc, test_lanes_take_turns);
	tcase_add_test(tc, test_a_full_lane_refuses_only_its_own);
	tcase_add_test(tc, test_a_long_job_among_short_ones);
	tcase_add_test(tc, test_threads_that_look_again);
	tcase_add_test(tc, test_cancel_while_a_thread_looks_again);
	tcase_add_test(tc, test_free_while_a_thread_looks_again);
	tcase_add_test(tc, test_measures);
	tcase_add_test(tc, test_posts);
	tcase_add_test(tc, test_a_burst_is_one_wake_up);
	tcase_add_test(tc, test_no_wake_up_while_awake);
	tcase_add_test(tc, test_no_wake_up_for_jobs_of_the_turn);
	tcase_add_test(tc, test_post_again);
	tcase_add_test(tc, test_posts_arrive_when_freed);
	tcase_add_test(tc, test_free_with_posts_without_end);
	tcase_add_test(tc, test_threads_are_quiet);
}

int main(void)
{
	return run_tests("pool", add);
}

/*
 * A thread pool: work that may block, away from the loop. Any process that runs modules.
 *
 * Jobs go from the loop to the threads on a list without a lock; a thread that looks for work moves what is there into the queues
 * of the lanes, under a mutex that is held for a few instructions at a time, and by the loop only to wake a thread or to take a job
 * back. Finished jobs go back to the loop through its mailbox.
 *
 * Sleeping threads are woken in a chain: at most one is on its way to the queues at any time, and it wakes the next one if
 * it leaves jobs behind. Short jobs then do not wake threads that would find nothing. While jobs come one after the other within a
 * moment, one idle thread looks for the next instead of sleeping (base/spin.h).
 *
 * While all jobs are short, more threads than there are CPUs beside the loop's would only take those from each other, and from the loop:
 * then some step back. One of them watches from time to time that the others get on. If not, a job was not short after
 * all: the rest is called again.
 *
 * Nobody is forgotten: a thread says that it sleeps, then looks once more; the loop puts down a job, then looks who sleeps.
 *
 * Always: a job is in exactly one place: with its owner, on the list, in a queue, on a thread, or on the list to the
 * loop; done() is called once for each that was accepted.
 */
#include "runtime/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mailbox.h"
#include "base/spin.h"
#include "runtime/thread_spawn.h"
#include "shared/histogram.h"

#define POOL_STACK    (256u << 10) /* of a thread */
#define POOL_LINE     64           /* of the cache: what the loop writes and what threads write */
#define FEW           4            /* jobs under way of which each is measured */
#define MEASURE       16  /* of more one in so many: the clock would cost more than many of them */
#define STREAK        16  /* jobs that a thread has done without a pause: then it is known */
#define SHORT_US      4   /* whether they are short */
#define LEAVE         32  /* short jobs that may go before those of other lanes */
#define WATCH_US      500 /* how long one that is not may hold up those behind it */
#define SETTLE_ROUNDS 64  /* of posts, at the end */

TAILQ_HEAD(pool_queue, pool_job);

struct lane {
	struct pool_queue queue;
	unsigned n_running, n_running_max;
};

/* Used by the loop's thread and by the pool's: who may touch what is said group by group. */
struct pool {
	/* the loop's alone */
	unsigned n_threads, n_threads_max, queue_max;
	pthread_t *threads;
	unsigned room
		[POOL_LANES]; /* jobs for which there is room for sure; there may be more by now */
	uint64_t n_submitted[POOL_LANES], n_submitted_all;
	uint64_t n_under_way;
	uint32_t n_unmeasured; /* since one was measured */

	/* for all; never changed */
	struct mailbox *mailbox; /* the way back to the loop */
	struct pool_figures figures;
	unsigned n_brisk_max;

	/* from the loop to the threads, the newest in front */
	_Alignas(POOL_LINE) _Atomic(struct pool_job *) incoming;

	/* written under the lock, but for a thread that is started; looked at by the loop */
	_Alignas(POOL_LINE)
		atomic_uint n_looking; /* threads about to look for work, or on their way to it */
	atomic_uint n_sleeping;        /* others, until they are called */
	atomic_uint n_active;          /* that do not sleep */
	atomic_bool brisk; /* jobs are short: one thread watches, n_brisk_max are enough */
	atomic_bool stopping;

	/* the same, but changed by every job: the loop looks when it has to */
	_Alignas(POOL_LINE) _Atomic uint64_t n_begun[POOL_LANES], n_begun_all;

	/* under the lock */
	_Alignas(POOL_LINE) pthread_mutex_t lock;
	pthread_cond_t work;  /* there are jobs, or it is time to stop */
	pthread_cond_t watch; /* it is time to stop */
	struct lane lanes[POOL_LANES];
	unsigned next_lane;          /* whose turn it is */
	unsigned n_slow, n_slow_max; /* threads that POOL_IO and POOL_DNS hold together */
	unsigned n_waking; /* of those that look: they have been called and are not here yet */
	bool spinning;     /* one of those that look does so again and again, with this: */
	struct spin spin;
	uint64_t n_finished;
};

#define relaxed_get(a) atomic_load_explicit(&(a), memory_order_relaxed)

/* --- on the loop: what is finished --- */

static void on_job_done(struct mail *m)
{
	struct pool_job *job = (struct pool_job *)((char *)m - offsetof(struct pool_job, mail));
	const struct pool_figures *f = &job->pool->figures;

	job->pool->n_under_way--;
	if (job->stands_for > 0 && job->status == 0 && f->wait) {
		histogram_add(f->wait, job->begun_us - job->since_us, job->stands_for);
		histogram_add(f->run, job->end_us - job->begun_us, job->stands_for);
	}
	job->done(job, job->status);
}

static void job_finish(struct pool *p, struct pool_job *job, int status)
{
	job->status = status;
	mailbox_put(p->mailbox, &job->mail);
}

/* --- queues; the lock is held --- */

/* How many of n threads a lane may hold. */
static unsigned all_but_one(unsigned n)
{
	return n > 1 ? n - 1 : 1;
}

/* Less than all_but_one() where n > 2, so that the other slow lane has a thread. */
static unsigned half(unsigned n)
{
	return n > 1 ? n / 2 : 1;
}

static unsigned (*const lane_max[POOL_LANES])(unsigned n) = {
	[POOL_CPU] = all_but_one,
	[POOL_IO] = half,
	[POOL_DNS] = half,
};

static bool is_slow(unsigned lane)
{
	return lane != POOL_CPU;
}

/* From the list into the queues, in the order of submission. */
static void gather(struct pool *p)
{
	struct pool_job *job, *next, *first = NULL;

	if (!atomic_load(&p->incoming))
		return;
	job = atomic_exchange(&p->incoming, NULL);
	for (; job; job = next) {
		next = job->next;
		job->next = first;
		first = job;
	}
	for (job = first; job; job = job->next)
		TAILQ_INSERT_TAIL(&p->lanes[job->lane].queue, job, link);
}

/* The next lane in turn that has a job and may hold another thread; NULL: none. */
static struct lane *next_lane(struct pool *p)
{
	for (unsigned i = 0; i < POOL_LANES; i++) {
		unsigned k = (p->next_lane + i) % POOL_LANES;
		struct lane *l = &p->lanes[k];

		if (!TAILQ_EMPTY(&l->queue) && l->n_running < l->n_running_max &&
			!(is_slow(k) && p->n_slow >= p->n_slow_max))
			return l;
	}
	return NULL;
}

/*
 * The same, with what has come from the loop. While jobs are short the list is left alone as long as there are others: each look
 * at it takes it from the CPU of the loop, which costs more than such a job.
 */
static struct lane *look(struct pool *p)
{
	struct lane *l = NULL;

	if (relaxed_get(p->brisk) && relaxed_get(p->n_begun_all) % LEAVE != 0)
		l = next_lane(p);
	if (l)
		return l;
	gather(p);
	return next_lane(p);
}

static void show(_Atomic uint64_t *figure, uint64_t value)
{
	if (figure)
		atomic_store_explicit(figure, value, memory_order_relaxed);
}

/* There is one writer at a time. */
static uint64_t count(_Atomic uint64_t *n)
{
	uint64_t next = relaxed_get(*n) + 1;

	atomic_store_explicit(n, next, memory_order_release);
	return next;
}

static struct pool_job *begin(struct pool *p, struct lane *l)
{
	struct pool_job *job = TAILQ_FIRST(&l->queue);

	TAILQ_REMOVE(&l->queue, job, link);
	job->queued = false;
	l->n_running++;
	p->n_slow += is_slow(job->lane);
	p->next_lane = (job->lane + 1) % POOL_LANES;
	count(&p->n_begun[job->lane]);
	show(p->figures.n_begun, count(&p->n_begun_all));
	return job;
}

static void end(struct pool *p, enum pool_lane lane)
{
	p->lanes[lane].n_running--;
	p->n_slow -= is_slow(lane);
	p->n_finished++;
	show(p->figures.n_finished, p->n_finished);
}

/* --- threads; the lock is held, unless it is said otherwise --- */

/* What a thread has done without a pause. */
struct streak {
	unsigned n_jobs;
	uint64_t since_us;
};

/* Any thread. */
static bool enough_are_active(struct pool *p)
{
	return atomic_load(&p->brisk) && atomic_load(&p->n_active) >= p->n_brisk_max;
}

/* Whether a sleeping thread is to be woken, once the lock is not held; it counts as one that looks from now on. */
static bool call_one(struct pool *p)
{
	if (relaxed_get(p->n_looking) > 0 || relaxed_get(p->n_sleeping) == 0 ||
		enough_are_active(p))
		return false;
	p->n_waking++;
	atomic_fetch_sub(&p->n_sleeping, 1);
	atomic_fetch_add(&p->n_looking, 1);
	return true;
}

/*
 * Waits for the next job for a moment, without the lock. Returns whether to look before sleeping: as this one was counted upon, what others
 * have moved into the queues meanwhile is its business, too, and so is the end.
 */
static bool look_again(struct pool *p)
{
	struct spin_seen seen = {.n = relaxed_get(p->n_begun_all)};
	bool again = true;

	if (p->spinning || !spin_again(&p->spin, &seen))
		return false;
	p->spinning = true;
	atomic_fetch_add(&p->n_looking, 1);
	pthread_mutex_unlock(&p->lock);
	while (again && !atomic_load(&p->incoming) && !relaxed_get(p->stopping))
		again = spin_again(&p->spin, &seen);
	pthread_mutex_lock(&p->lock);
	p->spinning = false;
	atomic_fetch_sub(&p->n_looking, 1);
	return true;
}

static void sleep_until_called(struct pool *p)
{
	atomic_fetch_add(&p->n_sleeping, 1);
	atomic_fetch_sub(&p->n_active, 1);
	if (!atomic_load(&p->incoming) || enough_are_active(p))
		pthread_cond_wait(&p->work, &p->lock);
	atomic_fetch_add(&p->n_active, 1);
	if (p->n_waking > 0) { /* if not for this thread: the one it was for will look, too */
		p->n_waking--;
		atomic_fetch_sub(&p->n_looking, 1);
	} else {
		atomic_fetch_sub(&p->n_sleeping, 1);
	}
}

/* Sleeps as long as the others get on. When nothing was begun in a while, there is nothing to do, or nobody to do it. */
static void watch(struct pool *p)
{
	struct timespec until;
	uint64_t n_begun, us;

	atomic_store(&p->brisk, true);
	atomic_fetch_sub(&p->n_active, 1);
	do {
		n_begun = relaxed_get(p->n_begun_all);
		us = now_us() + WATCH_US;
		until = (struct timespec){
			.tv_sec = (time_t)(us / US_PER_S), .tv_nsec = (long)(us % US_PER_S * 1000)};
		pthread_cond_timedwait(&p->watch, &p->lock, &until);
	} while (relaxed_get(p->n_begun_all) != n_begun && !relaxed_get(p->stopping));
	atomic_fetch_add(&p->n_active, 1);
	atomic_store(&p->brisk, false);
}

/* Whether this thread has found that jobs are short, and there are enough others. */
static bool steps_back(const struct pool *p, struct streak *s)
{
	uint64_t now;
	bool is_short;

	if (++s->n_jobs % STREAK != 0 || relaxed_get(p->n_active) <= p->n_brisk_max)
		return false;
	now = now_us();
	is_short = s->n_jobs > STREAK && now - s->since_us < STREAK * SHORT_US;
	s->since_us = now;
	return is_short;
}

/* Waits for a job and begins it. Returns NULL when it is time to stop. */
static struct pool_job *thread_next(struct pool *p, struct streak *streak)
{
	struct lane *l;

	while (!relaxed_get(p->stopping)) {
		l = look(p);
		if (l && !steps_back(p, streak))
			return begin(p, l);
		streak->n_jobs = 0;
		if (l && !relaxed_get(p->brisk))
			watch(p);
		else if (l || !look_again(p))
			sleep_until_called(p);
	}
	return NULL;
}

static void job_run(struct pool *p, struct pool_job *job)
{
	if (job->stands_for > 0)
		job->begun_us = now_us();
	job->work(job);
	if (job->stands_for > 0)
		job->end_us = now_us();
	job_finish(p, job, 0);
}

static void *thread_main(void *arg)
{
	struct pool *p = arg;
	struct pool_job *job;
	struct streak streak = {0};
	enum pool_lane lane;
	bool call;

	pthread_mutex_lock(&p->lock);
	atomic_fetch_add(&p->n_active, 1);
	atomic_fetch_sub(&p->n_looking, 1); /* as which it was started */
	while ((job = thread_next(p, &streak))) {
		lane = job->lane;
		call = next_lane(p) && call_one(p);
		pthread_mutex_unlock(&p->lock);
		if (call)
			pthread_cond_signal(&p->work);
		job_run(p, job);
		pthread_mutex_lock(&p->lock);
		end(p, lane);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Returns 0 or a negative errno. */
static int thread_start(struct pool *p)
{
	char name[16];
	int r;

	snprintf(name, sizeof(name), "tined-pool-%u", p->n_threads % 1000);
	atomic_fetch_add(&p->n_looking, 1);
	r = thread_spawn(&p->threads[p->n_threads], name, POOL_STACK, thread_main, p);
	if (r < 0) {
		atomic_fetch_sub(&p->n_looking, 1);
		return r;
	}
	p->n_threads++;
	return 0;
}

/* --- the pool --- */

static void init_locks(struct pool *p)
{
	pthread_mutexattr_t mutex;
	pthread_condattr_t cond;

	pthread_mutexattr_init(&mutex);
	pthread_mutexattr_settype(
		&mutex, PTHREAD_MUTEX_ADAPTIVE_NP); /* it is never held for long */
	pthread_mutex_init(&p->lock, &mutex);
	pthread_mutexattr_destroy(&mutex);
	pthread_condattr_init(&cond);
	pthread_condattr_setclock(&cond, CLOCK_MONOTONIC);
	pthread_cond_init(&p->watch, &cond);
	pthread_cond_init(&p->work, &cond);
	pthread_condattr_destroy(&cond);
}

static int pool_init(struct pool *p, const struct pool_options *o)
{
	memset(p, 0, sizeof(*p));
	p->threads = calloc(o->n_threads, sizeof(*p->threads));
	if (!p->threads)
		return -ENOMEM;
	p->n_threads_max = o->n_threads;
	p->queue_max = o->queue_max;
	p->mailbox = o->mailbox;
	p->figures = o->figures;
	p->spin.budget_us = o->spin_us;
	p->n_slow_max = all_but_one(o->n_threads);
	p->n_brisk_max = all_but_one(cpu_available());
	for (unsigned i = 0; i < POOL_LANES; i++) {
		TAILQ_INIT(&p->lanes[i].queue);
		p->lanes[i].n_running_max = lane_max[i](o->n_threads);
	}
	init_locks(p);
	return 0;
}

/*
 * Makes a pool for the loop of o->mailbox; its threads are started when they are first needed. Returns 0 or
 * a negative errno: -EINVAL without threads or room in the queue.
 */
int pool_new(const struct pool_options *o, struct pool **ret)
{
	struct pool *p;
	int r;

	if (o->n_threads == 0 || o->queue_max == 0)
		return -EINVAL;
	p = aligned_alloc(POOL_LINE, sizeof(*p));
	if (!p)
		return -ENOMEM;
	r = pool_init(p, o);
	if (r < 0) {
		free(p);
		return r;
	}
	*ret = p;
	return 0;
}

/* The lock is held, or there are no threads. The job is in one of the queues. */
static void take_back(struct pool *p, struct pool_job *job)
{
	TAILQ_REMOVE(&p->lanes[job->lane].queue, job, link);
	job->queued = false;
	p->n_submitted[job->lane]--;
	p->n_submitted_all--;
	show(p->figures.n_submitted, p->n_submitted_all);
}

/*
 * All threads have ended. All jobs are finished by the first round; what those callbacks post still arrives, but not without end: there may be
 * some that post themselves again, or others who post on. Nothing they submit is taken.
 */
static void settle(struct pool *p)
{
	struct pool_job *job;

	gather(p);
	for (unsigned i = 0; i < POOL_LANES; i++) {
		while ((job = TAILQ_FIRST(&p->lanes[i].queue))) {
			take_back(p, job);
			job_finish(p, job, -ECANCELED);
		}
	}
	for (int i = 0; i < SETTLE_ROUNDS; i++) {
		if (!mailbox_run(p->mailbox) && mailbox_may_sleep(p->mailbox))
			return;
	}
}

/*
 * From the loop's thread and not from within work, done or a post: waits for the jobs that are running, which see that the pool is
 * stopping, then calls what is left to be called: done() of all jobs, with -ECANCELED of those that had not
 * begun, and the posts. From then on nothing is taken any more.
 */
void pool_stop(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	atomic_store(&p->stopping, true);
	pthread_cond_broadcast(&p->work);
	pthread_cond_broadcast(&p->watch);
	pthread_mutex_unlock(&p->lock);
	for (; p->n_threads > 0; p->n_threads--)
		pthread_join(p->threads[p->n_threads - 1], NULL);
	settle(p);
}

/* Whether pool_stop() has been called. Any thread. */
bool pool_is_stopping(const struct pool *p)
{
	return relaxed_get(p->stopping);
}

/* The loop's, which the pool reports to. */
struct mailbox *pool_mailbox(const struct pool *p)
{
	return p->mailbox;
}

/* Stops a pool and frees it. NULL is fine. Returns NULL. */
struct pool *pool_free(struct pool *p)
{
	if (!p)
		return NULL;
	pool_stop(p);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->watch);
	pthread_mutex_destroy(&p->lock);
	free(p->threads);
	free(p);
	return NULL;
}

/* --- on the loop: submitting --- */

/* How many threads have begun with is read only where what it was last does not do. */
static bool has_room(struct pool *p, enum pool_lane lane)
{
	uint64_t n_queued;

	if (p->room[lane] > 0)
		return true;
	n_queued = p->n_submitted[lane] -
		atomic_load_explicit(&p->n_begun[lane], memory_order_acquire);
	p->room[lane] = n_queued < p->queue_max ? p->queue_max - (unsigned)n_queued : 0;
	return p->room[lane] > 0;
}

/* Every job is measured while there are few; the clock would cost more than many others do. */
static void choose_measured(struct pool *p, struct pool_job *job)
{
	job->stands_for = 0;
	if (++p->n_unmeasured < MEASURE && p->n_under_way > FEW)
		return;
	job->stands_for = p->n_unmeasured;
	job->since_us = now_us();
	p->n_unmeasured = 0;
}

static void push(struct pool *p, struct pool_job *job)
{
	struct pool_job *head = relaxed_get(p->incoming);

	do {
		job->next = head;
	} while (!atomic_compare_exchange_weak(&p->incoming, &head, job));
}

/* Somebody is to look for the job that was put down. */
static void call_for(struct pool *p)
{
	bool call;

	if (enough_are_active(p))
		return;
	if (p->n_threads < p->n_threads_max &&
		p->n_submitted_all - atomic_load(&p->n_begun_all) >
			atomic_load(&p->n_looking) + atomic_load(&p->n_sleeping))
		thread_start(p); /* if it fails, those that there are will do it */
	if (atomic_load(&p->n_looking) > 0 || atomic_load(&p->n_sleeping) == 0)
		return;
	pthread_mutex_lock(&p->lock);
	call = call_one(p);
	pthread_mutex_unlock(&p->lock);
	if (call)
		pthread_cond_signal(&p->work);
}

/*
 * Hands over a job with its lane, work and done set, from the loop's thread. Returns 0; -ENOBUFS when queue_max jobs of the lane wait
 * already; -EAGAIN when not one thread could be started; -ESHUTDOWN when the pool is stopping. After an error
 * the job is still the caller's and nothing of it is called.
 */
int pool_submit(struct pool *p, struct pool_job *job)
{
	if (relaxed_get(p->stopping))
		return -ESHUTDOWN;
	if (!has_room(p, job->lane))
		return -ENOBUFS;
	if (p->n_threads == 0 && thread_start(p) < 0)
		return -EAGAIN;
	job->mail.fn = on_job_done;
	job->pool = p;
	job->queued = true;
	p->n_under_way++;
	choose_measured(p, job);
	p->room[job->lane]--;
	p->n_submitted[job->lane]++;
	p->n_submitted_all++;
	show(p->figures.n_submitted, p->n_submitted_all);
	push(p, job);
	call_for(p);
	return 0;
}

/*
 * Takes a job back, from the loop's thread. Returns true when no thread had begun with it: done() is then called with
 * -ECANCELED, never from within this call. Otherwise it is running or finished, and done() is called as usual.
 */
bool pool_cancel(struct pool *p, struct pool_job *job)
{
	bool queued;

	pthread_mutex_lock(&p->lock);
	gather(p);
	queued = job->queued;
	if (queued)
		take_back(p, job);
	pthread_mutex_unlock(&p->lock);
	if (queued)
		job_finish(p, job, -ECANCELED);
	return queued;
}

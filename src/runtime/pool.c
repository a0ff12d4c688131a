/*
 * A thread pool: work that may block, away from the loop. Any process that runs modules.
 *
 * Jobs wait in one queue under a mutex that is held for a few instructions at a time. Finished ones go back to the loop
 * through its mailbox.
 *
 * Sleeping threads are woken in a chain: at most one is on its way to the queue at any time, and it wakes
 * the next one if it leaves jobs behind. Short jobs then do not wake threads that would find nothing.
 *
 * Always: a job is in exactly one place: with its owner, in the queue, on a thread, or on the list to the
 * loop; done() is called once for each that was accepted.
 */
#include "runtime/pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mailbox.h"

#define POOL_STACK (256u << 10) /* of a thread */

TAILQ_HEAD(pool_queue, pool_job);

/* Used by the loop's thread and by the pool's: who may touch what is said group by group. */
struct pool {
	/* the loop's alone */
	unsigned n_threads, n_threads_max, queue_max;
	pthread_t *threads;

	struct mailbox *mailbox; /* the way back to the loop */

	/* under the lock */
	pthread_mutex_t lock;
	pthread_cond_t work; /* there are jobs, or it is time to stop */
	struct pool_queue queue;
	unsigned n_queued;
	unsigned n_idle; /* threads that sleep, the one on its way included */
	bool waking;     /* one is on its way */
	bool stopping;
	uint64_t n_finished;
	unsigned n_running;
	struct pool_figures figures; /* the pointers never change */
};

static void on_job_done(struct mail *m)
{
	struct pool_job *job = (struct pool_job *)((char *)m - offsetof(struct pool_job, mail));

	job->done(job, job->status);
}

static void job_finish(struct pool *p, struct pool_job *job, int status)
{
	job->status = status;
	mailbox_post(p->mailbox, &job->mail);
}

/* The lock is held. */
static void pool_show(const struct pool *p)
{
	const struct pool_figures *f = &p->figures;

	if (!f->n_finished)
		return;
	atomic_store_explicit(f->n_finished, p->n_finished, memory_order_relaxed);
	atomic_store_explicit(f->n_queued, p->n_queued, memory_order_relaxed);
	atomic_store_explicit(f->n_running, p->n_running, memory_order_relaxed);
}

/* The lock is held, and there is a job. */
static struct pool_job *queue_take(struct pool *p, struct pool_job *job)
{
	TAILQ_REMOVE(&p->queue, job, link);
	p->n_queued--;
	job->queued = false;
	return job;
}

/* The lock is held. Returns whether a thread is to be woken once it is not. */
static bool queue_calls(struct pool *p)
{
	if (p->n_queued == 0 || p->n_idle == 0 || p->waking)
		return false;
	p->waking = true;
	return true;
}

/* Waits for a job and takes it. The lock is held. Returns NULL when it is time to stop. */
static struct pool_job *thread_next(struct pool *p)
{
	while (p->n_queued == 0 && !p->stopping) {
		p->n_idle++;
		pthread_cond_wait(&p->work, &p->lock);
		p->n_idle--;
		p->waking = false;
	}
	if (p->stopping)
		return NULL;
	p->n_running++;
	return queue_take(p, TAILQ_FIRST(&p->queue));
}

static void *thread_main(void *arg)
{
	struct pool *p = arg;
	struct pool_job *job;
	bool call;

	pthread_mutex_lock(&p->lock);
	while ((job = thread_next(p))) {
		call = queue_calls(p);
		pool_show(p);
		pthread_mutex_unlock(&p->lock);
		if (call)
			pthread_cond_signal(&p->work);
		job->work(job);
		job_finish(p, job, 0);
		pthread_mutex_lock(&p->lock);
		p->n_running--;
		p->n_finished++;
		pool_show(p);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Signals are the loop's business, but for those that say that this very thread went wrong. */
static void block_signals(sigset_t *ret_old)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(&set, own[i]);
	pthread_sigmask(SIG_SETMASK, &set, ret_old);
}

/* Returns 0 or a negative errno. */
static int thread_start(struct pool *p)
{
	pthread_t *thread = &p->threads[p->n_threads];
	pthread_attr_t attr;
	sigset_t old;
	char name[16];
	int r = pthread_attr_init(&attr);

	if (r != 0)
		return -r;
	pthread_attr_setstacksize(&attr, POOL_STACK);
	block_signals(&old);
	r = pthread_create(thread, &attr, thread_main, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r != 0)
		return -r;
	snprintf(name, sizeof(name), "tined-pool-%u", p->n_threads % 1000);
	pthread_setname_np(*thread, name);
	p->n_threads++;
	return 0;
}

static int pool_init(struct pool *p, const struct pool_options *o)
{
	p->threads = calloc(o->n_threads, sizeof(*p->threads));
	if (!p->threads)
		return -ENOMEM;
	p->n_threads_max = o->n_threads;
	p->queue_max = o->queue_max;
	p->mailbox = o->mailbox;
	p->figures = o->figures;
	TAILQ_INIT(&p->queue);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	return 0;
}

/*
 * Makes a pool for the loop o->base; its threads are started when they are first needed. Returns 0 or
 * a negative errno: -EINVAL without threads or room in the queue.
 */
int pool_new(const struct pool_options *o, struct pool **ret)
{
	struct pool *p;
	int r;

	if (o->n_threads == 0 || o->queue_max == 0)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	r = pool_init(p, o);
	if (r < 0) {
		free(p->threads);
		free(p);
		return r;
	}
	*ret = p;
	return 0;
}

/* All threads have ended. What these callbacks post or cancel still arrives, nothing they submit is taken. */
static void pool_settle(struct pool *p)
{
	struct pool_job *job;

	do {
		while ((job = TAILQ_FIRST(&p->queue)))
			job_finish(p, queue_take(p, job), -ECANCELED);
	} while (mailbox_run(p->mailbox));
	pool_show(p);
}

/*
 * Ends a pool, from the loop's thread and not from within work, done or a post: waits for the jobs that are
 * running, then calls what is left to be called: done() of all jobs, with -ECANCELED of those that had not
 * begun, and the posts. Threads that are not the pool's must have stopped posting. NULL is fine. Returns NULL.
 */
struct pool *pool_free(struct pool *p)
{
	if (!p)
		return NULL;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	pool_settle(p);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p->threads);
	free(p);
	return NULL;
}

/* Returns 0, -ESHUTDOWN or -ENOBUFS, and whether a thread is to be woken or another one started. */
static int queue_insert(struct pool *p, struct pool_job *job, bool *ret_call, bool *ret_more)
{
	int r = 0;

	pthread_mutex_lock(&p->lock);
	if (p->stopping) {
		r = -ESHUTDOWN;
	} else if (p->n_queued >= p->queue_max) {
		r = -ENOBUFS;
	} else {
		TAILQ_INSERT_TAIL(&p->queue, job, link);
		p->n_queued++;
		job->queued = true;
		*ret_call = queue_calls(p);
		*ret_more = p->n_queued > p->n_idle;
		pool_show(p);
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

/*
 * Hands over a job with its work and done set, from the loop's thread. Returns 0; -ENOBUFS when queue_max jobs wait
 * already; -EAGAIN when not one thread could be started; -ESHUTDOWN when the pool is ending. After an error
 * the job is still the caller's and nothing of it is called.
 */
int pool_submit(struct pool *p, struct pool_job *job)
{
	bool call = false, more = false;
	int r;

	if (p->n_threads == 0 && thread_start(p) < 0)
		return -EAGAIN;
	job->mail.fn = on_job_done;
	r = queue_insert(p, job, &call, &more);
	if (r < 0)
		return r;
	if (call)
		pthread_cond_signal(&p->work);
	if (more && p->n_threads < p->n_threads_max)
		thread_start(p); /* if it fails, those that there are will do it */
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
	queued = job->queued;
	if (queued) {
		queue_take(p, job);
		pool_show(p);
	}
	pthread_mutex_unlock(&p->lock);
	if (queued)
		job_finish(p, job, -ECANCELED);
	return queued;
}

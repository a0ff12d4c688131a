/*
 * Work on the thread pool. On the loop's thread, but for run().
 *
 * A deadline is a timer of the loop, which takes the work back or tells it to stop, as cancelling does.
 */
#include "runtime/work.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>

#include <tine/errors.h>

#include "base/clock.h"
#include "base/turn.h"

static void on_work(struct pool_job *job)
{
	struct tine_work *w = (struct tine_work *)job;

	if (atomic_load_explicit(&w->stop, memory_order_relaxed) == 0)
		w->run(w);
}

static void on_done(struct pool_job *job, int status)
{
	struct tine_work *w = (struct tine_work *)job;
	int stop = atomic_load_explicit(&w->stop, memory_order_relaxed);

	if (w->timed)
		event_del(&w->deadline);
	w->done(w, stop != 0 ? stop : status);
}

static void stop(struct tine_work *w, int why)
{
	int not_yet = 0;

	atomic_compare_exchange_strong(&w->stop, &not_yet, why);
	pool_cancel(w->pool, &w->job);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	turn_mark();
	stop(arg, TINE_E_TIMEOUT);
}

static int add_deadline(struct tine_work *w, uint64_t timeout_us)
{
	struct timeval tv = timeval_from_us(timeout_us);

	event_assign(
		&w->deadline, event_get_base(&pool_mailbox(w->pool)->wake), -1, 0, on_deadline, w);
	return event_add(&w->deadline, &tv) < 0 ? -ENOMEM : 0;
}

/* What the pool says, in the words of tine/work.h. */
static int in_public(int r)
{
	static const struct {
		int ours, theirs;
	} words[] = {{-ENOBUFS, TINE_E_FULL}, {-EAGAIN, -ENOMEM}, {-ESHUTDOWN, TINE_E_CLOSED}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (r == words[i].ours)
			return words[i].theirs;
	}
	return r;
}

/*
 * timeout_us: from now on; 0: any time. Returns 0; TINE_E_FULL when too many of its lane wait already; -ENOMEM, also when there is
 * no thread; TINE_E_CLOSED when the worker is ending. After an error nothing of it is called.
 */
int work_submit(struct pool *p, struct tine_work *w, uint64_t timeout_us)
{
	int r;

	w->pool = p;
	w->job.work = on_work;
	w->job.done = on_done;
	w->timed = timeout_us > 0;
	atomic_store_explicit(&w->stop, 0, memory_order_relaxed);
	if (w->timed) {
		r = add_deadline(w, timeout_us);
		if (r < 0)
			return r;
	}
	r = pool_submit(p, &w->job);
	if (r < 0 && w->timed)
		event_del(&w->deadline);
	return in_public(r);
}

/* Before done() was called. It is not called from within this; what runs may see that it is to end, and may not care. */
void work_cancel(struct tine_work *w)
{
	stop(w, TINE_E_CANCELED);
}

/* The status of work that was told to stop, in words: strerror(3) speaks of connections. */
const char *work_why(int status)
{
	if (status == TINE_E_TIMEOUT)
		return "timed out";
	return status == TINE_E_CANCELED ? "canceled" : strerror(-status);
}

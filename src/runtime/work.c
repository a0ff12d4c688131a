/*
 * Work on the thread pool. On the loop's thread, but for run().
 */
#include "runtime/work.h"

#include <errno.h>

static void on_work(struct pool_job *job)
{
	struct tine_work *w = (struct tine_work *)job;

	w->run(w);
}

static void on_done(struct pool_job *job, int status)
{
	struct tine_work *w = (struct tine_work *)job;

	w->done(w, status ? status : work_stopped(w));
}

/* timeout_us: from now on; 0: any time. Returns as pool_submit(). */
int work_submit(struct pool *p, struct tine_work *w, uint64_t timeout_us)
{
	w->pool = p;
	w->job.work = on_work;
	w->job.done = on_done;
	return pool_submit(p, &w->job);
}

/* Before done() was called. It is not called from within this; what runs may see that it is to end, and may not care. */
void work_cancel(struct tine_work *w)
{
	atomic_store_explicit(&w->stop, -ECANCELED, memory_order_relaxed);
	pool_cancel(w->pool, &w->job);
}

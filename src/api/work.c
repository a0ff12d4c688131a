/*
 * tine/work.h: checks what modules hand in and calls down. tine_work_stopped() runs on threads of the pool, all else on the loop's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <tine/work.h>

#include "base/sized.h"
#include "runtime/module.h"
#include "runtime/work.h"

_Static_assert((int)TINE_LANE_CPU == (int)POOL_CPU && (int)TINE_LANE_IO == (int)POOL_IO &&
		(int)TINE_LANE_DNS == (int)POOL_DNS,
	"lanes go down as modules give them");

#define SPARE_MAX 1024

struct module_work {
	struct tine_work work;    /* first */
	struct module_work *next; /* while it is spare */
	void (*run)(struct tine_work *work, void *arg);
	void (*done)(int status, void *arg);
	void *arg;
};

/* Some that are not used at present: for the loop's thread. */
static struct module_work *spare;
static unsigned n_spare;

static void on_run(struct tine_work *work)
{
	struct module_work *w = (struct module_work *)work;

	w->run(work, w->arg);
}

static void work_free(struct module_work *w)
{
	if (n_spare == SPARE_MAX) {
		free(w);
		return;
	}
	w->next = spare;
	spare = w;
	n_spare++;
}

static void on_done(struct tine_work *work, int status)
{
	struct module_work *w = (struct module_work *)work;
	void (*done)(int status, void *arg) = w->done;
	void *arg = w->arg;

	work_free(w);
	if (done)
		done(status, arg);
}

/* Returns NULL when there is no memory. */
static struct module_work *work_new(const struct tine_work_options *o)
{
	struct module_work *w = spare;

	if (w) {
		spare = w->next;
		n_spare--;
	} else {
		w = calloc(1, sizeof(*w));
		if (!w)
			return NULL;
	}
	w->work.run = on_run;
	w->work.done = on_done;
	w->work.job.lane = (enum pool_lane)o->lane;
	w->run = o->run;
	w->done = o->done;
	w->arg = o->arg;
	return w;
}

int tine_work_submit(
	struct tine_worker *worker, const struct tine_work_options *options, struct tine_work **ret)
{
	struct tine_work_options o;
	struct module_work *w;
	int r = worker && worker->pool ? SIZED_TAKE(&o, options, timeout_us) : -EINVAL;

	if (r < 0)
		return r;
	if (!o.run || (unsigned)o.lane >= POOL_LANES)
		return -EINVAL;
	w = work_new(&o);
	if (!w)
		return -ENOMEM;
	r = work_submit(worker->pool, &w->work, o.timeout_us);
	if (r < 0)
		work_free(w);
	else if (ret)
		*ret = &w->work;
	return r;
}

void tine_work_cancel(struct tine_work *work)
{
	if (work)
		work_cancel(work);
}

int tine_work_stopped(struct tine_work *work)
{
	return work ? work_stopped(work) : 0;
}

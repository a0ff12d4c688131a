/*
 * tine/loop.h: the worker's event loop, for modules. tine_loop_post() runs on any thread, all else on the loop's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <tine/loop.h>

#include "base/clock.h"
#include "base/mailbox.h"
#include "base/sized.h"
#include "base/turn.h"
#include "runtime/module.h"
#include "runtime/slices.h"
#include "runtime/soon.h"
#include "shared/histogram.h"
#include "shared/scoreboard.h"

#define BUDGET_US 1000 /* of a slice, where nothing was said */

struct event_base *tine_loop_base(struct tine_worker *worker)
{
	return worker->base;
}

/* --- from any thread --- */

struct call {
	struct mail mail;
	const struct tine_worker *worker;
	void (*fn)(void *arg);
	void *arg;
};

static void call_run(struct mail *m)
{
	struct call *call = (struct call *)m;
	void (*fn)(void *arg) = call->worker->stopped ? NULL : call->fn;
	void *arg = call->arg;

	free(call);
	if (fn)
		fn(arg);
}

int tine_loop_post(struct tine_worker *worker, void (*fn)(void *arg), void *arg)
{
	struct call *call;

	if (!worker || !worker->mailbox || !fn)
		return -EINVAL;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	call->mail.fn = call_run;
	call->worker = worker;
	call->fn = fn;
	call->arg = arg;
	return mailbox_post(worker->mailbox, &call->mail);
}

/* --- the end of the turn --- */

int tine_loop_soon(struct tine_worker *worker, void (*fn)(void *arg), void *arg)
{
	return worker && worker->soon && fn ? soon_add(worker->soon, fn, arg) : -EINVAL;
}

size_t tine_loop_soon_cancel(struct tine_worker *worker, void (*fn)(void *arg), void *arg)
{
	return worker && worker->soon && fn ? soon_cancel(worker->soon, fn, arg) : 0;
}

int tine_loop_slices(struct tine_worker *worker, const struct tine_slices_options *options,
	struct tine_slices **ret)
{
	struct tine_slices_options o;
	struct slices_options checked;
	int r = worker && worker->soon ? SIZED_TAKE(&o, options, arg) : -EINVAL;

	if (r < 0)
		return r;
	if (!o.step)
		return -EINVAL;
	checked = (struct slices_options){.n = o.n,
		.count = o.count,
		.budget_us = o.count == 0 && o.budget_us == 0 ? BUDGET_US : o.budget_us,
		.step = o.step,
		.done = o.done,
		.arg = o.arg};
	return slices_start(worker->soon, &checked, ret);
}

void tine_loop_slices_cancel(struct tine_slices *slices)
{
	if (slices)
		slices_cancel(slices);
}

/* --- figures --- */

/* What a module was told last: to be subtracted. */
struct loop_figures {
	uint64_t at_us, turns, busy_us;
	struct histogram lag;
};

static struct loop_figures *figures_of(struct tine_worker *worker)
{
	if (!worker->figures_then) {
		worker->figures_then = calloc(1, sizeof(*worker->figures_then));
		if (worker->figures_then)
			worker->figures_then->at_us = sb_get(worker->figures->started_us);
	}
	return worker->figures_then;
}

/* For how long the turn that is under way has worked. */
static uint64_t worked_us(uint64_t now)
{
	return turn.begun_us != 0 ? now - turn.begun_us : 0;
}

/* What the present turn has worked so far is of this interval, what it will work is of the next one. */
static struct loop_figures figures_now(const struct sb_slot *s)
{
	struct loop_figures f = {.at_us = now_us(), .turns = sb_get(s->turns)};

	f.busy_us = sb_get(s->busy_us) + worked_us(f.at_us);
	histogram_merge(&f.lag, &s->loop_lag);
	return f;
}

static void figures_between(const struct loop_figures *then, const struct loop_figures *now,
	struct tine_loop_figures *ret)
{
	struct histogram lag = now->lag;

	histogram_subtract(&lag, &then->lag);
	ret->interval_us = now->at_us - then->at_us;
	ret->turns = now->turns - then->turns;
	ret->busy_us = now->busy_us - then->busy_us;
	ret->lag_p50_us = histogram_percentile_us(&lag, 50);
	ret->lag_p99_us = histogram_percentile_us(&lag, 99);
	ret->lag_max_us = histogram_percentile_us(&lag, 100);
	ret->turn_us = worked_us(now->at_us);
}

int tine_loop_figures(struct tine_worker *worker, struct tine_loop_figures *figures)
{
	struct tine_loop_figures f = {0};
	struct loop_figures *then, now;

	if (!worker || !worker->figures || !figures ||
		figures->size < SIZED_TO(struct tine_loop_figures, turn_us) ||
		figures->size > SIZED_MAX)
		return -EINVAL;
	then = figures_of(worker);
	if (!then)
		return -ENOMEM;
	now = figures_now(worker->figures);
	figures_between(then, &now, &f);
	*then = now;
	f.size = figures->size < sizeof(f) ? figures->size : sizeof(f);
	memcpy(figures, &f, f.size);
	return 0;
}

/*
 * tine/loop.h: the worker's event loop, for modules. tine_loop_post() runs on any thread, all else on the loop's.
 */
#include <errno.h>
#include <stdlib.h>

#include <tine/loop.h>

#include "runtime/module.h"
#include "runtime/pool.h"

struct call {
	struct pool_post post;
	void (*fn)(void *arg);
	void *arg;
};

struct event_base *tine_loop_base(struct tine_worker *worker)
{
	return worker->base;
}

static void call_run(struct pool_post *post)
{
	struct call *call = (struct call *)post;
	void (*fn)(void *arg) = call->fn;
	void *arg = call->arg;

	free(call);
	fn(arg);
}

int tine_loop_post(struct tine_worker *worker, void (*fn)(void *arg), void *arg)
{
	struct call *call;

	if (!worker || !worker->pool || !fn)
		return -EINVAL;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	call->post.fn = call_run;
	call->fn = fn;
	call->arg = arg;
	return pool_post(worker->pool, &call->post);
}

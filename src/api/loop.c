/*
 * tine/loop.h: the worker's event loop, for modules. tine_loop_post() runs on any thread, all else on the loop's.
 */
#include <errno.h>
#include <stdlib.h>

#include <tine/loop.h>

#include "base/mailbox.h"
#include "runtime/module.h"

struct call {
	struct mail mail;
	void (*fn)(void *arg);
	void *arg;
};

struct event_base *tine_loop_base(struct tine_worker *worker)
{
	return worker->base;
}

static void call_run(struct mail *m)
{
	struct call *call = (struct call *)m;
	void (*fn)(void *arg) = call->fn;
	void *arg = call->arg;

	free(call);
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
	call->fn = fn;
	call->arg = arg;
	return mailbox_post(worker->mailbox, &call->mail);
}

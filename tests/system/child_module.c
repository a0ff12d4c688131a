/*
 * Child processes for the system tests. Below its mount, what is behind the question mark being a command of the shell:
 *
 * exec?COMMAND   runs it; answers "ERROR STATUS SIGNAL" and, on the lines below, what it wrote
 * start?COMMAND  starts it and lets it run; answers with the first thing it writes
 * fork           runs a function in a fork, which sends its number; then it waits for ever
 * missing        starts a program that is not there; answers with the error
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include <tine/channel.h>
#include <tine/child.h>

#include "../module.h"

static struct tine_worker *worker;

static void on_done(const struct tine_child_result *r, void *arg)
{
	static char text[65536];

	snprintf(text, sizeof(text), "%d %d %d\n%s%s", r->error, r->how.status, r->how.signal,
		r->output, r->errors);
	answer(arg, text);
}

static void on_exec(struct tine_request *request, void *arg)
{
	struct tine_child_options o = {.size = sizeof(o), .timeout_us = 20000000};
	char command[1024];

	decode(tine_request_query(request), command, sizeof(command));
	tine_defer(request);
	if (tine_child_exec(worker, command, &o, on_done, request, NULL) < 0)
		answer(request, "refused");
}

/* One that runs on. Its first word is the answer; then the request is no longer there. */
struct started {
	LIST_ENTRY(started) link;
	struct tine_request *request;
};

static LIST_HEAD(, started) all_started;

static void tell(struct started *s, const char *text)
{
	if (s->request)
		answer(s->request, text);
	s->request = NULL;
}

static void on_data(struct tine_child *c, enum tine_child_stream stream, const void *data,
	size_t len, void *arg)
{
	char text[256];

	snprintf(text, sizeof(text), "%.*s", (int)len, (const char *)data);
	tell(arg, text);
}

static void on_message(struct tine_child *c, const void *data, size_t len, void *arg)
{
	on_data(c, TINE_CHILD_CHANNEL, data, len, arg);
}

static void on_error(struct tine_child *c, int error, void *arg)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", error);
	tell(arg, text);
}

static void on_close(struct tine_child *c, void *arg)
{
	struct started *s = arg;

	tell(s, "closed");
	LIST_REMOVE(s, link);
	free(s);
}

static int wait_for_ever(int channel, void *arg)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%d", (int)getpid());

	tine_channel_send(channel, text, (uint32_t)n);
	for (;;)
		pause();
	return 0;
}

static void start_child(struct tine_request *request, struct tine_child_options *o)
{
	struct started *s = calloc(1, sizeof(*s));

	s->request = request;
	LIST_INSERT_HEAD(&all_started, s, link);
	tine_defer(request);
	o->size = sizeof(*o);
	o->on_data = on_data;
	o->on_message = on_message;
	o->on_error = on_error;
	o->on_close = on_close;
	o->arg = s;
	if ((o->function ? tine_child_fork : tine_child_spawn)(worker, o, NULL) < 0) {
		tell(s, "refused");
		LIST_REMOVE(s, link);
		free(s);
	}
}

static void on_start(struct tine_request *request, void *arg)
{
	char command[1024];
	const char *const argv[] = {"sh", "-c", command, NULL};
	struct tine_child_options o = {.program = "sh", .argv = argv};

	decode(tine_request_query(request), command, sizeof(command));
	start_child(request, &o);
}

static void on_fork(struct tine_request *request, void *arg)
{
	struct tine_child_options o = {.function = wait_for_ever};

	start_child(request, &o);
}

static void on_missing(struct tine_request *request, void *arg)
{
	struct tine_child_options o = {.program = "/no/such/program"};

	start_child(request, &o);
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct handler handlers[] = {{"/exec", on_exec}, {"/start", on_start},
		{"/fork", on_fork}, {"/missing", on_missing}, {0}};

	worker = w;
	return add_handlers(w, handlers);
}

/* Of those that run on nothing more is heard. */
static void stop(void *state)
{
	struct started *s;

	while ((s = LIST_FIRST(&all_started))) {
		LIST_REMOVE(s, link);
		free(s);
	}
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "child",
	.worker_start = start,
	.worker_stop = stop};

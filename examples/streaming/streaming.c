/*
 * streaming: answers that are made while they are sent.
 *
 *	cc -shared -fPIC -Iinclude -o examples/streaming/streaming.so examples/streaming/streaming.c
 *	build/tined -c examples/streaming/streaming.ini
 *
 *	curl http://127.0.0.1:8080/lines/1000000      a long answer, as fast as the client takes it
 *	curl -N http://127.0.0.1:8080/clock           server-sent events, one each second, until the client leaves
 *
 * However slow a client is, no more waits for it than tined's buffer holds: tine_respond_write() says -EAGAIN, and there is
 * nothing to do until it calls on_room.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include <tine/http.h>
#include <tine/loop.h>

static const struct tine_option options[] = {
	{.name = "interval",
		.type = TINE_OPTION_DURATION,
		.def = "1s",
		.min = "10ms",
		.max = "1h",
		.doc = "Time between two events of /clock."},
	{.name = NULL},
};

/* --- /lines/{n} --- */

struct lines {
	unsigned long next, last;
};

/* Writes as much as there is room for. */
static void lines_fill(struct tine_request *request, void *arg)
{
	struct lines *l = arg;
	char line[32];
	int r = 0;

	for (; l->next <= l->last; l->next++) {
		int len = snprintf(line, sizeof(line), "line %lu\n", l->next);

		r = tine_respond_write(request, line, (size_t)len);
		if (r == -EAGAIN)
			return; /* again, with this line, when there is room */
		if (r < 0)
			break;
	}
	free(l);
	if (r < 0)
		tine_respond_abort(request);
	else
		tine_respond_end(request);
}

/* The client has left in the middle of it. */
static void lines_gone(struct tine_request *request, void *arg)
{
	free(arg);
	tine_respond_abort(request);
}

/* One to nine digits. Returns 0 for anything else. */
static unsigned long parse_number(struct tine_text t)
{
	unsigned long n = 0;

	for (size_t i = 0; i < t.len; i++) {
		if (t.len > 9 || t.data[i] < '0' || t.data[i] > '9')
			return 0;
		n = n * 10 + (unsigned long)(t.data[i] - '0');
	}
	return n;
}

static void on_lines(struct tine_request *request, void *arg)
{
	unsigned long n = parse_number(tine_request_param(request, "n"));
	struct lines *l;

	if (n == 0) {
		tine_respond_status(request, 404);
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l || tine_respond_start(request, 200, "text/plain", -1) < 0) {
		free(l);
		tine_respond_status(request, 500);
		return;
	}
	*l = (struct lines){.next = 1, .last = n};
	tine_on_gone(request, lines_gone, l);
	tine_respond_on_room(request, lines_fill, l);
	lines_fill(request, l);
}

/* --- /clock --- */

struct listener {
	struct tine_request *request;
	LIST_ENTRY(listener) link;
};

/* One in each worker: its own timer, and those that listen to it. */
struct clock {
	struct event *timer;
	LIST_HEAD(, listener) listeners;
	unsigned long n_ticks;
};

static void clock_gone(struct tine_request *request, void *arg)
{
	struct listener *l = arg;

	LIST_REMOVE(l, link);
	free(l);
	tine_respond_end(request);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct clock *c = arg;
	struct listener *l;
	char id[24], text[64];
	time_t now = time(NULL);
	struct tm tm;
	size_t len = strftime(text, sizeof(text), "%FT%TZ", gmtime_r(&now, &tm));

	snprintf(id, sizeof(id), "%lu", ++c->n_ticks);
	/* Who is too slow for this one (-EAGAIN) gets the next; who has gone is told of by clock_gone. */
	LIST_FOREACH (l, &c->listeners, link)
		tine_sse_send(l->request, "tick", id, text, len);
}

static void on_clock(struct tine_request *request, void *arg)
{
	struct clock *c = arg;
	struct listener *l = calloc(1, sizeof(*l));

	if (!l || tine_sse_start(request) < 0) {
		free(l);
		tine_respond_status(request, 500);
		return;
	}
	l->request = request;
	LIST_INSERT_HEAD(&c->listeners, l, link);
	tine_on_gone(request, clock_gone, l);
}

static void stop(void *state)
{
	struct clock *c = state;

	if (c->timer)
		event_free(c->timer);
	free(c);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	int64_t us = tine_config_number(tine_worker_config(worker), "interval");
	struct timeval interval = {us / 1000000, us % 1000000};
	struct clock *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (!c)
		return r;
	LIST_INIT(&c->listeners);
	c->timer = event_new(tine_loop_base(worker), -1, EV_PERSIST, on_tick, c);
	if (c->timer && event_add(c->timer, &interval) == 0)
		r = tine_http_route(worker, TINE_GET, "/clock", on_clock, c);
	if (r == 0)
		r = tine_http_route(worker, TINE_GET, "/lines/{n}", on_lines, NULL);
	if (r < 0) {
		stop(c);
		return tine_worker_error(worker, "%s", strerror(-r));
	}
	*ret_state = c;
	return 0;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "streaming",
	.options = options,
	.worker_start = start,
	.worker_stop = stop,
};

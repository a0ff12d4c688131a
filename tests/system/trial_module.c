/*
 * A module that fails, or keeps its client waiting, in the way its option `fault` names, and says in the log what it was
 * asked. Below its mount point:
 *   /       as `fault` says
 *   /boom   404; a crash with fault = boom, a hang with fault = stall
 *   /late   answers after `delay`, in which the loop turns
 *   /spin   answers after `delay`, in which it does not
 * fault = raw: an event of its own on the loop works for `delay` again and again.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <tine/http.h>
#include <tine/loop.h>

static const struct tine_option options[] = {
	{.name = "fault",
		.def = "none",
		.doc = "none, crash, hang, spin, defer, sse, stream, websocket, boom, stall, raw."},
	{.name = "delay",
		.type = TINE_OPTION_DURATION,
		.def = "50ms",
		.min = "1ms",
		.max = "1h",
		.doc = "How long things take."},
	{.name = NULL},
};

struct state {
	struct tine_worker *worker;
	const char *fault;
	struct timeval delay;
	struct event *raw;
};

static bool is(const struct state *s, const char *fault)
{
	return strcmp(s->fault, fault) == 0;
}

static void spin(struct timeval tv)
{
	struct timespec now, begun;
	long us = tv.tv_sec * 1000000 + tv.tv_usec;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - begun.tv_sec) * 1000000 + (now.tv_nsec - begun.tv_nsec) / 1000 < us);
}

static void say(struct tine_request *request)
{
	struct tine_text path = tine_request_path(request);
	struct tine_text agent = tine_request_header(request, "user-agent");

	tine_log(TINE_LOG_INFO, "trial: asked for %.*s by \"%.*s\"", (int)path.len, path.data,
		(int)agent.len, agent.data);
}

static void on_gone(struct tine_request *request, void *arg)
{
	tine_log(TINE_LOG_INFO, "trial: the client is gone");
	tine_respond(request, 200, "text/plain", "too late", 8);
}

static void on_mount(struct tine_request *request, void *arg)
{
	static const struct tine_websocket_options none = {.size = sizeof(none)};
	struct state *s = arg;

	say(request);
	if (is(s, "crash"))
		abort();
	while (is(s, "hang"))
		pause();
	while (is(s, "spin"))
		;
	if (is(s, "defer")) {
		tine_defer(request);
		tine_on_gone(request, on_gone, NULL);
	} else if (is(s, "sse")) {
		tine_sse_start(request);
		tine_on_gone(request, on_gone, NULL);
	} else if (is(s, "stream")) {
		tine_respond_start(request, 200, "text/plain", -1);
		tine_on_gone(request, on_gone, NULL);
	} else if (is(s, "websocket")) {
		tine_websocket_accept(request, &none, NULL);
	} else {
		tine_respond(request, 200, "text/plain", "trial", 5);
	}
}

static void on_boom(struct tine_request *request, void *arg)
{
	const struct state *s = arg;

	say(request);
	if (is(s, "boom"))
		abort();
	while (is(s, "stall"))
		pause();
	tine_respond(request, 404, "text/plain", "no boom", 7);
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	tine_respond(arg, 200, "text/plain", "late", 4);
}

static void on_late(struct tine_request *request, void *arg)
{
	const struct state *s = arg;

	tine_defer(request);
	event_base_once(tine_loop_base(s->worker), -1, EV_TIMEOUT, on_time, request, &s->delay);
}

static void on_spin(struct tine_request *request, void *arg)
{
	const struct state *s = arg;

	spin(s->delay);
	tine_respond(request, 200, "text/plain", "spun", 4);
}

static void on_raw(evutil_socket_t fd, short what, void *arg)
{
	const struct state *s = arg;

	spin(s->delay);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	const struct tine_config *config = tine_worker_config(worker);
	struct state *s = calloc(1, sizeof(*s));
	int64_t delay_us = tine_config_number(config, "delay");

	s->worker = worker;
	s->fault = tine_config_string(config, "fault");
	s->delay = (struct timeval){delay_us / 1000000, delay_us % 1000000};
	if (is(s, "raw")) {
		s->raw = event_new(tine_loop_base(worker), -1, EV_PERSIST, on_raw, s);
		event_add(s->raw, &s->delay);
	}
	*ret_state = s;
	tine_http_route(worker, TINE_GET, "/boom", on_boom, s);
	tine_http_route(worker, TINE_GET, "/late", on_late, s);
	tine_http_route(worker, TINE_GET, "/spin", on_spin, s);
	return tine_http_route(worker, TINE_GET, "/", on_mount, s);
}

static void stop(void *state)
{
	struct state *s = state;

	if (s->raw)
		event_free(s->raw);
	free(s);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "trial",
	.options = options,
	.worker_start = start,
	.worker_stop = stop,
};

/*
 * Set-up, the loop, drain. Runs in the admin process.
 */
#include "admin/admin.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <tine/http.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/peer.h"
#include "http/server.h"
#include "net/server.h"
#include "runtime/lifeline.h"
#include "shared/arena.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/listener.h"
#include "shared/options.h"
#include "shared/scoreboard.h"

#define ERROR_MAX  512
#define ACCEPT_MAX 16  /* in one turn */
#define GRACE_MS   200 /* for idle connections while draining */
#define TIMEOUT_US (10 * US_PER_S)
#define MAX_BODY   (4u << 10)
#define MAX_HEADER (16u << 10)

/* --- connections --- */

static void listen_on(struct admin *a, bool on)
{
	for (size_t i = 0; i < a->n_sockets; i++) {
		if (on)
			event_add(&a->ev_accept[i], NULL);
		else
			event_del(&a->ev_accept[i]);
	}
}

static void pause_accepting(struct admin *a)
{
	a->full = true;
	listen_on(a, false);
}

/* There may be room again: a connection was closed, or a second has passed. */
void admin_resume_accepting(struct admin *a)
{
	if (a->full && a->serving && !a->draining)
		listen_on(a, true);
	a->full = false;
}

static void on_acceptable(evutil_socket_t listening, short what, void *arg)
{
	struct admin *a = arg;
	struct sockaddr_storage sa;
	struct peer peer;

	for (int i = 0; i < ACCEPT_MAX; i++) {
		socklen_t len = sizeof(sa);
		int fd;

		if (net_server_connections(a->net) >= ADMIN_CONNECTIONS) {
			pause_accepting(a);
			return;
		}
		memset(&sa, 0, sizeof(sa));
		fd = accept4(listening, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
				errno == ENOMEM)
				pause_accepting(a);
			return;
		}
		peer_from_sockaddr((const struct sockaddr *)&sa, &peer);
		net_server_accept(a->net, http_server_protocol(a->http), a->router, fd, &peer);
	}
}

static void on_closed(void *arg)
{
	admin_resume_accepting(arg);
}

static void serve(struct admin *a)
{
	if (a->serving || a->draining)
		return;
	a->serving = true;
	sb_set(a->child->scoreboard->slots[a->child->slot].accepting, 1);
	listen_on(a, true);
}

/* --- what the primary says --- */

static void on_serve(const struct frame *f, const void *payload, int fd, void *arg)
{
	serve(arg);
}

static void on_reply(const struct frame *f, const void *payload, int fd, void *arg)
{
	actions_on_reply(arg, f->id, payload, f->length);
}

static const lane_message_fn handlers[MSG_TYPE_END] = {
	[MSG_SERVE] = on_serve,
	[MSG_REPLY] = on_reply,
};

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct admin *a = arg;

	net_server_abort(a->net);
	a->done = true;
}

static void on_drain(uint64_t timeout_us, void *arg)
{
	struct admin *a = arg;
	struct timeval tv = timeval_from_us(timeout_us);

	a->draining = true;
	listen_on(a, false);
	for (size_t i = 0; i < a->n_sockets; i++)
		close(event_get_fd(&a->ev_accept[i]));
	a->n_sockets = 0;
	samples_stop(a);
	net_server_drain(a->net, GRACE_MS);
	event_add(&a->ev_deadline, &tv);
}

static void on_quit(void *arg)
{
	on_deadline(-1, 0, arg);
}

/* --- answers --- */

static const char *const headers[][2] = {
	{"Cache-Control", "no-store"},
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Content-Security-Policy",
		"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
		"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors "
		"'none'"},
};

/* Every answer gets these. */
static int add_headers(struct tine_request *request, void *arg)
{
	for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++)
		tine_respond_header(request, headers[i][0], headers[i][1]);
	return TINE_NEXT;
}

/* Answers with an object, whose reference it takes; NULL: there was no memory. */
void admin_answer_json(struct tine_request *request, int status, json_t *o)
{
	CLEANUP(freep) char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	if (text)
		tine_respond(request, status, "application/json", text, strlen(text));
	else
		tine_respond_status(request, 503);
}

/* Somebody looks: the primary finds out, for the next time, what takes it a while. */
void admin_note_look(const struct admin *a)
{
	sb_set(a->child->scoreboard->slots[a->child->slot].looked_us, now_us());
}

int admin_route(struct admin *a, unsigned methods, const char *path,
	void (*fn)(struct tine_request *request, void *arg))
{
	struct http_route_spec spec = {
		.mount = "/", .path = path, .methods = methods, .fn = fn, .arg = a};

	return http_router_add(a->router, &spec);
}

/* --- set-up --- */

static int open_http(struct admin *a, char error[ERROR_MAX])
{
	static struct conf_http conf;
	struct net_options o = {.base = a->base,
		.slot = &a->child->scoreboard->slots[a->child->slot],
		.window_us = TIMEOUT_US,
		.on_closed = on_closed,
		.arg = a};
	int r = option_set_defaults(SECTION_HTTP, &conf);

	if (r < 0)
		return r;
	conf.header_timeout_us = conf.body_timeout_us = TIMEOUT_US;
	conf.answer_timeout_us = 10 * 60 * US_PER_S; /* a reload may take its time */
	conf.max_body = MAX_BODY;
	conf.max_header = MAX_HEADER;
	o.input_max = http_input_max(&conf);
	r = net_server_new(&o, &a->net);
	if (r == 0)
		r = http_server_new(a->net, &conf, NULL, error, &a->http);
	if (r < 0)
		return r;
	a->router = http_router_new();
	return a->router ? http_router_use(a->router, "/", "/", add_headers, a) : -ENOMEM;
}

static int open_routes(struct admin *a)
{
	static int (*const parts[])(struct admin * a) = {
		status_routes, metrics_routes, page_routes, actions_routes, samples_routes};
	int r = 0;

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts) && r == 0; i++)
		r = parts[i](a);
	return r;
}

static int open_sockets(struct admin *a)
{
	const struct socket_set *s = a->child->admin_listener->sockets;

	a->ev_accept = calloc(s->n_fds, sizeof(*a->ev_accept));
	if (!a->ev_accept)
		return -ENOMEM;
	for (; a->n_sockets < s->n_fds; a->n_sockets++)
		event_assign(&a->ev_accept[a->n_sockets], a->base, s->fds[a->n_sockets],
			EV_READ | EV_PERSIST, on_acceptable, a);
	return 0;
}

static int set_up(struct admin *a, char error[ERROR_MAX])
{
	int r = actions_read_token(a, error, ERROR_MAX);

	if (r == 0)
		r = arena_map(a->child->arena_fd, &a->arena, &a->arena_size);
	if (r == 0)
		r = open_http(a, error);
	if (r == 0)
		r = open_routes(a);
	if (r == 0)
		r = open_sockets(a);
	if (r == 0)
		r = samples_start(a);
	if (r < 0 && !*error)
		snprintf(error, ERROR_MAX, "admin: cannot start: %s", strerror(-r));
	return r;
}

static void run(struct admin *a)
{
	int flags = EVLOOP_ONCE;

	while (!a->done) {
		if (event_base_loop(a->base, flags) < 0) {
			log_error("event loop: %s; exiting", strerror(errno));
			a->exit_status = EXIT_FAILURE;
			return;
		}
		flags = net_server_end_turn(a->net) ? EVLOOP_NONBLOCK : EVLOOP_ONCE;
		http_server_end_turn(a->http);
		scoreboard_end_turn(&a->child->scoreboard->slots[a->child->slot]);
		if (a->draining && net_server_connections(a->net) == 0)
			a->done = true;
	}
}

/* Runs the admin process to its end. Returns the exit status. */
int admin_main(const struct child *c)
{
	static struct admin a;
	struct lifeline_options o = {.child = c,
		.on_drain = on_drain,
		.on_quit = on_quit,
		.handlers = handlers,
		.arg = &a};
	char error[ERROR_MAX] = "";

	a.child = c;
	if (loop_new(&a.base) < 0)
		return EXIT_FAILURE;
	o.base = a.base;
	evtimer_assign(&a.ev_deadline, a.base, on_deadline, &a);
	if (lifeline_new(&o, &a.lifeline) < 0) {
		log_error("cannot set up the lane to the primary; exiting");
		return EXIT_FAILURE;
	}
	if (set_up(&a, error) < 0) {
		lifeline_say_goodbye(a.lifeline, MSG_FAILED, error);
		return EXIT_FAILURE;
	}
	if (!c->on_trial)
		serve(&a);
	lifeline_say_ready(a.lifeline);
	run(&a);
	lifeline_say_goodbye(a.lifeline, MSG_DRAINED, NULL);
	return a.exit_status;
}

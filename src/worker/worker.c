/*
 * The worker: set-up, the loop, drain. Runs in a worker process.
 * Order of the set-up: lanes first, so that whatever fails after can be told to the primary; connections last.
 */
#include "worker/worker.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mailbox.h"
#include "base/spin.h"
#include "base/turn.h"
#include "http/server.h"
#include "net/admission.h"
#include "net/proxy.h"
#include "net/server.h"
#include "net/stream.h"
#include "runtime/bus.h"
#include "runtime/farm_client.h"
#include "runtime/lifeline.h"
#include "runtime/module.h"
#include "runtime/pool.h"
#include "runtime/soon.h"
#include "runtime/subprocess.h"
#include "runtime/thread.h"
#include "shared/access_log.h"
#include "shared/arena.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/limits.h"
#include "shared/listener.h"
#include "shared/scoreboard.h"
#include "worker/accept.h"
#include "worker/probe.h"

#define GRACE_MAX_US   (5 * US_PER_S) /* for idle keep-alive connections while draining */
#define POOL_QUEUE_MAX 4096
#define THREADS_END_US (500 * US_PER_MS) /* for worker threads that are told to end */

/* What is spoken on a listener. */
struct endpoint {
	const struct protocol *protocol; /* NULL: nobody serves it */
	const void *service;
	struct proxy_service behind; /* the service of proxy_protocol */
};

struct worker {
	const struct child *child;
	const struct module_builtin *builtins;
	struct sb_slot *slot;
	struct event_base *base;
	struct lifeline *lifeline;
	struct bus *bus;
	struct farm_client *farms;
	struct mailbox mailbox;
	struct soon soon;
	struct pool *pool;
	struct threads *threads;
	struct subprocesses *subprocesses;
	struct arena *arena;
	struct net_server *net;
	struct http_server *http;
	struct access_log *access;       /* NULL: none */
	struct http_router **routers;    /* one for each listener */
	struct stream_service **streams; /* the same; NULL where none is served */
	struct endpoint *endpoints;      /* the same */
	struct tine_worker *modules;     /* one for each module */
	size_t n_modules;                /* loaded so far */
	struct acceptor *acceptor;
	struct probe *probe; /* NULL: it is not on trial */
	struct event ev_deadline;
	struct spin spin;
	bool spinning; /* the next turn does not wait */
	bool draining, done;
	int exit_status;
};

/* --- drain --- */

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	uint32_t left = net_server_connections(w->net);

	if (left > 0)
		log_warning("drain: deadline; closing %" PRIu32
			    " connections that are not finished",
			left);
	net_server_abort(w->net);
	w->done = true;
}

/* The probe's word for it. */
static void say_ready(void *arg)
{
	struct worker *w = arg;

	lifeline_say_ready(w->lifeline);
}

/* Stops accepting, finishes what is in flight, then ends the loop; all within timeout_us. */
static void on_drain(uint64_t timeout_us, void *arg)
{
	struct worker *w = arg;
	struct timeval tv = timeval_from_us(timeout_us);
	uint64_t grace_us = timeout_us / 2 < GRACE_MAX_US ? timeout_us / 2 : GRACE_MAX_US;

	w->draining = true;
	if (w->probe)
		probe_stop(w->probe);
	if (w->acceptor)
		acceptor_stop(w->acceptor);
	for (size_t i = 0; i < w->n_modules; i++)
		module_drain(&w->modules[i]);
	net_server_drain(w->net, (unsigned)(grace_us / US_PER_MS));
	event_add(&w->ev_deadline, &tv);
}

/* --- what the primary says --- */

static void on_serve(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct worker *w = arg;

	if (w->draining)
		return;
	if (w->probe)
		probe_stop(w->probe);
	acceptor_start(w->acceptor);
}

static void on_quit(void *arg)
{
	struct worker *w = arg;

	net_server_abort(w->net);
	w->done = true;
}

static void on_access_reopen(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct worker *w = arg;

	if (w->access)
		access_log_set_fd(w->access, fd);
	else
		close(fd);
}

static void on_listen(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct worker *w = arg;
	const struct msg_listen *m = payload;

	if (w->draining || !w->acceptor)
		close(fd);
	else if (acceptor_add(w->acceptor, m->listener, m->socket, fd, false) < 0)
		log_warning("out of memory; not taking over socket %" PRIu32, m->socket);
}

static void on_unlisten(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct worker *w = arg;
	const struct msg_listen *m = payload;

	if (!w->draining && w->acceptor)
		acceptor_remove(w->acceptor, m->listener, m->socket);
}

static const lane_message_fn handlers[MSG_TYPE_END] = {
	[MSG_SERVE] = on_serve,
	[MSG_ACCESS_REOPEN] = on_access_reopen,
	[MSG_LISTEN] = on_listen,
	[MSG_UNLISTEN] = on_unlisten,
};

/* --- connections --- */

static bool speaks_tcp(const struct worker *w, size_t listener)
{
	return w->child->listeners[listener].conf->protocol == PROTOCOL_TCP;
}

static const char *no_descriptor_text(unsigned listener, void *arg)
{
	return speaks_tcp(arg, listener) ? NULL
					 : "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
					   "Content-Length: 0\r\nConnection: close\r\n\r\n";
}

static void on_connection(int fd, unsigned listener, const struct peer *peer, void *arg)
{
	struct worker *w = arg;
	const struct endpoint *e = &w->endpoints[listener];

	if (!e->protocol)
		close(fd); /* the primary has warned that no module serves there */
	else if (net_server_accept(w->net, e->protocol, e->service, fd, peer) < 0)
		log_warning("out of memory; closing a connection");
}

static void on_closed(void *arg)
{
	struct worker *w = arg;

	acceptor_connection_closed(w->acceptor);
}

/* --- set-up --- */

static int open_lanes(struct worker *w)
{
	struct lifeline_options o = {.base = w->base,
		.child = w->child,
		.on_drain = on_drain,
		.on_quit = on_quit,
		.handlers = handlers,
		.arg = w};
	int r = lifeline_new(&o, &w->lifeline);

	evtimer_assign(&w->ev_deadline, w->base, on_deadline, w);
	if (r == 0)
		r = bus_new(w->base, w->child, &w->bus);
	return r < 0 ? r : farm_client_new(w->bus, w->child->config, &w->farms);
}

static int open_access_log(struct worker *w)
{
	const struct child *c = w->child;
	struct access_log_options o = {.format = (enum access_format)c->config->http.access_format,
		.sink = c->config->http.access_log.sink,
		.fd = c->access_fd,
		.worker = c->slot,
		.slot = c->access};

	return c->access ? access_log_new(&o, &w->access) : 0;
}

/* Bytes that a connection may have to keep. */
static size_t input_max(const struct worker *w)
{
	size_t max = http_input_max(&w->child->config->http);

	for (size_t i = 0; i < w->child->n_listeners; i++) {
		if (speaks_tcp(w, i) && max < STREAM_INPUT_MAX)
			max = STREAM_INPUT_MAX;
	}
	return max;
}

static int open_pool(struct worker *w)
{
	struct pool_options o = {.mailbox = &w->mailbox,
		.n_threads = (unsigned)w->child->config->workers.threads,
		.queue_max = POOL_QUEUE_MAX,
		.spin_us = w->child->config->bus.spin_us,
		.figures = {.n_submitted = &w->slot->pool_submitted,
			.n_begun = &w->slot->pool_begun,
			.n_finished = &w->slot->pool_jobs,
			.wait = &w->slot->pool_wait,
			.run = &w->slot->pool_run}};
	int r = mailbox_open(&w->mailbox, w->base);

	if (r < 0)
		return r;
	mailbox_attend(&w->mailbox);
	return pool_new(&o, &w->pool);
}

static int open_threads(struct worker *w)
{
	struct threads_options o = {
		.base = w->base, .mailbox = &w->mailbox, .spin_us = w->child->config->bus.spin_us};

	return threads_new(&o, &w->threads);
}

static int open_net(struct worker *w)
{
	const struct config *config = w->child->config;
	struct admission admission = {.scoreboard = w->child->scoreboard,
		.clients = w->child->clients,
		.slot = w->child->slot,
		.max_per_client = config->http.max_per_client,
		.max_worker = config->workers.max_connections,
		.max_total = config->http.max_total};
	struct net_options o = {.base = w->base,
		.pool = w->pool,
		.admission = &admission,
		.slot = w->slot,
		.input_max = input_max(w),
		.window_us = config->http.body_timeout_us,
		.min_rate = config->http.min_rate,
		.on_closed = on_closed,
		.arg = w};

	return net_server_new(&o, &w->net);
}

static int open_http(struct worker *w, char error[MODULE_ERROR_MAX])
{
	int r = http_server_new(w->net, &w->child->config->http, w->access, error, &w->http);

	if (r < 0)
		return r;
	w->routers = calloc(w->child->n_listeners, sizeof(*w->routers));
	w->streams = calloc(w->child->n_listeners, sizeof(*w->streams));
	w->endpoints = calloc(w->child->n_listeners, sizeof(*w->endpoints));
	if (!w->routers || !w->streams || !w->endpoints)
		return -ENOMEM;
	for (size_t i = 0; i < w->child->n_listeners; i++) {
		w->routers[i] = http_router_new();
		if (!w->routers[i])
			return -ENOMEM;
	}
	return 0;
}

/* The modules have started: what is served where is known. */
static void set_endpoints(struct worker *w)
{
	for (size_t i = 0; i < w->child->n_listeners; i++) {
		struct endpoint *e = &w->endpoints[i];

		e->protocol = http_server_protocol(w->http);
		e->service = w->routers[i];
		if (speaks_tcp(w, i)) {
			e->protocol = w->streams[i] ? &stream_protocol : NULL;
			e->service = w->streams[i];
		}
		if (e->protocol && w->child->listeners[i].conf->proxy_protocol) {
			e->behind.protocol = e->protocol;
			e->behind.service = e->service;
			e->protocol = &proxy_protocol;
			e->service = &e->behind;
		}
	}
}

static uint64_t connection_limit(const struct worker *w)
{
	uint64_t wanted = w->child->config->workers.max_connections;
	unsigned fds = 0;

	if (fd_raise_limit(&fds) < 0)
		return wanted;
	http_files_set_budget(limits_files(fds));
	return wanted < limits_connections(fds) ? wanted : limits_connections(fds);
}

static uint32_t n_connections(void *arg)
{
	const struct worker *w = arg;

	return net_server_connections(w->net);
}

static int open_acceptor(struct worker *w)
{
	const struct child *c = w->child;
	struct acceptor_options o = {.base = w->base,
		.scoreboard = c->scoreboard,
		.slot = w->slot,
		.max_connections = connection_limit(w),
		.n_connections = n_connections,
		.free_descriptors = http_files_release_some,
		.no_descriptor_text = no_descriptor_text,
		.on_connection = on_connection,
		.arg = w};
	int r = acceptor_new(&o, &w->acceptor);

	for (size_t i = 0; i < c->n_listeners && r == 0; i++) {
		const struct listener *l = &c->listeners[i];
		bool shared = l->conf->accept == ACCEPT_SHARED;
		size_t first = shared ? 0 : c->index;
		size_t end = shared ? l->sockets->n_fds : first + 1;

		for (size_t j = first; j < end && j < l->sockets->n_fds && r == 0; j++)
			r = acceptor_add(
				w->acceptor, (unsigned)i, (unsigned)j, l->sockets->fds[j], shared);
	}
	return r;
}

static size_t listener_index(const struct worker *w, const char *name)
{
	size_t i = 0;

	while (i + 1 < w->child->n_listeners &&
		strcmp(w->child->listeners[i].conf->name, name) != 0)
		i++;
	return i;
}

static int start_modules(struct worker *w, char error[MODULE_ERROR_MAX])
{
	const struct config *c = w->child->config;

	w->modules = calloc(c->n_modules + 1, sizeof(*w->modules));
	if (!w->modules)
		return -ENOMEM;
	for (size_t i = 0; i < c->n_modules; i++) {
		struct tine_worker *m = &w->modules[i];
		size_t listener;
		int r = module_load(c, &c->modules[i], w->builtins, m, error);

		if (r < 0)
			return r;
		w->n_modules++;
		m->base = w->base;
		m->slot = w->child->slot;
		m->generation = w->child->generation;
		m->mailbox = &w->mailbox;
		m->soon = &w->soon;
		m->figures = w->slot;
		m->pool = w->pool;
		m->threads = w->threads;
		m->subprocesses = w->subprocesses;
		m->arena = w->arena;
		m->bus_client = w->bus;
		m->http = w->http;
		m->net = w->net;
		listener = listener_index(w, c->modules[i].listener);
		if (speaks_tcp(w, listener))
			m->stream = &w->streams[listener];
		else
			m->router = w->routers[listener];
		r = bus_port_new(w->bus, c->modules[i].name, &m->bus);
		if (r == 0)
			r = farm_port_new(w->farms, &m->farms);
		if (r == 0)
			r = module_start(m, error);
		if (r < 0)
			return r;
	}
	return 0;
}

static int set_up(struct worker *w, char error[MODULE_ERROR_MAX])
{
	int r = open_pool(w);

	if (r == 0)
		r = open_threads(w);
	if (r == 0)
		r = open_net(w);
	if (r == 0)
		r = open_access_log(w);
	if (r == 0)
		r = open_http(w, error);
	if (r == 0)
		r = arena_attach(w->child->arena_fd, &w->arena);
	if (r == 0)
		r = subprocesses_new(w->base, &w->subprocesses);
	if (r == 0)
		r = start_modules(w, error);
	if (r == 0) {
		set_endpoints(w);
		r = open_acceptor(w);
	}
	if (r < 0 && !*error)
		snprintf(error, MODULE_ERROR_MAX, "worker: cannot start: %s", strerror(-r));
	return r;
}

/* A worker on trial is ready when it has survived requests of our own. */
static void begin_trial(struct worker *w)
{
	struct probe_options o = {.base = w->base,
		.pool = w->pool,
		.child = w->child,
		.routers = w->routers,
		.input_max = input_max(w),
		.on_passed = say_ready,
		.arg = w};
	int r = 0;

	if (w->child->config->workers.probe == PROBE_ON) {
		r = probe_new(&o, &w->probe);
		if (r == 0)
			return probe_start(w->probe);
		log_warning("probe: %s; going on without", strerror(-r));
	}
	say_ready(w);
}

/* What comes from other processes, and from threads. */
static struct spin_seen seen_by(const struct worker *w)
{
	const struct spin_seen *bus = bus_seen(w->bus), *threads = &w->threads->seen;

	return (struct spin_seen){.n = bus->n + threads->n + w->mailbox.n_taken,
		.n_bulk = bus->n_bulk + threads->n_bulk + w->mailbox.n_masses};
}

/* Returns whether there is more to be done without waiting. */
static bool end_turn(struct worker *w)
{
	bool more = mailbox_end_turn(&w->mailbox);
	struct spin_seen seen;

	soon_end_turn(&w->soon);
	more |= net_server_end_turn(w->net);
	http_server_end_turn(w->http);
	if (w->probe)
		more |= probe_end_turn(w->probe);
	if (!w->spinning || turn.begun_us != 0)
		scoreboard_end_turn(w->slot);
	seen = seen_by(w);
	w->spinning = spin_again(&w->spin, &seen);
	return more || w->spinning || soon_waits(&w->soon) || !mailbox_may_sleep(&w->mailbox);
}

/* One turn after the other; what was closed in a turn is freed at its end. */
static void run(struct worker *w)
{
	int flags = EVLOOP_NONBLOCK; /* modules may have something to be done in the first one */

	while (!w->done) {
		if (event_base_loop(w->base, flags) < 0) {
			log_error("event loop: %s; exiting", strerror(errno));
			w->exit_status = EXIT_FAILURE;
			return;
		}
		flags = end_turn(w) ? EVLOOP_NONBLOCK : EVLOOP_ONCE;
		if (w->draining && net_server_connections(w->net) == 0 && bus_leave(w->bus))
			w->done = true;
	}
}

/*
 * A module's threads and its work end before it does, and what it has asked for is finished or given back to it before its last call.
 * Returns how many threads run on: what they may use is left as it is, until the process ends.
 */
static unsigned stop_modules(struct worker *w)
{
	unsigned n;

	subprocesses_end(w->subprocesses);
	n = threads_end(w->threads, THREADS_END_US);
	if (n > 0)
		log_error("threads: %u did not end when told to; exiting with them", n);
	soon_finish(&w->soon);
	pool_stop(w->pool);
	for (size_t i = 0; i < w->n_modules; i++) {
		if (!threads_has(w->threads, &w->modules[i]))
			module_stop(&w->modules[i]);
	}
	mailbox_run(&w->mailbox); /* of calls that came too late only the memory is freed */
	return n;
}

/*
 * Runs a worker to its end. Returns the exit status; the process is expected to exit with it, and memory that
 * lives as long as the process is left to that.
 */
int worker_main(const struct child *c, const struct module_builtin *builtins)
{
	static struct worker w; /* a module's own threads may post to the very end */
	char error[MODULE_ERROR_MAX] = "";
	unsigned n_left;

	w = (struct worker){.child = c,
		.builtins = builtins,
		.slot = &c->scoreboard->slots[c->slot],
		.spin.budget_us = c->config->bus.spin_us};
	if (loop_new(&w.base) < 0 || open_lanes(&w) < 0) {
		log_error("out of memory; exiting");
		return EXIT_FAILURE;
	}
	if (set_up(&w, error) < 0) {
		lifeline_say_goodbye(w.lifeline, MSG_FAILED, error);
		return EXIT_FAILURE;
	}
	sb_set(w.slot->tick_us, now_us());
	if (c->on_trial) {
		begin_trial(&w);
	} else {
		acceptor_start(w.acceptor);
		say_ready(&w);
	}
	run(&w);
	net_server_abort(
		w.net); /* what came in the last turn, and what modules might still adopt */
	n_left = stop_modules(&w);
	subprocesses_free(w.subprocesses);
	w.farms = farm_client_free(w.farms);
	bus_finish(w.bus);
	if (n_left == 0) /* else nothing is called any more: what it may use is gone */
		pool_free(w.pool);
	w.access = access_log_free(w.access);
	lifeline_say_goodbye(w.lifeline, MSG_DRAINED, NULL);
	return w.exit_status;
}

/* WebSocket services for the system tests: each route is one; what the callbacks are told is logged. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tine/http.h>
#include <tine/loop.h>

struct state {
	struct tine_worker *worker;
	struct peer *peers;  /* of /broadcast */
	unsigned n_open;     /* accepted and not closed */
	unsigned n_messages; /* that came */
	unsigned n_again;    /* -EAGAIN of tine_websocket_send() */
	unsigned n_room;     /* calls of on_room */
};

/* One connection. */
struct peer {
	struct peer *next;
	struct state *state;
	struct tine_websocket *ws;
	struct tine_request *request; /* of /late */
	const struct service *service;
};

struct service {
	const char *path;
	void (*on_message)(struct tine_websocket *ws, enum tine_websocket_type type,
		const void *data, size_t len, void *arg);
	void (*on_room)(struct tine_websocket *ws, void *arg);
	void (*on_accepted)(struct peer *p);
	struct tine_websocket_options options;
	bool late;
};

static void on_close(struct tine_websocket *ws, unsigned code, struct tine_text reason, void *arg)
{
	struct peer *p = arg, **link;

	for (link = &p->state->peers; *link; link = &(*link)->next) {
		if (*link == p) {
			*link = p->next;
			break;
		}
	}
	p->state->n_open--;
	tine_log(TINE_LOG_INFO, "closed %s: %u '%.*s' send %d close %d", p->service->path, code,
		(int)reason.len, reason.data, tine_websocket_send(ws, TINE_WEBSOCKET_TEXT, "x", 1),
		tine_websocket_close(ws, 1000, NULL));
	free(p);
}

static void echo(struct tine_websocket *ws, enum tine_websocket_type type, const void *data,
	size_t len, void *arg)
{
	struct peer *p = arg;
	int r = tine_websocket_send(ws, type, data, len);

	p->state->n_messages++;
	if (r == -EAGAIN)
		p->state->n_again++;
	if (r < 0)
		tine_log(TINE_LOG_WARNING, "echo: %s", strerror(-r));
}

static void broadcast(struct tine_websocket *ws, enum tine_websocket_type type, const void *data,
	size_t len, void *arg)
{
	struct peer *p = arg;

	for (struct peer *to = p->state->peers; to; to = to->next)
		if (tine_websocket_send(to->ws, type, data, len) == -EAGAIN)
			p->state->n_again++;
}

/* "CODE REASON": closes so, and tells what the second attempt says. What cannot be sent is told instead. */
static void close_as_told(struct tine_websocket *ws, enum tine_websocket_type type,
	const void *data, size_t len, void *arg)
{
	char text[200], answer[32];
	unsigned code;
	char *reason;
	int r, n;

	snprintf(text, sizeof(text), "%.*s", (int)len, (const char *)data);
	code = (unsigned)strtoul(text, &reason, 10);
	r = tine_websocket_close(ws, code, *reason ? reason + 1 : NULL);
	if (r < 0) {
		n = snprintf(answer, sizeof(answer), "%s", strerror(-r));
		tine_websocket_send(ws, TINE_WEBSOCKET_TEXT, answer, (size_t)n);
		return;
	}
	tine_log(TINE_LOG_INFO, "closing: again %d, send %d", tine_websocket_close(ws, 1000, NULL),
		tine_websocket_send(ws, TINE_WEBSOCKET_TEXT, "x", 1));
}

/* What may not be sent: "text", "type", "size"; answers how it went. */
static void send_badly(struct tine_websocket *ws, enum tine_websocket_type type, const void *data,
	size_t len, void *arg)
{
	static char large[(16 << 20) + 1];
	char answer[64];
	int text = tine_websocket_send(ws, TINE_WEBSOCKET_TEXT, "\xff", 1);
	int kind = tine_websocket_send(ws, (enum tine_websocket_type)8, "", 0);
	int size = tine_websocket_send(ws, TINE_WEBSOCKET_BINARY, large, sizeof(large));
	int null = tine_websocket_send(ws, TINE_WEBSOCKET_BINARY, NULL, 1);
	int n = snprintf(answer, sizeof(answer), "%d %d %d %d", text, kind, size, null);

	tine_websocket_send(ws, TINE_WEBSOCKET_TEXT, answer, (size_t)n);
	tine_websocket_send(ws, TINE_WEBSOCKET_BINARY, large, sizeof(large) - 1);
}

static void count(struct tine_websocket *ws, enum tine_websocket_type type, const void *data,
	size_t len, void *arg)
{
	struct peer *p = arg;

	p->state->n_messages++;
}

/* Sends without end, as fast as the client takes it. */
static void flood(struct tine_websocket *ws, void *arg)
{
	static const char data[32768];
	struct peer *p = arg;
	int r;

	p->state->n_room++;
	do
		r = tine_websocket_send(ws, TINE_WEBSOCKET_BINARY, data, sizeof(data));
	while (r == 0);
	if (r == -EAGAIN)
		p->state->n_again++;
}

static void begin_flood(struct peer *p)
{
	flood(p->ws, p);
}

static void begin_broadcast(struct peer *p)
{
	p->next = p->state->peers;
	p->state->peers = p;
}

static void greet(struct peer *p)
{
	struct tine_text client = tine_websocket_client(p->ws);
	struct tine_text protocol = tine_websocket_protocol(p->ws);
	char text[256];
	int n = snprintf(text, sizeof(text), "%.*s %.*s", (int)client.len, client.data,
		protocol.data ? (int)protocol.len : 4, protocol.data ? protocol.data : "none");

	tine_websocket_send(p->ws, TINE_WEBSOCKET_TEXT, text, (size_t)n);
}

#define OPTIONS(...)                                                         \
	{                                                                    \
		.size = sizeof(struct tine_websocket_options), ##__VA_ARGS__ \
	}

static const struct service services[] = {
	{"/echo", echo, NULL, NULL, OPTIONS(), false},
	{"/plain", echo, NULL, NULL, OPTIONS(.no_compression = true), false},
	{"/small", echo, NULL, NULL, OPTIONS(.max_message = 1000), false},
	{"/large", echo, NULL, NULL, OPTIONS(.max_message = 8 << 20), false},
	{"/any", echo, NULL, NULL, OPTIONS(.origins = "*"), false},
	{"/listed", echo, NULL, NULL, OPTIONS(.origins = "https://a.example"), false},
	{"/greet", echo, NULL, greet, OPTIONS(.protocols = "chat.v2, chat.v1"), false},
	{"/late", echo, NULL, greet, OPTIONS(), true},
	{"/broadcast", broadcast, NULL, begin_broadcast, OPTIONS(), false},
	{"/flood", count, flood, begin_flood, OPTIONS(.no_compression = true), false},
	{"/close", close_as_told, NULL, NULL, OPTIONS(), false},
	{"/badly", send_badly, NULL, NULL, OPTIONS(.no_compression = true), false},
};

#define N_SERVICES (sizeof(services) / sizeof(services[0]))

static void accept_now(struct peer *p)
{
	struct tine_websocket_options options = p->service->options;
	int r;

	options.on_message = p->service->on_message;
	options.on_room = p->service->on_room;
	options.on_close = on_close;
	options.arg = p;
	r = tine_websocket_accept(p->request, &options, &p->ws);
	if (r < 0) {
		tine_log(TINE_LOG_INFO, "refused %s: %d", p->service->path, r);
		free(p);
		return;
	}
	p->state->n_open++;
	if (p->service->on_accepted)
		p->service->on_accepted(p);
}

static void accept_late(void *arg)
{
	accept_now(arg);
}

/* What a route's handler is given. */
struct route {
	struct state *state;
	const struct service *service;
};

static struct route routes[N_SERVICES];

static void on_request(struct tine_request *request, void *arg)
{
	const struct route *route = arg;
	struct peer *p = calloc(1, sizeof(*p));

	p->state = route->state;
	p->service = route->service;
	p->request = request;
	if (!route->service->late)
		return accept_now(p);
	tine_defer(request);
	tine_loop_post(route->state->worker, accept_late, p);
}

static void on_bad_options(struct tine_request *request, void *arg)
{
	static const struct tine_websocket_options bad[] = {
		{.size = 8, .on_message = echo},
		OPTIONS(),
		OPTIONS(.on_message = echo, .protocols = "a b"),
		OPTIONS(.on_message = echo, .max_message = (size_t)2 << 30),
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (tine_websocket_accept(request, &bad[i], NULL) != -EINVAL)
			return (void)tine_respond(request, 500, "text/plain", "accepted", 8);
	}
	tine_respond(request, 200, "text/plain", "refused", 7);
}

static void on_status(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	char text[200];
	int n = snprintf(text, sizeof(text),
		"{\"open\":%u,\"messages\":%u,\"again\":%u,\"room\":%u}", s->n_open, s->n_messages,
		s->n_again, s->n_room);

	tine_respond(request, 200, "application/json", text, (size_t)n);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	struct state *s = calloc(1, sizeof(*s));
	int r = tine_http_route(worker, TINE_GET, "/status", on_status, s);

	s->worker = worker;
	if (r == 0)
		r = tine_http_route(worker, TINE_GET, "/bad-options", on_bad_options, s);
	for (size_t i = 0; i < N_SERVICES && r == 0; i++) {
		routes[i] = (struct route){s, &services[i]};
		r = tine_http_route(
			worker, TINE_GET | TINE_POST, services[i].path, on_request, &routes[i]);
	}
	*ret_state = s;
	return r;
}

static void stop(void *state)
{
	struct state *s = state;

	tine_log(TINE_LOG_INFO, "module stops with %u open", s->n_open);
	free(s);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "websocket-tests",
	.worker_start = start,
	.worker_stop = stop,
};

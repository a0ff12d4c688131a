/*
 * A server, its loop and a client's end of a socket pair, for the tests of src/http. Time does not
 * pass by itself: pass_time() turns the server's wheel.
 */
#pragma once

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/http.h"
#include "http/response.h"
#include "http/server.h"
#include "net/connection.h"
#include "net/server.h"
#include "shared/config.h"

#define REPLY_MAX (8u << 20)

static struct event_base *base;
static struct net_server *net;
static struct http_server *server;
static struct http_router *router;
static unsigned n_closed;
static char reply[REPLY_MAX]; /* what the client has received, terminated */
static size_t reply_len;
static bool reply_eof;
static uint64_t skew_ms; /* how far the wheel has been turned beyond the clock */

static void harness_closed(void *arg)
{
	n_closed++;
}

static void harness_start(void)
{
	static const struct conf_http conf = {
		.header_timeout_us = 10 * 1000000,
		.body_timeout_us = 30 * 1000000,
		.idle_timeout_us = 60 * 1000000,
		.max_header = 4096,
		.max_body = 100000,
		.answer_timeout_us = 60 * 1000000,
		.websocket_ping_us = 30 * 1000000,
	};
	struct net_options o = {.input_max = http_input_max(&conf),
		.window_us = conf.body_timeout_us,
		.on_closed = harness_closed};

	char error[HTTP_ERROR_MAX];

	base = event_base_new();
	o.base = base;
	n_closed = 0;
	skew_ms = 0;
	ck_assert_int_eq(net_server_new(&o, &net), 0);
	ck_assert_int_eq(http_server_new(net, &conf, NULL, error, &server), 0);
	router = http_router_new();
}

static void harness_stop(void)
{
	net = net_server_free(net);
	server = http_server_free(server);
	router = http_router_free(router);
	event_base_free(base);
	libevent_global_shutdown();
}

static inline void add_route(const char *mount, const char *path, tine_http_fn fn)
{
	struct http_route_spec spec = {.mount = mount, .path = path, .methods = TINE_GET, .fn = fn};

	ck_assert_int_eq(http_router_add(router, &spec), 0);
}

/* A connected client; its descriptor does not block. */
static int client_new(void)
{
	int fds[2];

	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	ck_assert_int_eq(
		net_server_accept(net, http_server_protocol(server), router, fds[0], NULL), 0);
	reply_len = 0;
	reply_eof = false;
	return fds[1];
}

static void turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
	net_server_end_turn(net);
	http_server_end_turn(server);
}

static bool client_receive(int fd)
{
	size_t room = REPLY_MAX - 1 - reply_len;
	/* a little at a time: Valgrind checks all the room that is offered */
	ssize_t n = recv(fd, reply + reply_len, room < 65536 ? room : 65536, 0);

	if (n > 0)
		reply_len += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		reply_eof = true;
	reply[reply_len] = '\0';
	return n > 0;
}

/* Lets the server work and collects what it answers, until nothing more comes. */
static const char *settle(int fd)
{
	int idle = 0;

	while (idle < 3) {
		turn();
		idle = client_receive(fd) ? 0 : idle + 1;
	}
	return reply;
}

static void client_send(int fd, const char *data, size_t len)
{
	/* after a refusal the server may have closed already */
	if (send(fd, data, len, MSG_NOSIGNAL) < 0)
		ck_assert(errno == EPIPE || errno == ECONNRESET);
}

/* Sends a request on a new connection and returns everything that came back. */
static inline const char *ask(const char *request)
{
	int fd = client_new();

	client_send(fd, request, strlen(request));
	settle(fd);
	close(fd);
	turn();
	return reply;
}

static inline int reply_status(void)
{
	return reply_len > 12 ? atoi(reply + 9) : 0;
}

static inline unsigned count(const char *what)
{
	unsigned n = 0;

	for (const char *p = reply;
		(p = memmem(p, (size_t)(reply + reply_len - p), what, strlen(what))); p++)
		n++;
	return n;
}

static inline void pass_time(unsigned ms)
{
	skew_ms += ms;
	net->now_ms = now_coarse_ms() + skew_ms;
	wheel_advance(&net->wheel, net->now_ms, connection_expired, net);
	turn();
}

/*
 * The HTTP server of one process: its connections, their deadlines, the buffers they share. Worker
 * and admin.
 *
 * The wheel is driven by a timerfd rather than by a timer of the loop: with one of those pending,
 * every epoll_wait(2) has to read the clock and to start and cancel a kernel timer, which costs a
 * request some 3 % of its CPU.
 *
 * Always: the timerfd is armed while any connection is open, at a slower pace while files are kept
 * open, and not otherwise, so an idle process sleeps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/connection.h"
#include "http/file_cache.h"
#include "http/http.h"
#include "http/output.h"
#include "shared/config.h"

#define INPUT_SIZE   (16u << 10) /* read at once, beside what a connection had kept of a head */
#define SLOW_TICK_MS 4096u       /* between looks at files kept open when there is no connection */

/* ms: between ticks; 0 stops them. */
static int server_set_timer(struct http_server *s, unsigned ms)
{
	struct timespec tick = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	struct itimerspec when = {.it_interval = tick, .it_value = tick};

	if (s->timer_ms == ms)
		return 0;
	if (timerfd_settime(s->timer_fd, 0, &when, NULL) < 0)
		return -errno;
	s->timer_ms = ms;
	return 0;
}

static void server_tick(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *s = arg;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0)
		return; /* it was disarmed just now */
	s->now_ms = now_coarse_ms();
	wheel_advance(&s->wheel, s->now_ms, connection_expired, s);
	file_cache_sweep(s->now_ms);
	if (s->wheel.n_entries == 0)
		server_set_timer(s, file_cache_n_fds() > 0 ? SLOW_TICK_MS : 0);
}

static int server_open_timer(struct http_server *s)
{
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (s->timer_fd < 0)
		return -errno;
	event_assign(&s->timer, s->base, s->timer_fd, EV_READ | EV_PERSIST, server_tick, s);
	return event_add(&s->timer, NULL) < 0 ? -ENOMEM : 0;
}

static int server_allocate(struct http_server *s)
{
	if (!s->slot) {
		s->slot = s->own_slot = aligned_alloc(64, sizeof(*s->own_slot));
		if (s->own_slot)
			memset(s->own_slot, 0, sizeof(*s->own_slot));
	}
	s->in = malloc(s->in_size);
	s->out.data = malloc(s->out.cap);
	s->path = malloc(s->limits.max_line + 1);
	return s->slot && s->in && s->out.data && s->path ? 0 : -ENOMEM;
}

static void server_configure(struct http_server *s, const struct conf_http *conf)
{
	s->limits.max_head = conf->max_header;
	s->limits.max_line = conf->max_header / 2;
	s->max_body = conf->max_body;
	s->header_ms = conf->header_timeout_us / US_PER_MS;
	s->body_ms = conf->body_timeout_us / US_PER_MS;
	s->idle_ms = conf->idle_timeout_us / US_PER_MS;
	s->in_size = INPUT_SIZE + conf->max_header;
	s->out.cap = OUTPUT_SIZE;
}

int http_server_new(const struct http_server_options *o, struct http_server **ret)
{
	struct http_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->base = o->base;
	s->on_closed = o->on_closed;
	s->arg = o->arg;
	s->slot = o->slot;
	s->timer_fd = -1;
	splice_init(&s->splice);
	LIST_INIT(&s->open);
	LIST_INIT(&s->closed);
	server_configure(s, o->conf);
	s->now_ms = now_coarse_ms();
	wheel_init(&s->wheel, s->now_ms);
	r = server_allocate(s);
	if (r == 0)
		r = server_open_timer(s);
	if (r < 0) {
		http_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* Closes what is open; on_closed is not called any more. Returns NULL. */
struct http_server *http_server_free(struct http_server *s)
{
	if (!s)
		return NULL;
	s->on_closed = NULL;
	http_server_abort(s);
	http_server_end_turn(s);
	if (s->timer_fd >= 0) {
		event_del(&s->timer);
		close(s->timer_fd);
	}
	splice_close(&s->splice);
	free(s->own_slot);
	free(s->in);
	free(s->out.data);
	free(s->path);
	free(s);
	return NULL;
}

int http_server_accept(struct http_server *s, const struct http_router *router, int fd)
{
	int r;

	s->now_ms = now_coarse_ms();
	r = server_set_timer(s, WHEEL_TICK_MS);
	if (r < 0) {
		close(fd); /* without deadlines it could stay for ever */
		return r;
	}
	return connection_new(s, router, fd);
}

void http_server_drain(struct http_server *s, unsigned grace_ms)
{
	struct http_connection *c;

	s->now_ms = now_coarse_ms();
	s->draining = true;
	s->grace_ms = grace_ms;
	LIST_FOREACH (c, &s->open, link)
		connection_begin_drain(c);
}

void http_server_abort(struct http_server *s)
{
	while (!LIST_EMPTY(&s->open))
		connection_close(LIST_FIRST(&s->open));
}

void http_server_end_turn(struct http_server *s)
{
	while (!LIST_EMPTY(&s->closed)) {
		connection_free(LIST_FIRST(&s->closed));
		if (s->on_closed)
			s->on_closed(s->arg);
	}
}

uint32_t http_server_connections(const struct http_server *s)
{
	return s->n_open;
}

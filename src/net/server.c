/*
 * The connections of one process: their deadlines, the buffers they share. Worker and admin.
 *
 * The wheel is driven by a timerfd rather than by a timer of the loop: with one of those pending,
 * every epoll_wait(2) has to read the clock and to start and cancel a kernel timer, which costs a
 * request some 3 % of its CPU.
 *
 * Always: the timerfd is armed while any connection is open, or as tickers want it,
 * and not otherwise, so an idle process sleeps.
 */
#include "net/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/turn.h"
#include "net/connection.h"
#include "net/output.h"

#define COARSE_MS 4u /* the coarse clock lags behind by so much */
#define TURN_MAX  64 /* connections looked after at the end of a turn; the rest is for the next */

static struct timespec timespec_of_ms(uint64_t ms)
{
	return (struct timespec){
		.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
}

/* ms: between ticks, which come just after those of the wheel; 0 stops them. */
static int server_set_timer(struct net_server *s, unsigned ms)
{
	uint64_t into_tick = (now_coarse_ms() - s->wheel.start_ms) % WHEEL_TICK_MS;
	struct itimerspec when = {.it_interval = timespec_of_ms(ms)};

	if (s->timer_ms == ms)
		return 0;
	if (ms > 0)
		when.it_value = timespec_of_ms(ms - into_tick + COARSE_MS);
	if (timerfd_settime(s->timer_fd, 0, &when, NULL) < 0)
		return -errno;
	s->timer_ms = ms;
	return 0;
}

static void server_tick(evutil_socket_t fd, short what, void *arg)
{
	struct net_server *s = arg;
	struct net_ticker *t;
	unsigned wanted = 0, ms;
	uint64_t n;

	turn_mark();
	if (read(fd, &n, sizeof(n)) < 0)
		return; /* it was disarmed just now */
	s->now_ms = now_coarse_ms();
	wheel_advance(&s->wheel, s->now_ms, connection_expired, s);
	LIST_FOREACH (t, &s->tickers, link) {
		ms = t->fn(t, s->now_ms);
		if (ms > 0 && (wanted == 0 || ms < wanted))
			wanted = ms;
	}
	if (s->n_open == 0)
		server_set_timer(s, wanted);
}

static int server_open_timer(struct net_server *s)
{
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (s->timer_fd < 0)
		return -errno;
	event_assign(&s->timer, s->base, s->timer_fd, EV_READ | EV_PERSIST, server_tick, s);
	return event_add(&s->timer, NULL) < 0 ? -ENOMEM : 0;
}

static int server_allocate(struct net_server *s)
{
	if (!s->slot) {
		s->slot = s->own_slot =
			aligned_alloc(_Alignof(struct sb_slot), sizeof(*s->own_slot));
		if (s->own_slot)
			memset(s->own_slot, 0, sizeof(*s->own_slot));
	}
	if (s->slot && !s->request_line)
		s->request_line = s->slot->request_line;
	s->in = malloc(s->in_size);
	s->out.data = malloc(s->out.cap);
	return s->slot && s->in && s->out.data ? 0 : -ENOMEM;
}

static struct net_server *server_init(const struct net_options *o)
{
	struct net_server *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->base = o->base;
	s->pool = o->pool;
	s->on_closed = o->on_closed;
	s->arg = o->arg;
	s->slot = o->slot;
	s->request_line = o->request_line;
	if (o->admission)
		s->admission = *o->admission;
	s->timer_fd = -1;
	s->in_size = NET_INPUT_SIZE + o->input_max;
	s->out.cap = OUTPUT_SIZE;
	s->window_ms = o->window_us / US_PER_MS;
	s->min_bytes = o->min_rate * s->window_ms / 1000;
	s->now_ms = now_coarse_ms();
	splice_init(&s->splice);
	LIST_INIT(&s->open);
	LIST_INIT(&s->closed);
	LIST_INIT(&s->tickers);
	TAILQ_INIT(&s->touched);
	TAILQ_INIT(&s->cold);
	wheel_init(&s->wheel, s->now_ms);
	return s;
}

int net_server_new(const struct net_options *o, struct net_server **ret)
{
	struct net_server *s = server_init(o);
	int r;

	if (!s)
		return -ENOMEM;
	r = server_allocate(s);
	if (r == 0)
		r = server_open_timer(s);
	if (r < 0) {
		net_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* Closes what is open; on_closed is not called any more. Returns NULL. */
struct net_server *net_server_free(struct net_server *s)
{
	if (!s)
		return NULL;
	s->on_closed = NULL;
	net_server_abort(s);
	net_server_end_turn(s);
	if (s->timer_fd >= 0) {
		event_del(&s->timer);
		close(s->timer_fd);
	}
	splice_close(&s->splice);
	free(s->own_slot);
	free(s->in);
	free(s->out.data);
	free(s);
	return NULL;
}

void net_server_add_ticker(struct net_server *s, struct net_ticker *t)
{
	LIST_INSERT_HEAD(&s->tickers, t, link);
}

/* One more connection is to be served: without deadlines it could stay for ever. */
static int server_expect(struct net_server *s, int fd)
{
	int r;

	s->now_ms = now_coarse_ms();
	r = server_set_timer(s, WHEEL_TICK_MS);
	if (r < 0)
		close(fd);
	return r;
}

int net_server_accept(struct net_server *s, const struct protocol *p, const void *service, int fd,
	const struct peer *peer)
{
	int r = server_expect(s, fd);

	return r < 0 ? r : connection_new(s, p, service, fd, peer);
}

int net_server_adopt(struct net_server *s, const struct protocol *p, const void *service, int fd,
	const struct peer *peer, const void *data, size_t len)
{
	int r = server_expect(s, fd);

	return r < 0 ? r : connection_adopt(s, p, service, fd, peer, data, len);
}

void net_server_drain(struct net_server *s, unsigned grace_ms)
{
	struct connection_list told = LIST_HEAD_INITIALIZER(told);
	struct connection *c;

	s->now_ms = now_coarse_ms();
	s->draining = true;
	s->grace_ms = grace_ms;
	s->drained_ms = s->now_ms + grace_ms;
	/* one that is told may close others */
	while ((c = LIST_FIRST(&s->open))) {
		LIST_REMOVE(c, link);
		LIST_INSERT_HEAD(&told, c, link);
		if (c->life == CONNECTION_OPEN && c->protocol->on_drain)
			c->protocol->on_drain(c);
	}
	while ((c = LIST_FIRST(&told))) {
		LIST_REMOVE(c, link);
		LIST_INSERT_HEAD(&s->open, c, link);
	}
}

void net_server_abort(struct net_server *s)
{
	struct connection *c;

	s->ended = true; /* those who are told so must not go on for ever */
	while ((c = LIST_FIRST(&s->open))) {
		if (c->error == 0 && c->life == CONNECTION_OPEN)
			c->error = ECONNABORTED;
		connection_close(c);
	}
}

bool net_server_has_ended(const struct net_server *s)
{
	return s->ended;
}

/* Looks after connections that were touched; what they touch meanwhile is for the next turn. */
static void server_go_on(struct net_server *s)
{
	struct connection_queue now = TAILQ_HEAD_INITIALIZER(now);
	struct connection *c;

	for (int i = 0; i < TURN_MAX && (c = TAILQ_FIRST(&s->touched)); i++) {
		TAILQ_REMOVE(&s->touched, c, touched);
		TAILQ_INSERT_TAIL(&now, c, touched);
	}
	while ((c = TAILQ_FIRST(&now))) {
		TAILQ_REMOVE(&now, c, touched);
		c->is_touched = false;
		connection_go_on(c);
	}
}

bool net_server_end_turn(struct net_server *s)
{
	if (!TAILQ_EMPTY(&s->touched)) {
		turn_mark();
		s->now_ms = now_coarse_ms();
		server_go_on(s);
	}
	while (!LIST_EMPTY(&s->closed)) {
		connection_free(LIST_FIRST(&s->closed));
		if (s->on_closed)
			s->on_closed(s->arg);
	}
	return !TAILQ_EMPTY(&s->touched);
}

uint32_t net_server_connections(const struct net_server *s)
{
	return s->n_open;
}

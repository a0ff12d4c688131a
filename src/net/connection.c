/*
 * One connected socket. Worker and admin.
 *
 * The bytes of a burst are read into the server's buffer and served from there; the connection
 * keeps only what its protocol has no use for yet (c->input) and what the socket did not take
 * (c->output, c->sends).
 *
 * Always: in every life but CLOSED one event is assigned, and connection_settle() alone decides what it
 * waits for. A closed connection is freed at the end of the loop's turn, never in its own callback, and not
 * while a thread uses its descriptor.
 */
#include "net/connection.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/turn.h"
#include "net/output.h"
#include "net/proxy.h"

#define UNSENT_MAX (256 << 10)
#define LINGER_MS  2000 /* how long a peer may take to close after the last answer, or to say more */

/* While nothing is to be read: tells, once each, that the peer has closed, broken off, or said more. */
#define EV_QUIET (EV_READ | EV_CLOSED | EV_ET)

static void connection_event(evutil_socket_t fd, short what, void *arg);

static struct connection *connection_of(struct wheel_entry *e)
{
	return (struct connection *)((char *)e - offsetof(struct connection, timer));
}

void connection_deadline(struct connection *c, uint64_t in_ms)
{
	wheel_set(&c->server->wheel, &c->timer, c->server->now_ms + in_ms);
}

void connection_no_deadline(struct connection *c)
{
	wheel_remove(&c->server->wheel, &c->timer);
}

bool connection_output_pending(const struct connection *c)
{
	return c->output || c->sends;
}

/* Whether a protocol may take more input in this burst. */
bool connection_may_serve(const struct connection *c)
{
	return c->life == CONNECTION_OPEN && !c->closing && !c->broken && !c->paused &&
		(c->protocol->duplex || !connection_output_pending(c));
}

/*
 * How many more bytes may be queued now by those who can wait for on_drained. Within a burst, where
 * the socket takes them as they come, it is a matter of fairness.
 */
size_t connection_room(const struct connection *c)
{
	const struct net_server *s = c->server;
	uint64_t out = sb_get(s->slot->bytes_out);
	size_t waiting = c->output ? c->output->len - c->output->off : 0;

	if (c->life != CONNECTION_OPEN || c->closing || c->broken || c->sends)
		return 0;
	if (s->bursting == c && waiting == 0)
		return out < s->burst_end ? s->burst_end - out : 0;
	return waiting < NET_OUTPUT_HIGH ? NET_OUTPUT_HIGH - waiting : 0;
}

/* --- progress: a peer that is slower than it may be --- */

/* Bytes that were sent, but have not got to the peer yet. */
static uint64_t connection_on_the_way(const struct connection *c)
{
	int queued = 0;

	if (!c->writing || ioctl(event_get_fd(&c->event), SIOCOUTQ, &queued) < 0)
		return 0;
	return (uint64_t)queued;
}

void connection_begin_window(struct connection *c)
{
	c->moved = connection_on_the_way(c);
	c->waited_out = 0;
	connection_deadline(c, c->server->window_ms);
}

/* The window has passed. Returns whether enough has moved in it; then the next one has begun. */
bool connection_window_made(struct connection *c)
{
	uint64_t min = c->server->min_bytes ? c->server->min_bytes : 1;
	uint64_t rest = connection_on_the_way(c);
	uint64_t taken = c->moved > rest ? c->moved - rest : 0;

	if (taken < c->waited_out + min)
		return false;
	c->waited_out = taken;
	connection_deadline(c, c->server->window_ms);
	return true;
}

/* --- closing --- */

/* Its place is given back at once, its memory in connection_free(). */
void connection_close(struct connection *c)
{
	struct net_server *s = c->server;

	if (c->life == CONNECTION_CLOSED)
		return;
	c->life = CONNECTION_CLOSED;
	if (c->protocol->on_close)
		c->protocol->on_close(c);
	admission_leave(c);
	wheel_remove(&s->wheel, &c->timer);
	event_del(&c->event);
	if (s->bursting == c)
		s->out.len = 0;
	if (c->n_holds > 0)
		shutdown(event_get_fd(&c->event), SHUT_RDWR);
	else
		close(event_get_fd(&c->event));
	LIST_REMOVE(c, link);
	if (c->n_holds == 0)
		LIST_INSERT_HEAD(&s->closed, c, link);
	s->n_open--;
	sb_set(s->slot->connections, s->n_open);
}

/* Something went wrong: says what, for its protocol's on_close. */
static void connection_fail(struct connection *c, int error)
{
	if (c->error == 0)
		c->error = (int16_t)error;
	connection_close(c);
}

void connection_free(struct connection *c)
{
	assert(c->life == CONNECTION_CLOSED && c->n_holds == 0);
	LIST_REMOVE(c, link);
	if (c->is_touched)
		TAILQ_REMOVE(&c->server->touched, c, touched);
	output_drop(c);
	free(c->input); /* not before: its protocol may have been looking at it */
	free(c);
}

/* A thread is going to use the descriptor: it stays open until the matching release. */
void connection_hold(struct connection *c)
{
	c->n_holds++;
	connection_touch(c); /* it is not to be waited for the socket meanwhile */
}

void connection_release(struct connection *c)
{
	if (--c->n_holds > 0)
		return;
	if (c->life != CONNECTION_CLOSED)
		return connection_touch(c);
	close(event_get_fd(&c->event));
	LIST_INSERT_HEAD(&c->server->closed, c, link);
}

/*
 * Everything is said and sent. Closing at once would destroy answers with a reset if the peer has more to say.
 */
static int connection_linger(struct connection *c)
{
	if (c->life == CONNECTION_LINGER)
		return 0;
	if (shutdown(event_get_fd(&c->event), SHUT_WR) < 0)
		return -ENOTCONN;
	c->life = CONNECTION_LINGER;
	free(c->input);
	c->input = NULL;
	c->moved = c->waited_out = 0;
	connection_deadline(c, LINGER_MS);
	return 0;
}

/* Goes on lingering while the peer says more, within the time a body may take to make progress. */
static void connection_linger_on(struct connection *c)
{
	if (c->moved == 0 || c->waited_out >= c->server->window_ms)
		return connection_close(c);
	c->moved = 0;
	c->waited_out += LINGER_MS;
	connection_deadline(c, LINGER_MS);
}

/* --- what to wait for --- */

static int connection_watch(struct connection *c, short what)
{
	evutil_socket_t fd = event_get_fd(&c->event);
	short now = (short)(event_get_events(&c->event) & ~EV_PERSIST);

	if (now == what)
		return 0;
	event_del(&c->event);
	event_assign(
		&c->event, c->server->base, fd, (short)(what | EV_PERSIST), connection_event, c);
	return event_add(&c->event, NULL) < 0 ? -ENOMEM : 0;
}

/* Costs an epoll_ctl only when what is waited for changes. */
static int connection_watch_what_fits(struct connection *c)
{
	bool may_serve = connection_may_serve(c), yielded = c->yielded && may_serve;
	short what = 0;

	if (c->life == CONNECTION_LINGER)
		what = EV_READ;
	else if ((connection_output_pending(c) || yielded) && c->n_holds == 0)
		what = EV_WRITE;
	if (!c->half && !yielded && may_serve)
		what |= EV_READ;
	if (what == 0) {
		/* most of the time nothing happens before it goes on: see connection_unasked() */
		if (event_get_events(&c->event) == (EV_READ | EV_PERSIST) && !c->half)
			return 0;
		what = EV_QUIET;
	}
	return connection_watch(c, what);
}

static void connection_settle(struct connection *c)
{
	int r = 0;

	if (c->life == CONNECTION_CLOSED)
		return;
	if (c->broken)
		return connection_fail(c, EPIPE);
	if (connection_output_pending(c)) {
		if (!c->writing) {
			c->writing = true;
			connection_begin_window(c);
		}
	} else {
		c->writing = false;
		if (c->wants_room && c->n_holds == 0)
			connection_touch(c);
		if (c->half && !c->closing && !c->protocol->on_eof)
			return connection_close(c); /* it was still to be sent something */
		if (c->closing)
			r = connection_linger(c);
		else
			c->protocol->on_settle(c);
	}
	if (r == 0 && c->life != CONNECTION_CLOSED)
		r = connection_watch_what_fits(c);
	if (r < 0)
		connection_fail(c, -r);
}

/* --- bursts --- */

/* Keeps bytes for the next burst. Returns 0 or -ENOMEM. */
static int connection_keep(struct connection *c, const char *data, size_t len)
{
	struct stash *input = c->input;

	if (len == 0) {
		free(input);
		c->input = NULL;
		return 0;
	}
	if (len > c->server->in_size - NET_INPUT_SIZE && !c->yielded && connection_may_serve(c))
		return -EMSGSIZE; /* its protocol waits for more than it is to be given */
	if (!input || input->cap < len) {
		size_t cap = (len + 511) & ~(size_t)511;

		input = realloc(input, sizeof(*input) + cap);
		if (!input)
			return -ENOMEM;
		input->cap = cap;
		c->input = input;
	}
	memcpy(input->data, data, len);
	input->off = 0;
	input->len = len;
	return 0;
}

/* Keeps what is left of a burst after `used` bytes. Returns 0 or -ENOMEM. */
static int connection_keep_rest(struct connection *c, const char *data, size_t len, size_t used)
{
	struct stash *input = c->input;

	if (c->closing || used == len)
		return connection_keep(c, NULL, 0);
	if (!input || data != input->data + input->off)
		return connection_keep(c, data + used, len - used);
	input->off += used; /* it lies there already */
	return 0;
}

static void burst_begin(struct connection *c)
{
	struct net_server *s = c->server;

	s->bursting = c;
	s->burst_end = sb_get(s->slot->bytes_out) + NET_BURST_BYTES;
}

static void burst_end(struct connection *c)
{
	struct net_server *s = c->server;

	output_flush(c);
	s->bursting = NULL;
	if (s->n_answered > 0) {
		histogram_add(&s->slot->latency, now_us() - turn_mark(), s->n_answered);
		s->n_answered = 0;
	}
}

/* Offers input to the protocol, and to the one that takes its place meanwhile. */
static size_t connection_offer(struct connection *c, const char *data, size_t len, size_t seen)
{
	const struct protocol *p;
	size_t used = 0;

	c->yielded = false;
	do {
		p = c->protocol;
		used += p->on_input(c, data + used, len - used, seen);
		seen = 0;
	} while (c->protocol != p && used < len && connection_may_serve(c));
	return used;
}

/*
 * A burst: everything that is there is served, answered with one send, and the connection left
 * waiting for what comes next. data: in the server's buffer, or what c->input holds.
 */
static void connection_burst(struct connection *c, const char *data, size_t len, size_t seen)
{
	size_t used;
	int r;

	burst_begin(c);
	used = connection_offer(c, data, len, seen);
	burst_end(c);
	if (c->life == CONNECTION_CLOSED)
		return;
	r = connection_keep_rest(c, data, len, used);
	if (r < 0)
		return connection_fail(c, -r);
	if (!c->input)
		c->yielded = false;
	connection_settle(c);
}

/* When it is closed the peer will see that something is missing; the kernel keeps nothing for it. */
void connection_end_with_reset(struct connection *c)
{
	const struct linger now = {.l_onoff = 1};

	setsockopt(event_get_fd(&c->event), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

/*
 * What the kernel keeps of a stream beyond what is on its way: a client that does not read costs so much, not the
 * megabytes that send buffers grow to by themselves. Not for files, which it would only make dearer.
 */
void connection_limit_unsent(struct connection *c)
{
	const int unsent = UNSENT_MAX;

	if (!c->is_limited)
		setsockopt(event_get_fd(&c->event), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent,
			sizeof(unsent));
	c->is_limited = true;
}

/* The peer does not take what it asked for. */
static void connection_cut(struct connection *c)
{
	connection_end_with_reset(c);
	connection_fail(c, ETIMEDOUT);
}

static void connection_expire(struct connection *c)
{
	c->is_expired = false;
	if (c->life == CONNECTION_LINGER)
		return connection_linger_on(c);
	if (c->writing) {
		if (!connection_window_made(c))
			connection_cut(c);
		return;
	}
	if (!c->protocol->on_expired)
		return connection_fail(c, ETIMEDOUT);
	burst_begin(c);
	c->protocol->on_expired(c);
	burst_end(c);
	connection_settle(c);
}

/* Whether more may be said now. */
static bool is_drained(const struct connection *c)
{
	return c->life == CONNECTION_OPEN && !c->closing && !c->broken &&
		!connection_output_pending(c);
}

/* Goes on after something else than input has happened: output has gone, the protocol has made up its mind. */
void connection_go_on(struct connection *c)
{
	const struct stash *input;

	if (c->life == CONNECTION_CLOSED)
		return;
	if (c->is_expired && !wheel_holds(&c->timer))
		return connection_expire(c);
	if (c->n_holds > 0)
		return connection_settle(c);
	output_resume(c);
	if (!connection_output_pending(c))
		c->wants_room = false;
	if (is_drained(c) && c->protocol->on_drained) {
		burst_begin(c);
		c->protocol->on_drained(c);
		burst_end(c);
	}
	if (c->life == CONNECTION_CLOSED)
		return;
	input = c->input;
	if (input && connection_may_serve(c))
		return connection_burst(c, input->data + input->off, input->len - input->off, 0);
	connection_settle(c);
}

/*
 * Something was done to the connection outside of its own burst: it is looked after at the end of
 * the turn.
 */
void connection_touch(struct connection *c)
{
	if (c->is_touched || c->life == CONNECTION_CLOSED)
		return;
	c->is_touched = true;
	TAILQ_INSERT_TAIL(&c->server->touched, c, touched);
}

/* From here on its bytes mean something else; those at hand are offered to the new protocol. */
void connection_set_protocol(struct connection *c, const struct protocol *p, void *state)
{
	c->protocol = p;
	c->state = state;
	c->phase = 0;
	if (c->server->bursting != c)
		connection_touch(c);
}

/* --- events --- */

/* Brings what was kept to the front of the server's buffer. Returns its length. */
static size_t connection_recall(struct connection *c)
{
	const struct stash *input = c->input;

	if (!input)
		return 0;
	memcpy(c->server->in, input->data + input->off, input->len - input->off);
	return input->len - input->off;
}

static void connection_eof(struct connection *c)
{
	c->half = true;
	if (c->life == CONNECTION_LINGER)
		return connection_close(c);
	if (c->closing || connection_output_pending(c))
		return connection_settle(c); /* it may be waiting for just that */
	if (!c->protocol->on_eof)
		return connection_close(c);
	c->protocol->on_eof(c);
	connection_settle(c);
}

/* After a half-close recv(2) says 0 even when the other half is gone as well. */
static bool connection_is_dead(const struct connection *c)
{
	struct pollfd p = {.fd = event_get_fd(&c->event)};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP));
}

/* Returns 0, or -EAGAIN when nothing was there to read. */
int connection_read(struct connection *c)
{
	struct net_server *s = c->server;
	size_t kept = connection_recall(c);
	ssize_t n;

	n = recv(event_get_fd(&c->event), s->in + kept, s->in_size - kept, 0);
	if (n > 0) {
		sb_add(s->slot->bytes_in, (uint64_t)n);
		if (!c->writing)
			c->moved += (uint64_t)n;
		if (c->life == CONNECTION_OPEN)
			connection_burst(c, s->in, kept + (size_t)n, kept);
		return 0;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n == 0)
		connection_eof(c);
	else
		connection_fail(c, errno);
	return 0;
}

/*
 * The peer said something, or nothing any more, while that was not waited for. From the second time on it is
 * told only once each time, so that it cannot keep the loop busy.
 */
static void connection_unasked(struct connection *c)
{
	char byte;
	ssize_t n = recv(event_get_fd(&c->event), &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return connection_fail(c, errno);
	if (c->half && connection_is_dead(c))
		return connection_fail(c, ECONNRESET);
	if (n == 0 && !c->half)
		return connection_eof(
			c); /* behind bytes that wait it is found when those are read */
	if (connection_watch(c, EV_QUIET) < 0)
		connection_fail(c, ENOMEM);
}

static void connection_event(evutil_socket_t fd, short what, void *arg)
{
	struct connection *c = arg;
	struct net_server *s = c->server;

	turn_mark();
	s->now_ms = now_coarse_ms();
	if (what & EV_WRITE) {
		connection_go_on(c);
		if (!(what & EV_READ) || c->half || c->yielded || !connection_may_serve(c))
			return;
	}
	if (c->life == CONNECTION_LINGER || (!c->half && connection_may_serve(c)))
		connection_read(c);
	else
		connection_unasked(c);
}

/*
 * Its deadline has passed. The wheel's callback: very many may come due at once, so each waits for its
 * turn; one that gets a new deadline meanwhile has made it.
 */
void connection_expired(struct wheel_entry *e, void *arg)
{
	struct connection *c = connection_of(e);

	c->is_expired = true;
	connection_touch(c);
}

static size_t refused_input(struct connection *c, const char *data, size_t len, size_t seen)
{
	return len;
}

static void refused_settle(struct connection *c)
{
}

/* Of a connection that its own protocol is never to hear of. */
static const struct protocol refused_protocol = {
	.name = "refused", .on_input = refused_input, .on_settle = refused_settle};

/* It is known who the peer is: lets it in, or says that there is no room. */
void connection_begin(struct connection *c)
{
	const struct protocol *p = c->protocol;

	if (admission_enter(c)) {
		if (p->on_open)
			p->on_open(c);
		return;
	}
	sb_add(c->server->slot->server_errors, 1);
	c->protocol = &refused_protocol;
	if (p->refusal)
		output_write(c, p->refusal, strlen(p->refusal));
	c->closing = true;
	connection_touch(c);
}

/* Takes over fd in every case. Returns 0 or a negative errno. */
static int connection_make(struct net_server *s, const struct protocol *p, const void *service,
	int fd, const struct peer *peer, struct connection **ret)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->server = s;
	c->protocol = p;
	c->service = service;
	if (peer)
		c->peer = *peer;
	LIST_INSERT_HEAD(&s->open, c, link);
	s->n_open++;
	sb_set(s->slot->connections, s->n_open);
	event_assign(&c->event, s->base, fd, EV_READ | EV_PERSIST, connection_event, c);
	if (event_add(&c->event, NULL) < 0) {
		connection_close(c);
		return -ENOMEM;
	}
	connection_deadline(c, s->window_ms); /* until its protocol sets one */
	*ret = c;
	return 0;
}

/* Takes over fd in every case. Returns 0 or a negative errno. */
int connection_new(struct net_server *s, const struct protocol *p, const void *service, int fd,
	const struct peer *peer)
{
	struct connection *c;
	int r = connection_make(s, p, service, fd, peer, &c);

	if (r == 0 && p != &proxy_protocol) /* else who it is will be known when it has said so */
		connection_begin(c);
	return r;
}

/* The same with one that was served elsewhere, where these bytes were read and not used. */
int connection_adopt(struct net_server *s, const struct protocol *p, const void *service, int fd,
	const struct peer *peer, const void *data, size_t len)
{
	struct connection *c;
	int r = connection_make(s, p, service, fd, peer, &c);

	if (r < 0)
		return r;
	r = connection_keep(c, data, len);
	if (r < 0) {
		connection_close(c);
		return r;
	}
	connection_begin(c);
	connection_touch(c);
	return 0;
}

/*
 * One client's connection. Worker and admin.
 *
 * The bytes of a burst are read into the server's buffer and served from there; the connection
 * keeps only what is not a whole request yet (c->input) and what the socket did not take
 * (c->output, c->file). While there is any of the latter nothing is read or served. Who sends many
 * requests at once has some of them served, the others in later turns of the loop.
 *
 * Always: in every state but CLOSED one event is added and one deadline is set; both fit the state,
 * which only connection_settle() chooses. A closed connection is freed at the end of the loop's
 * turn, never in its own callback.
 */
#include "http/connection.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/http.h"
#include "http/output.h"
#include "http/request.h"

#define LINGER_MS    2000 /* how long a peer may take to close after the last answer */
#define PARSE_ALWAYS 512  /* a head up to here is parsed whenever more of it has come */

/* After so many requests, or bytes that the socket took, it is the turn of others. */
#define BURST_REQUESTS 512
#define BURST_BYTES    (2u << 20)

static void connection_event(evutil_socket_t fd, short what, void *arg);

static struct http_connection *connection_of(struct wheel_entry *e)
{
	return (struct http_connection *)((char *)e - offsetof(struct http_connection, timer));
}

static void connection_deadline(struct http_connection *c, uint64_t in_ms)
{
	wheel_set(&c->server->wheel, &c->timer, c->server->now_ms + in_ms);
}

static bool output_pending(const struct http_connection *c)
{
	return c->output || c->file;
}

/* Waits for EV_READ or EV_WRITE; an epoll_ctl only when that changes. */
static int connection_watch(struct http_connection *c, short what)
{
	evutil_socket_t fd = event_get_fd(&c->event);

	if (event_get_events(&c->event) & what)
		return 0;
	event_del(&c->event);
	event_assign(&c->event, c->server->base, fd, what | EV_PERSIST, connection_event, c);
	return event_add(&c->event, NULL) < 0 ? -ENOMEM : 0;
}

/* Takes the descriptor, counts and buffers away at once; the rest goes in connection_free(). */
void connection_close(struct http_connection *c)
{
	struct http_server *s = c->server;

	if (c->state == CONNECTION_CLOSED)
		return;
	c->state = CONNECTION_CLOSED;
	wheel_remove(&s->wheel, &c->timer);
	event_del(&c->event);
	close(event_get_fd(&c->event));
	output_drop(c);
	free(c->input);
	c->input = NULL;
	LIST_REMOVE(c, link);
	LIST_INSERT_HEAD(&s->closed, c, link);
	s->n_open--;
	sb_set(s->slot->connections, s->n_open);
}

void connection_free(struct http_connection *c)
{
	assert(c->state == CONNECTION_CLOSED);
	LIST_REMOVE(c, link);
	free(c);
}

/* Keeps bytes for the next burst. Returns 0 or -ENOMEM. */
static int connection_keep(struct http_connection *c, const char *data, size_t len)
{
	struct http_stash *input = c->input;

	if (len == 0) {
		free(input);
		c->input = NULL;
		return 0;
	}
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

/*
 * Everything is answered and sent. Closing at once would destroy answers with a reset if the peer
 * has more to say.
 */
static int connection_linger(struct http_connection *c)
{
	if (shutdown(event_get_fd(&c->event), SHUT_WR) < 0)
		return -ENOTCONN;
	c->state = CONNECTION_LINGER;
	connection_deadline(c, LINGER_MS);
	return connection_watch(c, EV_READ);
}

/* What the connection waits for now, and for how long. begun: a request has begun in this burst. */
static int connection_settle(struct http_connection *c, bool begun)
{
	struct http_server *s = c->server;

	if (c->broken)
		return -EPIPE;
	if (output_pending(c) || c->yielded) {
		c->state = CONNECTION_WRITE;
		connection_deadline(c, s->body_ms);
		return connection_watch(c, EV_WRITE);
	}
	if (c->closing)
		return connection_linger(c);
	if (c->body_left > 0) {
		c->state = CONNECTION_BODY;
		connection_deadline(c, s->body_ms);
	} else if (c->input) {
		if (begun || c->state != CONNECTION_HEAD)
			connection_deadline(c, s->header_ms);
		c->state = CONNECTION_HEAD;
	} else {
		c->state = CONNECTION_IDLE;
		connection_deadline(c, s->draining ? s->grace_ms : s->idle_ms);
	}
	return connection_watch(c, EV_READ);
}

/*
 * Serves the requests in data, until they end, the output is stuck or it is the turn of others
 * (c->yielded). Returns how many bytes are done with.
 */
static size_t connection_serve(struct http_connection *c, const char *data, size_t len)
{
	const struct http_server *s = c->server;
	uint64_t max_out = sb_get(s->slot->bytes_out) + BURST_BYTES;
	size_t used = 0, n;

	c->yielded = false;
	while (used < len && !c->closing && !c->broken && !output_pending(c)) {
		if (s->n_requests >= BURST_REQUESTS || sb_get(s->slot->bytes_out) >= max_out) {
			c->yielded = true;
			break;
		}
		if (c->body_left > 0) {
			n = c->body_left < len - used ? c->body_left : len - used;
			c->body_left -= n;
		} else if (request_serve(c, data + used, len - used, &n) == PARSER_MORE) {
			break;
		}
		used += n;
	}
	return used;
}

/* Keeps what is left of a burst after `used` bytes. Returns 0 or -ENOMEM. */
static int connection_keep_rest(
	struct http_connection *c, const char *data, size_t len, size_t used)
{
	struct http_stash *input = c->input;

	if (c->closing || used == len)
		return connection_keep(c, NULL, 0);
	if (!input || data != input->data + input->off)
		return connection_keep(c, data + used, len - used);
	input->off += used; /* it lies there already */
	return 0;
}

/*
 * A burst: everything that is there is served, answered with one send, and the connection left in
 * its next state. data: in the server's buffer, or what c->input holds.
 */
static void connection_burst(struct http_connection *c, const char *data, size_t len)
{
	struct http_server *s = c->server;
	size_t used = connection_serve(c, data, len);
	int r;

	output_flush(c);
	if (s->n_requests > 0) {
		sb_add(s->slot->requests, s->n_requests);
		s->n_requests = 0;
		s->slot->request_line[0] = '\0';
	}
	r = connection_keep_rest(c, data, len, used);
	if (r == 0)
		r = connection_settle(c, used > 0);
	if (r < 0)
		connection_close(c);
}

/* Brings what was kept to the front of the server's buffer. Returns its length. */
static size_t connection_recall(struct http_connection *c)
{
	const struct http_stash *input = c->input;

	if (!input)
		return 0;
	memcpy(c->server->in, input->data + input->off, input->len - input->off);
	return input->len - input->off;
}

/*
 * Parsing a long head anew whenever a byte of it has come would cost quadratic time; only the end
 * of a line can complete it. What is wrong before that is noticed a little later, with the same
 * outcome.
 */
static bool worth_parsing(
	const struct http_connection *c, const char *data, size_t kept, size_t len)
{
	const struct http_limits *limits = &c->server->limits;

	return c->state != CONNECTION_HEAD || kept < PARSE_ALWAYS ||
		(kept < limits->max_line && len >= limits->max_line) || len >= limits->max_head ||
		memchr(data + kept, '\n', len - kept);
}

static void connection_received(struct http_connection *c, size_t kept, size_t n)
{
	struct http_server *s = c->server;

	sb_add(s->slot->bytes_in, n);
	if (c->state == CONNECTION_LINGER)
		return;
	if (worth_parsing(c, s->in, kept, kept + n))
		connection_burst(c, s->in, kept + n);
	else if (connection_keep(c, s->in, kept + n) < 0)
		connection_close(c);
}

/* Returns 0, or -EAGAIN when nothing was there to read. */
static int connection_read(struct http_connection *c)
{
	struct http_server *s = c->server;
	size_t kept = connection_recall(c);
	ssize_t n;

	n = recv(event_get_fd(&c->event), s->in + kept, s->in_size - kept, 0);
	if (n > 0) {
		connection_received(c, kept, (size_t)n);
		return 0;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	/* The peer has closed; what it left unfinished gets no answer. */
	connection_close(c);
	return 0;
}

static void connection_writable(struct http_connection *c)
{
	const struct http_stash *input = c->input;

	output_resume(c);
	if (!c->broken && !output_pending(c) && !c->closing && input)
		return connection_burst(c, input->data + input->off, input->len - input->off);
	if (connection_settle(c, false) < 0)
		connection_close(c);
}

static void connection_event(evutil_socket_t fd, short what, void *arg)
{
	struct http_connection *c = arg;
	struct http_server *s = c->server;

	s->now_ms = now_coarse_ms();
	http_date_update(&s->date, s->now_ms);
	if (c->state == CONNECTION_WRITE)
		connection_writable(c);
	else
		connection_read(c);
}

static void connection_time_out(struct http_connection *c)
{
	const struct http_stash *input = c->input;
	size_t len = input->len - input->off;

	/* an empty line alone is no request that could be answered */
	if (len <= 2 && memcmp(input->data + input->off, "\r\n", len) == 0)
		return connection_close(c);
	request_refuse(c, 408);
	connection_burst(c, "", 0);
}

/* Its deadline has passed. The wheel's callback. */
void connection_expired(struct wheel_entry *e, void *arg)
{
	struct http_connection *c = connection_of(e);
	struct http_server *s = c->server;

	http_date_update(&s->date, s->now_ms);
	switch ((enum connection_state)c->state) {
	case CONNECTION_IDLE:
		/* A request may have come just now: it is served rather than reset. */
		if (connection_read(c) == -EAGAIN)
			connection_close(c);
		return;
	case CONNECTION_HEAD:
		return connection_time_out(c);
	case CONNECTION_BODY:
	case CONNECTION_WRITE:
	case CONNECTION_LINGER:
		return connection_close(c);
	case CONNECTION_CLOSED:
		break;
	}
	assert(!"a closed connection is on no wheel");
}

/* The server drains: idle connections get their last chance from now. */
void connection_begin_drain(struct http_connection *c)
{
	if (c->state == CONNECTION_IDLE)
		connection_deadline(c, c->server->grace_ms);
}

/* Takes over fd in every case. Returns 0 or a negative errno. */
int connection_new(struct http_server *s, const struct http_router *router, int fd)
{
	struct http_connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->server = s;
	c->router = router;
	c->state = CONNECTION_IDLE;
	LIST_INSERT_HEAD(&s->open, c, link);
	s->n_open++;
	sb_set(s->slot->connections, s->n_open);
	event_assign(&c->event, s->base, fd, EV_READ | EV_PERSIST, connection_event, c);
	connection_deadline(c, s->draining ? s->grace_ms : s->header_ms);
	if (event_add(&c->event, NULL) < 0) {
		connection_close(c);
		return -ENOMEM;
	}
	return 0;
}

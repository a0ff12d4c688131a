/*
 * HTTP/1.1 on a connection: what its bytes mean, what it waits for and how long. Worker and admin.
 *
 * A connection waits for one of four things (c->phase), each with a deadline of its own: a request, the rest of a head,
 * the rest of a body, the module's answer.
 */
#include "http/protocol.h"

#include <errno.h>
#include <string.h>

#include "http/body.h"
#include "http/http.h"
#include "http/request.h"
#include "http/streamed.h"
#include "net/connection.h"

#define PARSE_ALWAYS   512 /* a head up to here is parsed whenever more of it has come */
#define BURST_REQUESTS 512 /* after so many it is the turn of others */

enum http_phase { PHASE_NONE, PHASE_IDLE, PHASE_HEAD, PHASE_BODY, PHASE_ANSWER };

static void http_open(struct connection *c)
{
	c->phase = PHASE_IDLE;
	connection_deadline(
		c, c->server->draining ? c->server->grace_ms : http_server_of(c)->header_ms);
}

/*
 * Parsing a long head anew whenever a byte of it has come would cost quadratic time; only the end
 * of a line can complete it. What is wrong before that is noticed a little later, with the same
 * outcome.
 */
static bool worth_parsing(const struct connection *c, const char *data, size_t len, size_t seen)
{
	const struct http_limits *limits = &http_server_of(c)->limits;

	return c->phase != PHASE_HEAD || seen < PARSE_ALWAYS ||
		(seen < limits->max_line && len >= limits->max_line) || len >= limits->max_head ||
		memchr(data + seen, '\n', len - seen);
}

static bool is_burst_over(const struct connection *c)
{
	return http_server_of(c)->n_requests >= BURST_REQUESTS ||
		sb_get(c->server->slot->bytes_out) >= c->server->burst_end;
}

/* Requests and bodies, until they end, the output is stuck, a module takes its time or it is the turn of others. */
static size_t http_serve(struct connection *c, const char *data, size_t len, size_t seen)
{
	const struct protocol *p = c->protocol;
	size_t used = 0, n;

	while (used < len && c->protocol == p && connection_may_serve(c)) {
		struct tine_request *rq = c->state;

		if (is_burst_over(c)) {
			c->yielded = true;
			break;
		}
		if (rq) {
			used += body_feed(rq, data + used, len - used);
			if (c->state != rq)
				continue;
			c->paused = body_waits(rq);
			break; /* more of it must come, or it waits */
		}
		if (used == 0 && !worth_parsing(c, data, len, seen))
			break;
		if (request_serve(c, data + used, len - used, &n) == PARSER_MORE)
			break;
		used += n;
	}
	return used;
}

static size_t http_input(struct connection *c, const char *data, size_t len, size_t seen)
{
	struct http_server *s = http_server_of(c);
	size_t used;

	http_date_update(&s->date, c->server->now_ms);
	used = http_serve(c, data, len, seen);
	if (s->n_requests > 0) {
		sb_add(c->server->slot->requests, s->n_requests);
		s->n_requests = 0;
		c->server->request_line[0] = '\0'; /* the rest stays: see worker/probe.c */
	}
	return used;
}

static void settle_idle(struct connection *c)
{
	const struct http_server *s = http_server_of(c);

	c->paused = false;
	if (c->half && !c->yielded)
		return connection_close(c);
	if (!c->input) {
		c->phase = PHASE_IDLE;
		connection_deadline(c, c->server->draining ? c->server->grace_ms : s->idle_ms);
	} else if (c->phase != PHASE_HEAD) {
		c->phase = PHASE_HEAD;
		if (c->n_served > 0) /* the first one's time began when the connection was made */
			connection_deadline(c, s->header_ms);
	}
}

static void http_settle(struct connection *c)
{
	const struct http_server *s = http_server_of(c);
	struct tine_request *rq = c->state;

	if (rq && rq->is_sse && rq->answer == ANSWER_STARTED &&
		(rq->bodyless || c->server->draining)) {
		streamed_cut(rq); /* its head is all of it, or it begins when all are to end */
		rq = c->state;
	}
	if (!rq)
		return settle_idle(c);
	c->paused = body_waits(rq);
	if (c->half && !c->paused && !c->yielded)
		return connection_close(c); /* more of the body is wanted than has come */
	if (!c->paused && c->phase != PHASE_BODY) {
		c->phase = PHASE_BODY;
		connection_begin_window(c);
	} else if (c->paused && c->phase != PHASE_ANSWER) {
		c->phase = PHASE_ANSWER;
		connection_deadline(c, rq->is_sse && s->ping_ms > 0 ? s->ping_ms : s->answer_ms);
	}
}

static void http_drained(struct connection *c)
{
	struct tine_request *rq = c->state;

	http_date_update(&http_server_of(c)->date, c->server->now_ms);
	if (rq && !body_waits(rq))
		body_feed(rq, "", 0); /* its end may have been reached */
	rq = c->state;
	if (rq && rq->answer == ANSWER_PIECES)
		request_finish(rq);
	else if (rq)
		streamed_drained(rq);
}

/*
 * Whoever still waits for an answer may have closed its half alone. What of a body waits to be read is read yet; a stream of
 * events, which never ends, has nobody who reads it.
 */
static void http_eof(struct connection *c)
{
	struct tine_request *rq = c->state;

	if (!rq ? !c->yielded : (!body_waits(rq) || (rq->is_sse && rq->answer == ANSWER_STARTED)))
		connection_close(c);
}

static void head_timed_out(struct connection *c)
{
	const struct stash *input = c->input;
	size_t len = input ? input->len - input->off : 0;

	/* an empty line alone is no request that could be answered */
	if (len <= 2 && memcmp(input ? input->data + input->off : "", "\r\n", len) == 0)
		return connection_close(c);
	request_refuse(c, 408);
}

static void answer_timed_out(struct connection *c, struct tine_request *rq)
{
	if (rq->answer == ANSWER_NONE)
		return request_abandon(rq, 503);
	if (rq->is_sse && rq->server->ping_ms > 0) {
		sse_keep_alive(rq);
		connection_deadline(c, rq->server->ping_ms);
		return;
	}
	connection_no_deadline(c); /* a stream may pause; the kernel finds out who is gone */
}

static void http_expired(struct connection *c)
{
	struct tine_request *rq = c->state;

	http_date_update(&http_server_of(c)->date, c->server->now_ms);
	if (!rq && (c->phase == PHASE_BODY || c->phase == PHASE_ANSWER))
		return; /* it was answered in this very turn: what is waited for now gets its own deadline */
	switch ((enum http_phase)c->phase) {
	case PHASE_BODY:
		if (!connection_window_made(c))
			request_abandon(rq, 408);
		return;
	case PHASE_ANSWER:
		return answer_timed_out(c, rq);
	case PHASE_HEAD:
		return head_timed_out(c);
	default:
		/* A request may have come just now: it is served rather than reset. */
		if (connection_read(c) == -EAGAIN)
			connection_close(c);
	}
}

/* Idle connections get their last chance from now; streams of events, which never end, end. */
static void http_drain(struct connection *c)
{
	struct tine_request *rq = c->state;

	if (c->phase == PHASE_IDLE)
		connection_deadline(c, c->server->grace_ms);
	if (rq && rq->is_sse && rq->answer == ANSWER_STARTED)
		streamed_cut(rq);
}

static void http_close(struct connection *c)
{
	if (c->state)
		request_orphan(c->state);
}

const struct protocol http_protocol = {
	.name = "http",
	.refusal = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
		   "Connection: close\r\n\r\n",
	.on_open = http_open,
	.on_input = http_input,
	.on_settle = http_settle,
	.on_drained = http_drained,
	.on_eof = http_eof,
	.on_expired = http_expired,
	.on_drain = http_drain,
	.on_close = http_close,
};

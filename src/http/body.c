/*
 * The body of a request. Worker and admin.
 *
 * A body whose bytes have all come with its head, and whose length is known, is handed to the handler where it lies. Any other
 * makes the request its connection's, and is collected, streamed or dropped as it comes.
 *
 * Always: no more than body.max bytes are accepted, whatever the framing.
 */
#include "http/body.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/http.h"
#include "http/request.h"
#include "http/response.h"
#include "net/connection.h"
#include "net/output.h"
#include "shared/config.h"

/* The framing of the body, as the head tells. */
void body_begin(struct tine_request *rq)
{
	struct http_body *b = &rq->body;
	const struct http_head *h = &rq->head;

	b->is_chunked = h->chunked;
	b->left = h->content_length;
	b->max = rq->server->conf->max_body;
	b->complete = !h->chunked && b->left == 0;
	b->asked = !b->complete && h->expect && h->minor > 0 && rq->ahead.len == 0;
}

/* The client asked for leave to send its body, and gets it. */
static void body_welcome(struct tine_request *rq)
{
	static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";

	if (rq->body.asked && rq->answer == ANSWER_NONE)
		output_write(rq->connection, line, sizeof(line) - 1);
	rq->body.asked = false;
}

/* Something was decided about the body: its connection is read on, or not. */
static void body_go_on(struct tine_request *rq)
{
	rq->connection->paused = body_waits(rq);
	connection_touch(rq->connection);
}

/* A route has been found that takes the body: as a whole, or in a stream. */
void body_decide(struct tine_request *rq)
{
	struct http_body *b = &rq->body;

	if (rq->match.route->flags & HTTP_ROUTE_STREAM_BODY)
		return request_call_handler(rq);
	if (!rq->kept && !b->is_chunked && b->left <= rq->ahead.len) {
		rq->whole = (struct tine_text){rq->ahead.data, b->left};
		rq->ahead_used = b->left;
		b->complete = true;
		return request_call_handler(rq);
	}
	if (request_keep(rq) < 0) {
		response_text(rq, 503);
		return;
	}
	rq->deferred = false;
	b->mode = BODY_COLLECT;
	body_welcome(rq);
	body_go_on(rq);
}

/* See tine_request_read(). */
int body_read(struct tine_request *rq, tine_body_fn fn, void *arg)
{
	int r;

	if (!(rq->match.route && (rq->match.route->flags & HTTP_ROUTE_STREAM_BODY)))
		return -EINVAL;
	if (rq->body.mode != BODY_WAIT || rq->answer >= ANSWER_PIECES)
		return -EALREADY;
	if (!rq->connection)
		return -ECANCELED;
	r = request_defer(rq);
	if (r < 0)
		return r;
	body_welcome(rq);
	rq->body.complete = false; /* also of an empty one the end is told in a later turn */
	rq->body.mode = BODY_STREAM;
	rq->body.fn = fn;
	rq->body.arg = arg;
	body_go_on(rq);
	return 0;
}

void body_pause(struct tine_request *rq, bool pause)
{
	rq->body.paused = pause;
	if (rq->connection && rq->kept)
		body_go_on(rq);
}

/* Whether nothing of the connection's input is for the body now. */
bool body_waits(const struct tine_request *rq)
{
	return rq->body.complete || rq->body.mode == BODY_WAIT || rq->body.paused;
}

/* Nobody wants the rest. */
void body_drop_rest(struct tine_request *rq)
{
	rq->body.mode = BODY_DISCARD;
	rq->body.paused = false;
	body_go_on(rq);
}

/* The rest will not come. */
void body_fail(struct tine_request *rq)
{
	rq->body.complete = true;
	rq->body.fn(rq, TINE_BODY_FAILED, NULL, 0, rq->body.arg);
}

/* Appends to a stash, which grows with what really comes. Returns 0 or -ENOMEM. */
static int collect(struct stash **stash, const void *data, size_t len)
{
	struct stash *s = *stash;
	size_t used = s ? s->len : 0;

	if (!s || s->cap - used < len) {
		size_t cap = used + len + used / 2;

		s = realloc(s, sizeof(*s) + cap);
		if (!s)
			return -ENOMEM;
		s->off = 0;
		s->len = used;
		s->cap = cap;
		*stash = s;
	}
	memcpy(s->data + used, data, len);
	s->len += len;
	return 0;
}

/* A body that came with its head lies where others are read next: keeps a copy. Returns 0 or -ENOMEM. */
int body_own(struct tine_request *rq)
{
	if (rq->whole.len == 0 || rq->body.data)
		return 0;
	if (collect(&rq->body.data, rq->whole.data, rq->whole.len) < 0)
		return -ENOMEM;
	rq->whole.data = rq->body.data->data;
	return 0;
}

/* Returns 0, or the status to refuse with. */
static unsigned body_take(struct tine_request *rq, const char *data, size_t len)
{
	struct http_body *b = &rq->body;

	b->taken += len;
	if (b->taken > b->max)
		return 413;
	if (b->mode == BODY_COLLECT && collect(&b->data, data, len) < 0)
		return 503;
	if (b->mode == BODY_STREAM)
		b->fn(rq, TINE_BODY_DATA, data, len, b->arg);
	return 0;
}

static unsigned body_take_trailer(struct tine_request *rq, const struct http_field *f)
{
	struct stash **t = &rq->body.trailer;

	if (collect(t, f->name.data, f->name.len) < 0 || collect(t, ":", 1) < 0 ||
		collect(t, f->value.data, f->value.len) < 0 || collect(t, "\r\n", 2) < 0)
		return 503;
	return 0;
}

static void body_end(struct tine_request *rq)
{
	struct http_body *b = &rq->body;

	b->complete = true;
	if (b->mode == BODY_STREAM) {
		b->fn(rq, TINE_BODY_END, NULL, 0, b->arg);
	} else if (b->mode == BODY_COLLECT) {
		if (b->data)
			rq->whole = (struct tine_text){b->data->data, b->data->len};
		request_call_handler(rq);
	} else if (rq->answer == ANSWER_DONE) {
		request_finish(rq);
	}
}

/* Returns 0 and how many bytes were used, or the status to refuse with. */
static unsigned feed_length(struct tine_request *rq, const char *data, size_t len, size_t *ret_used)
{
	struct http_body *b = &rq->body;
	size_t n = b->left < len ? b->left : len;

	*ret_used = n;
	b->left -= n;
	return n > 0 ? body_take(rq, data, n) : 0;
}

static unsigned feed_chunked(
	struct tine_request *rq, const char *data, size_t len, size_t *ret_used)
{
	struct http_body *b = &rq->body;
	struct http_field f;
	int r = chunked_decode(&b->chunked, data, len, &f, ret_used);

	switch (r) {
	case CHUNKED_END:
		b->is_chunked = false; /* and b->left is 0 */
		return 0;
	case CHUNKED_MORE:
		return 0;
	case CHUNKED_DATA:
		return body_take(rq, f.value.data, f.value.len);
	case CHUNKED_TRAILER:
		return body_take_trailer(rq, &f);
	default:
		return (unsigned)r;
	}
}

/* Whether the request is still the one its connection takes a body for. */
static bool is_being_fed(const struct connection *c, const struct tine_request *rq)
{
	return c->life == CONNECTION_OPEN && c->state == rq && !rq->body.complete &&
		!body_waits(rq);
}

/* Takes what is the body's of `len` bytes of input. Returns how many those are. */
size_t body_feed(struct tine_request *rq, const char *data, size_t len)
{
	struct connection *c = rq->connection;
	size_t used = 0, n = 0;
	unsigned status;

	if (len > 0)
		rq->body.asked = false;
	while (is_being_fed(c, rq)) {
		if (!rq->body.is_chunked && rq->body.left == 0) {
			body_end(rq);
			break;
		}
		if (used == len)
			break;
		status = rq->body.is_chunked ? feed_chunked(rq, data + used, len - used, &n)
					     : feed_length(rq, data + used, len - used, &n);
		used += n;
		if (status != 0) {
			if (c->state == rq)
				request_abandon(rq, status);
			break;
		}
		if (n == 0 && rq->body.is_chunked)
			break; /* an unfinished line: more must come */
	}
	return used;
}

/* The value of a trailer field; data is NULL when it was not sent. */
struct tine_text body_trailer(const struct tine_request *rq, const char *name, size_t len)
{
	const struct stash *t = rq->body.trailer;
	struct http_field f;
	size_t used;

	for (size_t at = 0; t && at < t->len; at += used) {
		if (http_parse_field(t->data + at, t->len - at, t->len, &f, &used) != 0)
			break;
		if (f.name.len == len && strncasecmp(f.name.data, name, len) == 0)
			return f.value;
	}
	return (struct tine_text){NULL, 0};
}

void body_clear(struct tine_request *rq)
{
	free(rq->body.data);
	free(rq->body.trailer);
	rq->body.data = rq->body.trailer = NULL;
}

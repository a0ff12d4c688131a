/*
 * Answers whose body follows piece by piece. Worker and admin.
 *
 * Always: what a slow client has not taken is bounded: above NET_OUTPUT_HIGH nothing more is accepted (but
 * one piece of at most STREAMED_PIECE_MAX when nothing waits), and the module is told when there is room.
 */
#include "http/streamed.h"

#include <errno.h>
#include <string.h>

#include "http/chunked.h"
#include "http/http.h"
#include "http/request.h"
#include "http/response.h"
#include "net/connection.h"
#include "net/output.h"

#define STREAMED_PIECE_MAX (1u << 20)
#define CHUNK_HEAD_MAX     12 /* eight digits at most, CRLF */

/* See tine_respond_start(). */
int streamed_start(struct tine_request *rq, unsigned status, struct tine_text type, int64_t length)
{
	struct http_answer a = {.status = status, .type = type};

	if (length >= 0)
		a.length = (uint64_t)length;
	else if (rq->head.minor > 0)
		a.framing = FRAMING_CHUNKED;
	else
		a.framing = FRAMING_CLOSE;
	if (rq->connection)
		connection_limit_unsent(rq->connection);
	return response_start(rq, &a);
}

static char *put_chunk_head(char *p, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	int shift = 28;

	while (shift > 0 && len >> shift == 0)
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		*p++ = digits[len >> shift & 15];
	*p++ = '\r';
	*p++ = '\n';
	return p;
}

static void write_chunk(struct connection *c, const void *data, size_t len)
{
	bool inlined = len <= OUTPUT_INLINE_MAX;
	char *start = output_reserve(c, CHUNK_HEAD_MAX + (inlined ? len + 2 : 0)), *p;

	if (!start)
		return; /* it will be found to be broken */
	p = put_chunk_head(start, len);
	if (inlined) {
		memcpy(p, data, len);
		p += len;
		*p++ = '\r';
		*p++ = '\n';
	}
	output_commit(c, (size_t)(p - start));
	if (!inlined) {
		output_body(c, data, len);
		output_write(c, "\r\n", 2);
	}
}

/* Whether so many bytes may be written now; if not, the module will be told when. */
static bool has_room(struct tine_request *rq, size_t len)
{
	struct connection *c = rq->connection;

	if (connection_room(c) >= len || (!connection_output_pending(c) && connection_room(c) > 0))
		return true;
	rq->wants_room = true;
	c->wants_room = true;
	connection_touch(c);
	return false;
}

/* See tine_respond_write(). */
int streamed_write(struct tine_request *rq, const void *data, size_t len)
{
	struct connection *c = rq->connection;

	if (!c || c->broken)
		return -ECANCELED;
	if (rq->answer != ANSWER_STARTED)
		return -EINVAL;
	if (len > STREAMED_PIECE_MAX || (rq->framing == FRAMING_LENGTH && len > rq->left))
		return -EMSGSIZE;
	if (len == 0)
		return 0;
	if (!rq->bodyless) {
		if (!has_room(rq, len))
			return -EAGAIN;
		if (rq->framing == FRAMING_CHUNKED)
			write_chunk(c, data, len);
		else
			output_write(c, data, len);
		rq->sent += len;
	}
	if (rq->framing == FRAMING_LENGTH)
		rq->left -= len;
	return 0;
}

/* See tine_respond_trailer(). */
int streamed_add_trailer(struct tine_request *rq, struct tine_text name, struct tine_text value)
{
	if (!rq->connection)
		return -ECANCELED;
	if (rq->answer != ANSWER_STARTED || rq->framing != FRAMING_CHUNKED)
		return -ENOTSUP;
	if (chunked_is_forbidden(name))
		return -EINVAL;
	return response_add_header(rq, name, value);
}

/* See tine_respond_end(). */
int streamed_end(struct tine_request *rq)
{
	struct connection *c = rq->connection;

	if (!c) {
		request_finish(rq);
		return -ECANCELED;
	}
	if (rq->answer != ANSWER_STARTED)
		return -EINVAL;
	if (rq->framing == FRAMING_LENGTH && rq->left > 0 && !rq->bodyless) {
		streamed_abort(rq);
		return -EMSGSIZE;
	}
	if (rq->framing == FRAMING_CHUNKED && !rq->bodyless) {
		output_write(c, "0\r\n", 3);
		output_write(c, rq->extra, rq->extra_len);
		output_write(c, "\r\n", 2);
	}
	c->closing = !rq->keep_alive;
	connection_touch(c);
	request_finish(rq);
	return 0;
}

/*
 * What was said before in this burst is sent yet. Where the end of the connection is the end of the answer, the
 * connection has to break for the client to see that it is not complete.
 */
void streamed_break(struct tine_request *rq)
{
	struct connection *c = rq->connection;

	output_flush(c);
	if (rq->answer == ANSWER_STARTED && rq->framing == FRAMING_CLOSE)
		connection_end_with_reset(c);
}

/* See tine_respond_abort(). */
void streamed_abort(struct tine_request *rq)
{
	struct connection *c = rq->connection;

	if (c)
		streamed_break(rq);
	rq->answer = ANSWER_DONE; /* nobody is to be told */
	request_log(rq);
	if (c)
		connection_close(c);
	else
		request_finish(rq);
}

/* Ends the answer in good order in place of its module, which is told that the client is gone. */
void streamed_cut(struct tine_request *rq)
{
	struct connection *c = rq->connection;

	if (rq->framing == FRAMING_CHUNKED && !rq->bodyless)
		output_write(c, "0\r\n\r\n", 5);
	c->closing = !rq->bodyless || !rq->keep_alive;
	connection_touch(c);
	request_orphan(rq);
}

/* There is room again. */
void streamed_drained(struct tine_request *rq)
{
	if (!rq->wants_room)
		return;
	rq->wants_room = false;
	if (rq->on_room)
		rq->on_room(rq, rq->room_arg);
}

/*
 * Writing answers: heads are put together from ready-made pieces in the output buffer. Worker and
 * admin.
 *
 * Always: exactly one answer per request, and its framing is right whatever the handler did:
 * Content-Length is written here alone, bodies are left out for HEAD, 204, 205 and 304.
 */
#include "http/response.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/put.h"
#include "http/error_pages.h"
#include "http/http.h"
#include "http/path.h"
#include "http/request.h"
#include "net/connection.h"
#include "net/output.h"

#define HEAD_MAX       256 /* of all fixed pieces of a head together */
#define SHORT_TEXT_MAX 96

#define TEXT(literal) ((struct tine_text){(literal), sizeof(literal) - 1})

/* The reason phrase of a status; that of its class when it has none of its own here. */
struct tine_text response_reason(unsigned status)
{
	static const struct {
		unsigned status;
		const char *text;
	} reasons[] = {{101, "Switching Protocols"}, {200, "OK"}, {201, "Created"},
		{202, "Accepted"}, {204, "No Content"}, {205, "Reset Content"},
		{206, "Partial Content"}, {301, "Moved Permanently"}, {302, "Found"},
		{303, "See Other"}, {304, "Not Modified"}, {307, "Temporary Redirect"},
		{308, "Permanent Redirect"}, {400, "Bad Request"}, {401, "Unauthorized"},
		{403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
		{406, "Not Acceptable"}, {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"},
		{411, "Length Required"}, {412, "Precondition Failed"}, {413, "Content Too Large"},
		{414, "URI Too Long"}, {415, "Unsupported Media Type"},
		{416, "Range Not Satisfiable"}, {417, "Expectation Failed"},
		{421, "Misdirected Request"}, {422, "Unprocessable Content"},
		{426, "Upgrade Required"}, {428, "Precondition Required"},
		{429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
		{451, "Unavailable For Legal Reasons"}, {500, "Internal Server Error"},
		{501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"},
		{504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"}};
	static const struct tine_text classes[] = {
		TEXT("Success"), TEXT("Redirection"), TEXT("Client Error"), TEXT("Server Error")};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return (struct tine_text){reasons[i].text, strlen(reasons[i].text)};
	assert(status >= 200 && status <= 599);
	return classes[status / 100 - 2];
}

static char *put_status(char *p, unsigned status)
{
	struct tine_text reason;

	if (status == 200)
		return PUT(p, "HTTP/1.1 200 OK\r\n");
	reason = response_reason(status);
	p = PUT(p, "HTTP/1.1 ");
	p = put_u64(p, status);
	*p++ = ' ';
	p = put(p, reason.data, reason.len);
	return PUT(p, "\r\n");
}

static char *put_connection(char *p, const struct tine_request *rq, unsigned status)
{
	if (status == 101)
		return PUT(p, "Connection: Upgrade\r\n");
	if (!rq->keep_alive)
		return PUT(p, "Connection: close\r\n");
	if (rq->head.minor == 0)
		return PUT(p, "Connection: keep-alive\r\n");
	return p;
}

static char *put_framing(char *p, const struct tine_request *rq, const struct http_answer *a)
{
	if (a->status == 101 || a->status == 204 || a->status == 304 || a->framing == FRAMING_CLOSE)
		return p;
	if (a->framing == FRAMING_CHUNKED && a->status != 205)
		return PUT(p, "Transfer-Encoding: chunked\r\n");
	p = PUT(p, "Content-Length: ");
	p = put_u64(p, a->status == 205 ? 0 : a->length);
	return PUT(p, "\r\n");
}

static char *put_head(char *p, const struct tine_request *rq, const struct http_answer *a)
{
	const struct http_date *date = &rq->server->date;

	p = put_status(p, a->status);
	p = put(p, date->line, date->len);
	if (a->type.len > 0) {
		p = PUT(p, "Content-Type: ");
		p = put(p, a->type.data, a->type.len);
		p = PUT(p, "\r\n");
	}
	p = put_framing(p, rq, a);
	if (a->fields.len > 0)
		p = put(p, a->fields.data, a->fields.len);
	if (rq->extra_len > 0)
		p = put(p, rq->extra, rq->extra_len);
	p = put_connection(p, rq, a->status);
	return PUT(p, "\r\n");
}

static void count_answer(struct sb_slot *slot, unsigned status)
{
	if (status >= 500)
		sb_add(slot->server_errors, 1);
	else if (status >= 400)
		sb_add(slot->client_errors, 1);
}

/* Whether an answer to this request with this status consists of its head alone (RFC 9112 section 6.3). */
static bool is_bodyless(const struct tine_request *rq, unsigned status)
{
	return rq->head.method == METHOD_HEAD || status == 101 || status == 204 || status == 205 ||
		status == 304;
}

/* Settles what becomes of the connection, and of the answer. Returns 0, -EALREADY or -ECANCELED. */
static int response_begin(struct tine_request *rq, const struct http_answer *a)
{
	struct connection *c = rq->connection;

	if (rq->answer != ANSWER_NONE)
		return -EALREADY;
	if (!c) {
		request_finish(rq);
		return -ECANCELED;
	}
	if (c->server->bursting != c)
		http_date_update(&rq->server->date, now_coarse_ms());
	rq->keep_alive = a->framing != FRAMING_CLOSE && request_keeps_alive(rq);
	rq->bodyless = is_bodyless(rq, a->status);
	rq->framing = a->framing;
	rq->left = a->status == 205 ? 0 : a->length;
	rq->status = (uint16_t)a->status;
	count_answer(c->server->slot, a->status);
	return 0;
}

/*
 * Answers the request. What a->body points to is copied or sent before this returns. Returns 0,
 * -EALREADY when it has been answered, -ECANCELED when the client is gone, -ENOMEM (the connection will be closed).
 */
int response_write(struct tine_request *rq, const struct http_answer *a)
{
	struct connection *c = rq->connection;
	size_t need = HEAD_MAX + a->type.len + a->fields.len + rq->extra_len;
	int r = response_begin(rq, a);
	bool body, copy;
	char *start, *p;

	if (r < 0)
		return r;
	body = a->body && a->length > 0 && !rq->bodyless;
	copy = body && a->length <= OUTPUT_INLINE_MAX;
	c->closing = !rq->keep_alive && a->status != 101;
	start = output_reserve(c, need + (copy ? a->length : 0));
	if (start) {
		p = put_head(start, rq, a);
		if (copy)
			p = put(p, a->body, a->length);
		output_commit(c, (size_t)(p - start));
		if (body && !copy)
			output_body(c, a->body, a->length);
	}
	rq->sent = rq->bodyless ? 0 : rq->left;
	if (a->pieces && start)
		rq->answer = ANSWER_PIECES;
	else
		request_finish(rq);
	return start ? 0 : -ENOMEM;
}

/*
 * Begins an answer whose body is to follow; the request is its connection's from here on. Returns as
 * response_write().
 */
int response_start(struct tine_request *rq, const struct http_answer *a)
{
	size_t need = HEAD_MAX + a->type.len + a->fields.len + rq->extra_len;
	char *start;
	int r;

	if (rq->answer == ANSWER_NONE && rq->connection) {
		r = request_defer(rq);
		if (r < 0)
			return r;
	}
	r = response_begin(rq, a);
	if (r < 0)
		return r;
	rq->answer = ANSWER_STARTED;
	start = output_reserve(rq->connection, need);
	if (!start)
		return -ENOMEM;
	output_commit(rq->connection, (size_t)(put_head(start, rq, a) - start));
	rq->extra_len = 0; /* trailer fields may come */
	return 0;
}

/* Its status and reason phrase, and how much would not have been too much. Returns the length. */
static size_t put_short_text(
	const struct tine_request *rq, unsigned status, char to[SHORT_TEXT_MAX])
{
	struct tine_text reason = response_reason(status);
	int n = snprintf(to, SHORT_TEXT_MAX, "%u %.*s", status, (int)reason.len, reason.data);

	if (status == 413 && rq->body.max > 0)
		n += snprintf(to + n, SHORT_TEXT_MAX - (size_t)n, ": at most %" PRIu64 " bytes",
			rq->body.max);
	to[n] = '\n';
	return (size_t)n + 1;
}

/* Answers with the status and the operator's page for it, or with a short text. */
int response_text(struct tine_request *rq, unsigned status)
{
	char body[SHORT_TEXT_MAX];
	size_t n = put_short_text(rq, status, body);
	struct tine_text page;

	page = error_pages_find(rq->server->pages, status);
	if (page.data)
		return response_write(rq,
			&(struct http_answer){.status = status,
				.type = TEXT("text/html; charset=utf-8"),
				.length = page.len,
				.body = page.data});
	return response_write(rq,
		&(struct http_answer){
			.status = status, .type = TEXT("text/plain"), .length = n, .body = body});
}

/* Sends the client to `path`, which is encoded here, with the query it came with. */
int response_redirect(struct tine_request *rq, struct tine_text path)
{
	struct tine_text query = rq->head.query;
	CLEANUP(freep) char *location = malloc(3 * path.len + query.len + 2);
	size_t n;
	int r;

	if (!location)
		return response_text(rq, 503);
	n = path_encode(path, location, 3 * path.len + 1);
	if (query.data) {
		location[n++] = '?';
		n = (size_t)(put(location + n, query.data, query.len) - location);
	}
	r = response_add_header(rq, TEXT("Location"), (struct tine_text){location, n});
	return response_text(rq, r < 0 ? 414 : 301);
}

static bool is_reserved(struct tine_text name)
{
	static const struct tine_text reserved[] = {TEXT("content-length"), TEXT("connection"),
		TEXT("date"), TEXT("transfer-encoding"), TEXT("trailer"), TEXT("upgrade"),
		TEXT("keep-alive")};

	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (http_text_is(name, reserved[i].data, reserved[i].len))
			return true;
	return false;
}

/* Makes room for n more bytes of header fields. Returns where they go, or NULL. */
static char *extra_reserve(struct tine_request *rq, size_t n)
{
	size_t cap = rq->extra_len + n;
	char *extra;

	if (cap > HTTP_EXTRA_MAX)
		return NULL;
	if (cap > rq->extra_cap) { /* it is kept, with as much as it needed so far */
		extra = realloc(rq->extra, cap);
		if (!extra)
			return NULL;
		rq->extra = extra;
		rq->extra_cap = cap;
	}
	return rq->extra + rq->extra_len;
}

/* See tine_respond_header(). */
int response_add_header(struct tine_request *rq, struct tine_text name, struct tine_text value)
{
	char *p;

	if (!http_is_token(name.data, name.len) || !http_is_value(value.data, value.len) ||
		is_reserved(name))
		return -EINVAL;
	p = extra_reserve(rq, name.len + value.len + 4);
	if (!p)
		return -ENOSPC;
	p = put(p, name.data, name.len);
	p = PUT(p, ": ");
	p = put(p, value.data, value.len);
	p = PUT(p, "\r\n");
	rq->extra_len = (size_t)(p - rq->extra);
	return 0;
}

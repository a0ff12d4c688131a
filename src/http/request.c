/*
 * One request: its head is parsed, its framing settled, its route found and its handler called.
 * Worker and admin.
 *
 * Always: a request that cannot be understood ends the connection after its answer, and a body is
 * taken off the connection in full before the next request is looked for, so nothing of it can pass
 * for one.
 */
#include "http/request.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "http/http.h"
#include "http/path.h"
#include "http/response.h"
#include "http/router.h"

static struct tine_request *request_begin(struct http_connection *c)
{
	struct tine_request *rq = &c->server->request;

	rq->connection = c;
	rq->route = NULL;
	rq->answered = false;
	rq->keep_alive = false;
	rq->extra_len = 0;
	return rq;
}

/* Answers what is not a request (any more) and closes. */
void request_refuse(struct http_connection *c, unsigned status)
{
	struct tine_request *rq = request_begin(c);

	rq->head.method = METHOD_UNKNOWN;
	response_text(rq, status);
	c->closing = true;
}

/* What the crash record will show if the handler does not return. */
static void note_request_line(struct sb_slot *slot, struct tine_text line)
{
	size_t n = line.len < SB_REQUEST_LINE ? line.len : SB_REQUEST_LINE;

	memcpy(slot->request_line, line.data, n);
	if (n < SB_REQUEST_LINE)
		slot->request_line[n] = '\0';
}

/* True when nothing that matters has come after this request. */
static bool is_last(const char *rest, size_t len, uint64_t body)
{
	return len <= body || (len - body == 2 && memcmp(rest + body, "\r\n", 2) == 0);
}

static bool stays_open(const struct http_connection *c, const struct http_head *h, bool last)
{
	if (h->close || (h->minor == 0 && !h->keep_alive))
		return false;
	/* After a final answer the client may or may not send the body it asked leave for. */
	if (h->expect && h->minor > 0 && h->content_length > 0)
		return false;
	return !(last && c->server->draining);
}

static int answer_405(struct tine_request *rq, unsigned methods)
{
	static const struct {
		unsigned method;
		const char *name;
	} names[] = {{METHOD_GET, "GET"}, {METHOD_HEAD, "HEAD"}, {METHOD_POST, "POST"},
		{METHOD_PUT, "PUT"}, {METHOD_DELETE, "DELETE"}, {METHOD_OPTIONS, "OPTIONS"},
		{METHOD_PATCH, "PATCH"}};
	char value[64] = "";
	size_t n = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!(methods & names[i].method))
			continue;
		if (n > 0)
			n = (size_t)(stpcpy(value + n, ", ") - value);
		n = (size_t)(stpcpy(value + n, names[i].name) - value);
	}
	response_add_header(rq, (struct tine_text){"Allow", 5}, (struct tine_text){value, n});
	return response_text(
		rq, rq->head.path.len == 1 && rq->head.path.data[0] == '*' ? 200 : 405);
}

static void call_handler(struct tine_request *rq)
{
	const struct http_route *route = rq->route;

	note_request_line(rq->connection->server->slot, rq->head.line);
	route->fn(rq, route->arg);
	if (rq->answered)
		return;
	log_error("http: the handler of %s gave no answer to \"%.*s\", answering 500", route->path,
		(int)rq->head.line.len, rq->head.line.data);
	rq->extra_len = 0;
	response_text(rq, 500);
}

static int request_route(struct tine_request *rq)
{
	struct http_connection *c = rq->connection;
	struct http_match match;
	int r;

	if (path_is_plain(rq->head.path)) {
		rq->path = rq->head.path;
	} else {
		r = path_normalise(rq->head.path, c->server->path, &rq->path);
		if (r != 0)
			return r;
	}
	r = http_router_find(c->router, rq->path, rq->head.method, &match);
	if (r == -ENOENT)
		return 404;
	if (r == ROUTER_OTHER_METHOD) {
		answer_405(rq, match.methods);
		return 0;
	}
	rq->route = match.route;
	call_handler(rq);
	return 0;
}

/* Returns 0 when the request has been answered, else the status to answer with. */
static int request_answer(struct tine_request *rq)
{
	const struct http_head *h = &rq->head;

	if (h->minor > 0 && h->expect_unknown)
		return 417;
	if (h->method == METHOD_CONNECT)
		rq->keep_alive =
			false; /* a client that takes any answer for leave sends no HTTP now */
	if (h->method == METHOD_CONNECT || h->path.data[0] == '*') {
		answer_405(rq, METHOD_GET | METHOD_HEAD);
		return 0;
	}
	return request_route(rq);
}

/*
 * Serves the request at the start of data. Returns 0 and how many bytes its head took (its body, if
 * it has one, is left to be discarded: c->body_left), or PARSER_MORE. After a refusal the
 * connection is closing.
 */
int request_serve(struct http_connection *c, const char *data, size_t len, size_t *ret_used)
{
	struct http_server *s = c->server;
	struct tine_request *rq = &s->request;
	int r = http_parse_head(data, len, &s->limits, rq->fields, &rq->head);

	if (r == PARSER_MORE)
		return r;
	request_begin(c);
	s->n_requests++;
	if (r == 0 && rq->head.chunked)
		r = 501;
	if (r == 0 && rq->head.content_length > s->max_body)
		r = 413;
	if (r == 0) {
		size_t used = rq->head.size;

		*ret_used = used;
		c->body_left = rq->head.content_length;
		rq->keep_alive =
			stays_open(c, &rq->head, is_last(data + used, len - used, c->body_left));
		r = request_answer(rq);
		if (r == 400 || r == 417)
			rq->keep_alive = false;
	} else {
		*ret_used = len;
	}
	if (r != 0 && !rq->answered)
		response_text(rq, (unsigned)r);
	return 0;
}

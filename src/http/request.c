/*
 * One request: its head is parsed, its framing settled, its middleware and its handler called, its
 * answer completed. Worker and admin.
 *
 * Always: a request that cannot be understood ends the connection after its answer, and a body is
 * taken off the connection in full before the next request is looked for, so nothing of it can pass
 * for one. A request that a module has promised to answer lives until it does, whatever becomes of the client.
 */
#include "http/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/turn.h"
#include "http/body.h"
#include "http/forwarded.h"
#include "http/http.h"
#include "http/path.h"
#include "http/response.h"
#include "http/router.h"
#include "http/streamed.h"
#include "net/connection.h"
#include "net/output.h"
#include "shared/access_log.h"
#include "shared/config.h"

#define STATUS_GONE 499         /* in the access log: the client did not wait for its answer */
#define DISCARD_MAX (64u << 10) /* more of a body nobody wants is not waited for */

/* The server's own request, ready for use; NULL when there is no memory. */
static struct tine_request *request_begin(struct http_server *s, struct connection *c)
{
	struct tine_request *rq = s->request;

	if (!rq) {
		rq = s->request = malloc(sizeof(*rq));
		if (!rq)
			return NULL;
	}
	memset(rq, 0, offsetof(struct tine_request, head));
	memset(&rq->path, 0,
		offsetof(struct tine_request, match) - offsetof(struct tine_request, path));
	rq->match.route = NULL;
	memset(&rq->middleware, 0, sizeof(*rq) - offsetof(struct tine_request, middleware));
	rq->server = s;
	rq->connection = c;
	rq->extra = s->extra;
	rq->extra_cap = HTTP_EXTRA_MAX;
	return rq;
}

/* --- the access log --- */

/* From here on the request has a line in the access log, whatever becomes of it. */
static void request_begin_log(struct tine_request *rq)
{
	struct access_log *log = rq->server->access;

	if (!log)
		return;
	rq->is_logged = true;
	request_client(rq);
	rq->ticket = access_log_begin(log, &rq->peer, rq->head.line, rq->begun_us);
}

static struct tine_text field(const struct tine_request *rq, const char *name)
{
	return http_head_field(&rq->head, name, strlen(name));
}

/* It is over. Bytes that are queued, but have not been sent when the connection ends, are not counted. */
void request_log(struct tine_request *rq)
{
	struct access_log *log = rq->server->access;
	struct access_record r = {.client = &rq->peer,
		.line = rq->head.line,
		.host = rq->head.host,
		.status = rq->status,
		.body_bytes = rq->sent};

	if (!rq->is_logged)
		return;
	rq->is_logged = false;
	r.referer = field(rq, "referer");
	r.user_agent = field(rq, "user-agent");
	r.duration_us = now_us() - rq->begun_us;
	clock_gettime(CLOCK_REALTIME_COARSE, &r.time);
	access_log_write(log, &r);
	access_log_end(log, rq->ticket); /* not before: a crash between the two must not lose it */
}

static uint64_t pieces_left(const struct connection *c)
{
	uint64_t left = 0;

	for (const struct sending *p = c->sends; p; p = p->next)
		left += p->left;
	return left;
}

/*
 * The answer's last byte is queued, or its last piece. Those of a burst are measured together when it has been sent. Left out:
 * streams of events, which end when their client likes, and what is said to those who have not made a request.
 */
static void request_measure(const struct tine_request *rq)
{
	struct net_server *net = rq->server->net;

	if (!rq->connection || rq->begun_us == 0 || rq->is_sse)
		return;
	if (rq->kept)
		histogram_add(&net->slot->latency, now_us() - rq->begun_us, 1);
	else
		net->n_answered++;
}

/* --- requests that outlive their burst --- */

static char *rebase(const struct tine_request *rq, const char *to, const char *p)
{
	return (char *)(uintptr_t)to + (p - rq->base);
}

static bool is_last(const struct tine_request *rq);

/* Copies everything the request points to. Returns 0 or -ENOMEM. */
static int request_own(struct tine_request *rq)
{
	size_t n_fields = rq->head.n_fields * sizeof(struct http_field);
	bool in_head = rq->path.data >= rq->base && rq->path.data < rq->base + rq->head.size;
	size_t path_len = in_head ? 0 : rq->path.len;
	char *own = malloc(n_fields + rq->head.size + path_len + rq->extra_len + 1);
	char *bytes = own + n_fields, *path = bytes + rq->head.size;

	if (!own)
		return -ENOMEM;
	memcpy(bytes, rq->base, rq->head.size);
	if (in_head)
		path = rebase(rq, bytes, rq->path.data);
	else if (path_len > 0)
		memcpy(path, rq->path.data, path_len);
	for (unsigned i = 0; rq->match.route && i < rq->match.n_params; i++)
		rq->match.params[i].data = path + (rq->match.params[i].data - rq->path.data);
	if (rq->path.data)
		rq->path.data = path;
	http_head_move(&rq->head, rq->base, bytes, (struct http_field *)(void *)own);
	rq->base = bytes;
	rq->own = own;
	return 0;
}

/*
 * Makes the request its connection's, to go on with in later turns. Returns 0 or -ENOMEM.
 */
int request_keep(struct tine_request *rq)
{
	struct http_server *s = rq->server;
	char *extra = NULL;

	if (rq->kept)
		return 0;
	if (body_own(rq) < 0)
		return -ENOMEM;
	if (rq->extra_len > 0) {
		extra = malloc(rq->extra_len);
		if (!extra)
			return -ENOMEM;
		memcpy(extra, rq->extra, rq->extra_len);
	}
	if (request_own(rq) < 0) {
		free(extra);
		return -ENOMEM;
	}
	rq->extra = extra;
	rq->extra_cap = rq->extra_len;
	rq->is_followed = !is_last(rq);
	rq->kept = true;
	rq->ahead = (struct tine_text){NULL, 0};
	s->request = NULL;
	rq->connection->state = rq;
	LIST_INSERT_HEAD(&s->kept, rq, link);
	return 0;
}

void request_free(struct tine_request *rq)
{
	LIST_REMOVE(rq, link);
	body_clear(rq);
	free(rq->extra);
	free(rq->own);
	free(rq);
}

/* It may still be on somebody's stack: it is freed at the end of the turn. */
static void request_bury(struct tine_request *rq)
{
	LIST_REMOVE(rq, link);
	LIST_INSERT_HEAD(&rq->server->dead, rq, link);
}

/* Lets go of the connection, which may go on with what comes next. */
static void request_release(struct tine_request *rq)
{
	struct connection *c = rq->connection;

	if (c) {
		c->state = NULL;
		c->paused = false;
		connection_touch(c);
	}
	rq->connection = NULL;
	request_bury(rq);
}

/* The answer is complete. What is still to come of the body is dropped before the connection goes on. */
void request_finish(struct tine_request *rq)
{
	struct connection *c = rq->connection;

	if (rq->answer != ANSWER_PIECES)
		request_measure(rq);
	rq->answer = ANSWER_DONE;
	if (rq->is_logged)
		request_log(rq);
	if (!rq->kept)
		return;
	if (c && !rq->body.complete && !c->closing && !c->broken)
		body_drop_rest(rq);
	else
		request_release(rq);
}

/*
 * The whole body has been given to output_piece(). The access log waits until it has been sent, or is known not to be.
 */
void request_end_pieces(struct tine_request *rq)
{
	struct connection *c = rq->connection;

	request_measure(rq);
	if (rq->is_logged && c && c->sends && request_keep(rq) == 0)
		rq->answer = ANSWER_PIECES;
	else
		request_finish(rq);
}

/* The client is gone, or has been told something else: only the module still has to do with the request. */
void request_orphan(struct tine_request *rq)
{
	tine_http_fn on_gone = rq->on_gone;
	uint64_t unsent = pieces_left(rq->connection);

	rq->sent -= unsent < rq->sent ? unsent : rq->sent;
	if (rq->answer == ANSWER_NONE && rq->status == 0)
		rq->status = STATUS_GONE;
	request_log(rq);
	rq->connection->state = NULL;
	rq->connection->paused = false;
	rq->connection = NULL;
	if (rq->answer >= ANSWER_PIECES || !rq->deferred)
		return request_bury(rq);
	rq->on_gone = NULL;
	if (!rq->body.complete && rq->body.mode == BODY_STREAM)
		body_fail(rq);
	if (on_gone && rq->answer != ANSWER_DONE)
		on_gone(rq, rq->gone_arg);
}

static void refuse(struct connection *c, unsigned status, bool is_head)
{
	struct tine_request *rq = request_begin(http_server_of(c), c);

	c->closing = true;
	if (!rq)
		return;
	memset(&rq->head, 0, sizeof(rq->head));
	if (is_head)
		rq->head.method = METHOD_HEAD;
	response_text(rq, status);
}

/* Answers what is not a request (any more) and closes. */
void request_refuse(struct connection *c, unsigned status)
{
	refuse(c, status, false);
}

/* Answers a kept request in place of its module, and closes. */
void request_abandon(struct tine_request *rq, unsigned status)
{
	struct connection *c = rq->connection;
	enum answer_state answer = rq->answer;
	bool is_head = rq->head.method == METHOD_HEAD;

	if (answer == ANSWER_NONE) {
		rq->status = (uint16_t)status;
		request_measure(rq);
	}
	if (answer == ANSWER_STARTED)
		streamed_break(rq);
	request_orphan(rq);
	if (answer == ANSWER_NONE)
		refuse(c, status, is_head);
	else if (answer == ANSWER_STARTED)
		connection_close(c);
	else
		c->closing = true; /* it was all about the rest of its body */
}

/* The module will answer later. Returns 0 or -ENOMEM. */
int request_defer(struct tine_request *rq)
{
	int r = request_keep(rq);

	if (r == 0)
		rq->deferred = true;
	return r;
}

/* --- answers of our own --- */

/* Answers with the status, and closes where the request is not to be trusted any further, or its body not wanted. */
static void answer_error(struct tine_request *rq, unsigned status)
{
	if (status == 400 || status == 411 || status == 413 || status == 417)
		rq->connection->closing = true;
	response_text(rq, status);
}

static int answer_methods(struct tine_request *rq, unsigned status, unsigned methods)
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
	if (status == 204)
		return response_write(rq, &(struct http_answer){.status = 204});
	return response_text(rq, status);
}

static int answer_other_method(struct tine_request *rq)
{
	unsigned methods = rq->match.methods | METHOD_OPTIONS;

	return answer_methods(rq, rq->head.method == METHOD_OPTIONS ? 204 : 405, methods);
}

/* --- from head to handler --- */

/* What the crash record will show if the handler does not return. */
static void note_request_line(char *to, struct tine_text line)
{
	size_t n = line.len < SB_REQUEST_LINE ? line.len : SB_REQUEST_LINE;

	memcpy(to, line.data, n);
	if (n < SB_REQUEST_LINE)
		to[n] = '\0';
}

/* All of the body is there, or it wants to read it itself: the module's turn. */
void request_call_handler(struct tine_request *rq)
{
	const struct http_route *route = rq->match.route;

	route->fn(rq, route->arg);
	if (rq->answer != ANSWER_NONE || rq->deferred)
		return;
	log_error("http: the handler of %s gave no answer to \"%.*s\", answering 500", route->path,
		(int)rq->head.line.len, rq->head.line.data);
	rq->extra_len = 0;
	response_text(rq, 500);
}

/* Returns 0 when the request is taken care of, else the status to answer with. */
static unsigned request_route(struct tine_request *rq)
{
	const struct http_router *router = rq->connection->service;
	const struct http_route *route;
	int r = http_router_find(router, rq->path, rq->head.method, &rq->match);

	if (r == -ENOENT)
		return 404;
	if (r == ROUTER_OTHER_METHOD) {
		answer_other_method(rq);
		return 0;
	}
	if (rq->body.complete) {
		request_call_handler(rq);
		return 0;
	}
	route = rq->match.route;
	rq->body.max = route->max_body ? route->max_body : rq->server->conf->max_body;
	if (!rq->body.is_chunked && rq->body.left > rq->body.max)
		return 413;
	if (rq->body.is_chunked && (route->flags & HTTP_ROUTE_LENGTH_REQUIRED))
		return 411;
	body_decide(rq);
	return 0;
}

/* Goes through the middleware that is left, then to the handler. */
void request_go_on(struct tine_request *rq)
{
	unsigned status;

	for (;;) {
		const struct http_middleware *m;

		if (!rq->connection)
			return;
		m = rq->middleware =
			http_router_middleware(rq->connection->service, rq->path, rq->middleware);
		if (!m)
			break;
		if (m->fn(rq, m->arg) == TINE_NEXT && rq->answer == ANSWER_NONE)
			continue;
		/* One that called tine_next() before it returned has passed it on: it is another's now. */
		if (rq->middleware == m && rq->answer == ANSWER_NONE && !rq->deferred) {
			log_error("http: the middleware of \"%s\" gave no answer, answering 500",
				m->prefix);
			response_text(rq, 500);
		}
		return;
	}
	status = request_route(rq);
	if (status != 0)
		answer_error(rq, status);
}

/* See tine_next(). */
void request_resume(struct tine_request *rq)
{
	if (rq->answer != ANSWER_NONE || !rq->middleware)
		return;
	if (!rq->connection)
		return request_finish(rq);
	rq->deferred = false;
	request_go_on(rq);
}

/* Returns 0 when the request is taken care of, else the status to answer with. */
static unsigned request_answer(struct tine_request *rq)
{
	const struct http_head *h = &rq->head;
	int r;

	if (h->minor > 0 && h->expect_unknown)
		return 417;
	if (h->method == METHOD_CONNECT || h->path.data[0] == '*') {
		/* a client that takes any answer to CONNECT for leave sends no HTTP now */
		rq->connection->closing = h->method == METHOD_CONNECT;
		answer_methods(rq, h->method == METHOD_CONNECT ? 405 : 200,
			METHOD_GET | METHOD_HEAD | METHOD_OPTIONS);
		return 0;
	}
	if (path_is_plain(h->path)) {
		rq->path = h->path;
	} else {
		r = path_normalise(h->path, rq->server->path, &rq->path);
		if (r != 0)
			return (unsigned)r;
	}
	note_request_line(rq->connection->server->request_line, h->line);
	request_go_on(rq);
	return 0;
}

/* --- who asks --- */

static bool is_behind_proxy(const struct tine_request *rq)
{
	const struct netmask_list *trusted = &rq->server->conf->trusted_proxies;

	return trusted->n > 0 && rq->connection && netmask_list_has(trusted, &rq->connection->peer);
}

/* See tine_request_client(). */
struct tine_text request_client(struct tine_request *rq)
{
	const struct conf_http *conf = rq->server->conf;

	if (rq->client_len == 0 && rq->connection) {
		rq->peer = rq->connection->peer;
		if (is_behind_proxy(rq))
			forwarded_client(
				&rq->head, conf->client_header, &conf->trusted_proxies, &rq->peer);
		rq->client_len = (uint8_t)peer_text(&rq->peer, rq->client);
	}
	return (struct tine_text){rq->client, rq->client_len};
}

/* See tine_request_scheme(). */
struct tine_text request_scheme(const struct tine_request *rq)
{
	if (is_behind_proxy(rq) && forwarded_is_https(&rq->head, rq->server->conf->client_header))
		return (struct tine_text){"https", 5};
	return (struct tine_text){"http", 4};
}

/* --- connections that stay open --- */

/* True when nothing that matters has come after this request. */
static bool is_last(const struct tine_request *rq)
{
	const struct stash *input = rq->connection->input;
	struct tine_text rest = rq->ahead;

	if (rq->kept)
		return !rq->is_followed && (!input || input->len == input->off);
	if (!rq->body.is_chunked && !rq->body.complete) {
		if (rest.len <= rq->body.left)
			return true;
		rest.data += rq->body.left;
		rest.len -= rq->body.left;
	}
	return rest.len == 0 || (rest.len == 2 && memcmp(rest.data, "\r\n", 2) == 0);
}

/* Whether the connection stays open after the answer that is about to be written. */
bool request_keeps_alive(const struct tine_request *rq)
{
	const struct connection *c = rq->connection;
	const struct net_server *net = c->server;
	const struct http_head *h = &rq->head;
	uint64_t max = rq->server->conf->max_keepalive;

	if (c->closing || h->close || (h->minor == 0 && !h->keep_alive))
		return false;
	/* After a final answer the client may or may not send the body it asked leave for. */
	if (!rq->body.complete && (rq->body.asked || rq->body.left > DISCARD_MAX))
		return false;
	if ((max > 0 && c->n_served >= max) || (c->half && !c->input))
		return false;
	return !net->draining || (net->now_ms < net->drained_ms && !is_last(rq));
}

/* --- the way in --- */

/* What is to be done about a request that is over, or has been left to others. */
static void request_settle(struct tine_request *rq)
{
	struct connection *c = rq->connection;

	if (rq->kept || !c || c->life == CONNECTION_CLOSED || c->closing)
		return;
	if (rq->body.complete)
		return;
	if (!rq->body.is_chunked && rq->body.left <= rq->ahead.len) {
		rq->ahead_used = rq->body.left;
		return;
	}
	if (request_keep(rq) < 0)
		c->closing = true;
	else
		body_drop_rest(rq);
}

/*
 * Serves the request at the start of data. Returns 0 and how many bytes were used (what is left of its body, if
 * it has one, is c->state's), or PARSER_MORE. After a refusal the connection is closing.
 */
int request_serve(struct connection *c, const char *data, size_t len, size_t *ret_used)
{
	struct http_server *s = http_server_of(c);
	struct tine_request *rq = request_begin(s, c);
	unsigned status;
	int r;

	*ret_used = len;
	if (!rq) {
		c->closing = true;
		return 0;
	}
	r = http_parse_head(data, len, &s->limits, s->fields, &rq->head);
	if (r == PARSER_MORE)
		return r;
	s->n_requests++;
	rq->begun_us = turn_mark();
	c->n_served++;
	c->phase = 0;
	request_begin_log(rq);
	if (r != 0) {
		c->closing = true;
		response_text(rq, (unsigned)r);
		return 0;
	}
	rq->base = data;
	rq->ahead = (struct tine_text){data + rq->head.size, len - rq->head.size};
	*ret_used = rq->head.size;
	body_begin(rq);
	status = request_answer(rq);
	if (status != 0)
		answer_error(rq, status);
	request_settle(rq);
	*ret_used += rq->ahead_used;
	return 0;
}

/*
 * Answers 101 with `fields` (lines with their CRLF) and hands the connection to another protocol. Returns 0, -EALREADY,
 * -ECANCELED, -ENOMEM.
 */
int request_upgrade(
	struct tine_request *rq, struct tine_text fields, const struct protocol *p, void *state)
{
	struct connection *c = rq->connection;
	int r;

	if (rq->answer != ANSWER_NONE)
		return -EALREADY;
	if (!c)
		return -ECANCELED;
	r = response_write(rq, &(struct http_answer){.status = 101, .fields = fields});
	if (r < 0)
		return r;
	connection_limit_unsent(c);
	connection_set_protocol(c, p, state);
	return 0;
}

/*
 * Requests that outlive their burst: deferred, streamed, with bodies, behind middleware; what their modules may
 * do in every callback, and what is left of them. tine/http.h over socket pairs.
 */
#include "http_harness.h"

#include <tine/http.h>

#include "http/request.h"
#include "run.h"

#define HOST  "Host: a\r\n"
#define NEXT  "GET /next HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"
#define PIECE 4096

static struct tine_request *held; /* by a handler, to be answered by the test */
static unsigned n_gone, n_room, n_next;
static char events[64]; /* a letter for each call of on_body */
static char taken[256]; /* the bytes it was given */

/* What a test wants the module to do. */
static void (*handler)(struct tine_request *rq);
static int (*middleware)(struct tine_request *rq);
static void (*body_hook)(struct tine_request *rq, enum tine_body_event event);
static void (*gone_hook)(struct tine_request *rq);
static void (*room_hook)(struct tine_request *rq);

static void on_gone(struct tine_request *rq, void *arg)
{
	n_gone++;
	if (gone_hook)
		gone_hook(rq);
}

static void on_room(struct tine_request *rq, void *arg)
{
	n_room++;
	if (room_hook)
		room_hook(rq);
}

static void on_body(struct tine_request *rq, enum tine_body_event event, const void *data,
	size_t len, void *arg)
{
	size_t n = strlen(events);

	ck_assert_uint_lt(n + 1, sizeof(events));
	ck_assert_msg(!strpbrk(events, "EF"), "called after its last call: %s", events);
	events[n] = "DEF"[event];
	if (len > 0)
		strncat(taken, data, len);
	if (body_hook)
		body_hook(rq, event);
}

static void on_request(struct tine_request *rq, void *arg)
{
	handler(rq);
}

static int on_middleware(struct tine_request *rq, void *arg)
{
	return middleware ? middleware(rq) : TINE_NEXT;
}

static void next(struct tine_request *rq, void *arg)
{
	n_next++;
	ck_assert_int_eq(tine_respond(rq, 200, NULL, "next", 4), 0);
}

static void add(const char *path, unsigned flags, tine_http_fn fn)
{
	struct http_route_spec spec = {.mount = "/",
		.path = path,
		.methods = TINE_GET | TINE_POST,
		.flags = flags,
		.fn = fn};

	ck_assert_int_eq(http_router_add(router, &spec), 0);
}

static void forget(void)
{
	held = NULL;
	n_gone = n_room = n_next = 0;
	memset(events, 0, sizeof(events));
	memset(taken, 0, sizeof(taken));
	handler = NULL;
	middleware = NULL;
	body_hook = NULL;
	gone_hook = room_hook = NULL;
}

static void setup(void)
{
	harness_start();
	add("/whole", 0, on_request);
	add("/stream", TINE_ROUTE_STREAM_BODY, on_request);
	add("/next", 0, next);
	ck_assert_int_eq(http_router_use(router, "/", "/whole", on_middleware, NULL), 0);
	ck_assert_int_eq(http_router_use(router, "/", "/stream", on_middleware, NULL), 0);
	forget();
}

/* Nothing that was begun is left. */
static void assert_nothing_kept(void)
{
	turn();
	ck_assert_msg(LIST_EMPTY(&server->kept), "a request is kept");
	ck_assert_msg(LIST_EMPTY(&server->dead), "a request is not freed");
}

static int begin(const char *request)
{
	int fd = client_new();

	client_send(fd, request, strlen(request));
	settle(fd);
	return fd;
}

static void end(int fd)
{
	close(fd);
	for (int i = 0; i < 4; i++)
		turn();
	ck_assert_uint_eq(net_server_connections(net), 0);
	assert_nothing_kept();
}

static bool reply_ends(const char *what)
{
	size_t n = strlen(what);

	return reply_len >= n && memcmp(reply + reply_len - n, what, n) == 0;
}

static void hold(struct tine_request *rq)
{
	ck_assert_int_eq(tine_defer(rq), 0);
	tine_on_gone(rq, on_gone, NULL);
	held = rq;
}

/* --- deferred --- */

START_TEST(a_deferred_request_keeps_everything)
{
	struct tine_text name, value;
	int fd;

	handler = hold;
	fd = begin("POST /wh%6Fle?q=1 HTTP/1.1\r\n" HOST
		   "X-A: b\r\nContent-Length: 4\r\n\r\nbody" NEXT);
	ck_assert_uint_eq(reply_len, 0);
	memset(net->in, 'x', net->in_size);
	ck_assert_int_eq(memcmp(tine_request_path(held).data, "/whole", 6), 0);
	ck_assert_int_eq(memcmp(tine_request_query(held).data, "q=1", 3), 0);
	ck_assert_int_eq(tine_request_field(held, 1, &name, &value), 0);
	ck_assert_int_eq(memcmp(value.data, "b", 1), 0);
	ck_assert_uint_eq(tine_request_body(held).len, 4);
	ck_assert_int_eq(memcmp(tine_request_body(held).data, "body", 4), 0);
	ck_assert_int_eq(tine_respond_header(held, "X-Late", "1"), 0);
	ck_assert_int_eq(tine_respond(held, 200, NULL, "held", 4), 0);
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 200"), 2);
	ck_assert_uint_eq(count("X-Late: 1"), 1);
	ck_assert(reply_ends("next") && reply_eof);
	end(fd);
}
END_TEST

/* The body in one packet with the head, in the next, in chunks: the module sees no difference. */
static const char *const bodies[][3] = {
	{"Content-Length: 4\r\n\r\nbody", ""},
	{"Content-Length: 4\r\n\r\n", "body"},
	{"Content-Length: 4\r\n\r\nbo", "dy"},
	{"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", ""},
	{"Transfer-Encoding: chunked\r\n\r\n1\r\nb\r\n3\r", "\nody\r\n0\r\n", "\r\n"},
	{"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-T: 1\r\n\r\n", ""},
};
#define N_BODIES ((int)(sizeof(bodies) / sizeof(bodies[0])))

static int begin_body(const char *path, int i)
{
	char head[256];
	int fd;

	snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\n" HOST "%s", path, bodies[i][0]);
	fd = begin(head);
	for (int k = 1; k < 3 && bodies[i][k]; k++) {
		client_send(fd, bodies[i][k], strlen(bodies[i][k]));
		settle(fd);
	}
	return fd;
}

START_TEST(a_body_outlives_the_handler)
{
	int fd;

	handler = hold;
	fd = begin_body("/whole", _i);
	ck_assert_ptr_nonnull(held);
	ck_assert_uint_eq(tine_request_body(held).len, 4);
	ck_assert_int_eq(memcmp(tine_request_body(held).data, "body", 4), 0);
	tine_respond_status(held, 200);
	client_send(fd, NEXT, strlen(NEXT));
	settle(fd);
	ck_assert(reply_ends("next"));
	end(fd);
}
END_TEST

static void answer_with_body_later(struct tine_request *rq)
{
	struct tine_text body;

	ck_assert_int_eq(tine_respond_start(rq, 200, NULL, -1), 0);
	body = tine_request_body(rq);
	ck_assert_int_eq(tine_respond_write(rq, body.data, body.len), 0);
	ck_assert_int_eq(tine_respond_end(rq), 0);
}

START_TEST(a_body_outlives_the_beginning_of_its_answer)
{
	int fd;

	handler = answer_with_body_later;
	fd = begin_body("/whole", _i);
	ck_assert_uint_eq(count("4\r\nbody\r\n0\r\n\r\n"), 1);
	end(fd);
}
END_TEST

/* The timer of the module and that of the server fire in one turn. */
START_TEST(an_answer_and_its_timeout_come_at_once)
{
	int fd;

	handler = hold;
	fd = begin("GET /whole HTTP/1.1\r\n" HOST "\r\n");
	skew_ms += 61000;
	net->now_ms = now_coarse_ms() + skew_ms;
	if (_i == 0)
		wheel_advance(&net->wheel, net->now_ms, connection_expired, net);
	ck_assert_int_eq(tine_respond(held, 200, NULL, "just", 4), 0);
	if (_i == 1)
		wheel_advance(&net->wheel, net->now_ms, connection_expired, net);
	settle(fd);
	ck_assert(reply_ends("just"));
	ck_assert_uint_eq(n_gone, 0);
	end(fd);
}
END_TEST

/* The same for a request whose body was still to come: it is answered, and too slow, in one turn. */
static void read_body(struct tine_request *rq)
{
	held = rq;
	tine_on_gone(rq, on_gone, NULL);
	ck_assert_int_eq(tine_request_read(rq, on_body, NULL), 0);
}

START_TEST(an_answer_and_the_timeout_of_the_body_come_at_once)
{
	int fd;

	handler = read_body;
	fd = begin("POST /stream HTTP/1.1\r\n" HOST "Content-Length: 90000\r\n\r\nx");
	skew_ms += 31000;
	net->now_ms = now_coarse_ms() + skew_ms;
	wheel_advance(&net->wheel, net->now_ms, connection_expired, net);
	wheel_advance(&net->wheel, net->now_ms + 31000, connection_expired, net);
	ck_assert_int_eq(tine_respond(held, 200, NULL, "just", 4), 0);
	settle(fd);
	ck_assert_int_eq(reply_status(), 200);
	end(fd);
}
END_TEST

/* An answer that is too late is told of the client's end, and gives the request back. */
static void answer_gone(struct tine_request *rq)
{
	ck_assert_int_eq(tine_respond(rq, 200, NULL, "x", 1), -ECANCELED);
}

static void answer_status_gone(struct tine_request *rq)
{
	ck_assert_int_eq(tine_respond_status(rq, 404), -ECANCELED);
}

static void start_gone(struct tine_request *rq)
{
	ck_assert_int_eq(tine_respond_start(rq, 200, NULL, -1), -ECANCELED);
}

static void end_gone(struct tine_request *rq)
{
	tine_respond_end(rq);
}

static void (*const last_words[])(struct tine_request *rq) = {
	answer_gone, answer_status_gone, start_gone, end_gone, tine_respond_abort, tine_next};
#define N_LAST_WORDS ((int)(sizeof(last_words) / sizeof(last_words[0])))

static int hold_back(struct tine_request *rq)
{
	hold(rq);
	return TINE_TAKEN;
}

/* _i: which of them; later, or in on_gone. */
START_TEST(a_client_leaves_and_is_answered)
{
	bool at_once = _i >= N_LAST_WORDS;
	void (*fn)(struct tine_request * rq) = last_words[_i % N_LAST_WORDS];

	middleware = hold_back;
	gone_hook = at_once ? fn : NULL;
	close(begin("GET /whole HTTP/1.1\r\n" HOST "\r\n"));
	turn();
	ck_assert_uint_eq(n_gone, 1);
	ck_assert_uint_eq(net_server_connections(net), 0);
	if (!at_once) {
		ck_assert(!LIST_EMPTY(&server->kept));
		fn(held);
	}
	assert_nothing_kept();
}
END_TEST

START_TEST(a_timeout_answers_in_place_of_the_module)
{
	int fd;

	handler = hold;
	fd = begin(_i == 0 ? "GET /whole HTTP/1.1\r\n" HOST "\r\n"
			   : "HEAD /whole HTTP/1.1\r\n" HOST "\r\n");
	pass_time(61000);
	settle(fd);
	ck_assert_int_eq(reply_status(), 503);
	ck_assert(reply_eof && (_i == 0 || reply_ends("\r\n\r\n")));
	ck_assert_uint_eq(n_gone, 1);
	answer_gone(held);
	end(fd);
}
END_TEST

/* --- middleware --- */

/* It knows at once, but goes the way it would go if it did not. */
static int defer_and_go_on(struct tine_request *rq)
{
	ck_assert_int_eq(tine_defer(rq), 0);
	tine_next(rq);
	return TINE_TAKEN;
}

static int go_on_at_once(struct tine_request *rq)
{
	tine_next(rq);
	return TINE_TAKEN;
}

static void echo(struct tine_request *rq)
{
	struct tine_text body = tine_request_body(rq);

	ck_assert_int_eq(tine_respond(rq, 200, NULL, body.data, body.len), 0);
}

static void test_next(int (*fn)(struct tine_request *rq), int i)
{
	int fd;

	handler = echo;
	middleware = fn;
	fd = begin_body("/whole", i);
	if (held)
		tine_next(held);
	settle(fd);
	ck_assert_int_eq(reply_status(), 200);
	ck_assert(reply_ends("body"));
	client_send(fd, NEXT, strlen(NEXT));
	settle(fd);
	ck_assert(reply_ends("next"));
	end(fd);
}

START_TEST(middleware_defers_and_goes_on_at_once)
{
	test_next(defer_and_go_on, _i);
}
END_TEST

START_TEST(middleware_goes_on_at_once)
{
	test_next(go_on_at_once, _i);
}
END_TEST

START_TEST(middleware_goes_on_later)
{
	test_next(hold_back, _i);
}
END_TEST

static int deny(struct tine_request *rq)
{
	tine_respond_status(rq, 403);
	return TINE_TAKEN;
}

/* What a guard refuses is read to its end, and no request. */
START_TEST(middleware_denies)
{
	int fd;

	middleware = deny;
	fd = begin_body("/whole", _i);
	ck_assert_int_eq(reply_status(), 403);
	client_send(fd, NEXT, strlen(NEXT));
	settle(fd);
	ck_assert(reply_ends("next"));
	ck_assert_uint_eq(n_next, 1);
	end(fd);
}
END_TEST

/* --- half-closed clients --- */

/* All of the request had come before its client closed its half: whoever decides later, it is answered. */
START_TEST(all_has_come_before_the_half_is_closed)
{
	int fd;

	handler = echo;
	middleware = hold_back;
	fd = begin_body("/whole", _i);
	shutdown(fd, SHUT_WR);
	settle(fd);
	ck_assert_msg(n_gone == 0 && !reply_eof, "closed");
	tine_next(held);
	settle(fd);
	ck_assert(reply_ends("body") && reply_eof);
	end(fd);
}
END_TEST

static void pause_at_data(struct tine_request *rq, enum tine_body_event event)
{
	if (event == TINE_BODY_DATA)
		tine_request_pause(rq, true);
	else if (event == TINE_BODY_END)
		tine_respond_status(rq, 200);
}

START_TEST(all_has_come_while_it_was_paused)
{
	int fd;

	handler = read_body;
	body_hook = pause_at_data;
	fd = begin("POST /stream HTTP/1.1\r\n" HOST
		   "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n");
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < 3; i++) {
		settle(fd);
		ck_assert_msg(!reply_eof, "%s", events);
		tine_request_pause(held, false);
	}
	settle(fd);
	ck_assert_str_eq(events, "DDDE");
	ck_assert_str_eq(taken, "abc");
	ck_assert_int_eq(reply_status(), 200);
	end(fd);
}
END_TEST

/* What has not come when the half is closed will not come. */
START_TEST(a_part_has_come_before_the_half_is_closed)
{
	int fd;

	handler = read_body;
	body_hook = _i == 0 ? NULL : pause_at_data;
	fd = begin("POST /stream HTTP/1.1\r\n" HOST
		   "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r");
	shutdown(fd, SHUT_WR);
	settle(fd);
	body_hook = NULL;
	if (_i == 1 && net_server_connections(net) > 0)
		tine_request_pause(held, false);
	settle(fd);
	ck_assert(reply_eof && events[strlen(events) - 1] == 'F');
	answer_gone(held);
	end(fd);
}
END_TEST

static void stream(struct tine_request *rq)
{
	tine_on_gone(rq, on_gone, NULL);
	tine_respond_on_room(rq, on_room, NULL);
	ck_assert_int_eq(tine_respond_start(rq, 200, NULL, -1), 0);
	ck_assert_int_eq(tine_respond_write(rq, "first", 5), 0);
	held = rq;
}

/* Who has closed its half may still read: nc -N does. One that is gone altogether is found out by the next bytes. */
START_TEST(a_stream_to_a_half_closed_client)
{
	int fd;

	handler = stream;
	fd = begin("GET /whole HTTP/1.1\r\n" HOST "\r\n");
	shutdown(fd, SHUT_WR);
	settle(fd);
	ck_assert(!reply_eof);
	ck_assert_uint_eq(n_gone, 0);
	ck_assert_int_eq(tine_respond_end(held), 0);
	settle(fd);
	ck_assert(reply_eof && reply_ends("5\r\nfirst\r\n0\r\n\r\n"));
	end(fd);
}
END_TEST

/* --- bodies: what a module may do in each call --- */

static void do_nothing(struct tine_request *rq)
{
}

static void do_answer(struct tine_request *rq)
{
	tine_respond(rq, 200, NULL, "done", 4);
}

static void do_stream(struct tine_request *rq)
{
	if (tine_respond_start(rq, 200, NULL, 4) < 0)
		return;
	tine_respond_write(rq, "done", 4);
	tine_respond_end(rq);
}

static void do_cut_short(struct tine_request *rq)
{
	if (tine_respond_start(rq, 200, NULL, 4) == 0)
		tine_respond_end(rq);
}

static void (*const deeds[])(struct tine_request *rq) = {
	do_answer, do_stream, do_cut_short, tine_respond_abort};
#define N_DEEDS ((int)(sizeof(deeds) / sizeof(deeds[0])))

static void (*deed)(struct tine_request *rq);
static enum tine_body_event deed_at;

static void act(struct tine_request *rq, enum tine_body_event event)
{
	if (event != deed_at && event == TINE_BODY_DATA)
		return;
	deed(rq);
	body_hook = NULL;
}

/* _i: which deed, at which event, for which body. */
START_TEST(a_deed_while_the_body_comes)
{
	int i = _i % N_BODIES, d = _i / N_BODIES % N_DEEDS, fd;

	deed = deeds[d];
	deed_at = _i / N_BODIES / N_DEEDS == 0 ? TINE_BODY_DATA : TINE_BODY_END;
	handler = read_body;
	body_hook = act;
	fd = begin_body("/stream", i);
	if (d < 2)
		ck_assert_int_eq(reply_status(), 200);
	else
		ck_assert(reply_eof);
	client_send(fd, NEXT, strlen(NEXT));
	settle(fd);
	ck_assert_uint_eq(n_next, d < 2 ? 1 : 0);
	ck_assert_uint_eq(n_gone, 0);
	end(fd);
}
END_TEST

/* The client leaves in the middle; the module is told once, and does something or answers later. */
START_TEST(a_deed_when_the_body_fails)
{
	bool later = _i >= N_DEEDS;
	int fd;

	deed = later ? do_nothing : deeds[_i];
	deed_at = TINE_BODY_FAILED;
	handler = read_body;
	body_hook = act;
	fd = begin("POST /stream HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc");
	close(fd);
	turn();
	ck_assert_str_eq(events, "DF");
	ck_assert_uint_eq(n_gone, later);
	if (later)
		deeds[_i - N_DEEDS](held);
	assert_nothing_kept();
}
END_TEST

/* Nonsense, and more than is allowed: the client hears of it, then the module answers nobody. */
START_TEST(a_body_that_is_refused)
{
	static const struct {
		const char *body;
		int status;
	} cases[] = {{"zz\r\n", 400}, {"1\r\nab\r\n", 400}, {"0\r\nContent-Length: 1\r\n\r\n", 400},
		{"fffffff\r\n", 413}};
	static char lots[120000];
	int fd;

	handler = read_body;
	fd = begin("POST /stream HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
	client_send(fd, cases[_i].body, strlen(cases[_i].body));
	if (cases[_i].status == 413)
		client_send(fd, lots, sizeof(lots));
	for (int i = 0; i < 20 && !reply_eof; i++)
		settle(fd);
	ck_assert_int_eq(reply_status(), cases[_i].status);
	ck_assert_uint_eq(count("HTTP/1.1"), 1);
	ck_assert_int_eq(events[strlen(events) - 1], 'F');
	answer_gone(held);
	end(fd);
}
END_TEST

static void answer_and_read(struct tine_request *rq)
{
	ck_assert_int_eq(tine_respond(rq, 200, NULL, "done", 4), 0);
	ck_assert_int_eq(tine_request_read(rq, on_body, NULL), -EALREADY);
	ck_assert_int_eq(tine_defer(rq), -EALREADY);
	ck_assert_int_eq(tine_respond(rq, 200, NULL, "more", 4), -EALREADY);
	ck_assert_int_eq(tine_respond_header(rq, "X-A", "b"), -EALREADY);
}

START_TEST(what_comes_after_the_answer_is_refused)
{
	int fd;

	handler = answer_and_read;
	fd = begin_body("/stream", _i);
	client_send(fd, NEXT, strlen(NEXT));
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 200"), 2);
	ck_assert(reply_ends("next"));
	ck_assert_str_eq(events, "");
	end(fd);
}
END_TEST

/* --- streams: framing --- */

static int stream_status;
static int64_t stream_length;

static void stream_abc(struct tine_request *rq)
{
	ck_assert_int_eq(tine_respond_start(rq, stream_status, NULL, stream_length), 0);
	tine_respond_write(rq, "abc", 3);
	tine_respond_end(rq);
}

/* Whatever is said, the next answer begins where the client looks for it. */
static const struct {
	const char *request;
	int status;
	int64_t length;
	const char *want; /* between the two heads */
	const char *field;
} framings[] = {
	{"GET /whole HTTP/1.1\r\n" HOST, 200, -1, "3\r\nabc\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked"},
	{"GET /whole HTTP/1.1\r\n" HOST, 200, 3, "abc", "Content-Length: 3"},
	{"HEAD /whole HTTP/1.1\r\n" HOST, 200, -1, "", "Transfer-Encoding: chunked"},
	{"HEAD /whole HTTP/1.1\r\n" HOST, 200, 3, "", "Content-Length: 3"},
	{"GET /whole HTTP/1.1\r\n" HOST, 204, -1, "", ""},
	{"GET /whole HTTP/1.1\r\n" HOST, 205, -1, "", "Content-Length: 0"},
	{"GET /whole HTTP/1.1\r\n" HOST, 304, -1, "", ""},
	{"GET /whole HTTP/1.1\r\n" HOST, 204, 3, "", ""},
	{"GET /whole HTTP/1.1\r\n" HOST, 205, 3, "", "Content-Length: 0"},
	{"GET /whole HTTP/1.1\r\n" HOST, 304, 3, "", ""},
	{"GET /whole HTTP/1.0\r\nConnection: keep-alive\r\n", 200, 3, "abc", "Content-Length: 3"},
};

START_TEST(framing_of_streams)
{
	char request[256];
	const char *body, *head2;
	int fd;

	handler = stream_abc;
	stream_status = framings[_i].status;
	stream_length = framings[_i].length;
	snprintf(request, sizeof(request), "%s\r\n" NEXT, framings[_i].request);
	fd = begin(request);
	ck_assert_int_eq(reply_status(), framings[_i].status);
	body = strstr(reply, "\r\n\r\n");
	ck_assert_ptr_nonnull(body);
	body += 4;
	head2 = strstr(body, "HTTP/1.1 200 OK");
	ck_assert_msg(head2 != NULL, "%s", reply);
	ck_assert_uint_eq((size_t)(head2 - body), strlen(framings[_i].want));
	ck_assert_int_eq(memcmp(body, framings[_i].want, (size_t)(head2 - body)), 0);
	ck_assert(!framings[_i].field[0] ||
		memmem(reply, (size_t)(body - reply), framings[_i].field,
			strlen(framings[_i].field)));
	ck_assert(
		framings[_i].field[0] || !memmem(reply, (size_t)(body - reply), "Transfer-E", 10));
	ck_assert(reply_ends("next"));
	end(fd);
}
END_TEST

static void trailers(struct tine_request *rq)
{
	char long_value[HTTP_EXTRA_MAX];

	memset(long_value, 'x', sizeof(long_value) - 1);
	long_value[sizeof(long_value) - 1] = '\0';
	ck_assert_int_eq(tine_respond_trailer(rq, "X-A", "b"), -ENOTSUP);
	ck_assert_int_eq(tine_respond_header(rq, "X-Head", "1"), 0);
	ck_assert_int_eq(tine_respond_start(rq, 200, NULL, -1), 0);
	ck_assert_int_eq(tine_respond_trailer(rq, "X-A", "b\r\nX-Evil: 1"), -EINVAL);
	ck_assert_int_eq(tine_respond_trailer(rq, "X-A\r\n\r\n", "b"), -EINVAL);
	ck_assert_int_eq(tine_respond_trailer(rq, "Set-Cookie\n", "b"), -EINVAL);
	ck_assert_int_eq(tine_respond_trailer(rq, "Content-Length", "1"), -EINVAL);
	ck_assert_int_eq(tine_respond_trailer(rq, "X-Long", long_value), -ENOSPC);
	ck_assert_int_eq(tine_respond_trailer(rq, "X-A", "b"), 0);
	ck_assert_int_eq(tine_respond_write(rq, "abc", 3), 0);
	ck_assert_int_eq(tine_respond_end(rq), 0);
}

START_TEST(trailers_end_a_stream)
{
	int fd;

	handler = trailers;
	fd = begin("GET /whole HTTP/1.1\r\n" HOST "\r\n" NEXT);
	ck_assert_uint_eq(count("X-Head: 1\r\n"), 1);
	ck_assert_uint_eq(count("3\r\nabc\r\n0\r\nX-A: b\r\n\r\nHTTP/1.1 200 OK"), 1);
	ck_assert_uint_eq(count("Evil"), 0);
	end(fd);
}
END_TEST

START_TEST(what_was_answered_before_an_abort_arrives)
{
	int fd;

	handler = _i == 0 ? tine_respond_abort : do_cut_short;
	fd = begin("GET /next HTTP/1.1\r\n" HOST "\r\nGET /whole HTTP/1.1\r\n" HOST "\r\n");
	ck_assert_uint_eq(n_next, 1);
	ck_assert_uint_eq(count("\r\n\r\nnext"), 1);
	ck_assert(reply_eof);
	end(fd);
}
END_TEST

/* --- streams: back-pressure --- */

static size_t to_write, written;

static void write_on(struct tine_request *rq)
{
	char piece[PIECE];
	int r;

	while (written < to_write) {
		size_t n = to_write - written < PIECE ? to_write - written : PIECE;

		for (size_t i = 0; i < n; i++)
			piece[i] = (char)('a' + (written + i) % 26);
		r = tine_respond_write(rq, piece, n);
		if (r == -EAGAIN)
			return;
		ck_assert_int_eq(r, 0);
		written += n;
	}
	ck_assert_int_eq(tine_respond_end(rq), 0);
}

static void write_much(struct tine_request *rq)
{
	tine_respond_on_room(rq, on_room, NULL);
	tine_on_gone(rq, on_gone, NULL);
	ck_assert_int_eq(tine_respond_start(rq, 200, NULL, (int64_t)to_write), 0);
	held = rq;
	write_on(rq);
}

START_TEST(a_reader_that_stops_holds_its_producer_back)
{
	size_t waiting, n_right = 0;
	const char *body;
	int fd = client_new();

	to_write = 6u << 20;
	written = 0;
	handler = write_much;
	room_hook = write_on;
	client_send(fd, "GET /whole HTTP/1.1\r\n" HOST "\r\n" NEXT,
		strlen("GET /whole HTTP/1.1\r\n" HOST "\r\n" NEXT));
	for (int i = 0; i < 50; i++)
		turn();
	waiting = LIST_FIRST(&net->open)->output->len - LIST_FIRST(&net->open)->output->off;
	ck_assert_uint_le(waiting, NET_OUTPUT_HIGH);
	ck_assert_uint_lt(written, to_write);
	n_room = 0;
	for (int i = 0; i < 50; i++)
		turn();
	ck_assert_uint_eq(n_room, 0);
	while (!reply_eof)
		settle(fd);
	ck_assert_uint_gt(n_room, 0);
	body = strstr(reply, "\r\n\r\n") + 4;
	while (n_right < to_write && body[n_right] == (char)('a' + n_right % 26))
		n_right++;
	ck_assert_uint_eq(n_right, to_write); /* one assertion: each writes to a file */
	ck_assert(reply_ends("next"));
	end(fd);
}
END_TEST

static void write_huge(struct tine_request *rq)
{
	static char huge[(1u << 20) + 1];

	ck_assert_int_eq(tine_respond_start(rq, 200, NULL, 3), 0);
	ck_assert_int_eq(tine_respond_write(rq, "abcd", 4), -EMSGSIZE);
	ck_assert_int_eq(tine_respond_write(rq, "ab", 2), 0);
	ck_assert_int_eq(tine_respond_write(rq, "cd", 2), -EMSGSIZE);
	ck_assert_int_eq(tine_respond_write(rq, NULL, 0), 0);
	ck_assert_int_eq(tine_respond_write(rq, NULL, 1), -EINVAL);
	ck_assert_int_eq(tine_respond_write(rq, huge, sizeof(huge)), -EMSGSIZE);
	ck_assert_int_eq(tine_respond_start(rq, 200, NULL, 3), -EALREADY);
	ck_assert_int_eq(tine_respond(rq, 200, NULL, "x", 1), -EALREADY);
	ck_assert_int_eq(tine_defer(rq), -EALREADY);
	ck_assert_int_eq(tine_respond_write(rq, "c", 1), 0);
	ck_assert_int_eq(tine_respond_end(rq), 0);
}

START_TEST(what_does_not_fit_is_refused)
{
	int fd;

	handler = write_huge;
	fd = begin("GET /whole HTTP/1.1\r\n" HOST "\r\n" NEXT);
	ck_assert_uint_eq(count("\r\n\r\nabcHTTP/1.1 200 OK"), 1);
	end(fd);
}
END_TEST

/* --- streams: clients that leave --- */

static void fill(struct tine_request *rq)
{
	to_write = 6u << 20;
	written = 0;
	write_much(rq);
}

static void end_stream(struct tine_request *rq)
{
	ck_assert_int_eq(tine_respond_write(rq, "x", 1), -ECANCELED);
	ck_assert_int_eq(tine_respond_end(rq), -ECANCELED);
}

/* _i: ended or aborted, in on_gone or later, while it waits for room or not. */
START_TEST(a_client_leaves_its_stream)
{
	void (*fn)(struct tine_request * rq) = _i & 1 ? end_stream : tine_respond_abort;
	int fd = client_new();

	handler = _i & 2 ? fill : stream;
	gone_hook = _i & 4 ? fn : NULL;
	client_send(fd, "GET /whole HTTP/1.1\r\n" HOST "\r\n",
		strlen("GET /whole HTTP/1.1\r\n" HOST "\r\n"));
	for (int i = 0; i < 20; i++)
		turn();
	close(fd);
	for (int i = 0; i < 4; i++)
		turn();
	ck_assert_uint_eq(n_gone, 1);
	ck_assert_uint_eq(net_server_connections(net), 0);
	if (!gone_hook)
		fn(held);
	assert_nothing_kept();
}
END_TEST

/* --- events --- */

static void begin_events(struct tine_request *rq)
{
	tine_on_gone(rq, on_gone, NULL);
	ck_assert_int_eq(tine_sse_start(rq), 0);
	held = rq;
}

static const struct {
	const char *event, *id, *data;
	size_t len;
	const char *want; /* NULL: refused */
} sse_cases[] = {
	{NULL, NULL, "a", 1, "data: a\n\n"},
	{NULL, NULL, NULL, 0, "data: \n\n"},
	{NULL, NULL, "", 0, "data: \n\n"},
	{"e", "1", "a\nb", 3, "event: e\nid: 1\ndata: a\ndata: b\n\n"},
	{NULL, "", "a\rb\r\nc\n\nd", 9, "id: \ndata: a\ndata: b\ndata: c\ndata: \ndata: d\n\n"},
	{NULL, NULL, "a\n", 2, "data: a\ndata: \n\n"},
	{NULL, NULL, "\r", 1, "data: \ndata: \n\n"},
	{NULL, NULL, "a\r\n", 3, "data: a\ndata: \n\n"},
	{NULL, NULL, "id: 7\nretry: 1", 14, "data: id: 7\ndata: retry: 1\n\n"},
	{"a\nb", NULL, "x", 1, NULL},
	{"a\rdata: y", NULL, "x", 1, NULL},
	{NULL, "a\nb", "x", 1, NULL},
	{NULL, "a\r\n\r\nb", "x", 1, NULL},
};

START_TEST(format_of_events)
{
	int fd, r;
	char chunk[128];

	handler = begin_events;
	fd = begin("GET /whole HTTP/1.1\r\n" HOST "\r\n");
	r = tine_sse_send(
		held, sse_cases[_i].event, sse_cases[_i].id, sse_cases[_i].data, sse_cases[_i].len);
	ck_assert_int_eq(r, sse_cases[_i].want ? 0 : -EINVAL);
	ck_assert_int_eq(tine_respond_end(held), 0);
	settle(fd);
	if (sse_cases[_i].want)
		snprintf(chunk, sizeof(chunk), "\r\n\r\n%zx\r\n%s\r\n0\r\n\r\n",
			strlen(sse_cases[_i].want), sse_cases[_i].want);
	ck_assert_msg(reply_ends(sse_cases[_i].want ? chunk : "\r\n\r\n0\r\n\r\n"), "%s", reply);
	end(fd);
}
END_TEST

/* The first sign of life comes in time, also when the stream began long after its request. */
START_TEST(events_have_a_heartbeat)
{
	int fd;

	handler = _i == 0 ? begin_events : hold;
	fd = begin("GET /whole HTTP/1.1\r\n" HOST "\r\n");
	if (_i == 1)
		begin_events(held);
	settle(fd);
	pass_time(31000);
	settle(fd);
	ck_assert_uint_eq(count("3\r\n:\n\n\r\n"), 1);
	pass_time(31000);
	settle(fd);
	ck_assert_uint_eq(count("3\r\n:\n\n\r\n"), 2);
	ck_assert_int_eq(tine_respond_end(held), 0);
	end(fd);
}
END_TEST

/* A stream ends when the worker goes, also one that begins after it was told to. */
START_TEST(events_end_with_the_worker)
{
	int fd;

	handler = _i == 0 ? begin_events : hold;
	fd = begin("GET /whole HTTP/1.1\r\n" HOST "\r\n");
	net_server_drain(net, 5000);
	if (_i == 1)
		begin_events(held);
	settle(fd);
	ck_assert(reply_ends("0\r\n\r\n") && reply_eof);
	ck_assert_uint_eq(n_gone, 1);
	ck_assert_int_eq(tine_respond_end(held), -ECANCELED);
	end(fd);
}
END_TEST

/* Who asks for the head alone has got everything with it. */
START_TEST(the_head_of_events_is_all_of_it)
{
	int fd;

	handler = begin_events;
	fd = begin("HEAD /whole HTTP/1.1\r\n" HOST "\r\n" NEXT);
	ck_assert_int_eq(reply_status(), 200);
	ck_assert_uint_eq(count("\r\n\r\nHTTP/1.1 200 OK"), 1);
	ck_assert(reply_ends("next"));
	ck_assert_uint_eq(n_gone, 1);
	ck_assert_int_eq(tine_respond_end(held), -ECANCELED);
	end(fd);
}
END_TEST

/* --- drain --- */

START_TEST(a_drain_waits_for_answers)
{
	int fd;

	handler = _i == 0 ? hold : stream;
	fd = begin("GET /whole HTTP/1.1\r\n" HOST "\r\n");
	net_server_drain(net, 100);
	pass_time(1000);
	settle(fd);
	ck_assert(!reply_eof);
	if (_i == 0)
		ck_assert_int_eq(tine_respond(held, 200, NULL, "held", 4), 0);
	else
		ck_assert_int_eq(tine_respond_end(held), 0);
	settle(fd);
	ck_assert_int_eq(reply_status(), 200);
	pass_time(1000);
	settle(fd);
	ck_assert(reply_eof);
	end(fd);
}
END_TEST

/* What had been sent before the drain began is served, also behind a stream. */
START_TEST(a_drain_serves_what_had_come)
{
	int fd = client_new();

	handler = stream_abc;
	stream_status = 200;
	stream_length = 3;
	net_server_drain(net, 5000);
	client_send(fd, "GET /whole HTTP/1.1\r\n" HOST "\r\n" NEXT,
		strlen("GET /whole HTTP/1.1\r\n" HOST "\r\n" NEXT));
	settle(fd);
	ck_assert_uint_eq(n_next, 1);
	ck_assert(reply_ends("next"));
	end(fd);
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, harness_stop);
	tcase_add_test(tc, a_deferred_request_keeps_everything);
	tcase_add_loop_test(tc, a_body_outlives_the_handler, 0, N_BODIES);
	tcase_add_loop_test(tc, a_body_outlives_the_beginning_of_its_answer, 0, N_BODIES);
	tcase_add_loop_test(tc, an_answer_and_its_timeout_come_at_once, 0, 2);
	tcase_add_test(tc, an_answer_and_the_timeout_of_the_body_come_at_once);
	tcase_add_loop_test(tc, a_client_leaves_and_is_answered, 0, 2 * N_LAST_WORDS);
	tcase_add_loop_test(tc, a_timeout_answers_in_place_of_the_module, 0, 2);
	tcase_add_loop_test(tc, middleware_defers_and_goes_on_at_once, 0, N_BODIES);
	tcase_add_loop_test(tc, middleware_goes_on_at_once, 0, N_BODIES);
	tcase_add_loop_test(tc, middleware_goes_on_later, 0, N_BODIES);
	tcase_add_loop_test(tc, middleware_denies, 0, N_BODIES);
	tcase_add_loop_test(tc, all_has_come_before_the_half_is_closed, 0, N_BODIES);
	tcase_add_test(tc, all_has_come_while_it_was_paused);
	tcase_add_loop_test(tc, a_part_has_come_before_the_half_is_closed, 0, 2);
	tcase_add_test(tc, a_stream_to_a_half_closed_client);
	tcase_add_loop_test(tc, a_deed_while_the_body_comes, 0, 2 * N_DEEDS * N_BODIES);
	tcase_add_loop_test(tc, a_deed_when_the_body_fails, 0, 2 * N_DEEDS);
	tcase_add_loop_test(tc, a_body_that_is_refused, 0, 4);
	tcase_add_loop_test(tc, what_comes_after_the_answer_is_refused, 0, N_BODIES);
	tcase_add_loop_test(
		tc, framing_of_streams, 0, (int)(sizeof(framings) / sizeof(framings[0])));
	tcase_add_test(tc, trailers_end_a_stream);
	tcase_add_loop_test(tc, what_was_answered_before_an_abort_arrives, 0, 2);
	tcase_add_test(tc, a_reader_that_stops_holds_its_producer_back);
	tcase_add_test(tc, what_does_not_fit_is_refused);
	tcase_add_loop_test(tc, a_client_leaves_its_stream, 0, 8);
	tcase_add_loop_test(
		tc, format_of_events, 0, (int)(sizeof(sse_cases) / sizeof(sse_cases[0])));
	tcase_add_loop_test(tc, events_have_a_heartbeat, 0, 2);
	tcase_add_loop_test(tc, events_end_with_the_worker, 0, 2);
	tcase_add_test(tc, the_head_of_events_is_all_of_it);
	tcase_add_loop_test(tc, a_drain_waits_for_answers, 0, 2);
	tcase_add_test(tc, a_drain_serves_what_had_come);
}

int main(void)
{
	return run_tests("answers", add_tests);
}

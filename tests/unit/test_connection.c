/*
 * The server of src/http over socket pairs: framing, pipelining, closing, draining, deadlines,
 * back-pressure.
 */
#include "http_harness.h"

#include "http_cases.h"
#include "run.h"

#define GET1 "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
#define GET2 "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
#define GET3 "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n"

#define BIG (3u << 20)

static char big_body[BIG];

/* Answers with the path it was asked for. */
static void echo(struct tine_request *rq, void *arg)
{
	response_write(rq,
		&(struct http_answer){.status = 200,
			.type = {"text/plain", 10},
			.length = rq->path.len,
			.body = rq->path.data});
}

static void big(struct tine_request *rq, void *arg)
{
	response_write(rq, &(struct http_answer){.status = 200, .length = BIG, .body = big_body});
}

static void silent(struct tine_request *rq, void *arg)
{
}

static void twice(struct tine_request *rq, void *arg)
{
	ck_assert_int_eq(response_text(rq, 200), 0);
	ck_assert_int_eq(response_text(rq, 500), -EALREADY);
}

static int add_header(struct tine_request *rq, const char *name, const char *value)
{
	return response_add_header(rq, (struct tine_text){name, strlen(name)},
		(struct tine_text){value, strlen(value)});
}

static void headers(struct tine_request *rq, void *arg)
{
	char long_value[HTTP_EXTRA_MAX];

	ck_assert_int_eq(add_header(rq, "X-A", "1"), 0);
	ck_assert_int_eq(add_header(rq, "X-B", "a\r\nX-C: d"), -EINVAL);
	ck_assert_int_eq(add_header(rq, "X-B", "a\nb"), -EINVAL);
	ck_assert_int_eq(add_header(rq, "X B", "a"), -EINVAL);
	ck_assert_int_eq(add_header(rq, "X:B", "a"), -EINVAL);
	ck_assert_int_eq(add_header(rq, "", "a"), -EINVAL);
	ck_assert_int_eq(add_header(rq, "Content-Length", "1"), -EINVAL);
	ck_assert_int_eq(add_header(rq, "CONNECTION", "close"), -EINVAL);
	ck_assert_int_eq(add_header(rq, "transfer-Encoding", "chunked"), -EINVAL);
	ck_assert_int_eq(add_header(rq, "Date", "today"), -EINVAL);
	memset(long_value, 'x', sizeof(long_value) - 1);
	long_value[sizeof(long_value) - 1] = '\0';
	ck_assert_int_eq(add_header(rq, "X-Long", long_value), -ENOSPC);
	long_value[8000] = '\0';
	ck_assert_int_eq(add_header(rq, "X-Long", long_value), 0);
	response_text(rq, 200);
}

static void no_content(struct tine_request *rq, void *arg)
{
	response_write(rq, &(struct http_answer){.status = 204, .length = 3, .body = "abc"});
}

static void reset_content(struct tine_request *rq, void *arg)
{
	response_write(rq, &(struct http_answer){.status = 205, .length = 3, .body = "abc"});
}

static void setup(void)
{
	harness_start();
	add_route("/", "/", echo);
	add_route("/", "/big", big);
	add_route("/", "/silent", silent);
	add_route("/", "/twice", twice);
	add_route("/", "/headers", headers);
	add_route("/", "/204", no_content);
	add_route("/", "/205", reset_content);
	for (size_t i = 0; i < BIG && big_body[BIG - 1] == '\0'; i++)
		big_body[i] = (char)('a' + i % 26);
}

/*
 * One case, sent in pieces of `first` and then `step` bytes. Returns the status, 0 when nothing was
 * answered.
 */
static int try_case(const struct http_case *c, size_t first, size_t step)
{
	int fd = client_new();
	size_t at = 0, n = first;

	while (at < c->len) {
		n = n < c->len - at ? n : c->len - at;
		client_send(fd, c->data + at, n);
		turn();
		at += n;
		n = step;
	}
	settle(fd);
	if (c->want == CASE_MORE)
		ck_assert_msg(reply_len == 0 && !reply_eof, "%s: %s", c->name, reply);
	else
		ck_assert_uint_eq(count("HTTP/1.1 "), 1);
	if (c->want >= 400) {
		ck_assert_msg(reply_eof, "%s: not closed", c->name);
		ck_assert_uint_eq(count("Connection: close\r\n"), 1);
	}
	close(fd);
	turn();
	turn();
	ck_assert_uint_eq(net_server_connections(net), 0);
	return reply_status();
}

/* The whole way through the server, however the bytes come: the same answer. */
START_TEST(test_cases)
{
	const struct http_case *c = &http_cases[_i];
	int status = try_case(c, c->len, 1);

	if (c->want >= 400)
		ck_assert_msg(status == c->want, "%s: %d", c->name, status);
	else if (c->want == CASE_OK)
		ck_assert_msg(status == 200 || status == 204 || status == 404 || status == 405,
			"%s: %d", c->name, status);
	ck_assert_int_eq(try_case(c, 1, 1), status);
	/* long ones at some positions only; the parser's test has them all */
	for (size_t at = 1; at < c->len; at += c->len / 60 + 1)
		ck_assert_int_eq(try_case(c, at, c->len), status);
}
END_TEST

START_TEST(test_answer)
{
	ask("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_ptr_eq(strstr(reply, "HTTP/1.1 200 OK\r\nDate: "), reply);
	ck_assert_ptr_nonnull(strstr(reply, "\r\nContent-Type: text/plain\r\n"));
	ck_assert_ptr_nonnull(strstr(reply, "\r\nContent-Length: 2\r\n\r\n/x"));
	ck_assert_ptr_null(strstr(reply, "Connection"));
	ck_assert(!reply_eof);
	ck_assert_uint_eq(sb_get(net->slot->requests), 1);
	ck_assert_uint_eq(sb_get(net->slot->bytes_in), 28);
	ck_assert_uint_eq(sb_get(net->slot->bytes_out), reply_len);
	ck_assert_int_eq(net->slot->request_line[0], '\0');
	ck_assert_uint_eq(n_closed, 1);
}
END_TEST

START_TEST(test_pipelined)
{
	int fd = client_new();

	client_send(fd, GET1 GET2 GET3, 3 * strlen(GET1));
	turn();
	ck_assert(client_receive(fd)); /* all in one */
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 3);
	ck_assert_ptr_nonnull(strstr(reply, "\r\n\r\n/1HTTP/1.1"));
	ck_assert_ptr_nonnull(strstr(reply, "\r\n\r\n/2HTTP/1.1"));
	ck_assert_str_eq(reply + reply_len - 2, "/3");
	close(fd);
}
END_TEST

START_TEST(test_pipelined_split_anywhere)
{
	static const char data[] =
		"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\n" GET3 GET1 GET2;
	size_t len = sizeof(data) - 1;

	for (size_t at = 1; at < len; at++) {
		int fd = client_new();

		client_send(fd, data, at);
		turn();
		client_send(fd, data + at, len - at);
		settle(fd);
		ck_assert_uint_eq(count("HTTP/1.1 "), 3); /* the body is no request */
		ck_assert_uint_eq(count("HTTP/1.1 405"), 1);
		ck_assert_uint_eq(count("/3"), 0);
		ck_assert_str_eq(reply + reply_len - 2, "/2");
		close(fd);
		turn();
	}
}
END_TEST

START_TEST(test_nothing_after_close)
{
	ask("GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" GET2);
	ck_assert_uint_eq(count("HTTP/1.1 "), 1);
	ck_assert_uint_eq(count("Connection: close\r\n"), 1);
	ck_assert(reply_eof);
	ask("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n" GET2);
	ck_assert_uint_eq(count("HTTP/1.1 "), 1);
	ck_assert_int_eq(reply_status(), 400);
	ck_assert(reply_eof);
}
END_TEST

START_TEST(test_http10)
{
	ask("GET /1 HTTP/1.0\r\n\r\n");
	ck_assert_int_eq(reply_status(), 200);
	ck_assert(reply_eof);
	ask("GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
	ck_assert_int_eq(reply_status(), 200);
	ck_assert_uint_eq(count("Connection: keep-alive\r\n"), 1);
	ck_assert(!reply_eof);
}
END_TEST

static const struct {
	const char *request;
	int status;
	bool closes;
	const char *has; /* part of the answer */
} answers[] = {
	{"HEAD /abc HTTP/1.1\r\nHost: a\r\n\r\n", 200, false, "Content-Length: 4\r\n"},
	{"POST /abc HTTP/1.1\r\nHost: a\r\n\r\n", 405, false, "Allow: GET, HEAD, OPTIONS\r\n"},
	{"OPTIONS /abc HTTP/1.1\r\nHost: a\r\n\r\n", 204, false, "Allow: GET, HEAD, OPTIONS\r\n"},
	{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200, false, "Allow: GET, HEAD, OPTIONS\r\n"},
	{"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405, true, "Allow: GET, HEAD, OPTIONS\r\n"},
	{"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n" GET1, 405, true, "Connection: close\r\n"},
	{"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n", 204, false, "Date: "},
	{"GET /205 HTTP/1.1\r\nHost: a\r\n\r\n", 205, false, "Content-Length: 0\r\n"},
	{"HEAD /205 HTTP/1.1\r\nHost: a\r\n\r\n", 205, false, "Content-Length: 0\r\n"},
	{"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n", 500, false, "500 Internal"},
	{"GET /twice HTTP/1.1\r\nHost: a\r\n\r\n", 200, false, "200 OK"},
	{"GET /headers HTTP/1.1\r\nHost: a\r\n\r\n", 200, false, "\r\nX-A: 1\r\nX-Long: xxx"},
	{"GET /a/../%62 HTTP/1.1\r\nHost: a\r\n\r\n", 200, false, "\r\n\r\n/b"},
	{"GET http://h/x HTTP/1.1\r\nHost: a\r\n\r\n", 200, false, "\r\n\r\n/x"},
	{"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, true, "400 Bad Request"},
	{"GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n", 400, true, "400 Bad Request"},
	{"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, true, "400 Bad Request"},
	{"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n", 413, true, "413 Content"},
	{"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n", 405, true, "Allow: GET"},
	{"GET /x HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417, true, "417 Expectation"},
	{"GET /x HTTP/1.0\r\nExpect: tea\r\n\r\n", 200, true, "/x"},
	{"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", 100,
		false, "100 Continue\r\n\r\n"},
	{"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", 405,
		true, "Connection: close\r\n"},
	{"GET /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", 200, false, "/x"},
	{"HEAD / HTTP/1.1\r\n\r\n", 400, true, "Content-Length: 16\r\n"},
};

START_TEST(test_answers)
{
	ask(answers[_i].request);
	ck_assert_msg(reply_status() == answers[_i].status, "%s%s", answers[_i].request, reply);
	ck_assert_msg(reply_eof == answers[_i].closes, "%s%s", answers[_i].request, reply);
	ck_assert_msg(strstr(reply, answers[_i].has), "%s%s", answers[_i].request, reply);
	ck_assert_uint_eq(count("HTTP/1.1 "), 1);
	if (strncmp(answers[_i].request, "HEAD", 4) == 0 || answers[_i].status == 204 ||
		answers[_i].status == 205)
		ck_assert_str_eq(reply + reply_len - 4, "\r\n\r\n");
	if (answers[_i].status == 204)
		ck_assert_uint_eq(count("Content-Length"), 0);
	ck_assert_uint_eq(sb_get(net->slot->client_errors),
		answers[_i].status >= 400 && answers[_i].status < 500);
	ck_assert_uint_eq(sb_get(net->slot->server_errors), answers[_i].status >= 500);
}
END_TEST

START_TEST(test_half_closed)
{
	int fd = client_new();

	client_send(fd, GET1 GET2, 2 * strlen(GET1));
	shutdown(fd, SHUT_WR);
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 2);
	ck_assert(reply_eof);
	ck_assert_uint_eq(net_server_connections(net), 0);
	close(fd);
}
END_TEST

/*
 * After the last answer the server reads on, so that no reset destroys what was sent; but not for
 * ever.
 */
START_TEST(test_lingers)
{
	int fd = client_new();

	client_send(fd, "BAD\r\n", 5);
	settle(fd);
	ck_assert(reply_eof);
	client_send(fd, GET1, strlen(GET1));
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 "), 1);
	ck_assert_uint_eq(net_server_connections(net), 1);
	pass_time(1000);
	ck_assert_uint_eq(net_server_connections(net), 1);
	pass_time(2000); /* it has said something since */
	ck_assert_uint_eq(net_server_connections(net), 1);
	pass_time(3000);
	ck_assert_uint_eq(net_server_connections(net), 0);
	close(fd);
}
END_TEST

START_TEST(test_big_body)
{
	const char *body;

	ask("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
	body = strstr(reply, "\r\n\r\n") + 4;
	ck_assert_uint_eq(reply_len - (size_t)(body - reply), BIG);
	ck_assert_mem_eq(body, big_body, BIG);
}
END_TEST

/*
 * A client that does not read: nothing is served ahead, memory stays bounded, and in the end all is
 * there.
 */
START_TEST(test_back_pressure)
{
	static const char request[] = "GET /big HTTP/1.1\r\nHost: a\r\n\r\n";
	struct connection *c;
	int fd = client_new();

	client_send(fd, request, sizeof(request) - 1);
	client_send(fd, request, sizeof(request) - 1);
	client_send(fd, GET1, strlen(GET1));
	for (int i = 0; i < 50; i++)
		turn();
	c = LIST_FIRST(&net->open);
	ck_assert_int_eq(c->writing, true);
	ck_assert_uint_le(c->output->cap, BIG + 1024);
	ck_assert_uint_eq(c->input->len, sizeof(request) - 1 + strlen(GET1));
	ck_assert_uint_eq(sb_get(net->slot->requests), 1);
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 3);
	ck_assert_uint_gt(reply_len, 2 * (size_t)BIG);
	ck_assert_str_eq(reply + reply_len - 2, "/1");
	ck_assert(!c->writing && !c->state);
	ck_assert_ptr_null(c->output);
	ck_assert_ptr_null(c->input);
	close(fd);
}
END_TEST

#define GET_BIG "GET /big HTTP/1.1\r\nHost: a\r\n\r\n"

/* What waits stays where it lies, from one answer to the next. */
START_TEST(test_waiting_input_is_not_copied)
{
	static const char requests[] = GET_BIG GET_BIG GET_BIG GET_BIG "GET /2 HT";
	struct stash *input;
	struct connection *c;
	int fd = client_new();

	client_send(fd, requests, sizeof(requests) - 1);
	turn();
	c = LIST_FIRST(&net->open);
	input = c->input;
	ck_assert_uint_eq(input->off, 0);
	for (unsigned i = 2; i <= 4; i++) {
		while (sb_get(net->slot->requests) < i) {
			client_receive(fd);
			turn();
			reply_len = 0; /* too much to keep it all */
		}
		ck_assert_ptr_eq(c->input, input);
		ck_assert_uint_eq(input->off, (i - 1) * strlen(GET_BIG));
	}
	settle(fd);
	ck_assert(!c->writing && !c->state && c->input);
	reply_len = 0;
	client_send(fd, "TP/1.1\r\nHost: a\r\n\r\n", 19);
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 1);
	ck_assert_str_eq(reply + reply_len - 2, "/2");
	ck_assert_ptr_null(c->input);
	close(fd);
}
END_TEST

/* The rest of a burst that is no request in the end: it is that rest which is looked at. */
START_TEST(test_waiting_input_times_out)
{
	static const char *const rest[] = {"\r\n", "GET"};
	int fd = client_new();

	client_send(fd, GET_BIG GET_BIG, 2 * strlen(GET_BIG));
	client_send(fd, rest[_i], strlen(rest[_i]));
	settle(fd);
	pass_time(11000);
	settle(fd);
	ck_assert(reply_eof);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 2);
	ck_assert_uint_eq(count("HTTP/1.1 408"), (unsigned)_i);
	close(fd);
}
END_TEST

/* Very many requests at once: others get their turn between them. */
START_TEST(test_many_requests_take_turns)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost:a\r\n\r\n";
	static char requests[600 * (sizeof(request) - 1) + 1];
	int greedy = client_new(), other = client_new();
	struct connection *c = LIST_NEXT(LIST_FIRST(&net->open), link);
	char buf[512];

	for (unsigned i = 0; i < 600; i++)
		memcpy(requests + i * (sizeof(request) - 1), request, sizeof(request));
	client_send(greedy, requests, sizeof(requests) - 1);
	client_send(other, GET2, strlen(GET2));
	event_base_loop(base, EVLOOP_ONCE); /* one turn, where turn() goes on until all wait */
	ck_assert_uint_eq(sb_get(net->slot->requests), 512 + 1);
	ck_assert_int_gt(recv(other, buf, sizeof(buf), 0), 0);
	ck_assert(c->yielded);
	settle(greedy);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 600);
	ck_assert(!c->writing && !c->state);
	ck_assert_ptr_null(c->input);
	close(greedy);
	close(other);
}
END_TEST

/* The turn of others comes within what is a body, and after one that closes. */
START_TEST(test_many_requests_of_all_kinds)
{
	static const char post[] =
		"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nGET / HTT";
	static char requests[64 << 10];
	size_t len = 0;
	int fd = client_new();

	for (unsigned i = 0; i < 511; i++)
		len += (size_t)(stpcpy(requests + len, "GET / HTTP/1.1\r\nHost:a\r\n\r\n") -
			(requests + len));
	for (unsigned i = 0; i < 20; i++)
		len += (size_t)(stpcpy(requests + len, post) - (requests + len));
	len += (size_t)(stpcpy(requests + len, "GET / HTTP/1.0\r\n\r\n" GET1) - (requests + len));
	client_send(fd, requests, len);
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 512);
	ck_assert_uint_eq(count("HTTP/1.1 405"), 20);
	ck_assert(reply_eof);
	close(fd);
}
END_TEST

/* No deadlines, no connection. */
START_TEST(test_accept_without_timer)
{
	int fds[2], timer = net->timer_fd;
	char c;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	net->timer_fd = -1;
	ck_assert_int_eq(
		net_server_accept(net, http_server_protocol(server), router, fds[0], NULL), -EBADF);
	net->timer_fd = timer;
	ck_assert_uint_eq(net_server_connections(net), 0);
	ck_assert_int_eq(recv(fds[1], &c, 1, 0), 0);
	close(fds[1]);
	turn();
	ask(GET1);
	ck_assert_int_eq(reply_status(), 200);
}
END_TEST

START_TEST(test_gone_while_writing)
{
	int fd = client_new();

	client_send(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n", 30);
	turn();
	close(fd);
	turn();
	turn();
	ck_assert_uint_eq(net_server_connections(net), 0);
	ck_assert_uint_eq(n_closed, 1);
}
END_TEST

START_TEST(test_write_times_out)
{
	int fd = client_new();

	client_send(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n", 30);
	turn();
	pass_time(29000);
	ck_assert_uint_eq(net_server_connections(net), 1);
	pass_time(2000);
	ck_assert_uint_eq(net_server_connections(net), 0);
	close(fd);
}
END_TEST

START_TEST(test_header_times_out)
{
	int fd = client_new();

	client_send(fd, "GET / HT", 8);
	turn();
	pass_time(9000);
	client_send(fd, "TP/1.1\r\n", 8); /* no more time for being slow */
	turn();
	pass_time(2000);
	settle(fd);
	ck_assert_int_eq(reply_status(), 408);
	ck_assert(reply_eof);
	close(fd);
}
END_TEST

START_TEST(test_idle_times_out)
{
	int fd = client_new();

	client_send(fd, GET1, strlen(GET1));
	settle(fd);
	pass_time(59000);
	ck_assert_uint_eq(net_server_connections(net), 1);
	pass_time(2000);
	settle(fd);
	ck_assert(reply_eof);
	ck_assert_uint_eq(count("HTTP/1.1 "), 1);
	close(fd);
}
END_TEST

/*
 * Connected and never said anything, or only an empty line: no 408, which could be taken for an
 * answer.
 */
START_TEST(test_silent_times_out)
{
	int fd = client_new();

	if (_i > 0)
		client_send(fd, "\r\n", (size_t)_i);
	settle(fd);
	pass_time(11000);
	settle(fd);
	ck_assert(reply_eof);
	ck_assert_uint_eq(reply_len, 0);
	close(fd);
}
END_TEST

START_TEST(test_body_times_out)
{
	static const char request[] = "GET /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
	int fd = client_new();

	client_send(fd, request, sizeof(request) - 1);
	settle(fd);
	client_send(fd, "d", 1);
	settle(fd);
	pass_time(31000); /* something came in that time */
	settle(fd);
	ck_assert_uint_eq(reply_len, 0);
	pass_time(31000);
	settle(fd);
	ck_assert_int_eq(reply_status(), 408);
	ck_assert(reply_eof);
	close(fd);
}
END_TEST

/* A request that comes at the very moment its connection is given up is served. */
START_TEST(test_request_at_the_deadline)
{
	int fd = client_new();

	client_send(fd, GET1, strlen(GET1));
	settle(fd);
	client_send(fd, GET2, strlen(GET2));
	pass_time(61000);
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 2);
	ck_assert(!reply_eof);
	close(fd);
}
END_TEST

START_TEST(test_drain_answers_all)
{
	int fd = client_new();

	turn();
	net_server_drain(net, 1500);
	client_send(fd, GET1 GET2 GET3, 3 * strlen(GET1));
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 3);
	ck_assert_uint_eq(count("Connection: close"), 1);
	ck_assert_ptr_nonnull(strstr(strstr(reply, "\r\n\r\n/2"), "Connection: close"));
	ck_assert(reply_eof);
	close(fd);
}
END_TEST

/* A burst that ends in the middle of a request: that one is waited for. */
START_TEST(test_drain_waits_for_the_rest)
{
	int fd = client_new();

	turn();
	net_server_drain(net, 1500);
	client_send(fd, GET1 "GET /2 HT", strlen(GET1) + 9);
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 1);
	ck_assert(!reply_eof);
	client_send(fd, "TP/1.1\r\nHost: a\r\n\r\n", 19);
	settle(fd);
	ck_assert_uint_eq(count("HTTP/1.1 200 OK"), 2);
	ck_assert_uint_eq(count("Connection: close"), 1);
	ck_assert(reply_eof);
	close(fd);
}
END_TEST

START_TEST(test_drain_idle)
{
	int fd = client_new();

	client_send(fd, GET1, strlen(GET1));
	settle(fd);
	net_server_drain(net, 1500);
	pass_time(1000);
	ck_assert_uint_eq(net_server_connections(net), 1);
	pass_time(1500);
	ck_assert_uint_eq(net_server_connections(net), 0);
	settle(fd);
	ck_assert(reply_eof);
	close(fd);
}
END_TEST

START_TEST(test_abort)
{
	int fds[3];

	for (int i = 0; i < 3; i++)
		fds[i] = client_new();
	client_send(fds[1], "GET", 3);
	client_send(fds[2], "GET /big HTTP/1.1\r\nHost: a\r\n\r\n", 30);
	turn();
	ck_assert_uint_eq(net_server_connections(net), 3);
	ck_assert_uint_eq(sb_get(net->slot->connections), 3);
	net_server_abort(net);
	ck_assert_uint_eq(net_server_connections(net), 0);
	ck_assert_uint_eq(sb_get(net->slot->connections), 0);
	net_server_end_turn(net);
	ck_assert_uint_eq(n_closed, 3);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}
END_TEST

/* An idle connection must stay cheap: ten thousand of them are nothing out of the ordinary. */
START_TEST(test_idle_is_small)
{
	int fd = client_new();
	struct connection *c = LIST_FIRST(&net->open);

	client_send(fd, GET1, strlen(GET1));
	settle(fd);
	ck_assert_uint_le(sizeof(*c), 320);
	ck_assert_ptr_null(c->input);
	ck_assert_ptr_null(c->output);
	ck_assert_ptr_null(c->sends);
	close(fd);
}
END_TEST

/* Whatever comes in, in whatever pieces: no crash, and nothing but answers comes out. */
START_TEST(test_random_bytes)
{
	static const char *pieces[] = {GET1, GET2, "GET /", " HTTP/1.1\r\n", "Host: a\r\n", "\r\n",
		"Content-Length: 5\r\n", "x", "\n", "Connection: close\r\n", "HEAD /3", "%2e",
		"\r"};
	char data[4096];

	srandom(5);
	for (int round = 0; round < 300; round++) {
		int fd = client_new();

		for (int burst = 0; burst < 4; burst++) {
			data[0] = '\0';
			for (int i = (int)(random() % 12); i >= 0; i--)
				strcat(data, pieces[random() % 13]);
			client_send(fd, data, strlen(data));
			settle(fd);
		}
		ck_assert(reply_len == 0 || strncmp(reply, "HTTP/1.1 ", 9) == 0);
		close(fd);
		turn();
		turn();
	}
	ck_assert_uint_eq(net_server_connections(net), 0);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, harness_stop);
	tcase_add_loop_test(tc, test_cases, 0, N_HTTP_CASES);
	tcase_add_test(tc, test_answer);
	tcase_add_test(tc, test_pipelined);
	tcase_add_test(tc, test_pipelined_split_anywhere);
	tcase_add_test(tc, test_nothing_after_close);
	tcase_add_test(tc, test_http10);
	tcase_add_loop_test(tc, test_answers, 0, sizeof(answers) / sizeof(answers[0]));
	tcase_add_test(tc, test_half_closed);
	tcase_add_test(tc, test_lingers);
	tcase_add_test(tc, test_big_body);
	tcase_add_test(tc, test_back_pressure);
	tcase_add_test(tc, test_waiting_input_is_not_copied);
	tcase_add_loop_test(tc, test_waiting_input_times_out, 0, 2);
	tcase_add_test(tc, test_many_requests_take_turns);
	tcase_add_test(tc, test_many_requests_of_all_kinds);
	tcase_add_test(tc, test_accept_without_timer);
	tcase_add_test(tc, test_gone_while_writing);
	tcase_add_test(tc, test_write_times_out);
	tcase_add_test(tc, test_header_times_out);
	tcase_add_test(tc, test_idle_times_out);
	tcase_add_loop_test(tc, test_silent_times_out, 0, 3);
	tcase_add_test(tc, test_body_times_out);
	tcase_add_test(tc, test_request_at_the_deadline);
	tcase_add_test(tc, test_drain_answers_all);
	tcase_add_test(tc, test_drain_waits_for_the_rest);
	tcase_add_test(tc, test_drain_idle);
	tcase_add_test(tc, test_abort);
	tcase_add_test(tc, test_idle_is_small);
	tcase_add_test(tc, test_random_bytes);
}

int main(void)
{
	return run_tests("connection", add);
}

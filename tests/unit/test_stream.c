/* net/stream.c and api/stream.c: a service over socket pairs, from its first call to its last. */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <tine/stream.h>

#include "base/clock.h"
#include "net/connection.h"
#include "net/server.h"
#include "net/stream.h"
#include "runtime/module.h"
#include "run.h"
#include "shared/config.h"

#define MAX_INPUT 2000
#define HUGE      (1u << 20)

static struct event_base *base;
static struct net_server *server;
static struct stream_service *service;
static struct tine_stream *last; /* opened last; NULL after its on_close */
static char got[4 * HUGE];       /* what the service or the client has received */
static size_t n_got;
static bool got_eof;
static char calls[256]; /* a letter for each call of the service */
static int close_error;
static unsigned depth; /* of calls of the service */
static uint64_t skew_ms;

/* What a test wants the service to do. */
static size_t (*data_hook)(struct tine_stream *s, const char *data, size_t len);
static void (*room_hook)(struct tine_stream *s);
static void (*eof_hook)(struct tine_stream *s);
static void (*open_hook)(struct tine_stream *s);

static void called(char what)
{
	size_t n = strlen(calls);

	ck_assert_msg(depth == 0, "%c within another call, after %s", what, calls);
	ck_assert(n + 1 < sizeof(calls));
	calls[n] = what;
}

static void on_open(struct tine_stream *s, void *arg)
{
	called('o');
	ck_assert_ptr_eq(arg, calls);
	ck_assert_ptr_null(tine_stream_state(s));
	last = s;
	depth++;
	if (open_hook)
		open_hook(s);
	depth--;
}

static size_t echo(struct tine_stream *s, const char *data, size_t len)
{
	return tine_stream_write(s, data, len) == 0 ? len : 0;
}

static size_t on_data(struct tine_stream *s, const void *data, size_t len, void *arg)
{
	size_t used;

	called('d');
	ck_assert_uint_gt(len, 0);
	depth++;
	used = (data_hook ? data_hook : echo)(s, data, len);
	depth--;
	return used;
}

static void on_room(struct tine_stream *s, void *arg)
{
	called('r');
	depth++;
	if (room_hook)
		room_hook(s);
	depth--;
}

static void on_eof(struct tine_stream *s, void *arg)
{
	called('e');
	depth++;
	if (eof_hook)
		eof_hook(s);
	depth--;
}

static void on_drain(struct tine_stream *s, void *arg)
{
	called('n');
	tine_stream_write(s, "bye", 3);
	tine_stream_close(s);
}

static void on_close(struct tine_stream *s, int error, void *arg)
{
	called('c');
	close_error = error;
	if (s == last)
		last = NULL;
}

static const struct conf_http conf = {.idle_timeout_us = 60 * US_PER_S, .max_header = 4096};

static void serve(const struct tine_stream_service *wanted)
{
	struct tine_stream_service s = *wanted;

	stream_service_free(service);
	s.size = sizeof(s);
	s.arg = calls;
	ck_assert_int_eq(stream_service_new(&s, &conf, &service), 0);
}

static const struct tine_stream_service everything = {.on_open = on_open,
	.on_data = on_data,
	.on_room = on_room,
	.on_eof = on_eof,
	.on_close = on_close,
	.max_input = MAX_INPUT};

static void setup(void)
{
	struct net_options o = {.input_max = STREAM_INPUT_MAX, .window_us = 30 * US_PER_S};

	o.base = base = event_base_new();
	ck_assert_int_eq(net_server_new(&o, &server), 0);
	serve(&everything);
	memset(calls, 0, sizeof(calls));
	data_hook = NULL;
	room_hook = eof_hook = open_hook = NULL;
	close_error = -1;
	skew_ms = 0;
}

static void teardown(void)
{
	server = net_server_free(server);
	service = stream_service_free(service);
	event_base_free(base);
	libevent_global_shutdown();
}

static int client_of(const struct peer *peer)
{
	int fds[2];

	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	ck_assert_int_eq(net_server_accept(server, &stream_protocol, service, fds[0], peer), 0);
	n_got = 0;
	got_eof = false;
	return fds[1];
}

static int client_new(void)
{
	return client_of(NULL);
}

static void turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
	net_server_end_turn(server);
}

static void turns(void)
{
	for (int i = 0; i < 5; i++)
		turn();
}

static void pass_time(unsigned ms)
{
	skew_ms += ms;
	server->now_ms = now_coarse_ms() + skew_ms;
	wheel_advance(&server->wheel, server->now_ms, connection_expired, server);
	turn();
}

static void say(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static bool receive(int fd)
{
	ssize_t n = recv(fd, got + n_got, sizeof(got) - n_got, 0);

	if (n > 0)
		n_got += (size_t)n;
	else if (n == 0 || errno != EAGAIN)
		got_eof = true;
	return n > 0;
}

/* Lets both sides go on until nothing more comes. */
static void settle(int fd)
{
	for (int idle = 0; idle < 3; idle = receive(fd) ? 0 : idle + 1)
		turn();
}

static void expect(int fd, const char *text)
{
	settle(fd);
	ck_assert_uint_eq(n_got, strlen(text));
	ck_assert_mem_eq(got, text, n_got);
}

static void connection_is_gone(void)
{
	turns();
	ck_assert_uint_eq(net_server_connections(server), 0);
	ck_assert_msg(strchr(calls, 'c') == calls + strlen(calls) - 1,
		"on_close is not the last call, or not the only one: %s", calls);
}

/* --- input --- */

static void close_it(struct tine_stream *s)
{
	tine_stream_close(s);
}

START_TEST(echoes)
{
	int fd = client_new();

	eof_hook = close_it;
	say(fd, "hello");
	expect(fd, "hello");
	say(fd, " again");
	expect(fd, "hello again");
	close(fd);
	connection_is_gone();
	ck_assert_str_eq(calls, "oddec");
	ck_assert_int_eq(close_error, 0);
}
END_TEST

static size_t one_line(struct tine_stream *s, const char *data, size_t len)
{
	const char *end = memchr(data, '\n', len);

	if (!end)
		return 0;
	tine_stream_write(s, ">", 1);
	tine_stream_write(s, data, (size_t)(end - data) + 1);
	return (size_t)(end - data) + 1;
}

/* A service that takes one line for each call gets all of them, however they come. */
START_TEST(lines)
{
	static const char text[] = "one\ntwo\n\nthree\n";
	int fd;

	data_hook = one_line;
	fd = client_new();
	say(fd, text);
	expect(fd, ">one\n>two\n>\n>three\n");
	close(fd);
	turns();
	fd = client_new();
	for (size_t i = 0; text[i]; i++) {
		ck_assert_int_eq(send(fd, text + i, 1, 0), 1);
		memset(calls, 0, sizeof(calls));
		turn();
	}
	expect(fd, ">one\n>two\n>\n>three\n");
	close(fd);
}
END_TEST

static size_t use_nothing(struct tine_stream *s, const char *data, size_t len)
{
	return 0;
}

START_TEST(input_limit)
{
	static char text[MAX_INPUT + 2];
	int fd;

	data_hook = use_nothing;
	fd = client_new();
	memset(text, 'x', MAX_INPUT);
	say(fd, text);
	settle(fd);
	ck_assert_uint_eq(net_server_connections(server), 1);
	say(fd, "x");
	settle(fd);
	ck_assert(got_eof);
	close(fd);
	connection_is_gone();
	ck_assert_int_eq(close_error, EMSGSIZE);
}
END_TEST

static size_t use_too_much(struct tine_stream *s, const char *data, size_t len)
{
	return len + 1;
}

START_TEST(service_that_uses_too_much)
{
	int fd;

	data_hook = use_too_much;
	fd = client_new();
	say(fd, "x");
	settle(fd);
	ck_assert(got_eof);
	close(fd);
	connection_is_gone();
	ck_assert_int_eq(close_error, EINVAL);
}
END_TEST

/* --- pause --- */

static size_t pause_after_one(struct tine_stream *s, const char *data, size_t len)
{
	tine_stream_write(s, data, 1);
	tine_stream_pause(s, true);
	return 1;
}

/* Nothing is lost or told too early, whether it had been read before the pause or not. */
START_TEST(pauses)
{
	int fd;

	data_hook = pause_after_one;
	fd = client_new();
	say(fd, "ab");
	expect(fd, "a");
	say(fd, "cd");
	shutdown(fd, SHUT_WR);
	expect(fd, "a");
	ck_assert_str_eq(calls, "od");
	for (int i = 0; i < 3; i++) {
		tine_stream_pause(last, false);
		settle(fd);
	}
	expect(fd, "abcd");
	ck_assert_str_eq(calls, "odddd");
	tine_stream_pause(last, false);
	turns();
	ck_assert_str_eq(calls, "odddde");
	tine_stream_close(last);
	close(fd);
	connection_is_gone();
}
END_TEST

/* A paused stream takes no more than the kernel and one burst hold. */
START_TEST(paused_input_is_bounded)
{
	static char chunk[65536];
	size_t sent = 0, before;
	ssize_t n;
	int fd;

	data_hook = pause_after_one;
	fd = client_new();
	for (int i = 0; i < 50; i++) {
		turn();
		while ((n = send(fd, chunk, sizeof(chunk), 0)) > 0)
			sent += (size_t)n;
	}
	before = sent;
	for (int i = 0; i < 50; i++) {
		turn();
		while ((n = send(fd, chunk, sizeof(chunk), 0)) > 0)
			sent += (size_t)n;
	}
	ck_assert_uint_eq(sent, before);
	ck_assert_uint_le(last->connection.input->len, NET_INPUT_SIZE + STREAM_INPUT_MAX);
	close(fd);
	turns();
	tine_stream_abort(last);
	connection_is_gone();
	ck_assert_int_eq(close_error, 0);
}
END_TEST

/* --- output --- */

static char big[HUGE + 1];
static size_t produced;

static void produce(struct tine_stream *s)
{
	int r;

	while (produced < 16 * sizeof(big)) {
		r = tine_stream_write(s, big, 50000);
		ck_assert(r == 0 || r == -EAGAIN);
		if (r < 0)
			return;
		produced += 50000;
	}
	tine_stream_close(s);
}

static size_t start_producing(struct tine_stream *s, const char *data, size_t len)
{
	produced = 0;
	produce(s);
	return len;
}

/* A reader that stops costs no more than the high-water mark, and gets everything once it goes on. */
START_TEST(slow_reader)
{
	size_t total = 0;
	int fd;

	data_hook = start_producing;
	room_hook = produce;
	fd = client_new();
	say(fd, "go");
	turns();
	ck_assert_uint_lt(produced, 2 * HUGE);
	ck_assert_uint_gt(tine_stream_waiting(last), 0);
	ck_assert_uint_lt(tine_stream_waiting(last), NET_OUTPUT_HIGH + 50000);
	for (int i = 0; i < 10000 && !got_eof; i++) {
		turn();
		n_got = 0;
		while (receive(fd))
			;
		total += n_got;
		if (last)
			ck_assert_uint_lt(tine_stream_waiting(last), NET_OUTPUT_HIGH + 50000);
	}
	ck_assert(got_eof);
	ck_assert_uint_eq(total, produced);
	ck_assert_uint_ge(total, 16 * sizeof(big));
	close(fd);
	connection_is_gone();
}
END_TEST

/* The simplest echo service is right with a client that sends for long before it reads. */
START_TEST(echo_to_a_slow_reader)
{
	static char chunk[30000], there[sizeof(got)];
	size_t sent = 0, n_there = 0;
	ssize_t n;
	int fd = client_new();

	for (int stuck = 0; stuck < 3;) {
		memset(calls, 0, sizeof(calls));
		for (size_t i = 0; i < sizeof(chunk); i++)
			chunk[i] = (char)((sent + i) % 251);
		n = send(fd, chunk, sizeof(chunk), 0);
		if (n > 0)
			sent += (size_t)n;
		stuck = n > 0 ? 0 : stuck + 1;
		turns();
	}
	ck_assert_uint_lt(sent, 3 * HUGE);
	shutdown(fd, SHUT_WR);
	while (n_there < sent) {
		memset(calls, 0, sizeof(calls));
		turn();
		n_got = 0;
		receive(fd);
		memcpy(there + n_there, got, n_got);
		n_there += n_got;
	}
	for (size_t i = 0; i < sent; i++)
		ck_assert_int_eq((unsigned char)there[i], (int)(i % 251));
	memset(calls, 0, sizeof(calls));
	turns();
	tine_stream_close(last);
	close(fd);
	connection_is_gone();
}
END_TEST

START_TEST(write_errors)
{
	int fd = client_new();

	ck_assert_int_eq(tine_stream_write(last, big, HUGE + 1), -EMSGSIZE);
	ck_assert_int_eq(tine_stream_write(last, "", 0), 0);
	ck_assert_int_eq(tine_stream_write(last, big, HUGE), 0);
	ck_assert_int_eq(tine_stream_write(last, "x", 1), -EAGAIN);
	ck_assert_uint_eq(tine_stream_waiting(last), HUGE);
	settle(fd);
	ck_assert_uint_eq(n_got, HUGE);
	ck_assert_str_eq(calls, "or");
	tine_stream_close(last);
	ck_assert_int_eq(tine_stream_write(last, "x", 1), -EPIPE);
	close(fd);
	connection_is_gone();
}
END_TEST

/* --- the end --- */

static void answer_late(struct tine_stream *s)
{
	ck_assert_int_eq(tine_stream_write(s, "late", 4), 0);
}

START_TEST(half_close)
{
	int fd;

	eof_hook = answer_late;
	fd = client_new();
	say(fd, "request ");
	shutdown(fd, SHUT_WR);
	expect(fd, "request late");
	ck_assert(!got_eof);
	tine_stream_write(last, "r", 1);
	tine_stream_close(last);
	expect(fd, "request later");
	ck_assert(got_eof);
	connection_is_gone();
	ck_assert_str_eq(calls, "odec");
	ck_assert_int_eq(close_error, 0);
	close(fd);
}
END_TEST

START_TEST(half_close_without_on_eof)
{
	struct tine_stream_service s = everything;
	int fd;

	s.on_eof = NULL;
	serve(&s);
	fd = client_new();
	say(fd, "request");
	shutdown(fd, SHUT_WR);
	expect(fd, "request");
	ck_assert(got_eof);
	connection_is_gone();
	close(fd);
}
END_TEST

static size_t write_and_close(struct tine_stream *s, const char *data, size_t len)
{
	ck_assert_int_eq(tine_stream_write(s, big, HUGE), 0);
	tine_stream_close(s);
	return len;
}

/* What was written arrives although the client says more, which nobody reads. */
START_TEST(close_sends_everything)
{
	int fd;

	data_hook = write_and_close;
	fd = client_new();
	say(fd, "go");
	turn();
	say(fd, "more");
	settle(fd);
	ck_assert_uint_eq(n_got, HUGE);
	ck_assert(got_eof);
	ck_assert_str_eq(calls, "od");
	close(fd);
	connection_is_gone();
	ck_assert_str_eq(calls, "odc");
}
END_TEST

static size_t write_and_abort(struct tine_stream *s, const char *data, size_t len)
{
	tine_stream_write(s, "not sent", 8);
	tine_stream_abort(s);
	ck_assert_int_eq(tine_stream_write(s, "x", 1), -EPIPE);
	ck_assert_int_eq(data[0], 'g'); /* still there */
	return 0;
}

START_TEST(abort_sends_nothing)
{
	int fd;

	data_hook = write_and_abort;
	fd = client_new();
	say(fd, "go");
	settle(fd);
	ck_assert_uint_eq(n_got, 0);
	ck_assert(got_eof);
	connection_is_gone();
	ck_assert_int_eq(close_error, 0);
	close(fd);
}
END_TEST

static void abort_at_once(struct tine_stream *s)
{
	tine_stream_abort(s);
}

/* From within every call, and from outside: on_close is never nested, and comes once. */
START_TEST(abort_anywhere)
{
	int fd;

	open_hook = abort_at_once;
	fd = client_new();
	ck_assert_str_eq(calls, "o");
	connection_is_gone();
	ck_assert_str_eq(calls, "oc");
	close(fd);
	open_hook = NULL;
	eof_hook = abort_at_once;
	memset(calls, 0, sizeof(calls));
	fd = client_new();
	close(fd);
	connection_is_gone();
	ck_assert_str_eq(calls, "oec");
	memset(calls, 0, sizeof(calls));
	fd = client_new();
	tine_stream_abort(last);
	tine_stream_abort(last);
	ck_assert_str_eq(calls, "o");
	connection_is_gone();
	ck_assert_str_eq(calls, "oc");
	close(fd);
}
END_TEST

/* --- time --- */

START_TEST(idle_both_ways)
{
	struct tine_stream_service s = everything;
	int fd;

	s.idle_us = 10 * US_PER_S;
	serve(&s);
	fd = client_new();
	pass_time(8000);
	say(fd, "x"); /* a byte in, and its echo */
	server->now_ms = now_coarse_ms() + skew_ms;
	tine_stream_write(last, "y", 1);
	turns();
	ck_assert_uint_eq(net_server_connections(server), 1);
	close_error = -1;
	pass_time(30000);
	pass_time(3000);
	ck_assert_int_eq(close_error, ETIMEDOUT);
	ck_assert_uint_eq(net_server_connections(server), 0);
	close(fd);
}
END_TEST

/* A client that takes nothing is given up after the window. */
START_TEST(stalled_reader)
{
	int fd = client_new();

	tine_stream_write(last, big, HUGE);
	turns();
	pass_time(20000);
	ck_assert_uint_eq(net_server_connections(server), 1);
	pass_time(11000);
	pass_time(31000);
	ck_assert_int_eq(close_error, ETIMEDOUT);
	connection_is_gone();
	close(fd);
}
END_TEST

START_TEST(drain_tells)
{
	struct tine_stream_service s = everything;
	int a, b;

	s.on_drain = on_drain;
	serve(&s);
	a = client_new();
	b = client_new();
	net_server_drain(server, 1000);
	expect(a, "bye");
	ck_assert(got_eof);
	n_got = 0;
	expect(b, "bye");
	close(a);
	close(b);
	turns();
	ck_assert_str_eq(calls, "oonncc");
	ck_assert_uint_eq(net_server_connections(server), 0);
}
END_TEST

/* Without on_drain: served on as long as something is said, closed in the next silence. */
START_TEST(drain_when_idle)
{
	int fd = client_new();

	net_server_drain(server, 2000);
	say(fd, "one");
	expect(fd, "one");
	ck_assert(!got_eof);
	ck_assert_uint_eq(net_server_connections(server), 1);
	pass_time(3000);
	settle(fd);
	ck_assert(got_eof);
	close(fd);
	connection_is_gone();
	ck_assert_int_eq(close_error, 0);
}
END_TEST

START_TEST(end_of_the_worker)
{
	int a = client_new(), b = client_new();

	tine_stream_write(last, "x", 1);
	net_server_abort(server);
	turns();
	ck_assert_str_eq(calls, "oocc");
	ck_assert_int_eq(close_error, ECONNABORTED);
	close(a);
	close(b);
}
END_TEST

/* --- services --- */

START_TEST(addresses)
{
	static const struct {
		struct peer peer;
		const char *text;
	} cases[] = {
		{{.family = AF_INET, .addr = {192, 0, 2, 7}}, "192.0.2.7"},
		{{.family = AF_INET6, .addr = {0x20, 1, 0xd, 0xb8, [15] = 1}}, "2001:db8::1"},
		{{.family = AF_UNIX}, "unix:"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int fd = client_of(&cases[i].peer);
		struct tine_text text = tine_stream_client(last);

		ck_assert_uint_eq(text.len, strlen(cases[i].text));
		ck_assert_mem_eq(text.data, cases[i].text, text.len);
		close(fd);
	}
}
END_TEST

START_TEST(serving)
{
	struct config config = {.http = conf};
	struct stream_service *set = NULL;
	struct tine_worker w = {.config = {.config = &config}};
	struct tine_stream_service s = everything;

	s.size = sizeof(s);
	ck_assert_int_eq(tine_stream_serve(&w, &s), -EINVAL);
	ck_assert(w.misplaced);
	w.stream = &set;
	ck_assert_int_eq(tine_stream_serve(NULL, &s), -EINVAL);
	ck_assert_int_eq(tine_stream_serve(&w, NULL), -EINVAL);
	s.size--;
	ck_assert_int_eq(tine_stream_serve(&w, &s), -EINVAL);
	s.size++;
	s.max_input = STREAM_INPUT_MAX + 1;
	ck_assert_int_eq(tine_stream_serve(&w, &s), -EINVAL);
	s.max_input = 0;
	s.on_data = NULL;
	ck_assert_int_eq(tine_stream_serve(&w, &s), -EINVAL);
	ck_assert(!w.serves_stream);
	s.on_data = on_data;
	ck_assert_int_eq(tine_stream_serve(&w, &s), 0);
	ck_assert(w.serves_stream);
	ck_assert_uint_eq(set->max_input, conf.max_header);
	ck_assert_int_eq(tine_stream_serve(&w, &s), -EEXIST);
	stream_service_free(set);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, echoes);
	tcase_add_test(tc, lines);
	tcase_add_test(tc, input_limit);
	tcase_add_test(tc, service_that_uses_too_much);
	tcase_add_test(tc, pauses);
	tcase_add_test(tc, paused_input_is_bounded);
	tcase_add_test(tc, slow_reader);
	tcase_add_test(tc, echo_to_a_slow_reader);
	tcase_add_test(tc, write_errors);
	tcase_add_test(tc, half_close);
	tcase_add_test(tc, half_close_without_on_eof);
	tcase_add_test(tc, close_sends_everything);
	tcase_add_test(tc, abort_sends_nothing);
	tcase_add_test(tc, abort_anywhere);
	tcase_add_test(tc, idle_both_ways);
	tcase_add_test(tc, stalled_reader);
	tcase_add_test(tc, drain_tells);
	tcase_add_test(tc, drain_when_idle);
	tcase_add_test(tc, end_of_the_worker);
	tcase_add_test(tc, addresses);
	tcase_add_test(tc, serving);
}

int main(void)
{
	return run_tests("stream", add);
}

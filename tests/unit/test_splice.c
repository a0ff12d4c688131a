/* http/splice.c: what goes through the pipe, what is left of it, how it does without. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/splice.h"
#include "run.h"

#define SIZE (4u << 20) /* more than a pipe or a socket takes at once */

static struct net_splice s;
static char data[SIZE], got[SIZE];
static int ours, theirs; /* the ends of a socket pair */

static void setup(void)
{
	int fds[2];

	for (size_t i = 0; i < SIZE; i++)
		data[i] = (char)('a' + (i * 7 + i / 1000) % 26);
	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	ours = fds[0];
	theirs = fds[1];
	splice_init(&s);
}

static void teardown(void)
{
	splice_close(&s);
	close(ours);
	close(theirs);
}

static size_t receive(size_t at)
{
	ssize_t n;

	while (at < SIZE && (n = recv(theirs, got + at, SIZE - at, 0)) > 0)
		at += (size_t)n;
	return at;
}

/* Sends until `end`, reading when the socket is full. Returns how often that was. */
static unsigned send_all(size_t from, size_t end)
{
	size_t received = from;
	unsigned n_full = 0;

	for (size_t at = from; at < end;) {
		ssize_t n = splice_send(&s, ours, data + at, end - at);

		ck_assert(n > 0 || (n < 0 && errno == EAGAIN));
		if (n > 0)
			at += (size_t)n;
		else
			n_full++;
		received = receive(received);
	}
	ck_assert_uint_eq(receive(received), end);
	ck_assert_mem_eq(got + from, data + from, end - from);
	return n_full;
}

START_TEST(test_made_on_first_use)
{
	ck_assert_int_eq(s.in, -1);
	ck_assert(splice_ready(&s));
	ck_assert_int_ge(s.in, 0);
	for (int i = 0; i < 2; i++) {
		int fd = i ? s.in : s.out;

		ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	}
	splice_close(&s);
	splice_close(&s); /* twice is once */
	ck_assert_int_eq(s.out, -1);
}
END_TEST

START_TEST(test_small_keeps_the_pipe)
{
	int in;

	send_all(0, 1);
	in = s.in;
	ck_assert_int_ge(in, 0);
	for (size_t at = 1; at < 100000; at += 10000)
		send_all(at, at + 10000);
	ck_assert_int_eq(s.in, in);
}
END_TEST

START_TEST(test_all_of_it)
{
	send_all(0, SIZE);
}
END_TEST

/* What a full socket did not take never reaches another one. */
START_TEST(test_leftovers_are_thrown_away)
{
	int other[2];
	ssize_t n;

	while ((n = splice_send(&s, ours, data, SIZE)) == SPLICE_PIPE_SIZE)
		;
	ck_assert(n < 0 || n < SPLICE_PIPE_SIZE);
	ck_assert_int_eq(s.in, -1);
	ck_assert_int_eq(splice_send(&s, ours, data, 1), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_int_eq(s.in, -1);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, other), 0);
	ck_assert_int_eq(splice_send(&s, other[0], "other", 5), 5);
	ck_assert_int_eq(recv(other[1], got, SIZE, 0), 5);
	ck_assert_mem_eq(got, "other", 5);
	close(other[0]);
	close(other[1]);
}
END_TEST

START_TEST(test_peer_has_gone)
{
	shutdown(theirs, SHUT_RDWR);
	ck_assert_int_eq(splice_send(&s, ours, data, 1000), -1);
	ck_assert_int_eq(errno, EPIPE);
	ck_assert_int_eq(s.in, -1);
}
END_TEST

START_TEST(test_refused)
{
	s.refused = true;
	ck_assert(!splice_ready(&s));
	send_all(0, SIZE);
	ck_assert_int_eq(s.in, -1);
}
END_TEST

/* Refused on the way: the rest is copied. */
START_TEST(test_refused_midway)
{
	send_all(0, 100000);
	splice_close(&s);
	s.refused = true;
	send_all(100000, SIZE);
}
END_TEST

static void add(TCase *t)
{
	signal(SIGPIPE, SIG_IGN); /* as every role does; splice(2) has no MSG_NOSIGNAL */
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_made_on_first_use);
	tcase_add_test(t, test_small_keeps_the_pipe);
	tcase_add_test(t, test_all_of_it);
	tcase_add_test(t, test_leftovers_are_thrown_away);
	tcase_add_test(t, test_peer_has_gone);
	tcase_add_test(t, test_refused);
	tcase_add_test(t, test_refused_midway);
}

int main(void)
{
	return run_tests("splice", add);
}

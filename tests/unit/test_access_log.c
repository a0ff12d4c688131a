/*
 * Unit test of shared/access_log.c: lines reach the file whole and in order, a pipe that nobody reads
 * costs lines and no time, and what a child leaves behind is salvaged without being trusted.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "shared/access_log.h"
#include "run.h"

static char path[64], text[4 << 20];
static struct access_slots slots;
static struct peer peer;

static int open_file(void)
{
	int fd;

	if (!slots.slots)
		ck_assert_int_eq(access_slots_new(2, &slots), 0);
	access_slot_clear(&slots.slots[1]);
	ck_assert(peer_parse("192.0.2.1", 9, &peer));
	snprintf(path, sizeof(path), "/tmp/tined-test-access-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	fd = log_open_sink(LOG_SINK_FILE, path);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static struct access_log *open_log(enum log_sink sink, int fd)
{
	struct access_log_options o = {.format = ACCESS_JSON,
		.sink = sink,
		.fd = fd,
		.worker = 7,
		.slot = &slots.slots[1]};
	struct access_log *l;

	ck_assert_int_eq(access_log_new(&o, &l), 0);
	return l;
}

static const char *logged(void)
{
	ck_assert_int_ge(fd_read_text(path, text, sizeof(text)), 0);
	return text;
}

static size_t n_lines(const char *s)
{
	size_t n = 0;

	while ((s = strchr(s, '\n'))) {
		s++;
		n++;
	}
	return n;
}

static struct tine_text text_of(const char *s)
{
	return (struct tine_text){s, strlen(s)};
}

static void write_numbered(struct access_log *l, unsigned from, unsigned n)
{
	char request[64];

	for (unsigned i = from; i < from + n; i++) {
		struct access_record r = {.client = &peer, .status = 200, .time = {1763688552, 0}};

		snprintf(request, sizeof(request), "GET /%06u HTTP/1.1", i);
		r.line = text_of(request);
		access_log_write(l, &r);
	}
}

static void check_numbered(const char *s, unsigned n)
{
	char expected[64];

	ck_assert_uint_eq(n_lines(s), n);
	for (unsigned i = 0; i < n; i++) {
		snprintf(expected, sizeof(expected), "\"target\":\"/%06u\"", i);
		ck_assert_ptr_nonnull(memmem(s, strcspn(s, "\n"), expected, strlen(expected)));
		s += strcspn(s, "\n") + 1;
	}
}

START_TEST(test_lines_wait_and_come_whole)
{
	struct access_log *l = open_log(LOG_SINK_FILE, open_file());
	struct stat st;

	access_log_tick(l, 10000);
	write_numbered(l, 0, 1);
	ck_assert_str_eq(logged(), "");
	ck_assert(access_log_tick(l, 10999));
	ck_assert_str_eq(logged(), "");
	ck_assert(!access_log_tick(l, 11000));
	check_numbered(logged(), 1);
	write_numbered(l, 1, 4999);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_ge(st.st_size, 4000 * 100); /* most were written for want of room */
	l = access_log_free(l);
	check_numbered(logged(), 5000);
	ck_assert_uint_eq(slots.slots[1].used, 0);
	ck_assert_ptr_nonnull(strstr(text, "\"worker\":7}"));
	unlink(path);
}
END_TEST

START_TEST(test_another_file)
{
	int first = open_file();
	struct access_log *l = open_log(LOG_SINK_FILE, first);
	char old[sizeof(path)];

	strcpy(old, path);
	write_numbered(l, 0, 1);
	access_log_set_fd(l, open_file());
	write_numbered(l, 1, 1);
	access_log_free(l);
	ck_assert_ptr_nonnull(strstr(logged(), "/000001"));
	ck_assert_uint_eq(n_lines(text), 1);
	unlink(path);
	strcpy(path, old);
	check_numbered(logged(), 1);
	unlink(path);
}
END_TEST

/* A pipe with a blocking writer's end, as stderr often is. */
START_TEST(test_a_pipe_that_nobody_reads)
{
	struct access_log *l;
	ssize_t n;
	int fds[2];

	unlink((close(open_file()), path));
	ck_assert_int_eq(pipe(fds), 0);
	l = open_log(LOG_SINK_STDERR, fds[1]);
	write_numbered(l, 0, 5000); /* about 1 MB; a pipe holds 64 KiB */
	access_log_flush(l);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	n = read(fds[0], text, sizeof(text) - 1);
	ck_assert_int_ge(n, 32768);
	text[n] = '\0';
	ck_assert_int_eq(text[n - 1], '\n');
	check_numbered(text, (unsigned)n_lines(text));
	/* it is read again, and there is room again; what was lost is told once */
	write_numbered(l, 0, 3);
	access_log_flush(l);
	n = read(fds[0], text, sizeof(text) - 1);
	ck_assert_int_gt(n, 0);
	text[n] = '\0';
	check_numbered(text, 3);
	close(fds[0]);
	access_log_free(l); /* closes the other: it is not the real stderr */
}
END_TEST

static void in_child(void (*run)(struct access_log *l), struct access_log *l)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		run(l);
		raise(SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

static void serve_and_die(struct access_log *l)
{
	unsigned done, lost;

	write_numbered(l, 0, 3);
	done = access_log_begin(l, &peer, text_of("GET /done HTTP/1.1"), 1);
	lost = access_log_begin(l, &peer, text_of("POST /l\"ost HTTP/1.1"), 1);
	access_log_end(l, done);
	ck_assert_uint_ne(done, lost);
	for (int i = 0; i < 66; i++)
		access_log_begin(l, &peer, text_of("GET /more HTTP/1.1"), 1);
	access_log_end(l, ACCESS_FLIGHTS); /* one of those there was no room for */
}

START_TEST(test_a_crash_is_accounted_for)
{
	struct access_log_options o = {
		.sink = LOG_SINK_FILE, .fd = open_file(), .worker = 7, .slot = &slots.slots[1]};
	struct access_log *l;

	o.format = ACCESS_JSON;
	ck_assert_int_eq(access_log_new(&o, &l), 0);
	in_child(serve_and_die, l);
	ck_assert_str_eq(logged(), "");
	ck_assert_uint_eq(access_slot_salvage(&slots.slots[1], &o), 2);
	ck_assert_uint_eq(n_lines(logged()), 3 + 64);
	ck_assert_ptr_nonnull(strstr(text, "\"target\":\"/000002\""));
	ck_assert_ptr_null(strstr(text, "/done"));
	ck_assert_ptr_nonnull(strstr(text,
		"\"client\":\"192.0.2.1\",\"host\":\"\",\"method\":\"POST\",\"target\":\"/"
		"l\\\"ost\","
		"\"protocol\":\"HTTP/1.1\",\"status\":0,\"crash\":true,\"bytes\":0,"));
	/* a second time there is nothing left */
	ck_assert_uint_eq(access_slot_salvage(&slots.slots[1], &o), 0);
	ck_assert_uint_eq(n_lines(logged()), 3 + 64);
	access_log_free(l);
	unlink(path);
}
END_TEST

START_TEST(test_a_long_line_under_way_is_cut)
{
	struct access_log_options o = {.format = ACCESS_COMBINED,
		.sink = LOG_SINK_FILE,
		.fd = open_file(),
		.slot = &slots.slots[1]};
	static char big[1000];
	struct access_log *l;

	memset(big, 'x', sizeof(big));
	ck_assert_int_eq(access_log_new(&o, &l), 0);
	access_log_begin(l, &peer, (struct tine_text){big, sizeof(big)}, 1);
	access_log_end(l, access_log_begin(l, &peer, (struct tine_text){NULL, 0}, 1));
	access_slot_salvage(&slots.slots[1], &o);
	ck_assert_uint_eq(strspn(strchr(logged(), 'x'), "x"), ACCESS_LINE);
	ck_assert_ptr_nonnull(strstr(text, "x\" 000 0 \"-\" \"-\"\n"));
	access_log_free(l);
	unlink(path);
}
END_TEST

static const unsigned char fillings[] = {0xff, 0x80, 0x7f, 0x41, 0x20, 0x0d, 0x01};

/* Whatever is in the slot: no byte from outside it, no control bytes, whole lines, and it ends. */
START_TEST(test_nothing_in_a_slot_is_trusted)
{
	struct access_log_options o = {.format = ACCESS_COMBINED,
		.sink = LOG_SINK_FILE,
		.fd = open_file(),
		.slot = &slots.slots[1]};

	memset(&slots.slots[1], fillings[_i], sizeof(slots.slots[1]));
	memcpy(slots.slots[1].lines, "a\x1b[31m\0b\nc\x7f\n", 13);
	access_slot_salvage(&slots.slots[1], &o);
	ck_assert_uint_eq(slots.slots[1].used, 0);
	ck_assert_uint_eq(slots.slots[1].taken, 0);
	ck_assert_ptr_eq(strstr(logged(), "a?[31m?b\nc?\n"), text);
	for (const char *p = text; *p; p++)
		ck_assert((unsigned char)*p >= 0x20 || *p == '\n');
	/* and one for each bit of `taken` */
	ck_assert_uint_eq(n_lines(text), 2 + 8u * (unsigned)__builtin_popcount(fillings[_i]));
	close(o.fd);
	unlink(path);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_lines_wait_and_come_whole);
	tcase_add_test(tc, test_another_file);
	tcase_add_test(tc, test_a_pipe_that_nobody_reads);
	tcase_add_test(tc, test_a_crash_is_accounted_for);
	tcase_add_test(tc, test_a_long_line_under_way_is_cut);
	tcase_add_loop_test(tc, test_nothing_in_a_slot_is_trusted, 0, 7);
}

int main(void)
{
	return run_tests("access_log", add);
}

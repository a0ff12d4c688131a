/* The log: one whole line per event, untrusted text escaped, files reopened. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "run.h"

static char path[64], text[8192];

static const char *logged(void)
{
	ck_assert_int_ge(fd_read_text(path, text, sizeof(text)), 0);
	return text;
}

static void open_log(void)
{
	int fd;

	snprintf(path, sizeof(path), "/tmp/tined-test-log-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(log_open(LOG_SINK_FILE, path), 0);
	log_set_level(LOG_LVL_INFO);
	log_set_name("worker", 3);
}

static void close_log(void)
{
	log_open(LOG_SINK_STDERR, NULL);
	unlink(path);
}

START_TEST(test_a_line_says_who_and_how_bad)
{
	open_log();
	log_warning("retrying in %d ms", 400);
	ck_assert_ptr_nonnull(strstr(logged(), " warning worker[3]: retrying in 400 ms\n"));
	log_set_name("tined", -1);
	log_error("x");
	ck_assert_ptr_nonnull(strstr(logged(), " error tined: x\n"));
	close_log();
}
END_TEST

START_TEST(test_untrusted_bytes_are_escaped)
{
	open_log();
	log_info("%s", "a\nb\x1b[31m\xc3\xa9\t.");
	ck_assert_ptr_nonnull(strstr(logged(), "a\\x0ab\\x1b[31m\\xc3\\xa9\\x09.\n"));
	close_log();
}
END_TEST

START_TEST(test_long_lines_are_cut_not_split)
{
	char big[5000];

	memset(big, '\x01', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	open_log();
	log_info("%s", big);
	logged();
	ck_assert_uint_le(strlen(text), 2048);
	ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
	close_log();
}
END_TEST

START_TEST(test_levels)
{
	open_log();
	log_debug("quiet");
	ck_assert_str_eq(logged(), "");
	log_set_level(LOG_LVL_DEBUG);
	log_debug("loud");
	ck_assert_ptr_nonnull(strstr(logged(), " debug worker[3]: loud\n"));
	close_log();
}
END_TEST

START_TEST(test_reopen_follows_a_rotation)
{
	char rotated[80];

	open_log();
	log_info("one");
	snprintf(rotated, sizeof(rotated), "%s.1", path);
	ck_assert_int_eq(rename(path, rotated), 0);
	log_info("two");
	ck_assert_int_eq(log_reopen(), 0);
	log_info("three");
	logged();
	ck_assert_ptr_nonnull(strstr(text, "three"));
	ck_assert_ptr_null(strstr(text, "two"));
	unlink(rotated);
	close_log();
}
END_TEST

START_TEST(test_a_bad_path_leaves_the_old_log)
{
	open_log();
	ck_assert_int_lt(log_open(LOG_SINK_FILE, "/nonexistent/folder/log"), 0);
	log_info("still here");
	ck_assert_ptr_nonnull(strstr(logged(), "still here"));
	close_log();
}
END_TEST

START_TEST(test_a_pipe_nobody_empties_loses_lines_not_time)
{
	char drained[65536 + 1];
	int fds[2];
	ssize_t n;

	open_log();
	ck_assert_int_eq(pipe(fds), 0);
	log_set_fd(fds[1]);
	for (int i = 0; i < 5000; i++) /* far more than a pipe holds */
		log_info("line %d: some text to fill the pipe with, which nobody reads", i);
	n = read(fds[0], drained, sizeof(drained) - 1);
	ck_assert_int_gt(n, 0);
	drained[n] = '\0';
	ck_assert_ptr_nonnull(strstr(drained, "line 0: "));
	ck_assert_ptr_null(strstr(drained, "line 4999: "));
	log_info("there is room again");
	n = read(fds[0], drained, sizeof(drained) - 1);
	ck_assert_int_gt(n, 0);
	drained[n] = '\0';
	ck_assert_ptr_nonnull(strstr(drained, " lines of the log were lost\n"));
	ck_assert_ptr_nonnull(strstr(drained, "there is room again\n"));
	close(fds[0]);
	close_log();
}
END_TEST

#define LINES 2000

/* Of the log, that end with this. */
static int count_lines(const char *end)
{
	FILE *f = fopen(path, "re");
	int n = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(text, sizeof(text), f)) {
		text[strcspn(text, "\n")] = '\0';
		n += strlen(text) > strlen(end) &&
			strcmp(text + strlen(text) - strlen(end), end) == 0;
	}
	fclose(f);
	return n;
}

static void *log_lines(void *arg)
{
	for (int i = 0; i < LINES; i++)
		log_info("thread: %s", (const char *)arg);
	return NULL;
}

/* The file is replaced and the level set while others log: each line is in one of the files, and none anywhere else. */
START_TEST(test_threads_log)
{
	pthread_t threads[2];
	int fd, before;

	open_log();
	before = log_fd();
	ck_assert_int_eq(pthread_create(&threads[0], NULL, log_lines, "one"), 0);
	ck_assert_int_eq(pthread_create(&threads[1], NULL, log_lines, "two"), 0);
	for (int i = 0; i < 200; i++) {
		fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
		ck_assert_int_ge(fd, 0);
		log_set_fd(fd);
		log_set_level(LOG_LVL_INFO + i % 2);
		ck_assert_int_eq(log_fd(), before); /* a thread may be about to write there */
	}
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	log_set_level(LOG_LVL_INFO);
	ck_assert_int_eq(count_lines("thread: one"), LINES);
	ck_assert_int_eq(count_lines("thread: two"), LINES);
	close_log();
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_a_line_says_who_and_how_bad);
	tcase_add_test(tc, test_untrusted_bytes_are_escaped);
	tcase_add_test(tc, test_long_lines_are_cut_not_split);
	tcase_add_test(tc, test_levels);
	tcase_add_test(tc, test_reopen_follows_a_rotation);
	tcase_add_test(tc, test_a_pipe_nobody_empties_loses_lines_not_time);
	tcase_add_test(tc, test_threads_log);
	tcase_add_test(tc, test_a_bad_path_leaves_the_old_log);
}

int main(void)
{
	return run_tests("log", add);
}

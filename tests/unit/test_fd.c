/* Closing what a child was not given, and reading small files. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "run.h"

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* In a child: the test's own descriptors stay. Returns its exit status. */
static int in_child(int (*check)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(check());
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static int keep_two(void)
{
	int keep[] = {40, 20};

	for (int fd = 10; fd <= 50; fd += 10)
		dup2(0, fd);
	if (fd_close_except(keep, 2) != 0)
		return 1;
	if (!is_open(20) || !is_open(40) || is_open(10) || is_open(30) || is_open(50))
		return 2;
	return is_open(0) && is_open(1) && is_open(2) ? 0 : 3;
}

static int keep_neighbours_and_stdio(void)
{
	int keep[] = {4, 3, 1, 5};

	for (int fd = 3; fd <= 6; fd++)
		dup2(0, fd);
	if (fd_close_except(keep, 4) != 0)
		return 1;
	return is_open(3) && is_open(4) && is_open(5) && !is_open(6) && is_open(1) ? 0 : 2;
}

static int keep_none(void)
{
	dup2(0, 3);
	dup2(0, 700);
	return fd_close_except(NULL, 0) == 0 && !is_open(3) && !is_open(700) ? 0 : 1;
}

static int (*const closings[])(void) = {keep_two, keep_neighbours_and_stdio, keep_none};

START_TEST(test_close_except)
{
	ck_assert_int_eq(in_child(closings[_i]), 0);
}
END_TEST

START_TEST(test_read_text)
{
	char path[] = "/tmp/tined-test-fd-XXXXXX", buf[6];
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "12345", 5), 5);
	ck_assert_int_eq(fd_read_text(path, buf, 6), 5);
	ck_assert_str_eq(buf, "12345");
	ck_assert_int_eq(fd_read_text(path, buf, 5), -EFBIG);
	close(fd);
	unlink(path);
	ck_assert_int_eq(fd_read_text(path, buf, 6), -ENOENT);
}
END_TEST

START_TEST(test_take)
{
	int fd = 7;
	char *p = (char *)&fd, *before = p;

	ck_assert_int_eq(take_fd(&fd), 7);
	ck_assert_int_eq(fd, -1);
	ck_assert_ptr_eq(take_ptr(p), before);
	ck_assert_ptr_null(p);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_close_except, 0, sizeof(closings) / sizeof(*closings));
	tcase_add_test(tc, test_read_text);
	tcase_add_test(tc, test_take);
}

int main(void)
{
	return run_tests("fd", add);
}

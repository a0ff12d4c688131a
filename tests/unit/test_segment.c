/* Unit test of shared/segment.c: a child can write to its own part, and to nothing else whatever it tries. */
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"
#include "shared/segment.h"

enum { PARTS = 4, OWN = 2 };

static struct segment s;
static size_t part;

static void set_up(void)
{
	part = (size_t)sysconf(_SC_PAGESIZE);
	ck_assert_int_eq(segment_new("test", PARTS * part, &s), 0);
}

static void tear_down(void)
{
	segment_free(&s);
	segment_free(&s);
}

static char *part_of(size_t i)
{
	return (char *)s.memory + i * part;
}

/* Runs fn in a child that has its own part left; returns how it has ended: see waitpid(2). */
static int in_child(void (*fn)(size_t), size_t arg, size_t own, size_t len)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would tell of it */
		if (segment_confine(&s, part_of(own), len) < 0)
			_exit(9);
		fn(arg);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static void write_to(size_t i)
{
	memset(part_of(i), 'c', part);
}

static void make_writable(size_t i)
{
	if (mprotect(part_of(i), part, PROT_READ | PROT_WRITE) == 0)
		_exit(1);
	if (mmap(part_of(i), part, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s.fd, 0) !=
		MAP_FAILED)
		_exit(2);
}

START_TEST(test_only_its_own_part)
{
	int status;

	memset(s.memory, 'p', s.size);
	ck_assert_int_eq(in_child(write_to, OWN, OWN, part), 0);
	ck_assert_int_eq(*part_of(OWN), 'c');
	for (size_t i = 0; i < PARTS; i++) {
		if (i == OWN)
			continue;
		status = in_child(write_to, i, OWN, part);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
		ck_assert_int_eq(in_child(make_writable, i, OWN, part), 0);
		ck_assert_int_eq(*part_of(i), 'p');
	}
}
END_TEST

/* Smaller ones share a page with their neighbours. */
START_TEST(test_parts_of_pages)
{
	ck_assert_int_eq(in_child(write_to, OWN, OWN, 1), 0);
	ck_assert(WIFSIGNALED(in_child(write_to, OWN - 1, OWN, 1)));
	ck_assert(WIFSIGNALED(in_child(write_to, OWN + 1, OWN, 1)));
	ck_assert_int_eq(in_child(write_to, OWN, OWN, part + 1), 0);
	ck_assert_int_eq(in_child(write_to, OWN + 1, OWN, part + 1), 0);
}
END_TEST

START_TEST(test_nothing_of_its_own)
{
	for (size_t i = 0; i < PARTS; i++)
		ck_assert(WIFSIGNALED(in_child(write_to, i, OWN, 0)));
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_only_its_own_part);
	tcase_add_test(tc, test_parts_of_pages);
	tcase_add_test(tc, test_nothing_of_its_own);
}

int main(void)
{
	return run_tests("segment", add);
}

/* Unit test of shared/gauge.c: shares of several processes, which go with them; garbage. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/gauge.h"
#include "run.h"

#define SIZE (UINT64_C(1) << 20)

static struct arena *arena;
static struct tine_gauge *gauge;
static int fd;
static char why[ARENA_WHY_MAX];

static void setup(void)
{
	ck_assert_int_eq(arena_new(SIZE, &fd), 0);
	ck_assert_int_eq(arena_attach(fd, &arena), 0);
	ck_assert_int_eq(gauge_find(arena, "g", &gauge, why), 0);
}

static void teardown(void)
{
	arena = arena_detach(arena);
	close(fd);
}

/* What somebody sees who has no share. */
static int64_t seen_from_outside(void)
{
	struct arena_listing l = {0};
	const void *base;
	uint64_t size;
	int64_t sum;

	ck_assert_int_eq(arena_map(fd, &base, &size), 0);
	ck_assert(arena_list(base, size, &l));
	ck_assert_str_eq(l.name, "g");
	ck_assert_int_eq(l.kind, ARENA_GAUGE);
	sum = gauge_sum(fd, l.data, l.size);
	ck_assert_int_eq(gauge_sum(fd, l.data, l.size - 1), 0);
	ck_assert(!arena_list(base, size, &l));
	return sum;
}

static pid_t with_share(int64_t n)
{
	pid_t pid = fork();
	struct arena *a;
	struct tine_gauge *g;

	if (pid != 0)
		return pid;
	if (arena_attach(fd, &a) < 0 || gauge_find(a, "g", &g, why) < 0)
		_exit(EXIT_FAILURE);
	gauge_add(g, n);
	for (;;)
		pause();
}

static void wait_for_sum(int64_t sum)
{
	while (gauge_get(gauge) != sum)
		sched_yield();
}

static void kill_and_wait(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

START_TEST(test_own_share)
{
	struct tine_gauge *again = NULL;

	ck_assert_int_eq(gauge_get(gauge), 0);
	gauge_add(gauge, 5);
	gauge_add(gauge, -2);
	ck_assert_int_eq(gauge_get(gauge), 3);
	ck_assert_int_eq(gauge_find(arena, "g", &again, why), 0);
	gauge_add(again, 1); /* the same share */
	ck_assert_int_eq(gauge_get(gauge), 4);
	gauge_set(again, -7);
	ck_assert_int_eq(gauge_get(gauge), -7);
	ck_assert_int_eq(gauge_find(arena, "a b", &again, why), -EINVAL);
}
END_TEST

/* Shares go with those who had them, and their places are taken by others; far more in turn than there are places. */
START_TEST(test_the_dead_count_no_more)
{
	pid_t first, second;

	gauge_set(gauge, 100);
	first = with_share(10);
	second = with_share(-1);
	wait_for_sum(109);
	kill_and_wait(first);
	ck_assert_int_eq(gauge_get(gauge), 99);
	for (int i = 0; i < 20; i++) {
		first = with_share(20);
		wait_for_sum(119);
		kill_and_wait(first);
		ck_assert_int_eq(gauge_get(gauge), 99);
	}
	kill_and_wait(second);
	ck_assert_int_eq(gauge_get(gauge), 100);
}
END_TEST

/* From a process that has none: the share of this one, too, counts while it lives. */
START_TEST(test_from_outside)
{
	int status;
	pid_t pid;

	gauge_set(gauge, 7);
	pid = fork();
	if (pid == 0)
		_exit((int)seen_from_outside());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 7 << 8);
}
END_TEST

START_TEST(test_garbage)
{
	struct arena_request q = {.name = "g", .kind = ARENA_GAUGE};
	struct arena_listing l = {0};
	struct tine_shared *area;
	const void *base;
	uint64_t size;

	ck_assert_int_eq(arena_map(fd, &base, &size), 0);
	ck_assert(arena_list(base, size, &l));
	q.size = l.size;
	ck_assert_int_eq(arena_find(arena, &q, &area, why), 0);
	gauge_set(gauge, 7);
	memset(area->data, 0xff, area->size);
	ck_assert_int_eq(gauge_get(gauge), 0); /* nobody there lives */
	memset(area->data, 0x55, area->size);
	ck_assert_int_eq(gauge_get(gauge), 0);
	gauge_add(gauge, 1);
	ck_assert_int_eq(gauge_find(arena, "g", &gauge, why), 0);
	gauge_set(gauge, 7);
	ck_assert_int_eq(gauge_get(gauge), 7);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_own_share);
	tcase_add_test(tc, test_the_dead_count_no_more);
	tcase_add_test(tc, test_from_outside);
	tcase_add_test(tc, test_garbage);
}

int main(void)
{
	return run_tests("gauge", add);
}

/* Unit test of shared/limiter.c: both kinds, exactly, in any time; a full table; several processes; garbage. Time is a parameter. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shared/limiter.h"
#include "run.h"

#define SIZE (UINT64_C(4) << 20)
#define MS   UINT64_C(1000000) /* in nanoseconds */

static struct arena *arena;
static struct tine_limit *limit;
static struct tine_limit_answer last;
static uint64_t now; /* nanoseconds */
static int fd;
static char why[ARENA_WHY_MAX];

static void setup(void)
{
	ck_assert_int_eq(arena_new(SIZE, &fd), 0);
	ck_assert_int_eq(arena_attach(fd, &arena), 0);
	limit = NULL;
	now = UINT64_C(1234567) * 1000 * MS;
}

static void teardown(void)
{
	arena = arena_detach(arena);
	close(fd);
}

static struct tine_limit_options bucket(uint64_t amount, uint64_t period_us, uint64_t burst)
{
	return (struct tine_limit_options){.size = sizeof(struct tine_limit_options),
		.kind = TINE_LIMIT_BUCKET,
		.amount = amount,
		.period_us = period_us,
		.burst = burst,
		.keys = 100};
}

static struct tine_limit_options window(uint64_t amount, uint64_t period_us)
{
	struct tine_limit_options o = bucket(amount, period_us, 0);

	o.kind = TINE_LIMIT_WINDOW;
	return o;
}

static void open_limit(struct tine_limit_options o)
{
	ck_assert_msg(limiter_find(arena, "limit", &o, &limit, why) == 0, "%s", why);
}

static int take(const char *key, uint64_t cost)
{
	return limiter_take(limit, key, strlen(key), cost, now, &last);
}

START_TEST(test_bucket)
{
	open_limit(bucket(10, US_PER_S, 5)); /* one each 100 ms, 5 at once */
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(take("a", 1), 0);
		ck_assert_uint_eq(last.left, 4 - i);
		ck_assert_uint_eq(last.retry_us, 0);
	}
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	ck_assert_uint_eq(last.left, 0);
	ck_assert_uint_eq(last.retry_us, 100000);
	ck_assert_int_eq(take("b", 5), 0); /* another key has its own */
	now += 100 * MS - 1;
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	ck_assert_uint_eq(last.retry_us, 1);
	now += 1;
	ck_assert_int_eq(take("a", 1), 0);
	ck_assert_int_eq(take("a", 3), TINE_LIMITED);
	ck_assert_uint_eq(last.retry_us, 300000);
	now += 10000 * MS; /* full again, and no more than full */
	ck_assert_int_eq(take("a", 0), 0);
	ck_assert_uint_eq(last.left, 5);
	ck_assert_int_eq(take("a", 6), -E2BIG);
	ck_assert_int_eq(take("a", 5), 0);
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
}
END_TEST

START_TEST(test_window)
{
	open_limit(window(3, US_PER_S));
	now = now / (1000 * MS) * (1000 * MS) + 400 * MS; /* 600 ms before the next one */
	ck_assert_int_eq(take("a", 2), 0);
	ck_assert_uint_eq(last.left, 1);
	ck_assert_int_eq(take("a", 2), TINE_LIMITED);
	ck_assert_uint_eq(last.left, 1);
	ck_assert_uint_eq(last.retry_us, 600000);
	ck_assert_int_eq(take("a", 1), 0);
	ck_assert_int_eq(take("b", 3), 0);
	now += 600 * MS - 1;
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	ck_assert_uint_eq(last.retry_us, 1);
	now += 1;
	ck_assert_int_eq(take("a", 3), 0);
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	ck_assert_int_eq(take("a", 4), -E2BIG);
}
END_TEST

/* A worker that read the clock just before the border comes last: it does not undo what was taken behind it. */
START_TEST(test_late_for_a_window)
{
	open_limit(window(3, US_PER_S));
	now = now / (1000 * MS) * (1000 * MS);
	ck_assert_int_eq(take("a", 3), 0);
	now -= 1;
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	ck_assert_uint_eq(last.retry_us, US_PER_S + 1); /* rounded up */
	now += 1;
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	now += 1000 * MS - 1;
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	now += 1;
	ck_assert_int_eq(take("a", 3), 0);
}
END_TEST

/* Looking takes nothing, and no room. */
START_TEST(test_look)
{
	char key[16];

	open_limit(bucket(10, US_PER_S, 0));
	for (int i = 0; i < 10000; i++) {
		snprintf(key, sizeof(key), "%d", i);
		ck_assert_int_eq(take(key, 0), 0);
		ck_assert_uint_eq(last.left, 10);
	}
	ck_assert_uint_eq(limiter_forgotten(limit), 0);
	ck_assert_int_eq(limiter_take(limit, "a", 1, 1, now, NULL), 0);
}
END_TEST

/* What is said about when it will be allowed is true to the microsecond, for all rates. */
START_TEST(test_retry_is_true)
{
	static const struct {
		uint64_t amount, period_us, burst;
	} rates[] = {{1, US_PER_S, 1}, {3, US_PER_S, 2}, {7, 60 * US_PER_S, 7},
		{1000000, US_PER_S, 10}, {999, 1000, 3}, {1, UINT64_C(366) * 86400 * US_PER_S, 1},
		{1000000000, 1000 * US_PER_S, 1000000000}};

	for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
		open_limit(bucket(rates[i].amount, rates[i].period_us, rates[i].burst));
		for (unsigned j = 0; j < 100; j++) {
			uint64_t retry_us;

			if (take("a", 1 + j % rates[i].burst) == 0)
				continue;
			retry_us = last.retry_us;
			ck_assert_uint_gt(retry_us, 0);
			now += retry_us * 1000 - 1000; /* one microsecond early */
			ck_assert_int_eq(take("a", 1 + j % rates[i].burst), TINE_LIMITED);
			now += 1000;
			ck_assert_int_eq(take("a", 1 + j % rates[i].burst), 0);
		}
		now += UINT64_C(5) * 366 * 86400 * 1000 * MS;
	}
}
END_TEST

/* Over a long time a greedy key gets what it may, within the rounding of the interval. */
START_TEST(test_rate)
{
	uint64_t n = 0, until = now + 100000 * MS;

	open_limit(bucket(700, US_PER_S, 10));
	for (; now < until; now += MS / 3)
		n += take("a", 1) == 0;
	ck_assert_uint_ge(n, 70000);
	ck_assert_uint_le(n, 70000 + 11);
}
END_TEST

START_TEST(test_options)
{
	static const struct {
		struct tine_limit_options o;
		const char *why;
	} bad[] = {
		{{.size = 8}, "build the module anew"},
		{{.size = sizeof(struct tine_limit_options) - 1}, "build the module anew"},
		{{.kind = 7, .amount = 1, .period_us = 1000, .keys = 1}, "no kind 7"},
		{{.period_us = 1000, .keys = 1}, "amount and burst"},
		{{.amount = 1000000001, .period_us = 2000000000, .keys = 1}, "amount and burst"},
		{{.amount = 1, .period_us = 999, .keys = 1}, "the period"},
		{{.amount = 1, .period_us = UINT64_MAX, .keys = 1}, "the period"},
		{{.amount = 1, .period_us = 1000}, "keys must be"},
		{{.amount = 1, .period_us = 1000, .keys = (1 << 24) + 1}, "keys must be"},
		{{.amount = 1001, .period_us = 1000, .keys = 1}, "every microsecond"},
		{{.kind = TINE_LIMIT_WINDOW, .amount = 1, .period_us = 1000, .burst = 1, .keys = 1},
			"no burst"},
		{{.amount = 1, .period_us = UINT64_C(86400000000), .burst = 1000000000, .keys = 1},
			"four years"},
		{{.amount = 1, .period_us = 1000, .keys = 1 << 24},
			"raise [workers] shared_memory"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct tine_limit_options o = bad[i].o;
		int r;

		o.size = o.size ? o.size : sizeof(o);
		r = limiter_find(arena, "limit", &o, &limit, why);
		ck_assert_int_lt(r, 0);
		ck_assert_ptr_null(limit);
		ck_assert_msg(strstr(why, bad[i].why) && strstr(why, "\"limit\""), "%s", why);
	}
}
END_TEST

/* A reload may change the amount: what was counted stays. Another number of keys begins anew. */
START_TEST(test_found_again)
{
	struct tine_limit_options o = bucket(10, US_PER_S, 0);

	open_limit(o);
	ck_assert_int_eq(take("a", 10), 0);
	open_limit(bucket(20, US_PER_S, 10)); /* in half the time */
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	now += 600 * MS;
	ck_assert_int_eq(take("a", 1), 0);
	open_limit(bucket(10, US_PER_S, 0));
	ck_assert_int_eq(take("a", 10), TINE_LIMITED);
	o.keys = 1000;
	open_limit(o);
	ck_assert_int_eq(take("a", 10), 0);
	open_limit(window(10, US_PER_S));
	ck_assert_int_eq(take("a", 10), 0);
}
END_TEST

static void take_many(unsigned first, unsigned n, int result)
{
	char key[16];

	for (unsigned i = first; i < first + n; i++) {
		snprintf(key, sizeof(key), "key%u", i);
		ck_assert_int_eq(take(key, 1), result);
	}
}

static struct tine_limit_options with_keys(struct tine_limit_options o, uint64_t keys)
{
	o.keys = keys;
	return o;
}

/* As many keys as were asked for have room, at the same time, and others again when those mean nothing any more. */
START_TEST(test_room)
{
	const unsigned n = 8000;

	for (int kind = 0; kind < 2; kind++) {
		now = now / (1000 * MS) * (1000 * MS);
		open_limit(with_keys(kind ? window(1, US_PER_S) : bucket(1, US_PER_S, 0), n));
		take_many(0, n, 0);
		/* the hash is a secret one, so it can be one or the other that had none */
		ck_assert_uint_le(limiter_forgotten(limit), n / 500);
		if (limiter_forgotten(limit) == 0)
			take_many(0, n, TINE_LIMITED);
		for (unsigned i = 1; i < 10; i++) {
			now += 1000 * MS;
			take_many(i * n, n, 0);
		}
		ck_assert_uint_le(limiter_forgotten(limit), n / 50);
	}
}
END_TEST

/* Far too many: nobody is refused because of others, and who is refused for himself stays so. */
START_TEST(test_full)
{
	open_limit(with_keys(bucket(2, 100 * US_PER_S, 4), 1)); /* a single bucket of 16 */
	ck_assert_int_eq(take("greedy", 4), 0);
	ck_assert_int_eq(take("greedy", 1), TINE_LIMITED);
	take_many(0, 15, 0);
	ck_assert_uint_eq(limiter_forgotten(limit), 0);
	take_many(15, 1000, 0);
	ck_assert_uint_eq(limiter_forgotten(limit), 1000);
	ck_assert_int_eq(take("greedy", 1), TINE_LIMITED);
}
END_TEST

/* --- processes --- */

#define N_PROCESSES 4
#define N_TRIES     100000
#define MOST        200000

/* What the processes of a test share beside the limit. */
static struct tallies {
	_Atomic unsigned n_ready, n_allowed;
} * open_tallies(struct arena *a)
{
	struct arena_request q = {
		.name = "tallies", .kind = ARENA_AREA, .size = sizeof(struct tallies)};
	struct tine_shared *area;

	return arena_find(a, &q, &area, why) == 0 ? area->data : NULL;
}

static void be_greedy(void)
{
	struct tine_limit_options o = bucket(MOST, UINT64_C(1000) * US_PER_S, 0);
	struct arena *a;
	struct tallies *t;
	unsigned n = 0;

	if (arena_attach(fd, &a) < 0 || limiter_find(a, "limit", &o, &limit, why) < 0)
		_exit(EXIT_FAILURE);
	t = open_tallies(a);
	t->n_ready++;
	while (t->n_ready < N_PROCESSES)
		sched_yield();
	for (int i = 0; i < N_TRIES; i++)
		n += take("a", 1) == 0;
	t->n_allowed += n;
	_exit(EXIT_SUCCESS);
}

/* Together they get what one may, to the last unit: a key that has its place is counted exactly. */
START_TEST(test_processes)
{
	pid_t pids[N_PROCESSES];
	int status;

	open_limit(bucket(MOST, UINT64_C(1000) * US_PER_S, 0));
	ck_assert_int_eq(take("a", 1), 0); /* it has its place */
	for (int i = 0; i < N_PROCESSES; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			be_greedy();
	}
	for (int i = 0; i < N_PROCESSES; i++) {
		ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
		ck_assert_int_eq(status, 0);
	}
	ck_assert_uint_eq(open_tallies(arena)->n_allowed, MOST - 1);
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
}
END_TEST

static void take_until_killed(void)
{
	struct tine_limit_options o = bucket(500, US_PER_S, 500);
	struct arena *a;
	char key[24];

	if (arena_attach(fd, &a) < 0 || limiter_find(a, "limit", &o, &limit, why) < 0)
		_exit(255);
	for (unsigned i = 0;; i++) {
		snprintf(key, sizeof(key), "%u", i % 5000);
		now = now_ns();
		take(key, 1);
	}
}

/* Killed anywhere: nobody waits for anything they had. */
START_TEST(test_killed_anywhere)
{
	open_limit(bucket(500, US_PER_S, 500));
	for (int i = 0; i < 50; i++) {
		uint64_t forgotten = limiter_forgotten(limit);
		pid_t pid = fork();
		char mine[24];
		int status;

		if (pid == 0)
			take_until_killed();
		while (limiter_forgotten(limit) < forgotten + 100)
			;
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		snprintf(mine, sizeof(mine), "mine%d", i);
		now = now_ns();
		ck_assert_int_eq(take(mine, 500), 0);
		ck_assert_int_eq(take(mine, 1), TINE_LIMITED);
		now += 2 * MS;
		ck_assert_int_eq(take(mine, 1), 0);
	}
}
END_TEST

/* A number no rule can have led to, in the key's own entry: refused until the bucket would be full again, and no longer. */
START_TEST(test_far_future)
{
	struct arena_request q = {.name = "limit", .suffix = "#b16", .kind = ARENA_LIMIT};
	struct tine_shared *area;
	uint64_t *words;

	open_limit(bucket(10, US_PER_S, 0));
	ck_assert_int_eq(take("a", 1), 0);
	q.size = 64 + 16 * 16 * 16;
	ck_assert_int_eq(arena_find(arena, &q, &area, why), 0);
	words = area->data;
	for (size_t i = 8; i < area->size / 8; i += 2)
		if (words[i] != 0)
			words[i + 1] = UINT64_MAX;
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	ck_assert_uint_eq(last.retry_us, 100000);
	now += 100 * MS;
	ck_assert_int_eq(take("a", 1), 0);
	now += 1000 * MS;
	ck_assert_int_eq(take("a", 10), 0);
	open_limit(bucket(10, US_PER_S, 0));
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	/* a much smaller one: nobody pays off what the larger one let him take */
	open_limit(bucket(1, UINT64_C(3600) * US_PER_S, 0));
	now += UINT64_C(3600000) * MS;
	ck_assert_int_eq(take("a", 1), 0);
	open_limit(bucket(1, US_PER_S, 0));
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	now += 1000 * MS;
	ck_assert_int_eq(take("a", 1), 0);
}
END_TEST

/* The same for a window: refused until it is over. */
START_TEST(test_far_too_much)
{
	struct arena_request q = {.name = "limit", .suffix = "#w16", .kind = ARENA_LIMIT};
	struct tine_shared *area;
	uint64_t *words;

	open_limit(window(10, US_PER_S));
	ck_assert_int_eq(take("a", 1), 0);
	q.size = 64 + 16 * 16 * 16;
	ck_assert_int_eq(arena_find(arena, &q, &area, why), 0);
	words = area->data;
	for (size_t i = 8; i < area->size / 8; i += 2)
		words[i + 1] |= UINT32_MAX;
	ck_assert_int_eq(take("a", 1), TINE_LIMITED);
	ck_assert_uint_eq(last.left, 0);
	ck_assert_uint_le(last.retry_us, US_PER_S);
	now += last.retry_us * 1000;
	ck_assert_int_eq(take("a", 10), 0);
}
END_TEST

/* Anything at all in the table: an answer, and all is well again after one period. */
START_TEST(test_garbage)
{
	struct arena_request q = {.name = "limit", .suffix = "#b16", .kind = ARENA_LIMIT};
	struct tine_shared *area;
	unsigned seed = 1;

	open_limit(bucket(10, US_PER_S, 0));
	q.size = 64 + 16 * 16 * 16; /* the head, and 16 buckets of 16 entries */
	ck_assert_msg(arena_find(arena, &q, &area, why) == 0, "%s", why);
	for (int kind = 0; kind < 2; kind++) {
		for (int i = 0; i < 200; i++) {
			for (size_t j = 0; j < area->size; j++) {
				seed = seed * 1664525 + 1013904223;
				((unsigned char *)area->data)[j] =
					i == 0 ? 0xff : (unsigned char)(seed >> 24);
			}
			for (int k = 0; k < 20; k++)
				ck_assert_int_ge(take(k % 2 ? "a" : "b", 1), 0);
			ck_assert_uint_le(last.left, 10);
			ck_assert_uint_le(last.retry_us, US_PER_S);
			now += 1000 * MS;
			ck_assert_int_eq(take("a", 10), 0);
			ck_assert_int_eq(take("a", 1), TINE_LIMITED);
		}
		open_limit(window(10, US_PER_S));
		q.suffix = "#w16";
		ck_assert_int_eq(arena_find(arena, &q, &area, why), 0);
	}
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_bucket);
	tcase_add_test(tc, test_window);
	tcase_add_test(tc, test_late_for_a_window);
	tcase_add_test(tc, test_look);
	tcase_add_test(tc, test_retry_is_true);
	tcase_add_test(tc, test_rate);
	tcase_add_test(tc, test_options);
	tcase_add_test(tc, test_found_again);
	tcase_add_test(tc, test_room);
	tcase_add_test(tc, test_full);
	tcase_add_test(tc, test_processes);
	tcase_add_test(tc, test_killed_anywhere);
	tcase_add_test(tc, test_far_future);
	tcase_add_test(tc, test_far_too_much);
	tcase_add_test(tc, test_garbage);
}

int main(void)
{
	return run_tests("limiter", add);
}

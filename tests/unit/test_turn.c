/* base/turn.c: how long turns of the loop worked, marked ones and those that nobody marked. */
#include <event2/event.h>
#include <stdbool.h>
#include <string.h>

#include "base/loop.h"
#include "base/turn.h"
#include "run.h"

#define LONG_US (20 * US_PER_MS)
#define WAIT_US 20000 /* to which libevent's own clock adds or takes a few milliseconds */

static struct event_base *base;
static bool marks; /* whether the callback that works says so */

static void set_up(void)
{
	memset(&turn, 0, sizeof(turn));
	ck_assert_int_eq(loop_new(&base), 0);
}

static void tear_down(void)
{
	event_base_free(base);
}

static void spin(uint64_t us)
{
	uint64_t end = clock_us(CLOCK_THREAD_CPUTIME_ID) + us;

	while (clock_us(CLOCK_THREAD_CPUTIME_ID) < end)
		;
}

static void on_work(evutil_socket_t fd, short what, void *arg)
{
	if (marks)
		turn_mark();
	spin(LONG_US);
}

static void on_rest(evutil_socket_t fd, short what, void *arg)
{
	if (marks)
		turn_mark();
}

/* One turn of the loop that waits for WAIT_US, then calls fn. Returns for how long it worked. */
static uint64_t one_turn(event_callback_fn fn)
{
	static const struct timeval soon = {0, WAIT_US};

	event_base_once(base, -1, EV_TIMEOUT, fn, NULL, &soon);
	event_base_loop(base, EVLOOP_ONCE);
	return turn_end(now_us());
}

START_TEST(marks_are_of_one_turn)
{
	uint64_t begun = turn_mark();

	ck_assert_uint_gt(begun, 0);
	spin(2000);
	ck_assert_uint_eq(turn_mark(), begun);
	ck_assert_uint_eq(turn_end(begun + 70), 70);
	ck_assert_uint_gt(turn_mark(), begun);
	ck_assert_uint_eq(turn.watch, 0); /* no CPU clock is read in such turns */
}
END_TEST

START_TEST(what_was_marked_before_a_fork_is_forgotten)
{
	turn_mark();
	turn_forget();
	ck_assert_uint_eq(turn_end(now_us()), 0);
}
END_TEST

START_TEST(marked_turn_counts_work_and_not_waiting)
{
	uint64_t before = now_us(), us;

	marks = true;
	us = one_turn(on_work);
	ck_assert_uint_ge(us, LONG_US);
	ck_assert_uint_le(us + WAIT_US / 2, now_us() - before);
}
END_TEST

START_TEST(turns_of_others_count_their_cpu_time)
{
	uint64_t us;

	marks = false;
	one_turn(on_rest); /* of the first one nothing is known */
	us = one_turn(on_work);
	ck_assert_uint_ge(us, LONG_US);
	us = one_turn(on_rest);
	ck_assert_uint_lt(
		us, WAIT_US / 2); /* it has waited for so long, and spent next to nothing */
}
END_TEST

START_TEST(first_turn_of_others_counts_nothing)
{
	marks = false;
	ck_assert_uint_eq(one_turn(on_work), 0);
	ck_assert_uint_gt(turn.watch, 0);
}
END_TEST

START_TEST(work_before_the_mark_is_counted_while_there_are_others)
{
	uint64_t us;

	marks = false;
	one_turn(on_rest);
	on_work(-1, 0, NULL);
	turn_mark();
	us = turn_end(now_us());
	ck_assert_uint_ge(us, LONG_US);
}
END_TEST

START_TEST(others_are_forgotten)
{
	marks = false;
	one_turn(on_rest);
	for (unsigned n = turn.watch; n > 0; n--) {
		ck_assert_uint_eq(turn.watch, n);
		turn_mark();
		turn_end(now_us());
	}
	ck_assert_uint_eq(turn.watch, 0);
	one_turn(on_work);
	ck_assert_uint_gt(turn.watch, 0);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, marks_are_of_one_turn);
	tcase_add_test(tc, what_was_marked_before_a_fork_is_forgotten);
	tcase_add_test(tc, marked_turn_counts_work_and_not_waiting);
	tcase_add_test(tc, turns_of_others_count_their_cpu_time);
	tcase_add_test(tc, first_turn_of_others_counts_nothing);
	tcase_add_test(tc, work_before_the_mark_is_counted_while_there_are_others);
	tcase_add_test(tc, others_are_forgotten);
}

int main(void)
{
	return run_tests("turn", add);
}

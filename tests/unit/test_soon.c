/* runtime/soon.c and runtime/slices.c: calls at the end of the turn, and long walks made of them. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <tine/errors.h>

#include "base/clock.h"
#include "base/turn.h"
#include "run.h"
#include "runtime/slices.h"
#include "runtime/soon.h"

#define N_MANY 100000

static struct soon soon;
static unsigned order[64], n_order, n_calls;

static void setup(void)
{
	memset(&soon, 0, sizeof(soon));
	n_order = n_calls = 0;
}

static void teardown(void)
{
	soon_finish(&soon);
	turn_end(now_us());
}

static void note(void *arg)
{
	order[n_order++] = *(unsigned *)arg;
}

static void on_call(void *arg)
{
	n_calls++;
}

static void add_again(void *arg)
{
	note(arg);
	ck_assert_int_eq(soon_add(&soon, add_again, arg), 0);
}

static void take_a_while(void *arg)
{
	uint64_t end = now_us() + 300;

	n_calls++;
	while (now_us() < end)
		;
}

START_TEST(test_order)
{
	unsigned a = 1, b = 2;

	ck_assert(!soon_end_turn(&soon));
	ck_assert_int_eq(soon_add(&soon, note, &a), 0);
	ck_assert_int_eq(soon_add(&soon, note, &b), 0);
	ck_assert_int_eq(soon_add(&soon, note, &a), 0);
	ck_assert_uint_eq(n_order, 0);
	ck_assert(!soon_end_turn(&soon));
	ck_assert_uint_eq(n_order, 3);
	ck_assert_mem_eq(order, ((unsigned[]){1, 2, 1}), 3 * sizeof(unsigned));
}
END_TEST

/* What calls add is for the next turn, which is not to wait. */
START_TEST(test_those_that_are_added)
{
	unsigned a = 1, b = 2;

	ck_assert_int_eq(soon_add(&soon, add_again, &a), 0);
	ck_assert_int_eq(soon_add(&soon, note, &b), 0);
	ck_assert(soon_end_turn(&soon));
	ck_assert_uint_eq(n_order, 2);
	ck_assert(soon_end_turn(&soon));
	ck_assert_uint_eq(n_order, 3);
	ck_assert_uint_eq(order[2], 1);
	ck_assert_uint_eq(soon_cancel(&soon, add_again, &a), 1);
	ck_assert(!soon_end_turn(&soon));
	ck_assert_uint_eq(n_order, 3);
}
END_TEST

START_TEST(test_cancel)
{
	unsigned a = 1, b = 2;

	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(soon_add(&soon, note, &a), 0);
		ck_assert_int_eq(soon_add(&soon, note, &b), 0);
	}
	ck_assert_uint_eq(soon_cancel(&soon, note, &a), 2);
	ck_assert_uint_eq(soon_cancel(&soon, note, &a), 0);
	ck_assert_uint_eq(soon_cancel(&soon, on_call, &b), 0);
	ck_assert(!soon_end_turn(&soon));
	ck_assert_uint_eq(n_order, 2);
	ck_assert_uint_eq(order[0] + order[1], 4);
}
END_TEST

static void cancel_and_add(void *arg)
{
	note(arg);
	ck_assert_uint_eq(soon_cancel(&soon, on_call, NULL), 2);
	ck_assert_int_eq(soon_add(&soon, note, arg), 0);
}

/* By another call of the same turn, which has only its own left then, and takes no room of the next one. */
START_TEST(test_cancel_within_a_turn)
{
	unsigned a = 1, b = 2;

	ck_assert_int_eq(soon_add(&soon, cancel_and_add, &a), 0);
	ck_assert_int_eq(soon_add(&soon, on_call, NULL), 0);
	ck_assert_int_eq(soon_add(&soon, note, &b), 0);
	ck_assert_int_eq(soon_add(&soon, on_call, NULL), 0);
	ck_assert(soon_end_turn(&soon));
	ck_assert_uint_eq(n_order, 2);
	ck_assert_uint_eq(soon.n, 1);
	ck_assert(!soon_end_turn(&soon));
	ck_assert_mem_eq(order, ((unsigned[]){1, 2, 1}), 3 * sizeof(unsigned));
	ck_assert_uint_eq(n_calls, 0);
}
END_TEST

/* However many there are, and long: others get their turn in between. */
START_TEST(test_long_calls_are_spread_over_turns)
{
	unsigned n_turns = 1;

	for (int i = 0; i < 160; i++)
		ck_assert_int_eq(soon_add(&soon, take_a_while, NULL), 0);
	while (soon_end_turn(&soon))
		n_turns++;
	ck_assert_uint_eq(n_calls, 160);
	ck_assert_uint_ge(n_turns, 160 / 16);
}
END_TEST

START_TEST(test_very_many)
{
	int r = 0;

	for (int i = 0; i < N_MANY; i++)
		ck_assert_int_eq(soon_add(&soon, on_call, NULL), 0);
	while (soon_end_turn(&soon))
		;
	ck_assert_uint_eq(n_calls, N_MANY);
	ck_assert_uint_eq(soon.size, 0); /* the memory is given back */
	n_calls = 0;
	while (r == 0 && soon.n <= 1u << 20)
		r = soon_add(&soon, on_call, NULL);
	ck_assert_int_eq(r, TINE_E_FULL);
	ck_assert_uint_eq(soon.n, 1u << 20);
	ck_assert_uint_eq(soon_cancel(&soon, on_call, NULL), 1u << 20);
	ck_assert_int_eq(soon_add(&soon, on_call, NULL), 0); /* none of them waits any more */
}
END_TEST

static void add_too_late(void *arg)
{
	n_calls++;
	ck_assert_int_eq(soon_add(&soon, add_too_late, arg), TINE_E_CLOSED);
}

START_TEST(test_the_end)
{
	ck_assert_int_eq(soon_add(&soon, add_too_late, NULL), 0);
	ck_assert_int_eq(soon_add(&soon, on_call, NULL), 0);
	soon_finish(&soon);
	ck_assert_uint_eq(n_calls, 2);
	ck_assert_int_eq(soon_add(&soon, on_call, NULL), TINE_E_CLOSED);
}
END_TEST

/* --- slices --- */

static struct walk {
	struct tine_slices *handle;
	size_t next, fail_at, cancel_at;
	unsigned n_steps, n_done, us;
	size_t longest;
	int error, status;
} walk;

static int on_step(size_t begin, size_t end, void *arg)
{
	struct walk *w = arg;
	uint64_t until = now_us() + w->us * (end - begin);

	ck_assert_uint_eq(begin, w->next);
	ck_assert_uint_lt(begin, end);
	w->next = end;
	w->n_steps++;
	w->longest = end - begin > w->longest ? end - begin : w->longest;
	while (w->us > 0 && now_us() < until)
		;
	if (w->cancel_at > 0 && end >= w->cancel_at)
		slices_cancel(w->handle);
	return w->fail_at > 0 && end >= w->fail_at ? w->error : 0;
}

static void on_done(int status, void *arg)
{
	struct walk *w = arg;

	w->status = status;
	w->n_done++;
}

static void start(size_t n, size_t count, uint64_t budget_us)
{
	struct slices_options o = {.n = n,
		.count = count,
		.budget_us = budget_us,
		.step = on_step,
		.done = on_done,
		.arg = &walk};

	ck_assert_int_eq(slices_start(&soon, &o, &walk.handle), 0);
	ck_assert_uint_eq(walk.n_steps + walk.n_done, 0);
}

static unsigned turns(void)
{
	unsigned n = 1;

	while (soon_end_turn(&soon))
		n++;
	ck_assert_uint_eq(walk.n_done, 1);
	return n;
}

static const struct {
	size_t n, count;
	uint64_t budget_us;
	unsigned us; /* that an element takes */
	unsigned turns, steps_least, steps_most;
	size_t longest; /* slice, at most */
} walks[] = {
	{10, 3, 0, 0, 4, 4, 4, 3},
	{0, 3, 0, 0, 1, 0, 0, 0},
	/* Long elements are taken one by one, and a turn ends with the first that is over the time. */
	{10, 0, 500, 500, 10, 10, 10, 1},
	/* Cheap ones in few steps. */
	{N_MANY, 0, 60 * US_PER_S, 0, 1, 1, 19, N_MANY},
	/* By both; and in many slices, each of which takes less time than there is. */
	{100, 30, 60 * US_PER_S, 0, 4, 4, 100, 30},
	{1000, 10, 60 * US_PER_S, 0, 100, 100, 1000, 10},
};

START_TEST(test_slices)
{
	walk = (struct walk){.status = 1, .us = walks[_i].us};
	start(walks[_i].n, walks[_i].count, walks[_i].budget_us);
	ck_assert_uint_eq(turns(), walks[_i].turns);
	ck_assert_uint_ge(walk.n_steps, walks[_i].steps_least);
	ck_assert_uint_le(walk.n_steps, walks[_i].steps_most);
	ck_assert_uint_le(walk.longest, walks[_i].longest);
	ck_assert_uint_eq(walk.next, walks[_i].n);
	ck_assert_int_eq(walk.status, 0);
}
END_TEST

START_TEST(test_slices_fail)
{
	static const int errors[] = {-EILSEQ, TINE_E_CLOSED, TINE_E_FULL};

	walk = (struct walk){.status = 1, .fail_at = 6, .error = errors[_i]};
	start(10, 3, 0);
	ck_assert_uint_eq(turns(), 2);
	ck_assert_int_eq(walk.status, errors[_i]);
	ck_assert_uint_eq(walk.next, 6);
}
END_TEST

START_TEST(test_slices_cancel)
{
	walk = (struct walk){.status = 1};
	start(10, 3, 0);
	ck_assert(soon_end_turn(&soon));
	slices_cancel(walk.handle);
	ck_assert_uint_eq(walk.n_done, 0); /* never from within */
	turns();
	ck_assert_int_eq(walk.status, TINE_E_CANCELED);
	ck_assert_uint_eq(walk.next, 3);

	walk = (struct walk){.status = 1, .cancel_at = 4}; /* from within a step */
	start(10, 0, 60 * US_PER_S);
	turns();
	ck_assert_int_eq(walk.status, TINE_E_CANCELED);
	ck_assert_uint_lt(walk.next, 10);
}
END_TEST

START_TEST(test_slices_at_the_end)
{
	walk = (struct walk){.status = 1};
	start(10, 3, 0);
	ck_assert(soon_end_turn(&soon));
	soon_finish(&soon);
	ck_assert_uint_eq(walk.n_done, 1);
	ck_assert_int_eq(walk.status, TINE_E_CANCELED);
	ck_assert_uint_eq(walk.next, 3);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_order);
	tcase_add_test(tc, test_those_that_are_added);
	tcase_add_test(tc, test_cancel);
	tcase_add_test(tc, test_cancel_within_a_turn);
	tcase_add_test(tc, test_long_calls_are_spread_over_turns);
	tcase_add_test(tc, test_very_many);
	tcase_add_test(tc, test_the_end);
	tcase_add_loop_test(tc, test_slices, 0, sizeof(walks) / sizeof(walks[0]));
	tcase_add_loop_test(tc, test_slices_fail, 0, 3);
	tcase_add_test(tc, test_slices_cancel);
	tcase_add_test(tc, test_slices_at_the_end);
}

int main(void)
{
	return run_tests("soon", add);
}

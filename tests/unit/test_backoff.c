/* Back-off and crash budget, with time and chance as parameters. */
#include "base/backoff.h"
#include "base/clock.h"
#include "run.h"

static const struct backoff_limits limits = {
	.min_us = 100 * US_PER_MS, .max_us = 2 * US_PER_S, .budget = {10, 60 * US_PER_S}};

START_TEST(test_first_failure_is_free)
{
	struct backoff b = {0};

	ck_assert_uint_eq(backoff_failed(&b, &limits, true, US_PER_S, 0), 0);
}
END_TEST

START_TEST(test_delays_double_up_to_the_bound)
{
	/* chance 0 gives the least delay: three quarters of the nominal one */
	static const uint64_t nominal_ms[] = {0, 100, 200, 400, 800, 1600, 2000, 2000};
	struct backoff b = {0};
	uint64_t now = US_PER_S;

	for (size_t i = 0; i < sizeof(nominal_ms) / sizeof(*nominal_ms); i++) {
		uint64_t delay = backoff_failed(&b, &limits, false, now, 0);

		ck_assert_uint_eq(delay, nominal_ms[i] * US_PER_MS * 3 / 4);
		now += US_PER_S;
	}
}
END_TEST

START_TEST(test_jitter_stays_within_a_quarter)
{
	for (uint32_t chance = 0; chance < 200000; chance += 997) {
		struct backoff b = {.streak = 1};
		uint64_t delay = backoff_failed(&b, &limits, false, US_PER_S, chance);

		ck_assert_uint_ge(delay, 75 * US_PER_MS);
		ck_assert_uint_le(delay, 125 * US_PER_MS);
	}
}
END_TEST

START_TEST(test_a_healthy_run_ends_the_streak)
{
	struct backoff b = {0};

	backoff_failed(&b, &limits, false, US_PER_S, 0);
	ck_assert_uint_gt(backoff_failed(&b, &limits, false, 2 * US_PER_S, 0), 0);
	ck_assert_uint_eq(backoff_failed(&b, &limits, true, 30 * US_PER_S, 0), 0);
}
END_TEST

START_TEST(test_the_budget_is_spent_by_one_more_than_it_allows)
{
	struct backoff b = {0};
	uint64_t now = 5 * US_PER_S;

	for (int i = 0; i < 10; i++, now += US_PER_S)
		ck_assert_uint_ne(backoff_failed(&b, &limits, true, now, 0), BACKOFF_SPENT);
	ck_assert_uint_eq(backoff_failed(&b, &limits, true, now, 0), BACKOFF_SPENT);
}
END_TEST

START_TEST(test_the_window_slides)
{
	struct backoff b = {0};
	uint64_t now = US_PER_S;

	/* one failure every 7 seconds is fewer than 10 in any minute: for ever allowed */
	for (int i = 0; i < 1000; i++, now += 7 * US_PER_S)
		ck_assert_uint_ne(backoff_failed(&b, &limits, true, now, 0), BACKOFF_SPENT);
	/* ten at the end of one window and ten at the beginning of the next are too many */
	b = (struct backoff){0};
	now = US_PER_S;
	backoff_failed(&b, &limits, true, now, 0);
	now += 55 * US_PER_S;
	for (int i = 0; i < 9; i++)
		ck_assert_uint_ne(backoff_failed(&b, &limits, true, now, 0), BACKOFF_SPENT);
	now += 6 * US_PER_S;
	ck_assert_uint_ne(backoff_failed(&b, &limits, true, now, 0), BACKOFF_SPENT);
	ck_assert_uint_eq(backoff_failed(&b, &limits, true, now, 0), BACKOFF_SPENT);
}
END_TEST

START_TEST(test_no_budget_means_no_limit_and_large_ones_work)
{
	struct backoff_limits l = limits;
	struct backoff b = {0};

	l.budget.count = 0;
	for (int i = 0; i < 1000; i++)
		ck_assert_uint_ne(backoff_failed(&b, &l, true, US_PER_S, 0), BACKOFF_SPENT);
	l.budget.count = 100000;
	backoff_reset(&b);
	for (int i = 0; i < 100000; i++)
		ck_assert_uint_ne(backoff_failed(&b, &l, true, US_PER_S, 0), BACKOFF_SPENT);
	ck_assert_uint_eq(backoff_failed(&b, &l, true, US_PER_S, 0), BACKOFF_SPENT);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_first_failure_is_free);
	tcase_add_test(tc, test_delays_double_up_to_the_bound);
	tcase_add_test(tc, test_jitter_stays_within_a_quarter);
	tcase_add_test(tc, test_a_healthy_run_ends_the_streak);
	tcase_add_test(tc, test_the_budget_is_spent_by_one_more_than_it_allows);
	tcase_add_test(tc, test_the_window_slides);
	tcase_add_test(tc, test_no_budget_means_no_limit_and_large_ones_work);
}

int main(void)
{
	return run_tests("backoff", add);
}

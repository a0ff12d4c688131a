/* shared/histogram.c: buckets and their limits, percentiles, adding up and taking away. */
#include <string.h>

#include "run.h"
#include "shared/histogram.h"

#define LAST (HISTOGRAM_BUCKETS - 1)

static struct histogram *empty(void)
{
	static struct histogram h[4];
	static unsigned next;
	struct histogram *one = &h[next++ % 4];

	memset((void *)one, 0, sizeof(*one));
	return one;
}

static uint64_t sum(const struct histogram *h)
{
	return atomic_load(&h->sum_us);
}

/* The bucket whose limit is the first that is not below the value. */
static unsigned bucket_by_limit(uint64_t us)
{
	unsigned b = 0;

	while (histogram_limit_us(b) < us)
		b++;
	return b;
}

START_TEST(limits_grow_by_a_quarter_at_most)
{
	for (unsigned b = 1; b < LAST; b++) {
		uint64_t limit = histogram_limit_us(b), before = histogram_limit_us(b - 1);

		ck_assert_uint_gt(limit, before);
		ck_assert_msg(b <= 8 || (limit - before) * 4 <= before + 1, "bucket %u", b);
	}
	ck_assert_uint_eq(histogram_limit_us(LAST), UINT64_MAX);
}
END_TEST

START_TEST(every_value_is_in_the_bucket_of_its_limit)
{
	for (uint64_t us = 0; us < 1 << 17; us++)
		ck_assert_uint_eq(histogram_bucket(us), bucket_by_limit(us));
	for (unsigned b = 0; b < LAST; b++) {
		uint64_t limit = histogram_limit_us(b);

		ck_assert_uint_eq(histogram_bucket(limit), b);
		ck_assert_uint_eq(histogram_bucket(limit + 1), b + 1);
	}
}
END_TEST

START_TEST(what_is_too_long_is_in_the_last_bucket)
{
	uint64_t longest = histogram_limit_us(LAST - 1);
	struct histogram *h = empty();

	ck_assert_uint_gt(longest, 60000000);
	for (unsigned shift = 27; shift < 64; shift++)
		ck_assert_uint_eq(histogram_bucket(UINT64_C(1) << shift), LAST);
	ck_assert_uint_eq(histogram_bucket(UINT64_MAX), LAST);
	histogram_add(h, longest + 1, 1);
	ck_assert_uint_eq(histogram_count(h), 1);
	ck_assert_uint_eq(histogram_percentile_us(h, 50), longest);
	ck_assert_uint_eq(histogram_percentile_us(h, 100), longest);
}
END_TEST

START_TEST(percentiles)
{
	struct histogram *h = empty();

	ck_assert_uint_eq(histogram_percentile_us(h, 99), 0);
	for (uint64_t us = 1; us <= 1000; us++)
		histogram_add(h, us, 1);
	ck_assert_uint_eq(histogram_count(h), 1000);
	ck_assert_uint_eq(sum(h), 500500);
	for (unsigned p = 1; p <= 100; p++) {
		uint64_t exact = p * 10, got = histogram_percentile_us(h, p);

		ck_assert_msg(got >= exact && got <= exact + exact / 4 + 1, "%u%%: %lu", p,
			(unsigned long)got);
	}
	/* the first value there is */
	ck_assert_uint_eq(histogram_percentile_us(h, 0), 1);
}
END_TEST

START_TEST(percentiles_of_rare_values)
{
	struct histogram *h = empty();

	histogram_add(h, 2, 99);
	histogram_add(h, 50000, 1);
	ck_assert_uint_eq(histogram_percentile_us(h, 50), 2);
	ck_assert_uint_eq(histogram_percentile_us(h, 99), 2);
	ck_assert_uint_eq(
		histogram_percentile_us(h, 99.9), histogram_limit_us(histogram_bucket(50000)));
	ck_assert_uint_eq(sum(h), 2 * 99 + 50000);
}
END_TEST

START_TEST(merge_adds_subtract_takes_away)
{
	struct histogram *a = empty(), *b = empty(), *both = empty();

	for (uint64_t us = 0; us < 3000; us += 7) {
		histogram_add(us % 2 ? a : b, us, us % 5);
		histogram_add(both, us, us % 5);
	}
	histogram_add(b, UINT64_C(1) << 40, 3);
	histogram_add(both, UINT64_C(1) << 40, 3);
	histogram_merge(a, b);
	ck_assert_mem_eq(a, both, sizeof(*a));
	histogram_subtract(both, b);
	histogram_subtract(a, b);
	ck_assert_mem_eq(a, both, sizeof(*a));
	ck_assert_uint_lt(histogram_count(a), histogram_count(b) + histogram_count(a));
	histogram_subtract(a, a);
	ck_assert_uint_eq(histogram_count(a), 0);
	ck_assert_uint_eq(sum(a), 0);
}
END_TEST

START_TEST(subtract_does_not_fall_below_zero)
{
	struct histogram *now = empty(), *earlier = empty();

	histogram_add(now, 10, 1);
	histogram_add(earlier, 10, 5);
	histogram_add(earlier, 100, 5);
	histogram_subtract(now, earlier);
	ck_assert_uint_eq(histogram_count(now), 0);
	ck_assert_uint_eq(sum(now), 0);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, limits_grow_by_a_quarter_at_most);
	tcase_add_test(tc, every_value_is_in_the_bucket_of_its_limit);
	tcase_add_test(tc, what_is_too_long_is_in_the_last_bucket);
	tcase_add_test(tc, percentiles);
	tcase_add_test(tc, percentiles_of_rare_values);
	tcase_add_test(tc, merge_adds_subtract_takes_away);
	tcase_add_test(tc, subtract_does_not_fall_below_zero);
}

int main(void)
{
	return run_tests("histogram", add);
}

/* When a worker has served enough. */
#include <string.h>

#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/recycle.h"
#include "run.h"

#define SECOND UINT64_C(1000000)
#define MIB    (UINT64_C(1) << 20)

static const uint64_t limits[] = {
	1, 2, 5, 7, 10, 50, 99, 100, 1000, 12345, 1000000000000, 31536000000};

START_TEST(test_jitter_is_a_tenth_up_or_down)
{
	uint64_t n = limits[_i], least = n - n / 10, most = n - n / 10 + n / 5;
	bool low = false, high = false;

	ck_assert_uint_eq(recycle_jittered(n, 0), least);
	for (uint32_t chance = 0; chance < 1000; chance++) {
		uint64_t limit = recycle_jittered(n, chance * 2100107);

		ck_assert_uint_ge(limit, least);
		ck_assert_uint_le(limit, most);
		ck_assert_uint_gt(limit, 0);
		low |= limit < n;
		high |= limit > n;
	}
	if (n >= 50 && n < UINT32_MAX)
		ck_assert(low && high);
}
END_TEST

START_TEST(test_no_limit_stays_none)
{
	for (uint32_t chance = 0; chance < 1000; chance++)
		ck_assert_uint_eq(recycle_jittered(0, chance * 4001), 0);
}
END_TEST

static struct sb_slot slot;
static struct config config;
static struct generation g = {.config = &config};
static struct primary p = {.scoreboard = {.slots = &slot, .n_slots = 1}};
static struct proc pr;

static void set_up(void)
{
	memset(&slot, 0, sizeof(slot));
	memset(&config, 0, sizeof(config));
	pr = (struct proc){.primary = &p, .gen = &g, .role = ROLE_WORKER, .started_us = SECOND};
}

static enum recycle_reason reason(uint64_t age_us)
{
	char why[160];

	return recycle_reason(&pr, pr.started_us + age_us, why, sizeof(why));
}

START_TEST(test_without_limits_nobody_goes)
{
	set_up();
	recycle_draw_limits(&pr);
	sb_set(slot.requests, UINT64_MAX);
	sb_set(slot.rss, UINT64_MAX);
	ck_assert_int_eq(reason(365 * 86400 * SECOND), RECYCLE_NOT);
}
END_TEST

START_TEST(test_requests)
{
	set_up();
	config.workers.max_requests = 1000;
	recycle_draw_limits(&pr);
	sb_set(slot.requests, 899);
	ck_assert_int_eq(reason(10 * SECOND), RECYCLE_NOT);
	sb_set(slot.requests, 1100);
	ck_assert_int_eq(reason(10 * SECOND), RECYCLE_REQUESTS);
	ck_assert_int_eq(reason(SECOND / 2), RECYCLE_NOT); /* nobody is that old */
	pr.role = ROLE_ADMIN;
	ck_assert_int_eq(reason(10 * SECOND), RECYCLE_NOT);
}
END_TEST

START_TEST(test_age)
{
	set_up();
	config.workers.max_lifetime_us = 3600 * SECOND;
	recycle_draw_limits(&pr);
	ck_assert_int_eq(reason(3239 * SECOND), RECYCLE_NOT);
	ck_assert_int_eq(reason(3960 * SECOND), RECYCLE_AGE);
}
END_TEST

START_TEST(test_memory)
{
	set_up();
	config.workers.max_memory = 64 * MIB;
	recycle_draw_limits(&pr);
	sb_set(slot.rss, 64 * MIB);
	ck_assert_int_eq(reason(10 * SECOND), RECYCLE_NOT);
	sb_set(slot.rss, 64 * MIB + 1);
	ck_assert_int_eq(reason(10 * SECOND), RECYCLE_MEMORY);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(
		tc, test_jitter_is_a_tenth_up_or_down, 0, sizeof(limits) / sizeof(*limits));
	tcase_add_test(tc, test_no_limit_stays_none);
	tcase_add_test(tc, test_without_limits_nobody_goes);
	tcase_add_test(tc, test_requests);
	tcase_add_test(tc, test_age);
	tcase_add_test(tc, test_memory);
}

int main(void)
{
	return run_tests("recycle", add);
}

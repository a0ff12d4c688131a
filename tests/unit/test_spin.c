/* When a loop looks again at once: time is a parameter. */
#include "base/spin.h"
#include "run.h"

static struct spin s;
static struct spin_seen seen;
static uint64_t now;

/* A turn in which something came, so long after the one before. */
static bool comes(uint64_t after_us)
{
	now += after_us;
	seen.n++;
	return spin_goes_on(&s, &seen, now);
}

/* Until it is one, slowly. */
static void converse(void)
{
	for (unsigned i = 0; i < 16; i++)
		ck_assert(!comes(100));
}

static void set_up(void)
{
	s = (struct spin){.budget_us = 50};
	now = 1000000;
	seen = (struct spin_seen){0};
	converse();
}

static bool looks(uint64_t after_us)
{
	now += after_us;
	return spin_goes_on(&s, &seen, now);
}

START_TEST(test_what_comes_fast_is_waited_for)
{
	set_up();
	ck_assert(!comes(1000));
	ck_assert(!spin_again(&s, &seen)); /* what came last did not come fast */
	ck_assert(comes(30));
	for (unsigned i = 0; i < 10; i++)
		ck_assert(looks(4));
	ck_assert(comes(5));
}
END_TEST

START_TEST(test_not_for_longer_than_the_moment)
{
	set_up();
	comes(1000);
	ck_assert(comes(30));
	for (unsigned i = 0; i < 5; i++)
		ck_assert(looks(10));
	ck_assert(!looks(1));
	ck_assert(!comes(500)); /* it was slow: sleep until it is fast again */
	ck_assert(comes(40));
}
END_TEST

START_TEST(test_who_wants_the_cpu_gets_it)
{
	set_up();
	comes(1000);
	ck_assert(comes(10));
	ck_assert(looks(5));
	ck_assert(!looks(25)); /* somebody else ran */
	ck_assert(!comes(10));
	ck_assert(!comes(10));
	now += 20000;
	comes(10);
	ck_assert(comes(10));
	ck_assert(!looks(25)); /* again: a longer rest */
	now += 20000;
	comes(10);
	ck_assert(!comes(10));
	now += 20000;
	comes(10);
	ck_assert(comes(10));
	ck_assert(looks(5));
	ck_assert(comes(5)); /* it was of use: the next rest is a short one */
	ck_assert(!looks(25));
	now += 20000;
	comes(10);
	ck_assert(comes(10));
}
END_TEST

START_TEST(test_masses_are_not_waited_for)
{
	set_up();
	comes(1000);
	ck_assert(comes(10));
	seen.n_bulk++;
	ck_assert(!comes(10));
	ck_assert(!spin_again(&s, &seen));
	ck_assert(!comes(10)); /* what they end with */
	converse();
	ck_assert(comes(10));
}
END_TEST

START_TEST(test_slow_conversations_count_too)
{
	set_up();
	seen.n_bulk++;
	for (unsigned i = 0; i < 20; i++)
		ck_assert(!comes(80));
	ck_assert(comes(40)); /* one that was fast by chance */
}
END_TEST

START_TEST(test_never_without_a_budget)
{
	set_up();
	s.budget_us = 0;
	for (unsigned i = 0; i < 100; i++) {
		seen.n++;
		ck_assert(!spin_again(&s, &seen));
	}
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_what_comes_fast_is_waited_for);
	tcase_add_test(tc, test_not_for_longer_than_the_moment);
	tcase_add_test(tc, test_who_wants_the_cpu_gets_it);
	tcase_add_test(tc, test_masses_are_not_waited_for);
	tcase_add_test(tc, test_slow_conversations_count_too);
	tcase_add_test(tc, test_never_without_a_budget);
}

int main(void)
{
	return run_tests("spin", add);
}

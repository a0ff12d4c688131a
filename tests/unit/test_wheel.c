/* base/wheel.c, with time as a parameter. */
#include <stdlib.h>
#include <string.h>

#include "base/wheel.h"
#include "run.h"

#define START 1000000ull /* ms */

static struct wheel wheel;

struct thing {
	struct wheel_entry entry; /* first */
	uint64_t again_in;        /* ms; set anew when due */
	unsigned n_due;
	uint64_t due_at;
};

static uint64_t now;

static void on_due(struct wheel_entry *e, void *arg)
{
	struct thing *t = (struct thing *)e;

	ck_assert(!wheel_holds(e));
	t->n_due++;
	t->due_at = now;
	if (t->again_in > 0)
		wheel_set(&wheel, e, now + t->again_in);
}

static void setup(void)
{
	now = START;
	wheel_init(&wheel, now);
}

/* Turns the wheel as a timer would, in steps. */
static void run_until(uint64_t until, uint64_t step)
{
	while (now < until) {
		now += step;
		wheel_advance(&wheel, now, on_due, NULL);
	}
}

static const uint64_t delays[] = {
	0, 1, 255, 256, 257, 1000, 10000, 60000, 65535, 65536, 70000, 300000, 3600000};

START_TEST(test_due_in_time)
{
	struct thing t = {0};

	now += 12345; /* not on the wheel's grid */
	wheel_set(&wheel, &t.entry, now + delays[_i]);
	ck_assert(wheel_holds(&t.entry));
	ck_assert_uint_eq(wheel.n_entries, 1);
	run_until(START + 12345 + delays[_i] + 1000, 50);
	ck_assert_uint_eq(t.n_due, 1);
	ck_assert_uint_ge(t.due_at, START + 12345 + delays[_i]);
	ck_assert_uint_le(t.due_at, START + 12345 + delays[_i] + 2 * WHEEL_TICK_MS + 50);
	ck_assert_uint_eq(wheel.n_entries, 0);
}
END_TEST

START_TEST(test_later_is_a_store)
{
	struct thing t = {0};
	uint32_t filed;

	wheel_set(&wheel, &t.entry, now + 1000);
	filed = t.entry.filed;
	for (int i = 0; i < 100; i++) {
		wheel_set(&wheel, &t.entry, now + 1000);
		ck_assert(t.entry.filed == filed || t.n_due == 0);
		run_until(now + 100, 100);
	}
	ck_assert_uint_eq(t.n_due, 0);
	run_until(now + 2000, 100);
	ck_assert_uint_eq(t.n_due, 1);
}
END_TEST

START_TEST(test_earlier_moves)
{
	struct thing t = {0};

	wheel_set(&wheel, &t.entry, now + 60000);
	wheel_set(&wheel, &t.entry, now + 500);
	run_until(START + 1500, 100);
	ck_assert_uint_eq(t.n_due, 1);
}
END_TEST

START_TEST(test_removed)
{
	struct thing t = {0};

	wheel_set(&wheel, &t.entry, now + 500);
	wheel_remove(&wheel, &t.entry);
	wheel_remove(&wheel, &t.entry);
	ck_assert(!wheel_holds(&t.entry));
	ck_assert_uint_eq(wheel.n_entries, 0);
	run_until(START + 5000, 100);
	ck_assert_uint_eq(t.n_due, 0);
}
END_TEST

START_TEST(test_set_anew_when_due)
{
	struct thing t = {.again_in = 1000};

	wheel_set(&wheel, &t.entry, now + 1000);
	run_until(START + 60000, 100);
	ck_assert_uint_ge(t.n_due, 60000 / (1000 + 2 * WHEEL_TICK_MS));
	ck_assert_uint_le(t.n_due, 60);
	ck_assert_uint_eq(wheel.n_entries, 1);
}
END_TEST

/* A process that was stopped for an hour: everything is due, once, and nothing is lost. */
START_TEST(test_time_jumps)
{
	struct thing things[500];

	memset(things, 0, sizeof(things));
	for (size_t i = 0; i < 500; i++)
		wheel_set(&wheel, &things[i].entry, now + i * 500);
	now += 3600000;
	wheel_advance(&wheel, now, on_due, NULL);
	for (size_t i = 0; i < 500; i++)
		ck_assert_uint_eq(things[i].n_due, 1);
	ck_assert_uint_eq(wheel.n_entries, 0);
}
END_TEST

static struct thing victims[2];

static void on_due_remove_other(struct wheel_entry *e, void *arg)
{
	struct thing *t = (struct thing *)e;

	t->n_due++;
	wheel_remove(&wheel, &victims[t == &victims[0]].entry);
}

START_TEST(test_callback_removes_another)
{
	memset(victims, 0, sizeof(victims));
	wheel_set(&wheel, &victims[0].entry, now + 500);
	wheel_set(&wheel, &victims[1].entry, now + 500);
	wheel_advance(&wheel, now + 5000, on_due_remove_other, NULL);
	ck_assert_uint_eq(victims[0].n_due + victims[1].n_due, 1);
	ck_assert_uint_eq(wheel.n_entries, 0);
}
END_TEST

/* Against a plain list of deadlines, with random moves in both directions. */
START_TEST(test_random)
{
	enum { N = 200 };
	static struct thing things[N];
	static uint64_t deadlines[N];

	unsigned n_wrong = 0;

	memset(things, 0, sizeof(things));
	srandom(7);
	for (int step = 0; step < 5000; step++) {
		int i = (int)(random() % N);

		things[i].n_due = 0;
		deadlines[i] = now + (uint64_t)(random() % 200000);
		wheel_set(&wheel, &things[i].entry, deadlines[i]);
		now += (uint64_t)(random() % 300);
		wheel_advance(&wheel, now, on_due, NULL);
		for (int k = 0; k < N; k++) {
			if (deadlines[k] == 0)
				continue;
			n_wrong += things[k].n_due > 0 ? now < deadlines[k]
						       : now > deadlines[k] + 2 * WHEEL_TICK_MS;
		}
	}
	ck_assert_uint_eq(n_wrong, 0);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_loop_test(tc, test_due_in_time, 0, sizeof(delays) / sizeof(delays[0]));
	tcase_add_test(tc, test_later_is_a_store);
	tcase_add_test(tc, test_earlier_moves);
	tcase_add_test(tc, test_removed);
	tcase_add_test(tc, test_set_anew_when_due);
	tcase_add_test(tc, test_time_jumps);
	tcase_add_test(tc, test_callback_removes_another);
	tcase_add_test(tc, test_random);
}

int main(void)
{
	return run_tests("wheel", add);
}

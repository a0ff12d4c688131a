/* The process table: which moves are allowed, slots, indices. */
#include <event2/event.h>
#include <string.h>

#include "base/log.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "run.h"

#define S(s) (1u << PROC_##s)

static const unsigned allowed[PROC_STATES] = {
	[PROC_EMPTY] = S(STARTING) | S(BACKOFF) | S(FAILED),
	[PROC_STARTING] = S(READY) | S(DRAINING) | S(KILLING) | S(DEAD),
	[PROC_READY] = S(DRAINING) | S(KILLING) | S(DEAD),
	[PROC_DRAINING] = S(KILLING) | S(DEAD),
	[PROC_KILLING] = S(DEAD),
	[PROC_DEAD] = S(EMPTY) | S(STARTING) | S(BACKOFF) | S(FAILED),
	[PROC_BACKOFF] = S(STARTING) | S(EMPTY),
	[PROC_FAILED] = S(STARTING) | S(EMPTY),
};

START_TEST(test_moves)
{
	for (int to = 0; to < PROC_STATES; to++)
		ck_assert_int_eq(proc_may_move((enum proc_state)_i, (enum proc_state)to),
			(allowed[_i] & (1u << to)) != 0);
	ck_assert_ptr_nonnull(proc_state_name((enum proc_state)_i));
}
END_TEST

static struct primary p;
static struct generation g = {.staged = true};

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
}

static void set_up(void)
{
	memset(&p, 0, sizeof(p));
	g.n_procs = 0;
	log_set_level(LOG_LVL_ERROR);
	p.base = event_base_new();
	ck_assert_int_eq(proctab_new(&p, 3, on_timer, on_timer), 0);
}

static struct proc *take(unsigned index)
{
	struct proc *pr = proctab_take(&p, &g, ROLE_WORKER, index);

	if (!pr)
		return NULL;
	proc_set_state(pr, PROC_STARTING, "test");
	return pr;
}

static void tear_down(void)
{
	free(p.procs);
	event_base_free(p.base);
}

START_TEST(test_slots_run_out_and_come_back)
{
	struct proc *a, *b, *c;

	set_up();
	a = take(0);
	b = take(1);
	c = take(2);
	ck_assert(a && b && c && a != b && b != c);
	ck_assert_ptr_null(take(3));
	ck_assert_uint_eq(g.n_procs, 3);
	ck_assert_uint_eq(p.n_used, 3);
	proc_set_state(b, PROC_DEAD, "test");
	proc_set_state(b, PROC_EMPTY, "test");
	proctab_give_back(b);
	ck_assert_uint_eq(g.n_procs, 2);
	ck_assert_ptr_eq(take(1), b);
	tear_down();
}
END_TEST

START_TEST(test_the_lowest_free_index_is_found)
{
	struct proc *b;

	set_up();
	ck_assert_uint_eq(proctab_free_index(&p, &g), 0);
	take(0);
	b = take(1);
	take(2);
	ck_assert_uint_eq(proctab_free_index(&p, &g), 3);
	b->leaving = true;
	ck_assert_uint_eq(proctab_free_index(&p, &g), 1);
	tear_down();
}
END_TEST

START_TEST(test_the_scoreboard_shows_the_state)
{
	struct proc *a;

	set_up();
	a = take(0);
	ck_assert_uint_eq(sb_get(p.scoreboard.slots[a->slot].state), PROC_STARTING);
	ck_assert_uint_eq(proctab_n_ready(&p, &g), 0);
	proc_set_state(a, PROC_READY, "test");
	ck_assert_uint_eq(sb_get(p.scoreboard.slots[a->slot].state), PROC_READY);
	ck_assert_uint_eq(proctab_n_ready(&p, &g), 1);
	tear_down();
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_moves, 0, PROC_STATES);
	tcase_add_test(tc, test_slots_run_out_and_come_back);
	tcase_add_test(tc, test_the_lowest_free_index_is_found);
	tcase_add_test(tc, test_the_scoreboard_shows_the_state);
}

int main(void)
{
	return run_tests("proctab", add);
}

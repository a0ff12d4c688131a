/* Requests: who may answer, and with which id. */
#include <errno.h>
#include <event2/event.h>

#include "run.h"
#include "runtime/inbox.h"

#define ASKED 4096 /* a peer */
#define OTHER 4097
#define KEY   77

static struct event_base *base;
static struct inbox *inbox, *another;
static unsigned n_outcomes;
static int outcome;
static uint64_t counted;

static void on_answer(int status, struct tine_message *answer, void *arg)
{
	ck_assert_int_eq(answer != NULL, status == 0);
	n_outcomes++;
	outcome = status;
}

static void on_count(int status, uint64_t n, void *arg)
{
	on_answer(status, status == 0 ? &(struct tine_message){0} : NULL, arg);
	counted = n;
}

static void set_up(void)
{
	if (!base) { /* a process has one for as long as it lives; the tests leave nothing in it */
		base = event_base_new();
		ck_assert_int_eq(inbox_new(base, &inbox), 0);
	}
	n_outcomes = 0;
	outcome = 1;
}

static uint64_t ask(tine_peer to, uint32_t key)
{
	struct inbox_request r = {.on_answer = on_answer, .to = to, .timeout_us = 1000000};
	uint64_t id;

	ck_assert_int_eq(inbox_add(inbox, &r, key, &id), 0);
	return id;
}

static unsigned answer(uint64_t id, tine_peer from, uint64_t n)
{
	struct tine_message m = {.data = &n, .len = sizeof(n), .from = from, .fd = -1};

	inbox_answer(inbox, id, 0, &m);
	return n_outcomes;
}

START_TEST(test_only_who_was_asked_may_answer)
{
	uint64_t id;

	set_up();
	id = ask(ASKED, KEY);
	ck_assert_uint_eq(id >> 32, KEY);
	ck_assert_uint_eq(answer(id, OTHER, 0), 0);
	ck_assert_uint_eq(answer(id, 0, 0), 0);
	ck_assert_uint_eq(answer(id, ASKED, 0), 1);
	ck_assert_uint_eq(answer(id, ASKED, 0), 1); /* once */
	ck_assert_uint_eq(answer(ask(TINE_PEER_ANY, KEY), OTHER, 0), 2);
	ck_assert_uint_eq(answer(ask(0, 0), OTHER, 0), 3);
	inbox_end(inbox, -EPIPE);
	ck_assert_uint_eq(n_outcomes, 3);
}
END_TEST

START_TEST(test_a_count_is_the_primarys)
{
	struct inbox_request r = {.on_count = on_count, .timeout_us = 1000000};
	uint64_t id;

	set_up();
	ck_assert_int_eq(inbox_add(inbox, &r, 0, &id), 0);
	ck_assert_uint_eq(answer(id, OTHER, 666), 0);
	ck_assert_uint_eq(answer(id, 0, 5), 1);
	ck_assert_uint_eq(counted, 5);
}
END_TEST

START_TEST(test_the_whole_id_counts)
{
	uint64_t id;

	set_up();
	id = ask(0, 0);
	for (unsigned bit = 0; bit < 64; bit++)
		ck_assert_uint_eq(answer(id ^ 1ull << bit, OTHER, 0), 0);
	ck_assert_uint_eq(answer(id, OTHER, 0), 1);
}
END_TEST

/* Neither the next of the same entry, nor the first one of another process. */
START_TEST(test_ids_cannot_be_foreseen)
{
	struct inbox_request r = {.on_answer = on_answer, .timeout_us = 1000000};
	uint64_t first, second, first_ever, elsewhere;

	set_up();
	first_ever = ask(0, 0);
	inbox_forget(inbox, (uint32_t)first_ever);
	for (unsigned i = 0; i < 1000; i++) {
		first = ask(0, 0);
		answer(first, OTHER, 0);
		second = ask(0, 0);
		ck_assert_uint_ne((uint32_t)first, (uint32_t)second);
		ck_assert_uint_ne(first >> 32, second >> 32);
		ck_assert_uint_eq(answer(first, OTHER, 0), 2 * i + 1); /* too late */
		answer(second, OTHER, 0);
	}
	ck_assert_int_eq(inbox_new(base, &another), 0);
	ck_assert_int_eq(inbox_add(another, &r, 0, &elsewhere), 0);
	ck_assert_uint_ne(elsewhere, first_ever);
}
END_TEST

START_TEST(test_what_failed_is_told_without_an_answer)
{
	set_up();
	inbox_fail(inbox, (uint32_t)ask(ASKED, KEY), -ESRCH);
	ck_assert_int_eq(outcome, -ESRCH);
	inbox_forget(inbox, (uint32_t)ask(ASKED, KEY));
	ask(OTHER, KEY);
	ask(ASKED, KEY);
	inbox_peer_left(inbox, ASKED);
	ck_assert_uint_eq(n_outcomes, 2);
	inbox_end(inbox, -EPIPE);
	ck_assert_uint_eq(n_outcomes, 3);
	ck_assert_int_eq(outcome, -EPIPE);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_only_who_was_asked_may_answer);
	tcase_add_test(tc, test_a_count_is_the_primarys);
	tcase_add_test(tc, test_the_whole_id_counts);
	tcase_add_test(tc, test_ids_cannot_be_foreseen);
	tcase_add_test(tc, test_what_failed_is_told_without_an_answer);
}

int main(void)
{
	return run_tests("inbox", add);
}

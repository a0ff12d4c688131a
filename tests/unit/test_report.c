/* shared/report.c and history.c: whatever a child wrote comes out as JSON; totals never go back while slots are buried. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/msg.h"
#include "run.h"
#include "shared/history.h"
#include "shared/report.h"
#include "shared/scoreboard.h"

#define SLOTS   4
#define BURIALS 200000

static struct scoreboard sb;
static struct history *h;

static void set_up(void)
{
	ck_assert_int_eq(scoreboard_new(SLOTS, &sb), 0);
	ck_assert_int_eq(history_new(&h), 0);
	sb_set(*sb.n_used, SLOTS);
	for (size_t i = 0; i < SLOTS; i++)
		sb_set(sb.slots[i].role, ROLE_WORKER);
}

/* Writes it down and reads it again, as a client would. Takes the reference. */
static void check_json(json_t *o)
{
	char *text;
	json_t *again;

	ck_assert_ptr_nonnull(o);
	text = json_dumps(o, JSON_COMPACT);
	ck_assert_ptr_nonnull(text);
	again = json_loads(text, 0, NULL);
	ck_assert_ptr_nonnull(again);
	ck_assert(json_equal(o, again));
	json_decref(again);
	free(text);
	json_decref(o);
}

START_TEST(slots_full_of_anything_are_json)
{
	unsigned char *bytes = (unsigned char *)sb.slots;

	srand(1);
	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < SLOTS * sizeof(*sb.slots); i++)
			bytes[i] = (unsigned char)(round == 0 ? 0xff : rand() >> 4);
		check_json(report_status(&sb, h));
		check_json(report_processes(&sb));
	}
	sb_set(*sb.n_used, SIZE_MAX);
	check_json(report_processes(&sb));
	ck_assert_ptr_null(report_process(&sb, SLOTS));
}
END_TEST

START_TEST(names_that_are_no_utf8_are_shown)
{
	struct history_crash *c = history_begin_crash(h);
	struct history_event *e = history_begin_event(h);
	json_t *status, *list;

	strcpy(h->config_path, "/etc/caf\xe9.ini");
	memset(h->last_reload, 0xfe, sizeof(h->last_reload));
	memset(c->how, 0xff, sizeof(c->how));
	memset(c->backtrace, 0x80, sizeof(c->backtrace));
	memset(c->request_line, 0xc0, sizeof(c->request_line));
	memset(e->text, 0xf0, sizeof(e->text));
	history_end_crash(h, c);
	history_end_event(h, e);
	status = report_status(&sb, h);
	ck_assert_str_eq(json_string_value(json_object_get(status, "config")), "/etc/caf?.ini");
	check_json(status);
	list = report_crashes(h);
	ck_assert_uint_eq(json_array_size(list), 1);
	check_json(list);
	list = report_events(h, 0);
	ck_assert_uint_eq(json_array_size(list), 1);
	check_json(list);
}
END_TEST

START_TEST(utf8_stays_what_it_is)
{
	json_t *status;

	memset(h->config_path, 'x', sizeof(h->config_path)); /* no end, either */
	memcpy(h->config_path, "/etc/caf\xc3\xa9", 10);
	status = report_status(&sb, h);
	ck_assert_mem_eq(
		json_string_value(json_object_get(status, "config")), "/etc/caf\xc3\xa9x", 11);
	check_json(status);
}
END_TEST

static void *bury(void *arg)
{
	struct sb_slot *s = &sb.slots[1];

	for (int i = 0; i < BURIALS; i++) {
		sb_add(s->requests, 1000);
		histogram_add(&s->latency, 5, 1000);
		history_bury_slot(h, s);
	}
	return arg;
}

/* In the history or in the slot: never in both, never in neither. */
START_TEST(totals_never_go_back)
{
	static struct history_totals t;
	uint64_t requests = 0, answers = 0;
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, bury, NULL), 0);
	while (requests < 1000ull * BURIALS) {
		report_totals(&sb, h, &t);
		ck_assert_uint_ge(sb_get(t.requests), requests);
		ck_assert_uint_ge(histogram_count(&t.latency), answers);
		requests = sb_get(t.requests);
		answers = histogram_count(&t.latency);
	}
	pthread_join(thread, NULL);
	report_totals(&sb, h, &t);
	ck_assert_uint_eq(sb_get(t.requests), 1000ull * BURIALS);
}
END_TEST

/* A primary that was stopped in the middle of it is not waited for without end. */
START_TEST(half_a_burial_is_no_end)
{
	static struct history_totals t;

	sb_set(h->totals_version, 1);
	sb_set(sb.slots[0].requests, 7);
	report_totals(&sb, h, &t);
	ck_assert_uint_eq(sb_get(t.requests), 7);
}
END_TEST

START_TEST(workers_on_their_way_in_or_out_are_not_ready)
{
	for (size_t i = 0; i < SLOTS; i++) {
		sb_set(sb.slots[i].state, PROC_READY);
		sb_set(sb.slots[i].generation, 2);
	}
	sb_set(h->generation, 2);
	ck_assert_uint_eq(report_workers_ready(&sb, h), 4);
	sb_set(sb.slots[0].generation, 3);
	sb_set(sb.slots[1].leaving, 1);
	sb_set(sb.slots[2].role, ROLE_ADMIN);
	ck_assert_uint_eq(report_workers_ready(&sb, h), 1);
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, slots_full_of_anything_are_json);
	tcase_add_test(tc, names_that_are_no_utf8_are_shown);
	tcase_add_test(tc, utf8_stays_what_it_is);
	tcase_add_test(tc, totals_never_go_back);
	tcase_add_test(tc, half_a_burial_is_no_end);
	tcase_add_test(tc, workers_on_their_way_in_or_out_are_not_ready);
}

int main(void)
{
	return run_tests("report", add_tests);
}

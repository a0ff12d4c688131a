/* What was sent and not heard of: room, fates in order, pauses counted. */
#include <errno.h>

#include "run.h"
#include "runtime/window.h"

#define SIZE 1000

static struct window w;
static unsigned n_fates;
static uint64_t last_frame;
static int last_status;
static bool send_more;

static void send_one(uint64_t bytes, uint64_t large);

static void on_fate(const struct fate *f, int status, void *arg)
{
	ck_assert_ptr_eq(arg, &w);
	ck_assert(n_fates == 0 || f->frame > last_frame);
	n_fates++;
	last_frame = f->frame;
	last_status = status;
	if (send_more)
		send_one(10, 0);
}

static void set_up(void)
{
	w = (struct window){.size = SIZE, .on_fate = on_fate, .arg = &w};
	n_fates = 0;
	last_status = 1;
	send_more = false;
}

/* One whose fate somebody wants to know. */
static void send_one(uint64_t bytes, uint64_t large)
{
	struct fate f = {.has_fd = large > 0, .large = large};

	ck_assert_int_eq(window_reserve(&w), 0);
	window_note(&w, bytes, &f);
}

static void ack(uint64_t n, uint64_t bytes)
{
	window_ack(&w, &(struct msg_ack){n, bytes});
}

static void nak(uint64_t first, uint64_t n, int error)
{
	window_nak(&w, &(struct msg_nak){first, n, error});
}

START_TEST(test_room_by_bytes)
{
	set_up();
	ck_assert(window_has_room(&w, 5000, false)); /* larger than all of it, but alone */
	window_note(&w, 600, NULL);
	ck_assert(window_has_room(&w, 400, false));
	ck_assert(!window_has_room(&w, 401, false));
	ck_assert(!window_is_half_empty(&w));
	ack(1, 600);
	ck_assert(window_is_half_empty(&w));
	ck_assert(window_has_room(&w, 5000, false));
	window_release(&w);
}
END_TEST

START_TEST(test_room_by_large_payloads)
{
	set_up();
	send_one(32, 5000);
	ck_assert(!window_has_room(&w, 1, false));
	ack(1, 0); /* it is dealt with, whatever the bytes of frames say */
	ck_assert(window_has_room(&w, 1, false));
	window_release(&w);
}
END_TEST

START_TEST(test_room_by_descriptors)
{
	set_up();
	for (unsigned i = 0; i < WINDOW_FDS; i++) {
		ck_assert(window_has_room(&w, 24, true));
		send_one(24, 1);
	}
	ck_assert(!window_has_room(&w, 24, true));
	ck_assert(window_has_room(&w, 24, false));
	ack(1, 24);
	ck_assert(window_has_room(&w, 24, true));
	window_release(&w);
}
END_TEST

START_TEST(test_fates_are_told_in_order)
{
	set_up();
	for (unsigned i = 0; i < 1000; i++) {
		window_note(&w, 24, NULL); /* even ones nobody asked for */
		send_one(24, 0);
	}
	nak(100, 10, -ESRCH); /* 50 before it, 5 of it */
	ck_assert_uint_eq(n_fates, 55);
	ck_assert_uint_eq(last_frame, 109);
	ck_assert_int_eq(last_status, -ESRCH);
	ack(111, 0);
	ck_assert_uint_eq(n_fates, 55);
	ack(112, 0);
	ck_assert_uint_eq(n_fates, 56);
	ck_assert_int_eq(last_status, 0);
	window_end(&w, -EPIPE);
	ck_assert_uint_eq(n_fates, 1000);
	ck_assert_uint_eq(last_frame, 1999);
	ck_assert_int_eq(last_status, -EPIPE);
	window_release(&w);
}
END_TEST

START_TEST(test_who_is_told_may_send)
{
	set_up();
	for (unsigned i = 0; i < 64; i++)
		send_one(10, 0);
	send_more = true;
	ack(64, 640);
	ck_assert_uint_eq(n_fates, 64);
	ck_assert_uint_eq(w.n_fates, 64);
	send_more = false;
	ack(128, 1280);
	ck_assert_uint_eq(n_fates, 128);
	ck_assert_uint_eq(w.n_fates, 0);
	window_release(&w);
}
END_TEST

START_TEST(test_pauses_are_counted)
{
	set_up();
	ck_assert(!window_is_paused(&w, 7));
	window_pause(&w, 7);
	window_pause(&w, 8);
	window_pause(&w, 7); /* by another queue */
	ck_assert(window_is_paused(&w, 7) && window_is_paused(&w, 8) && !window_is_paused(&w, 9));
	window_resume(&w, 7);
	ck_assert(window_is_paused(&w, 7));
	window_resume(&w, 7);
	ck_assert(!window_is_paused(&w, 7) && window_is_paused(&w, 8));
	window_resume(&w, 12345); /* of which we never knew */
	for (uint64_t key = 100; key < 5000; key++)
		window_pause(&w, key);
	for (uint64_t key = 100; key < 5000; key++)
		window_resume(&w, key);
	window_resume(&w, 8);
	ck_assert_uint_eq(w.n_pauses, 0);
	window_release(&w);
}
END_TEST

START_TEST(test_all_subjects_may_be_paused_together)
{
	uint64_t subject = KEY_SUBJECTS | 1ull << 63, address = 4097;

	set_up();
	window_pause(&w, KEY_SUBJECTS);
	ck_assert(window_is_paused(&w, subject) && !window_is_paused(&w, address));
	window_pause(&w, subject);
	window_resume(&w, KEY_SUBJECTS);
	ck_assert(window_is_paused(&w, subject) && !window_is_paused(&w, subject + 1));
	window_release(&w);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_room_by_bytes);
	tcase_add_test(tc, test_room_by_large_payloads);
	tcase_add_test(tc, test_room_by_descriptors);
	tcase_add_test(tc, test_fates_are_told_in_order);
	tcase_add_test(tc, test_who_is_told_may_send);
	tcase_add_test(tc, test_pauses_are_counted);
	tcase_add_test(tc, test_all_subjects_may_be_paused_together);
}

int main(void)
{
	return run_tests("window", add);
}

/* The relay over real socketpairs, without a primary: order, answers, marks, policies, offences, memory. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/blob.h"
#include "ipc/lane.h"
#include "ipc/subject.h"
#include "primary/relay_peer.h"
#include "run.h"
#include "shared/scoreboard.h"

#define HIGH     (256u << 10)
#define LOW      (64u << 10)
#define PEERS    4
#define BODY_MAX 256

#include "relay_ends.h"

static void attach(unsigned i, size_t high, size_t low)
{
	struct end *e = &ends[i];
	int fds[2], small = 16 << 10;
	struct relay_peer_options o = {.role = ROLE_WORKER,
		.queue_high = high,
		.queue_low = low,
		.max_message = 1u << 20,
		.max_subscriptions = 100,
		.on_offence = on_offence,
		.arg = e};

	ck_assert_int_eq(lane_pair(LANE_CONTROL, fds), 0);
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	e->address = o.address = relay_next_address(relay, i);
	e->fd = fds[1];
	e->offence = NULL;
	o.fd = fds[0];
	ck_assert_int_eq(relay_attach(relay, &o, &e->peer), 0);
	sb_set(sb.slots[i].state, PROC_READY);
	relay_announce(e->peer);
}

static void set_up_with(size_t high, size_t low)
{
	base = event_base_new();
	if (!sb.slots)
		ck_assert_int_eq(scoreboard_new(1u << ADDRESS_SLOT_BITS, &sb), 0);
	ck_assert_int_eq(relay_new(base, &sb, &relay), 0);
	for (unsigned i = 0; i < PEERS; i++)
		attach(i, high, low);
}

static void set_up(void)
{
	set_up_with(HIGH, LOW);
}

/* --- as a process writes --- */

/* Frames that are to come with one read. */
static char batch[128 << 10];
static size_t batch_len;
static bool batching;

static void put_raw(
	unsigned from, struct frame f, const void *head, size_t head_len, const void *body)
{
	char bytes[sizeof(f) + 1024 + 65536 + 8] = {0};
	size_t n = frame_space(f.length), at = 0;

	memcpy(bytes, &f, sizeof(f));
	memcpy(bytes + sizeof(f), head, head_len);
	if (body && f.length > head_len)
		memcpy(bytes + sizeof(f) + head_len, body, f.length - head_len);
	if (batching) {
		memcpy(batch + batch_len, bytes, n);
		batch_len += n;
		return;
	}
	while (at < n) {
		ssize_t r = write(ends[from].fd, bytes + at, n - at);

		if (r > 0)
			at += (size_t)r;
		else
			event_base_loop(base, EVLOOP_NONBLOCK);
	}
}

static void put(unsigned from, unsigned type, uint32_t dst, uint64_t id, const char *body)
{
	struct frame f = {.length = (uint32_t)strlen(body),
		.type = (uint16_t)type,
		.src = ends[from].address,
		.dst = dst,
		.id = id};

	put_raw(from, f, body, f.length, NULL);
}

static void put_sync(unsigned from)
{
	put(from, MSG_SYNC, 0, 0, "");
}

static void put_publish(unsigned from, const char *subject, uint64_t id, const char *body)
{
	char head[sizeof(struct msg_publish) + SUBJECT_MAX + 8] = {0};
	struct msg_publish m = {.subject = (uint16_t)strlen(subject)};
	size_t n = publish_head(m.subject);
	struct frame f = {.length = (uint32_t)(n + strlen(body)),
		.type = MSG_PUBLISH,
		.src = ends[from].address,
		.id = id};

	memcpy(head, &m, sizeof(m));
	memcpy(head + sizeof(m), subject, m.subject);
	put_raw(from, f, head, n, body);
}

static void put_subscribe(unsigned from, uint32_t number, const char *pattern,
	enum msg_policy policy, const char *group)
{
	char body[sizeof(struct msg_subscribe) + SUBJECT_MAX + 64];
	struct msg_subscribe m = {.number = number,
		.policy = (uint8_t)policy,
		.pattern = (uint8_t)strlen(pattern),
		.group = (uint8_t)strlen(group)};
	struct frame f = {.length = (uint32_t)(sizeof(m) + m.pattern + m.group),
		.type = MSG_SUBSCRIBE,
		.src = ends[from].address};

	memcpy(body, &m, sizeof(m));
	memcpy(body + sizeof(m), pattern, m.pattern);
	memcpy(body + sizeof(m) + m.pattern, group, m.group);
	put_raw(from, f, body, f.length, NULL);
	turn();
}

static void take_ack(unsigned to, uint64_t n)
{
	struct got g = take(to, MSG_ACK);
	struct msg_ack m;

	memcpy(&m, g.body, sizeof(m));
	ck_assert_uint_eq(m.n, n);
}

static void take_nak(unsigned to, uint64_t first, uint64_t n, int error)
{
	struct got g = take(to, MSG_NAK);
	struct msg_nak m;

	memcpy(&m, g.body, sizeof(m));
	ck_assert_uint_eq(m.first, first);
	ck_assert_uint_eq(m.n, n);
	ck_assert_int_eq(m.error, error);
}

/* --- tests --- */

START_TEST(test_frames_go_where_they_are_sent)
{
	struct got g;

	set_up();
	for (uint64_t i = 0; i < 100; i++)
		put(0, MSG_SEND, ends[1 + i % 2].address, i, "hello");
	put_sync(0);
	for (uint64_t i = 0; i < 100; i++) {
		g = take((unsigned)(1 + i % 2), MSG_SEND);
		ck_assert_uint_eq(g.f.id, i);
		ck_assert_uint_eq(g.f.src, ends[0].address);
		ck_assert_str_eq(g.body, "hello");
	}
	take_ack(0, 101);
	for (unsigned i = 0; i < PEERS; i++)
		take_nothing(i);
	tear_down();
}
END_TEST

START_TEST(test_failures_are_told_in_order_before_the_ack)
{
	set_up();
	put(0, MSG_SEND, ends[1].address, 0, ""); /* 0 */
	put(0, MSG_SEND, ends[1].address + (1u << ADDRESS_SLOT_BITS), 0,
		"");                              /* 1: the next one there */
	put(0, MSG_SEND, 999, 0, "");             /* 2: nobody, ever */
	put(0, MSG_SEND, 0, 0, "");               /* 3 */
	put_publish(0, "nobody.listens", 0, "");  /* 4 */
	put(0, MSG_SEND, ends[1].address, 0, ""); /* 5 */
	put(0, MSG_SEND, 999, 0, "");             /* 6 */
	put_sync(0);
	take_nak(0, 1, 3, -ESRCH);
	take_nak(0, 4, 1, -ENOENT);
	take_nak(0, 6, 1, -ESRCH);
	take_ack(0, 8);
	take(1, MSG_SEND);
	take(1, MSG_SEND);
	take_nothing(1);
	tear_down();
}
END_TEST

START_TEST(test_nobody_who_went_is_reached)
{
	uint32_t old;

	set_up();
	old = ends[1].address;
	detach(1);
	attach(1, HIGH, LOW);
	ck_assert_uint_eq(ADDRESS_SLOT(ends[1].address), 1);
	ck_assert_uint_ne(ends[1].address, old);
	put(0, MSG_SEND, old, 0, "");
	put_sync(0);
	take_nak(0, 0, 1, -ESRCH);
	take_nothing(1);
	tear_down();
}
END_TEST

START_TEST(test_births_never_come_to_the_reserved_addresses)
{
	bool sound = true;

	set_up();
	for (unsigned i = 0; i < 1u << 20; i++) {
		uint32_t address = relay_next_address(relay, 4095);

		sound &= address >> ADDRESS_SLOT_BITS != 0 && address < (ADDRESS_ANY & ~4095u);
	}
	ck_assert(sound);
	tear_down();
}
END_TEST

START_TEST(test_acks_come_by_themselves_after_a_quarter_of_the_window)
{
	uint64_t window = msg_window(HIGH, LOW), n = 0;
	struct got g;

	set_up();
	while (!next(0, &g)) {
		put(0, MSG_SEND, ends[1].address, 0, "0123456789012345678901234567890123456789");
		n++;
		while (next(1, &g))
			;
	}
	ck_assert_uint_eq(g.f.type, MSG_ACK);
	ck_assert_uint_ge(n * 64, window / 4);
	ck_assert_uint_lt(n * 64, window / 4 + 64);
	tear_down();
}
END_TEST

/* Fills a queue until frames are refused. Returns how many were taken; the sender was told to wait before. */
static uint64_t fill(unsigned from, unsigned to, uint64_t begin)
{
	char body[1001];
	struct got g;
	bool paused = false;

	memset(body, 'x', 1000);
	body[1000] = '\0';
	for (uint64_t i = begin;; i++) {
		put(from, MSG_SEND, ends[to].address, i, body);
		while (next(from, &g)) {
			paused |= g.f.type == MSG_PAUSE;
			if (g.f.type != MSG_NAK)
				continue;
			ck_assert(paused);
			return i - begin;
		}
		ck_assert_uint_lt(i, 10000);
	}
}

START_TEST(test_a_receiver_that_does_not_read)
{
	struct got g;
	uint64_t n, m = 0;
	struct relay_figures f;

	set_up();
	n = fill(0, 1, 0);
	f = relay_peer_figures(ends[1].peer);
	ck_assert_uint_le(f.queued, HIGH);
	ck_assert_uint_gt(f.queued, HIGH - 2048);
	ck_assert(f.full);
	put(0, MSG_SEND, ends[2].address, 77, "others go on");
	ck_assert_uint_eq(take(2, MSG_SEND).f.id, 77);
	while (m < n && next(1, &g)) { /* all that was taken comes, in order */
		ck_assert_uint_eq(g.f.id, m);
		m++;
	}
	ck_assert_uint_eq(m, n);
	take(0, MSG_RESUME);
	put(0, MSG_SEND, ends[1].address, 78, "again");
	ck_assert_uint_eq(take(1, MSG_SEND).f.id, 78);
	tear_down();
}
END_TEST

/* What a process was told of waiting, until there is nothing more for it. Returns how often; *ret_last: the last key. */
static unsigned count_told(unsigned to, unsigned type, uint64_t *ret_last)
{
	struct got g;
	unsigned n = 0;

	while (next(to, &g)) {
		if (g.f.type != type)
			continue;
		memcpy(ret_last, g.body, sizeof(*ret_last));
		n++;
	}
	return n;
}

START_TEST(test_one_sender_takes_nobody_elses_place_among_those_who_wait)
{
	struct got g;
	uint64_t key = 0;
	char subject[16];

	set_up();
	put_subscribe(1, 0, ">", POLICY_REFUSE, "");
	fill(2, 1, 0);
	for (unsigned i = 0; i < 1100; i++) {
		snprintf(subject, sizeof(subject), "s%u", i);
		put_publish(0, subject, 0, "");
	}
	put(0, MSG_SEND, ends[1].address, 0, "");
	ck_assert_uint_eq(count_told(0, MSG_PAUSE, &key), OUTLET_SUBJECTS + 2);
	ck_assert_uint_eq(key, ends[1].address);
	ck_assert_uint_eq(relay_peer_figures(ends[1].peer).n_waiting, 2);
	put(3, MSG_SEND, ends[1].address, 0, "");
	ck_assert_uint_eq(count_told(3, MSG_PAUSE, &key), 1);
	put_publish(3, "s7", 0, "");
	put_publish(3, "s7", 0, "");
	ck_assert_uint_eq(count_told(3, MSG_PAUSE, &key), 1);
	ck_assert_uint_eq(key, subject_key("s7", 2));
	while (next(1, &g))
		;
	ck_assert_uint_eq(count_told(0, MSG_RESUME, &key), OUTLET_SUBJECTS + 2);
	ck_assert_uint_eq(count_told(3, MSG_RESUME, &key), 2);
	ck_assert_uint_eq(relay_peer_figures(ends[1].peer).n_waiting, 0);
	tear_down();
}
END_TEST

START_TEST(test_who_waits_is_told_when_the_receiver_dies)
{
	set_up();
	fill(0, 1, 0);
	detach(1);
	take(0, MSG_RESUME);
	tear_down();
}
END_TEST

START_TEST(test_a_waiting_sender_may_die)
{
	struct got g;

	set_up();
	fill(0, 1, 0);
	detach(0);
	while (next(1, &g))
		;
	tear_down();
}
END_TEST

START_TEST(test_answers_that_are_not_taken_stop_the_reading)
{
	set_up();
	for (unsigned i = 0; i < 1000000;
		i++) { /* each fails in another way than the one before: a NAK for each */
		struct frame f = {.type = MSG_SEND, .src = ends[0].address, .dst = 999};
		struct frame f2 = {.type = MSG_SEND, .src = ends[0].address, .dst = ADDRESS_ANY};
		struct frame both[2] = {f, f2};

		if (i == 0)
			for (unsigned j = 1; j < PEERS; j++)
				sb_set(sb.slots[j].leaving, 1);
		if (write(ends[0].fd, both, sizeof(both)) < 0) {
			turn();
			if (write(ends[0].fd, both, sizeof(both)) < 0)
				break;
		}
	}
	ck_assert_uint_gt(relay_peer_figures(ends[0].peer).queued, HIGH);
	ck_assert_uint_lt(relay_peer_figures(ends[0].peer).queued, HIGH + (1u << 20));
	put(1, MSG_SEND, ends[2].address, 5, "others go on");
	ck_assert_uint_eq(take(2, MSG_SEND).f.id, 5);
	for (unsigned j = 1; j < PEERS; j++)
		sb_set(sb.slots[j].leaving, 0);
	tear_down();
}
END_TEST

START_TEST(test_publications)
{
	struct got g;

	set_up();
	put_subscribe(1, 3, "a.*", POLICY_REFUSE, "");
	put_subscribe(2, 3, "a.>", POLICY_REFUSE, "");
	put_subscribe(2, 9, "a.b", POLICY_REFUSE, "");
	put_publish(0, "a.b", 1, "one");
	put_publish(0, "a.b", 2, "two");
	put_publish(0, "a.c", 3, "three");
	put_sync(0);
	for (uint64_t i = 1; i <= 3; i++) {
		g = take(1, MSG_PUBLISH);
		ck_assert_uint_eq(g.f.id, i);
		ck_assert_uint_eq(g.f.dst, 3);
		ck_assert_str_eq(g.body + sizeof(struct msg_publish), i < 3 ? "a.b" : "a.c");
	}
	for (unsigned i = 0; i < 5; i++) {
		g = take(2, MSG_PUBLISH);
		ck_assert(g.f.dst == 3 || g.f.dst == 9);
	}
	take_nothing(1);
	take_nothing(2);
	take_ack(0, 4);
	tear_down();
}
END_TEST

static void on_tapped(const char *subject, size_t len, const void *body, uint64_t n, void *arg)
{
	char *text = arg;

	snprintf(text + strlen(text), 100, "%.*s=%.*s ", (int)len, subject, (int)n,
		(const char *)body);
}

START_TEST(test_the_primary_listens_and_publishes)
{
	struct relay_tap *tap;
	char text[300] = "";
	struct got g;

	set_up();
	ck_assert_int_eq(relay_tap_new(relay, "a.>", on_tapped, text, &tap), 0);
	put_subscribe(1, 1, "a.b", POLICY_DROP_NEWEST, "");
	ck_assert_int_eq(relay_publish(relay, "a.b", "hi", 2), 0);
	ck_assert_int_eq(relay_publish(relay, "a..b", "hi", 2), -EINVAL);
	put_publish(0, "a.c", 0, "ho");
	put_publish(0, "a.c", 0, "hum");
	g = take(1, MSG_PUBLISH);
	ck_assert_uint_eq(g.f.src, 0);
	ck_assert_str_eq(text, "a.b=hi a.c=ho a.c=hum ");
	relay_tap_free(tap);
	put_publish(0, "a.c", 0, "ho");
	put_sync(0);
	take_nak(0, 2, 1, -ENOENT);
	tear_down();
}
END_TEST

START_TEST(test_a_group_takes_turns_and_avoids_who_is_full)
{
	struct got g;
	unsigned n[PEERS] = {0};

	set_up();
	for (unsigned i = 1; i < PEERS; i++)
		put_subscribe(i, 0, "work", POLICY_REFUSE, "crew");
	for (unsigned i = 0; i < 30; i++)
		put_publish(0, "work", i, "");
	for (unsigned i = 1; i < PEERS; i++) {
		while (next(i, &g))
			n[i]++;
		ck_assert_uint_eq(n[i], 10);
		n[i] = 0;
	}
	fill(0, 1, 0);
	for (unsigned i = 0; i < 30; i++)
		put_publish(0, "work", i, "");
	for (unsigned i = 2; i < PEERS; i++) {
		while (next(i, &g))
			n[i]++;
	}
	ck_assert_uint_eq(n[2] + n[3], 30);
	sb_set(sb.slots[2].state, PROC_DRAINING);
	for (unsigned i = 0; i < 30; i++)
		put_publish(0, "work", i, "");
	while (next(3, &g))
		n[3]++;
	ck_assert_uint_eq(n[2] + n[3], 60); /* who leaves is spared, too */
	tear_down();
}
END_TEST

START_TEST(test_refused_as_a_whole)
{
	struct got g;

	set_up();
	put_subscribe(1, 0, "s", POLICY_REFUSE, "");
	put_subscribe(2, 0, "s", POLICY_REFUSE, "");
	fill(0, 1, 0);
	while (next(0, &g))
		;
	put_publish(0, "s", 0, "lost");
	put_sync(0);
	ck_assert_uint_eq(take(0, MSG_PAUSE).f.type, MSG_PAUSE);
	g = take(0, MSG_NAK);
	take_nothing(2);
	while (next(1, &g))
		ck_assert_uint_eq(g.f.type, MSG_SEND);
	put_publish(0, "s", 0, "now");
	take(2, MSG_PUBLISH);
	take(1, MSG_PUBLISH);
	tear_down();
}
END_TEST

/* One subscription of a worker does not take the room of another one that would rather have it refused. */
START_TEST(test_refused_as_a_whole_also_within_one_process)
{
	static const char body[2048];
	struct frame f = {.type = MSG_SEND, .src = 0};
	size_t left, one = frame_space(publish_head(1) + 8);
	struct got g;

	set_up();
	put_subscribe(1, 1, "s", POLICY_REFUSE, "");
	put_subscribe(1, 0, "s", POLICY_DROP_NEWEST, "");
	put_subscribe(1, 2, "s", POLICY_REFUSE, "");
	f.src = ends[2].address;
	f.dst = ends[1].address;
	/* until there is room for one of them, but not for three */
	while ((left = HIGH - relay_peer_figures(ends[1].peer).queued) >= 3 * one) {
		f.length = left > 1500 ? 1000 : (uint32_t)(left - one - sizeof(f));
		put_raw(2, f, body, f.length, NULL);
		turn();
	}
	ck_assert_uint_ge(left, one);
	put_publish(0, "s", 0, "12345678");
	put_sync(0);
	take(0, MSG_PAUSE);
	take_nak(0, 0, 1, -EAGAIN);
	while (next(1, &g))
		ck_assert_uint_eq(g.f.type, MSG_SEND);
	tear_down();
}
END_TEST

/* What a full subscriber gets of ten messages, once it reads. */
static unsigned after_full(enum msg_policy policy, uint64_t *ret_first)
{
	struct got g;
	unsigned n = 0;

	set_up();
	put_subscribe(1, 7, "s", policy, "");
	fill(0, 1, 0);
	for (uint64_t i = 100; i < 110; i++)
		put_publish(0, "s", i, "");
	turn();
	while (next(1, &g)) {
		if (g.f.type != MSG_PUBLISH)
			continue;
		if (n++ == 0)
			*ret_first = g.f.id;
		ck_assert_uint_eq(g.f.id, *ret_first + n - 1);
	}
	return n;
}

START_TEST(test_drop_newest)
{
	uint64_t first = 0;

	ck_assert_uint_eq(after_full(POLICY_DROP_NEWEST, &first), 0);
	ck_assert_uint_eq(relay_peer_figures(ends[1].peer).dropped, 10);
	tear_down();
}
END_TEST

START_TEST(test_drop_oldest_keeps_what_there_is_room_for)
{
	uint64_t first = 0;

	ck_assert_uint_eq(after_full(POLICY_DROP_OLDEST, &first), 10);
	ck_assert_uint_eq(first, 100);
	ck_assert_uint_eq(relay_peer_figures(ends[1].peer).dropped, 0);
	tear_down();
}
END_TEST

START_TEST(test_drop_oldest_drops_the_oldest)
{
	struct got g;
	uint64_t n = 0, last = 0;
	char body[1001];

	memset(body, 'y', 1000);
	body[1000] = '\0';
	set_up();
	put_subscribe(1, 7, "s", POLICY_DROP_OLDEST, "");
	fill(0, 1, 0);
	for (uint64_t i = 0; i < 1000; i++)
		put_publish(0, "s", i, body);
	turn();
	while (next(1, &g)) {
		if (g.f.type != MSG_PUBLISH)
			continue;
		ck_assert(n == 0 || g.f.id == last + 1);
		last = g.f.id;
		n++;
	}
	ck_assert_uint_eq(last, 999);
	ck_assert_uint_gt(n, HIGH / 4 / 1100);
	ck_assert_uint_eq(relay_peer_figures(ends[1].peer).dropped, 1000 - n);
	tear_down();
}
END_TEST

START_TEST(test_disconnect)
{
	struct got g;
	bool ended = false;
	struct msg_unsubscribe m;

	set_up();
	put_subscribe(1, 7, "s", POLICY_DISCONNECT, "");
	fill(0, 1, 0);
	put_publish(0, "s", 0, "");
	turn();
	ck_assert_uint_eq(relay_peer_figures(ends[1].peer).n_subscriptions, 0);
	while (next(1, &g)) {
		if (g.f.type != MSG_ENDED)
			continue;
		memcpy(&m, g.body, sizeof(m));
		ended = m.number == 7 && m.error == -EAGAIN;
	}
	ck_assert(ended);
	tear_down();
}
END_TEST

START_TEST(test_any_takes_who_has_least)
{
	struct got g;
	unsigned n[PEERS] = {0};

	set_up();
	sb_set(sb.slots[1].connections, 10);
	sb_set(sb.slots[3].on_trial, 1);
	for (unsigned i = 0; i < 30; i++)
		put(0, MSG_SEND, ADDRESS_ANY, i, "");
	for (unsigned i = 0; i < PEERS; i++) {
		while (next(i, &g)) {
			ck_assert_uint_eq(g.f.dst, ends[i].address);
			n[i]++;
		}
	}
	ck_assert_uint_eq(n[0] + n[3], 0);
	ck_assert_uint_eq(n[1], 10);
	ck_assert_uint_eq(n[2], 20);
	sb_set(sb.slots[1].connections, 0);
	sb_set(sb.slots[3].on_trial, 0);
	detach(3);
	attach(3, HIGH, LOW); /* a newcomer, which has nothing to make up for */
	for (unsigned i = 0; i < 20; i++)
		put(0, MSG_SEND, ADDRESS_ANY, i, "");
	turn();
	n[3] = 0;
	while (next(3, &g))
		n[3] += g.f.type == MSG_SEND;
	ck_assert_uint_ge(n[3], 5);
	ck_assert_uint_le(n[3], 12);
	tear_down();
}
END_TEST

/* --- descriptors --- */

static void put_with_fd(unsigned from, const struct frame *f, const void *body, int fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	char bytes[256] = {0};
	struct iovec iov = {bytes, frame_space(f->length)};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	memcpy(bytes, f, sizeof(*f));
	memcpy(bytes + sizeof(*f), body, f->length);
	control.align = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	ck_assert_int_eq(sendmsg(ends[from].fd, &mh, 0), (ssize_t)iov.iov_len);
	turn();
}

static void put_large(unsigned from, unsigned to, int fd, uint64_t size)
{
	struct msg_large m = {.size = size};
	struct frame f = {.length = sizeof(m),
		.type = MSG_SEND,
		.flags = FRAME_FD | FRAME_LARGE,
		.src = ends[from].address,
		.dst = ends[to].address};

	put_with_fd(from, &f, &m, fd);
}

static int sealed(size_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

START_TEST(test_a_sealed_memfd_passes)
{
	int fd;

	set_up();
	ck_assert_int_eq(blob_new("0123456789", 10, &fd), 0);
	put_large(0, 1, fd, 10);
	close(fd);
	ck_assert_ptr_null(ends[0].offence);
	take(1, MSG_SEND);
	fd = sealed(2u << 20, ALL_SEALS); /* more than max_message */
	put_large(0, 1, fd, 2u << 20);
	close(fd);
	put_sync(0);
	take_nak(0, 1, 1, -EMSGSIZE);
	ck_assert_ptr_null(ends[0].offence);
	tear_down();
}
END_TEST

static const struct {
	int seals;
	uint64_t size, said;
} forged[] = {
	{F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, 100, 100},
	{F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL, 100, 100},
	{F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL, 100, 100},
	{F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE, 100, 100},
	{0, 100, 100},
	{ALL_SEALS, 100, 101},
	{ALL_SEALS, 0, 0},
	{ALL_SEALS, 100, UINT64_MAX},
};

START_TEST(test_a_forged_memfd_is_an_offence)
{
	int fd, before = dup(0);

	close(before);
	set_up();
	fd = sealed(forged[_i].size, forged[_i].seals);
	put_large(0, 1, fd, forged[_i].said);
	close(fd);
	ck_assert_str_eq(ends[0].offence, "malformed large payload");
	take_nothing(1);
	put(2, MSG_SEND, ends[1].address, 1, "others go on");
	take(1, MSG_SEND);
	tear_down();
	ck_assert_int_eq(dup(0), before); /* none has leaked */
	close(before);
}
END_TEST

START_TEST(test_descriptors_in_a_queue_are_bounded)
{
	struct frame f = {.type = MSG_SEND, .flags = FRAME_FD, .src = 0};
	struct got g;
	unsigned refused = 0;

	set_up();
	fill(1, 2, 0); /* its queue does not move */
	while (next(2, &g) && relay_peer_figures(ends[2].peer).queued > LOW)
		;
	f.src = ends[0].address;
	f.dst = ends[2].address;
	for (unsigned i = 0; i < 200 && refused == 0; i++) {
		put_with_fd(0, &f, "", 0);
		while (next(0, &g))
			refused += g.f.type == MSG_NAK;
	}
	ck_assert_uint_gt(refused, 0);
	tear_down();
}
END_TEST

static void put_publish_fd(unsigned from, const char *subject, int fd)
{
	char head[sizeof(struct msg_publish) + SUBJECT_MAX + 8] = {0};
	struct msg_publish m = {.subject = (uint16_t)strlen(subject)};
	struct frame f = {.length = (uint32_t)publish_head(m.subject),
		.type = MSG_PUBLISH,
		.flags = FRAME_FD | FRAME_SYNC,
		.src = ends[from].address};

	memcpy(head, &m, sizeof(m));
	memcpy(head + sizeof(m), subject, m.subject);
	put_with_fd(from, &f, head, fd);
}

/* Each subscription costs one; who cannot have them all gets none. */
START_TEST(test_descriptors_of_all_queues_are_bounded)
{
	struct got g;

	set_up();
	for (uint32_t i = 0; i < 4; i++)
		put_subscribe(1 + i % 2, i, "four", POLICY_DROP_NEWEST, "");
	for (uint32_t i = 4; i < 7; i++)
		put_subscribe(1 + i % 2, i, "three", POLICY_REFUSE, "");
	fill(3, 1, 0);
	while (relay_peer_figures(ends[1].peer).full)
		next(1, &g);
	relay->fds_left = 3;
	put_publish_fd(0, "four", 0);
	take_nak(0, 0, 1, -EDQUOT);
	take_ack(0, 1);
	take_nothing(2);
	ck_assert_uint_eq(relay->fds_left, 3);
	put_publish_fd(0, "three", 0);
	take(2, MSG_PUBLISH);
	ck_assert_uint_eq(relay->fds_left, 1); /* two are behind what 1 does not read */
	detach(1);
	ck_assert_uint_eq(relay->fds_left, 3);
	tear_down();
}
END_TEST

START_TEST(test_who_has_too_many_subscriptions_for_descriptors_gets_none)
{
	set_up();
	for (uint32_t i = 0; i < OUTLET_FDS + 1; i++)
		put_subscribe(1, i, "s", POLICY_REFUSE, "");
	put_publish_fd(0, "s", 0);
	take_nak(0, 0, 1, -EMSGSIZE);
	take_nothing(1);
	tear_down();
}
END_TEST

static void set_linger(int fd, int seconds)
{
	struct linger l = {1, seconds};

	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
}

static bool lingers(int fd)
{
	struct linger l;
	socklen_t len = sizeof(l);

	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len), 0);
	return l.l_onoff;
}

/* A socket may be set to linger when the queue has the last descriptor of it: closing it would stop the primary. */
START_TEST(test_no_socket_in_a_queue_lingers)
{
	struct frame f = {.type = MSG_SEND, .flags = FRAME_FD};
	bool is_read = _i == 0;
	int fds[2][2];
	struct got g;

	set_up();
	fill(1, 2, 0); /* its queue does not move */
	while (next(2, &g) && relay_peer_figures(ends[2].peer).queued > LOW)
		;
	f.src = ends[0].address;
	f.dst = ends[2].address;
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), 0);
		put_with_fd(0, &f, "", fds[i][0]);
	}
	ck_assert_uint_gt(relay_peer_figures(ends[2].peer).queued, 2 * sizeof(f));
	set_linger(fds[0][0], 60);
	set_linger(fds[1][0], 0); /* this one does not wait */
	if (is_read)
		while (next(2, &g))
			;
	else
		detach(2);
	ck_assert(!lingers(fds[0][0]));
	ck_assert(lingers(fds[1][0]));
	for (int i = 0; i < 4; i++)
		close(fds[i / 2][i % 2]);
	tear_down();
}
END_TEST

/* --- offences --- */

static const struct {
	struct frame f;
	const char *body, *why;
} offences[] = {
	{{.type = MSG_SEND, .src = 12345}, "", "wrong sender"},
	{{.type = MSG_ACK, .length = 16}, "0123456789012345", "message its sender may not send"},
	{{.type = MSG_SEND, .flags = 128}, "", "undefined flags"},
	{{.type = MSG_SEND, .flags = FRAME_LARGE}, "", "undefined flags"},
	{{.type = MSG_SEND, .flags = FRAME_FD}, "", "descriptor missing"},
	{{.type = MSG_SEND, .length = MSG_PAYLOAD_MAX + 1}, "", "wrong payload length"},
	{{.type = MSG_ANSWER, .dst = ADDRESS_ANY}, "", "answer to more than one"},
	{{.type = MSG_ANSWER, .dst = ADDRESS_OTHERS}, "", "answer to more than one"},
	{{.type = MSG_ANSWER, .dst = ADDRESS_ALL}, "", "answer to more than one"},
	{{.type = MSG_PUBLISH, .length = 4}, "1234", "malformed publication"},
	{{.type = MSG_PUBLISH, .length = 16}, "\x09\0\0\0\0\0\0\0abcdefgh",
		"malformed publication"},
	{{.type = MSG_PUBLISH, .length = 16}, "\x02\0\0\0\0\0\0\0a.\0\0\0\0\0\0",
		"malformed subject"},
	{{.type = MSG_PUBLISH, .length = 16}, "\x01\0\0\0\0\0\0\0*\0\0\0\0\0\0\0",
		"malformed subject"},
	{{.type = MSG_PUBLISH, .length = 16}, "\x02\0\0\0\0\0\0\0$a\0\0\0\0\0\0",
		"malformed subject"},
	{{.type = MSG_SUBSCRIBE, .length = 4}, "1234", "malformed subscription"},
	{{.type = MSG_SUBSCRIBE, .length = 9}, "\0\0\0\0\x04\x01\0\0a", "malformed subscription"},
	{{.type = MSG_SUBSCRIBE, .length = 9}, "\0\0\0\0\0\x02\0\0a", "malformed subscription"},
	{{.type = MSG_SUBSCRIBE, .length = 9}, "\x64\0\0\0\0\x01\0\0a", "malformed subscription"},
	{{.type = MSG_COUNT, .length = 2}, "a.", "malformed subject"},
	{{.type = MSG_COUNT, .length = 0}, "", "malformed subject"},
};

START_TEST(test_offenders_are_cut_off_alone)
{
	struct frame f = offences[_i].f;
	char body[64] = {0};

	set_up();
	if (f.src == 0)
		f.src = ends[0].address;
	if (f.length < sizeof(body))
		memcpy(body, offences[_i].body, f.length);
	put(0, MSG_SEND, ends[1].address, 42, "before");
	ck_assert_int_gt(write(ends[0].fd, &f, sizeof(f)), 0);
	if (f.length > 0 && f.length < sizeof(body))
		ck_assert_int_gt(write(ends[0].fd, body, frame_space(f.length) - sizeof(f)), 0);
	turn();
	ck_assert_ptr_nonnull(ends[0].offence);
	ck_assert_str_eq(ends[0].offence, offences[_i].why);
	for (unsigned i = 1; i < PEERS; i++)
		ck_assert_ptr_null(ends[i].offence);
	ck_assert_uint_eq(take(1, MSG_SEND).f.id, 42);
	put(2, MSG_SEND, ends[3].address, 43, "others go on");
	ck_assert_uint_eq(take(3, MSG_SEND).f.id, 43);
	put(2, MSG_SEND, ends[0].address, 44, "to the offender");
	put_sync(2);
	take_nak(2, 1, 1, -ESRCH);
	tear_down();
}
END_TEST

/* As it does when it ends; but then it is detached. */
START_TEST(test_who_closes_its_lane_and_lives_on_is_an_offender)
{
	uint64_t now = 1000000000;

	set_up();
	relay_heartbeat(relay, now);
	shutdown(ends[0].fd, SHUT_RDWR);
	turn();
	for (unsigned i = 0; i < 20; i++)
		relay_heartbeat(relay, now += 100000);
	ck_assert_ptr_null(ends[0].offence);
	relay_heartbeat(relay, now += 100000);
	ck_assert_str_eq(ends[0].offence, "closed its lane");
	for (unsigned i = 1; i < PEERS; i++)
		ck_assert_ptr_null(ends[i].offence);
	tear_down();
}
END_TEST

START_TEST(test_what_the_dead_sent_is_delivered)
{
	set_up();
	for (uint64_t i = 0; i < 100; i++)
		put(0, MSG_SEND, ends[1].address, i, "last words");
	relay_read_rest(ends[0].peer);
	detach(0);
	for (uint64_t i = 0; i < 100; i++)
		ck_assert_uint_eq(take(1, MSG_SEND).f.id, i);
	tear_down();
}
END_TEST

/* Writes the batch in one piece. Returns in how many turns the relay was through with n frames in all. */
static unsigned turns_for(unsigned from, uint64_t n)
{
	unsigned n_turns = 0;

	batching = false;
	ck_assert_int_eq(write(ends[from].fd, batch, batch_len), (ssize_t)batch_len);
	batch_len = 0;
	while (relay_peer_figures(ends[from].peer).sent < n) {
		event_base_loop(base, EVLOOP_ONCE);
		ck_assert_uint_lt(++n_turns, 1000);
	}
	return n_turns;
}

START_TEST(test_much_that_is_kept_is_done_in_turns)
{
	uint64_t n_before;

	set_up();
	for (uint32_t i = 0; i < 90; i++)
		put_subscribe(1, i, "x", POLICY_DROP_OLDEST, "");
	fill(0, 1, 0);
	n_before = relay_peer_figures(ends[0].peer).sent;
	batching = true;
	for (unsigned i = 0; i < 2000; i++) /* of one subject: they would go together */
		put_publish(0, "x", i, "");
	ck_assert_uint_gt(turns_for(0, n_before + 2000), 2000 * 90 / 20000);
	tear_down();
}
END_TEST

START_TEST(test_much_that_comes_to_nothing_is_done_in_turns)
{
	const struct msg_publish m = {.subject = 1};
	struct frame f = {
		.length = (uint32_t)publish_head(1), .type = MSG_PUBLISH, .dst = ADDRESS_OTHERS};
	char head[16] = {0};

	set_up();
	f.src = ends[0].address;
	for (uint32_t i = 0; i < 90; i++)
		put_subscribe(0, i, "*", POLICY_DROP_NEWEST, "");
	batching = true;
	for (unsigned i = 0; i < 2000; i++) { /* there is nobody else */
		memcpy(head, &m, sizeof(m));
		head[sizeof(m)] = i % 2 ? 'a' : 'b';
		put_raw(0, f, head, f.length, NULL);
	}
	ck_assert_uint_gt(turns_for(0, 2090), 2000 * 90 / 20000);
	tear_down();
}
END_TEST

START_TEST(test_much_work_is_done_in_turns)
{
	char subject[32];

	set_up();
	for (uint32_t i = 0; i < 90; i++)
		put_subscribe(1, i, "x.>", POLICY_DROP_NEWEST, "");
	batching = true;
	for (unsigned i = 0; i < 2000; i++) { /* 90 deliveries each */
		snprintf(subject, sizeof(subject), "x.%u", i);
		put_publish(0, subject, i, "");
	}
	ck_assert_uint_gt(turns_for(0, 2000), 2000 * 90 / 20000);
	tear_down();
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_frames_go_where_they_are_sent);
	tcase_add_test(tc, test_failures_are_told_in_order_before_the_ack);
	tcase_add_test(tc, test_nobody_who_went_is_reached);
	tcase_add_test(tc, test_births_never_come_to_the_reserved_addresses);
	tcase_add_test(tc, test_acks_come_by_themselves_after_a_quarter_of_the_window);
	tcase_add_test(tc, test_a_receiver_that_does_not_read);
	tcase_add_test(tc, test_one_sender_takes_nobody_elses_place_among_those_who_wait);
	tcase_add_test(tc, test_who_waits_is_told_when_the_receiver_dies);
	tcase_add_test(tc, test_a_waiting_sender_may_die);
	tcase_add_test(tc, test_answers_that_are_not_taken_stop_the_reading);
	tcase_add_test(tc, test_publications);
	tcase_add_test(tc, test_the_primary_listens_and_publishes);
	tcase_add_test(tc, test_a_group_takes_turns_and_avoids_who_is_full);
	tcase_add_test(tc, test_refused_as_a_whole);
	tcase_add_test(tc, test_refused_as_a_whole_also_within_one_process);
	tcase_add_test(tc, test_drop_newest);
	tcase_add_test(tc, test_drop_oldest_keeps_what_there_is_room_for);
	tcase_add_test(tc, test_drop_oldest_drops_the_oldest);
	tcase_add_test(tc, test_disconnect);
	tcase_add_test(tc, test_any_takes_who_has_least);
	tcase_add_test(tc, test_a_sealed_memfd_passes);
	tcase_add_loop_test(
		tc, test_a_forged_memfd_is_an_offence, 0, sizeof(forged) / sizeof(*forged));
	tcase_add_test(tc, test_descriptors_in_a_queue_are_bounded);
	tcase_add_test(tc, test_descriptors_of_all_queues_are_bounded);
	tcase_add_test(tc, test_who_has_too_many_subscriptions_for_descriptors_gets_none);
	tcase_add_loop_test(tc, test_no_socket_in_a_queue_lingers, 0, 2);
	tcase_add_loop_test(
		tc, test_offenders_are_cut_off_alone, 0, sizeof(offences) / sizeof(*offences));
	tcase_add_test(tc, test_who_closes_its_lane_and_lives_on_is_an_offender);
	tcase_add_test(tc, test_what_the_dead_sent_is_delivered);
	tcase_add_test(tc, test_much_work_is_done_in_turns);
	tcase_add_test(tc, test_much_that_is_kept_is_done_in_turns);
	tcase_add_test(tc, test_much_that_comes_to_nothing_is_done_in_turns);
}

int main(void)
{
	return run_tests("relay", add);
}

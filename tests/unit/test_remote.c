/* The relay's side of the bridge over real socketpairs, without a primary: interests, exports, the change from one to the next. */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/lane.h"
#include "ipc/subject.h"
#include "primary/relay.h"
#include "primary/remote.h"
#include "run.h"
#include "shared/scoreboard.h"

#define HIGH     (256u << 10)
#define LOW      (64u << 10)
#define BODY_MAX 512

enum { A, B, BRIDGE, NEXT, PEERS };

#include "relay_ends.h"

static struct remote *remote;

static void attach(unsigned i)
{
	struct end *e = &ends[i];
	int fds[2], small = 16 << 10;
	struct relay_peer_options o = {.role = i < BRIDGE ? ROLE_WORKER : ROLE_BRIDGE,
		.queue_high = HIGH,
		.queue_low = LOW,
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
	if (o.role == ROLE_WORKER)
		relay_announce(e->peer);
}

static void set_up(const char *exports)
{
	base = event_base_new();
	if (!sb.slots)
		ck_assert_int_eq(scoreboard_new(1u << ADDRESS_SLOT_BITS, &sb), 0);
	ck_assert_int_eq(relay_new(base, &sb, &relay), 0);
	remote = relay_remote(relay);
	for (unsigned i = 0; i < PEERS; i++)
		attach(i);
	ck_assert_int_eq(remote_set_exports(remote, exports), 0);
}

/* --- as a process writes --- */

static void put(unsigned from, struct frame f, const char *body, size_t len)
{
	char bytes[sizeof(f) + 8192] = {0};
	size_t n;

	f.src = ends[from].address;
	f.length = (uint32_t)len;
	n = frame_space(f.length);
	memcpy(bytes, &f, sizeof(f));
	memcpy(bytes + sizeof(f), body, len);
	for (size_t at = 0; at < n;) {
		ssize_t r = write(ends[from].fd, bytes + at, n - at);

		if (r > 0)
			at += (size_t)r;
		else
			event_base_loop(base, EVLOOP_NONBLOCK);
	}
}

static void publish(unsigned from, uint32_t dst, const char *subject, uint64_t id, const char *body)
{
	char bytes[8192] = {0};
	struct msg_publish m = {.subject = (uint16_t)strlen(subject)};
	struct frame f = {
		.type = MSG_PUBLISH, .dst = dst, .id = id, .flags = id ? FRAME_ANSWERED : 0};

	memcpy(bytes, &m, sizeof(m));
	memcpy(bytes + sizeof(m), subject, m.subject);
	memcpy(bytes + publish_head(m.subject), body, strlen(body));
	put(from, f, bytes, publish_head(m.subject) + strlen(body));
}

static void subscribe(unsigned from, uint32_t number, const char *pattern, const char *group)
{
	char body[sizeof(struct msg_subscribe) + SUBJECT_MAX + SUBJECT_GROUP_MAX];
	struct msg_subscribe m = {.number = number,
		.pattern = (uint8_t)strlen(pattern),
		.group = (uint8_t)strlen(group)};

	memcpy(body, &m, sizeof(m));
	memcpy(body + sizeof(m), pattern, m.pattern);
	memcpy(body + sizeof(m) + m.pattern, group, m.group);
	put(from, (struct frame){.type = MSG_SUBSCRIBE}, body, sizeof(m) + m.pattern + m.group);
	turn();
}

static void unsubscribe(unsigned from, uint32_t number)
{
	struct msg_unsubscribe m = {.number = number};

	put(from, (struct frame){.type = MSG_UNSUBSCRIBE}, (const char *)&m, sizeof(m));
	turn();
}

static void take_publication(unsigned to, const char *subject, const char *body)
{
	struct got g = take(to, MSG_PUBLISH);
	const struct msg_publish *m = (const void *)g.body;

	ck_assert_uint_eq(m->subject, strlen(subject));
	ck_assert_int_eq(memcmp(m + 1, subject, m->subject), 0);
	ck_assert_str_eq(g.body + publish_head(m->subject), body);
}

/* Returns its number. */
static uint32_t take_interest(unsigned to, bool wanted, const char *pattern, const char *group)
{
	struct got g = take(to, MSG_INTEREST);
	const struct msg_interest *m = (const void *)g.body;
	const char *text = (const char *)(m + 1);

	ck_assert_int_eq(m->wanted, wanted);
	ck_assert_uint_eq(m->pattern, strlen(pattern));
	ck_assert_int_eq(memcmp(text, pattern, m->pattern), 0);
	ck_assert_uint_eq(m->group, strlen(group));
	ck_assert_int_eq(memcmp(text + m->pattern, group, m->group), 0);
	return m->number;
}

static void begin(void)
{
	remote_activate(remote, ends[BRIDGE].peer);
}

/* --- what is wanted here --- */

START_TEST(test_interests)
{
	uint32_t first, second;

	set_up(">");
	subscribe(A, 0, "x.*", "");
	begin();
	first = take_interest(BRIDGE, true, "x.*", "");
	subscribe(B, 0, "x.*", ""); /* nothing new */
	subscribe(B, 1, "x.*", "g");
	ck_assert_uint_ne(take_interest(BRIDGE, true, "x.*", "g"), first);
	subscribe(A, 1, "$tine.peer.join", ""); /* not for others */
	unsubscribe(A, 0);
	take_nothing(BRIDGE);
	unsubscribe(B, 0);
	ck_assert_uint_eq(take_interest(BRIDGE, false, "x.*", ""), first);
	subscribe(B, 0, "x.*", "");
	second = take_interest(BRIDGE, true, "x.*", "");
	ck_assert_uint_ne(second, first);
	detach(B);
	take_interest(BRIDGE, false, "x.*", "");
	take_interest(BRIDGE, false, "x.*", "g");
	take_nothing(BRIDGE);
	tear_down();
}
END_TEST

static void ignore(const char *subject, size_t n, const void *body, uint64_t len, void *arg)
{
}

START_TEST(test_a_tap_is_an_interest)
{
	struct relay_tap *tap;

	set_up(">");
	begin();
	ck_assert_int_eq(relay_tap_new(relay, "x", ignore, NULL, &tap), 0);
	take_interest(BRIDGE, true, "x", "");
	relay_tap_free(tap);
	take_interest(BRIDGE, false, "x", "");
	tear_down();
}
END_TEST

/* A bridge that does not read is told how things are at last, not all that has happened. */
START_TEST(test_what_changes_all_the_time_does_not_pile_up)
{
	unsigned n = 0, n_wanted = 0;
	struct got g;
	char pattern[32];

	set_up(">");
	begin();
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(pattern, sizeof(pattern), "some.pattern.%u", i % 50);
		subscribe(A, i % 50, pattern, "");
		unsubscribe(A, i % 50);
	}
	ck_assert_uint_lt(relay_peer_figures(ends[BRIDGE].peer).queued, 80u << 10);
	subscribe(A, 7, "last", "");
	while (next(BRIDGE, &g)) {
		const struct msg_interest *m = (const void *)g.body;

		ck_assert_str_eq(msg_name(g.f.type), "INTEREST");
		n_wanted += m->wanted ? 1 : -1u;
		n++;
	}
	ck_assert_uint_eq(n_wanted, 1);
	ck_assert_uint_lt(n, 10000);
	ck_assert_uint_eq(remote_figures(remote).n_interests, 1);
	tear_down();
}
END_TEST

/* --- what goes elsewhere --- */

START_TEST(test_what_fits_goes_to_the_bridge)
{
	struct got g;

	set_up("far.> other");
	publish(A, ADDRESS_ALL, "far.x", 0, "0");
	turn();
	ck_assert_uint_eq(remote_figures(remote).missed, 1);
	begin();
	publish(A, ADDRESS_ALL, "far.x", 0, "1");
	publish(A, ADDRESS_ALL, "near.x", 0, "2");
	publish(A, ADDRESS_OTHERS, "other", 0, "3");
	take_publication(BRIDGE, "far.x", "1");
	take_publication(BRIDGE, "other", "3");
	take_nothing(BRIDGE);
	/* What is told of it: the groups that have had it, and of a request whether somebody has. */
	subscribe(B, 0, "far.*", "g");
	subscribe(B, 1, "far.>", "h");
	take_interest(BRIDGE, true, "far.*", "g");
	take_interest(BRIDGE, true, "far.>", "h");
	publish(A, ADDRESS_ALL, "far.x", 0, "4");
	g = take(BRIDGE, MSG_SERVED);
	ck_assert_uint_eq(g.f.length, sizeof(struct msg_served) + 4);
	ck_assert(memcmp(g.body + sizeof(struct msg_served), "g\0h", 4) == 0 ||
		memcmp(g.body + sizeof(struct msg_served), "h\0g", 4) == 0);
	take_publication(BRIDGE, "far.x", "4");
	subscribe(B, 2, "other", "");
	take_interest(BRIDGE, true, "other", "");
	publish(A, ADDRESS_ALL, "other", 17, "5");
	ck_assert_uint_eq(
		((const struct msg_served *)(const void *)take(BRIDGE, MSG_SERVED).body)->here, 1);
	take_publication(BRIDGE, "other", "5");
	publish(A, ADDRESS_ALL, "other", 0, "6");
	take_publication(BRIDGE, "other", "6");
	take_nothing(BRIDGE);
	tear_down();
}
END_TEST

/* A bridge that takes nothing costs what comes too late, and nobody else anything. */
START_TEST(test_a_bridge_that_does_not_read)
{
	char body[1001];
	unsigned n = 0;
	struct got g;

	set_up(">");
	begin();
	subscribe(B, 0, "x", "");
	take_interest(BRIDGE, true, "x", "");
	memset(body, 'x', 1000);
	body[1000] = '\0';
	for (unsigned i = 0; i < 1000; i++) {
		publish(A, ADDRESS_ALL, "x", 0, body);
		take(B, MSG_PUBLISH);
	}
	ck_assert_uint_le(relay_peer_figures(ends[BRIDGE].peer).queued, HIGH);
	ck_assert_uint_gt(remote_figures(remote).dropped, 100);
	while (next(BRIDGE, &g))
		n += g.f.type == MSG_PUBLISH;
	ck_assert_uint_eq(n + remote_figures(remote).dropped, 1000);
	publish(A, ADDRESS_ALL, "x", 0, "again");
	take_publication(BRIDGE, "x", "again");
	tear_down();
}
END_TEST

/* --- what comes from elsewhere --- */

START_TEST(test_it_goes_to_those_it_is_for)
{
	uint32_t all, group, other;
	struct got g;
	unsigned n[2] = {0};

	set_up(">");
	begin();
	subscribe(A, 0, "x.*", "");
	subscribe(B, 0, "x.*", "");
	subscribe(B, 1, "x.>", "");
	subscribe(A, 2, "x.*", "g");
	subscribe(B, 2, "x.*", "g");
	all = take_interest(BRIDGE, true, "x.*", "");
	other = take_interest(BRIDGE, true, "x.>", "");
	group = take_interest(BRIDGE, true, "x.*", "g");
	publish(BRIDGE, all, "x.y", 0, "1");
	take_publication(A, "x.y", "1");
	take_publication(B, "x.y", "1");
	publish(BRIDGE, other, "x.y", 0, "2");
	take_publication(B, "x.y", "2");
	for (unsigned i = 0; i < 10; i++)
		publish(BRIDGE, group, "x.y", 0, "3");
	for (unsigned i = 0; i < 2; i++) {
		while (next(i, &g))
			n[i]++;
	}
	ck_assert_uint_eq(n[0], 5);
	ck_assert_uint_eq(n[1], 5);
	publish(BRIDGE, 12345, "x.y", 0, "4"); /* nobody's any more */
	publish(A, ADDRESS_ALL, "z", 0, "5");  /* and what is nobody's here goes there */
	take_publication(BRIDGE, "z", "5");
	for (unsigned i = 0; i < PEERS; i++)
		take_nothing(i);
	tear_down();
}
END_TEST

/* One that does not read misses it, though it would refuse it from here; others do not, and the bridge does not wait. */
START_TEST(test_who_is_full_misses_it)
{
	char body[1001];
	uint32_t number;
	unsigned n = 0;
	struct got g;

	set_up(">");
	begin();
	subscribe(A, 0, "x", "");
	subscribe(B, 0, "x", "");
	number = take_interest(BRIDGE, true, "x", "");
	memset(body, 'x', 1000);
	body[1000] = '\0';
	for (unsigned i = 0; i < 1000; i++) {
		publish(BRIDGE, number, "x", 0, body);
		take(B, MSG_PUBLISH);
	}
	while (next(A, &g))
		n++;
	ck_assert_uint_gt(n, 100);
	ck_assert_uint_eq(n + relay_peer_figures(ends[A].peer).dropped, 1000);
	/* It is told once that it may wait for that one, and once that it need not any more. */
	n = 0;
	while (next(BRIDGE, &g)) {
		if (g.f.type == MSG_ACK)
			continue;
		ck_assert_str_eq(msg_name(g.f.type), n == 0 ? "PAUSE" : "RESUME");
		ck_assert_uint_eq(
			((const struct msg_pause *)(const void *)g.body)->key, ends[A].address);
		n++;
	}
	ck_assert_uint_eq(n, 2);
	tear_down();
}
END_TEST

/* --- from one bridge to the next --- */

START_TEST(test_one_after_the_other)
{
	uint32_t plain, group;

	set_up(">");
	begin();
	subscribe(A, 0, "x", "");
	subscribe(A, 1, "x", "g");
	plain = take_interest(BRIDGE, true, "x", "");
	group = take_interest(BRIDGE, true, "x", "g");
	remote_activate(remote, ends[NEXT].peer);
	take(BRIDGE, MSG_LAST);
	ck_assert_ptr_eq(remote_bridge(remote), ends[BRIDGE].peer);
	/* What is published waits for the next one; what comes is the old one's still. */
	publish(B, ADDRESS_ALL, "y", 0, "1");
	take_publication(NEXT, "y", "1");
	publish(BRIDGE, plain, "x", 0, "2");
	publish(NEXT, plain, "x", 0, "3");
	take_publication(A, "x", "2");
	take_nothing(A);
	publish(NEXT, group, "x", 0, "4");
	take_publication(A, "x", "4");
	detach(BRIDGE);
	ck_assert_ptr_eq(remote_bridge(remote), ends[NEXT].peer);
	ck_assert_uint_eq(take_interest(NEXT, true, "x", ""), plain);
	ck_assert_uint_eq(take_interest(NEXT, true, "x", "g"), group);
	publish(NEXT, plain, "x", 0, "5");
	take_publication(A, "x", "5");
	tear_down();
}
END_TEST

START_TEST(test_the_next_one_may_go_first)
{
	set_up(">");
	begin();
	remote_activate(remote, ends[NEXT].peer);
	take(BRIDGE, MSG_LAST);
	detach(NEXT);
	publish(A, ADDRESS_ALL, "x", 0, "1");
	take_publication(BRIDGE, "x", "1");
	detach(BRIDGE);
	ck_assert_ptr_null(remote_bridge(remote));
	publish(A, ADDRESS_ALL, "x", 0, "2");
	turn();
	ck_assert_uint_eq(remote_figures(remote).missed, 1);
	tear_down();
}
END_TEST

/* --- a bridge that does what it may not --- */

static const struct {
	uint16_t type;
	const char *body;
	size_t len;
} offences[] = {
	{MSG_SUBSCRIBE, "\0\0\0\0\0\1\0\0x", 9},
	{MSG_SEND, "x", 1},
	{MSG_INTEREST, "\0\0\0\0\1\1\0\0x", 9},
	{MSG_LAST, "", 0},
	{MSG_PUBLISH, "\1\0\0\0\0\0\0\0*\0\0\0\0\0\0\0", 16},
	{MSG_PUBLISH, "\1\0\0\0\0\0\0\0$\0\0\0\0\0\0\0", 16},
	{MSG_PUBLISH, "\377\0\0\0\0\0\0\0x\0\0\0\0\0\0\0", 16},
};

START_TEST(test_offences)
{
	set_up(">");
	begin();
	put(BRIDGE, (struct frame){.type = offences[_i].type}, offences[_i].body, offences[_i].len);
	turn();
	ck_assert_ptr_nonnull(ends[BRIDGE].offence);
	publish(A, ADDRESS_ALL, "x", 0, "1");
	turn();
	ck_assert_ptr_null(ends[A].offence);
	tear_down();
}
END_TEST

/* --- patterns --- */

static const struct {
	const char *a, *b, *both; /* NULL: nothing */
} patterns[] = {
	{"a", "a", "a"},
	{"a", "b", NULL},
	{"a.*", "*.b", "a.b"},
	{"a.>", "a.b.c", "a.b.c"},
	{">", "a.*.>", "a.*.>"},
	{"a.>", "a", NULL},
	{"a", "a.>", NULL},
	{"*", ">", "*"},
	{"*.*", "a.>", "a.*"},
	{"a.*.c", "a.b.>", "a.b.c"},
	{"a.>", "*.>", "a.>"},
	{">", "$x", NULL},
	{"$x.>", "$x.*", "$x.*"},
	{"a.b", "a.b.c", NULL},
	{"*.b.>", "a.>", "a.b.>"},
};

START_TEST(test_intersect)
{
	const char *a = patterns[_i].a, *b = patterns[_i].b, *both = patterns[_i].both;
	char got[SUBJECT_MAX + 1];

	for (int i = 0; i < 2; i++) {
		ck_assert(subject_intersect(a, strlen(a), b, strlen(b), got) == (both != NULL));
		if (both)
			ck_assert_str_eq(got, both);
		a = patterns[_i].b;
		b = patterns[_i].a;
	}
}
END_TEST

START_TEST(test_intersect_to_what_is_too_long)
{
	char a[SUBJECT_MAX + 1], b[SUBJECT_MAX + 1], both[SUBJECT_MAX + 1];

	memset(a, 'a', 200);
	strcpy(a + 200, ".*");
	strcpy(b, "*.");
	memset(b + 2, 'b', 200);
	b[202] = '\0';
	ck_assert(!subject_intersect(a, strlen(a), b, strlen(b), both));
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_interests);
	tcase_add_test(tc, test_a_tap_is_an_interest);
	tcase_add_test(tc, test_what_changes_all_the_time_does_not_pile_up);
	tcase_add_test(tc, test_what_fits_goes_to_the_bridge);
	tcase_add_test(tc, test_a_bridge_that_does_not_read);
	tcase_add_test(tc, test_it_goes_to_those_it_is_for);
	tcase_add_test(tc, test_who_is_full_misses_it);
	tcase_add_test(tc, test_one_after_the_other);
	tcase_add_test(tc, test_the_next_one_may_go_first);
	tcase_add_loop_test(tc, test_offences, 0, sizeof(offences) / sizeof(*offences));
	tcase_add_loop_test(tc, test_intersect, 0, sizeof(patterns) / sizeof(*patterns));
	tcase_add_test(tc, test_intersect_to_what_is_too_long);
}

int main(void)
{
	return run_tests("remote", add);
}

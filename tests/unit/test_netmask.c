/* Unit test of base/netmask.c: lists of networks, who is in them, and the advice for wrong ones. */
#include <errno.h>
#include <string.h>

#include "base/netmask.h"
#include "run.h"

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

static const struct {
	const char *list, *host;
	bool in;
} matches[] = {
	{"", "127.0.0.1", false},
	{"127.0.0.1", "127.0.0.1", true},
	{"127.0.0.1", "127.0.0.2", false},
	{"10.0.0.0/8", "10.255.0.1", true},
	{"10.0.0.0/8", "11.0.0.0", false},
	{"10.0.0.0/8", "::ffff:10.1.1.1", true},
	{"::ffff:10.0.0.0/104", "10.1.1.1", true},
	{"::ffff:10.0.0.0/104", "11.1.1.1", false},
	{"192.0.2.128/25", "192.0.2.128", true},
	{"192.0.2.128/25", "192.0.2.127", false},
	{"192.0.2.0/31", "192.0.2.1", true},
	{"192.0.2.0/31", "192.0.2.2", false},
	{"192.0.2.1/32", "192.0.2.1", true},
	{"0.0.0.0/0", "203.0.113.9", true},
	{"0.0.0.0/0", "::1", false},
	{"::/0", "2001:db8::1", true},
	{"::/0", "10.0.0.1", false},
	{"::/0", "::ffff:10.0.0.1", false},
	{"2001:db8::/33", "2001:db8:7fff::", true},
	{"2001:db8::/33", "2001:db8:8000::", false},
	{"::1/128", "::1", true},
	{"10.0.0.0/8, 127.0.0.1 ,\t::1/128,unix", "::1", true},
	{"10.0.0.0/8, 127.0.0.1 ,\t::1/128,unix", "127.0.0.1", true},
	{"10.0.0.0/8, 127.0.0.1 ,\t::1/128,unix", "127.0.0.2", false},
	{"unix", "0.0.0.0", false},
};

START_TEST(test_matches)
{
	struct netmask_list l;
	char why[NETMASK_WHY_MAX] = "";
	struct peer p;

	ck_assert_msg(netmask_list_parse(matches[_i].list, &l, why) == 0, "%s", why);
	ck_assert(peer_parse(matches[_i].host, strlen(matches[_i].host), &p));
	ck_assert_msg(netmask_list_has(&l, &p) == matches[_i].in, "%s in %s", matches[_i].host,
		matches[_i].list);
	netmask_list_clear(&l);
	ck_assert_uint_eq(l.n, 0);
}
END_TEST

START_TEST(test_unix)
{
	const struct peer unix_peer = {.family = AF_UNIX}, unknown = {.family = AF_UNSPEC};
	struct netmask_list l;
	char why[NETMASK_WHY_MAX];

	ck_assert_int_eq(netmask_list_parse("unix", &l, why), 0);
	ck_assert(netmask_list_has(&l, &unix_peer));
	ck_assert(!netmask_list_has(&l, &unknown));
	netmask_list_clear(&l);
	ck_assert_int_eq(netmask_list_parse("0.0.0.0/0, ::/0", &l, why), 0);
	ck_assert(!netmask_list_has(&l, &unix_peer));
	netmask_list_clear(&l);
}
END_TEST

static const struct {
	const char *list, *why;
} bad[] = {
	{"localhost",
		"\"localhost\": not a network; write 10.0.0.0/8, 192.0.2.1, 2001:db8::/32 or unix"},
	{"10.0.0.0/33", "\"10.0.0.0/33\": after '/' comes a number from 0 to 32"},
	{"10.0.0.0/", "\"10.0.0.0/\": after '/' comes a number from 0 to 32"},
	{"10.0.0.0/-1", "\"10.0.0.0/-1\": after '/' comes a number from 0 to 32"},
	{"::1/129", "\"::1/129\": after '/' comes a number from 0 to 128"},
	{"10.0.0.1/8", "\"10.0.0.1/8\" is a host within a network; write 10.0.0.0/8"},
	{"10.0.0.1/31", "\"10.0.0.1/31\" is a host within a network; write 10.0.0.0/31"},
	{"2001:db8::1/64", "\"2001:db8::1/64\" is a host within a network; write 2001:db8::/64"},
	{"::ffff:0.0.0.0/95",
		"\"::ffff:0.0.0.0/95\": half IPv4 and half IPv6; write the one that is meant"},
	{"1.1.1.1,,2.2.2.2", "\"\": a network is missing between two commas"},
	{"1.1.1.1,", "\"\": a network is missing between two commas"},
	{" ", "\"\": a network is missing between two commas"},
	{"1.1.1.1 2.2.2.2",
		"\"1.1.1.1 2.2.2.2\": not a network; write 10.0.0.0/8, 192.0.2.1, 2001:db8::/32 or "
		"unix"},
	{"0000000000000000000000000000000000000000000000000000000000",
		"\"0000000000000000000000000000000000000000000000000\": too long for a network"},
};

START_TEST(test_bad)
{
	char why[NETMASK_WHY_MAX] = "";
	struct netmask_list l = {.n = 77};

	ck_assert_int_eq(netmask_list_parse(bad[_i].list, &l, why), -EINVAL);
	ck_assert_str_eq(why, bad[_i].why);
	ck_assert_uint_eq(l.n, 77);
}
END_TEST

START_TEST(test_at_most_256)
{
	static char list[NETMASK_LIST_MAX * 8 + 16];
	char why[NETMASK_WHY_MAX], *p = list;
	struct netmask_list l;

	for (int i = 0; i < NETMASK_LIST_MAX; i++)
		p = stpcpy(p, i ? ",1.1.1.1" : "1.1.1.1");
	ck_assert_int_eq(netmask_list_parse(list, &l, why), 0);
	ck_assert_uint_eq(l.n, NETMASK_LIST_MAX);
	netmask_list_clear(&l);
	strcpy(p, ",2.2.2.2");
	ck_assert_int_eq(netmask_list_parse(list, &l, why), -EINVAL);
	ck_assert_str_eq(why, "\"2.2.2.2\": too many networks; 256 are possible");
}
END_TEST

START_TEST(test_text_reads_back)
{
	char why[NETMASK_WHY_MAX], text[NETMASK_TEXT_MAX];
	static const char *const canonical[] = {
		"10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "unix", "::/0", "0.0.0.0/0"};
	struct netmask_list l;

	for (int i = 0; i < N_ROWS(canonical); i++) {
		ck_assert_int_eq(netmask_list_parse(canonical[i], &l, why), 0);
		netmask_text(&l.items[0], text);
		ck_assert_str_eq(text, canonical[i]);
		netmask_list_clear(&l);
	}
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_matches, 0, N_ROWS(matches));
	tcase_add_test(tc, test_unix);
	tcase_add_loop_test(tc, test_bad, 0, N_ROWS(bad));
	tcase_add_test(tc, test_at_most_256);
	tcase_add_test(tc, test_text_reads_back);
}

int main(void)
{
	return run_tests("netmask", add);
}

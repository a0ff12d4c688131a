/* Unit test of base/peer.c: one form for each host, and its text. */
#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

#include "base/peer.h"
#include "run.h"

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

static const struct {
	const char *text, *canonical;
	int family;
} good[] = {
	{"0.0.0.0", "0.0.0.0", AF_INET},
	{"127.0.0.1", "127.0.0.1", AF_INET},
	{"9.10.99.100", "9.10.99.100", AF_INET},
	{"255.255.255.255", "255.255.255.255", AF_INET},
	{"::ffff:10.1.2.3", "10.1.2.3", AF_INET},
	{"::ffff:a01:203", "10.1.2.3", AF_INET},
	{"::1", "::1", AF_INET6},
	{"::", "::", AF_INET6},
	{"2001:DB8:0:0:0:0:0:1", "2001:db8::1", AF_INET6},
	{"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		AF_INET6},
};

START_TEST(test_good)
{
	char text[PEER_TEXT_MAX];
	struct peer p, again;

	memset(&p, 0xaa, sizeof(p));
	ck_assert(peer_parse(good[_i].text, strlen(good[_i].text), &p));
	ck_assert_int_eq(p.family, good[_i].family);
	ck_assert_uint_eq(p.port, 0);
	ck_assert_uint_eq(peer_text(&p, text), strlen(good[_i].canonical));
	ck_assert_str_eq(text, good[_i].canonical);
	ck_assert(peer_parse(text, strlen(text), &again));
	ck_assert_mem_eq(&p, &again, sizeof(p));
}
END_TEST

static const char *const bad[] = {"", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4",
	"1.2.3.4 ", " 1.2.3.4", "1.2.3.4:80", "[::1]", "::1%eth0", "1::2::3", ":", "fe80",
	"localhost", "unix", "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555555"};

START_TEST(test_bad)
{
	struct peer p = {.family = 77};

	ck_assert_msg(!peer_parse(bad[_i], strlen(bad[_i]), &p), "\"%s\"", bad[_i]);
	ck_assert_int_eq(p.family, 77);
}
END_TEST

START_TEST(test_a_nul_is_no_end)
{
	struct peer p;

	ck_assert(!peer_parse("1.2.3.4\0", 8, &p));
	ck_assert(peer_parse("1.2.3.45", 7, &p)); /* not read beyond its length */
	ck_assert_uint_eq(p.addr[3], 4);
}
END_TEST

START_TEST(test_from_the_kernel)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(8080)};
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	char text[PEER_TEXT_MAX];
	struct peer p;

	inet_pton(AF_INET, "192.0.2.7", &sin.sin_addr);
	peer_from_sockaddr((struct sockaddr *)&sin, &p);
	ck_assert_uint_eq(p.port, 8080);
	peer_text(&p, text);
	ck_assert_str_eq(text, "192.0.2.7");

	inet_pton(AF_INET6, "2001:db8::7", &sin6.sin6_addr);
	peer_from_sockaddr((struct sockaddr *)&sin6, &p);
	ck_assert_uint_eq(p.port, 443);
	peer_text(&p, text);
	ck_assert_str_eq(text, "2001:db8::7");

	inet_pton(AF_INET6, "::ffff:192.0.2.7", &sin6.sin6_addr);
	peer_from_sockaddr((struct sockaddr *)&sin6, &p);
	ck_assert_int_eq(p.family, AF_INET);
	peer_text(&p, text);
	ck_assert_str_eq(text, "192.0.2.7");

	peer_from_sockaddr((struct sockaddr *)&sun, &p);
	peer_text(&p, text);
	ck_assert_str_eq(text, "unix:");

	sun.sun_family = AF_UNSPEC;
	peer_from_sockaddr((struct sockaddr *)&sun, &p);
	ck_assert_uint_eq(peer_text(&p, text), 1);
	ck_assert_str_eq(text, "-");
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_good, 0, N_ROWS(good));
	tcase_add_loop_test(tc, test_bad, 0, N_ROWS(bad));
	tcase_add_test(tc, test_a_nul_is_no_end);
	tcase_add_test(tc, test_from_the_kernel);
}

int main(void)
{
	return run_tests("peer", add);
}

/*
 * Unit test of base/address.c: forms, canonical text, what the kernel gets, and the advice for
 * wrong ones.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/address.h"
#include "run.h"

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

#define PATH_50 "/4567890123456789012345678901234567890123456789012"

static const struct {
	const char *text, *canonical;
	enum address_kind kind;
	int family, port;
} good[] = {
	{"127.0.0.1:8080", "127.0.0.1:8080", ADDRESS_INET, AF_INET, 8080},
	{"0.0.0.0:0", "0.0.0.0:0", ADDRESS_INET, AF_INET, 0},
	{"255.255.255.255:65535", "255.255.255.255:65535", ADDRESS_INET, AF_INET, 65535},
	{"127.0.0.1:0080", "127.0.0.1:80", ADDRESS_INET, AF_INET, 80},
	{"[::1]:80", "[::1]:80", ADDRESS_INET, AF_INET6, 80},
	{"[::]:0", "[::]:0", ADDRESS_INET, AF_INET6, 0},
	{"[0:0:0:0:0:0:0:1]:80", "[::1]:80", ADDRESS_INET, AF_INET6, 80},
	{"[2001:DB8::A]:443", "[2001:db8::a]:443", ADDRESS_INET, AF_INET6, 443},
	{"[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.1]:1", ADDRESS_INET, AF_INET6, 1},
	{"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535",
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", ADDRESS_INET, AF_INET6, 65535},
	{"unix:/run/x.sock", "unix:/run/x.sock", ADDRESS_UNIX, AF_UNIX, 0},
	{"unix:/a b:c", "unix:/a b:c", ADDRESS_UNIX, AF_UNIX, 0},
	{"unix:" PATH_50 PATH_50 "/234567", "unix:" PATH_50 PATH_50 "/234567", ADDRESS_UNIX,
		AF_UNIX, 0},
	{"systemd:web", "systemd:web", ADDRESS_SYSTEMD, 0, 0},
	{"systemd:tined.socket", "systemd:tined.socket", ADDRESS_SYSTEMD, 0, 0},
};

static socklen_t length_of(const struct address *a)
{
	if (a->sa.ss_family == AF_INET)
		return sizeof(struct sockaddr_in);
	if (a->sa.ss_family == AF_INET6)
		return sizeof(struct sockaddr_in6);
	if (a->sa.ss_family == AF_UNIX)
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(a->text) -
			strlen("unix:") + 1);
	return 0;
}

START_TEST(test_good)
{
	const char *why = NULL;
	struct address a, again;

	memset(&a, 0xaa, sizeof(a));
	ck_assert_msg(
		address_parse(good[_i].text, &a, &why) == 0, "\"%s\": %s", good[_i].text, why);
	ck_assert_ptr_null(why);
	ck_assert_int_eq(a.kind, good[_i].kind);
	ck_assert_str_eq(a.text, good[_i].canonical);
	ck_assert_int_eq(a.sa.ss_family, good[_i].family);
	ck_assert_uint_eq(a.len, length_of(&a));
	if (good[_i].family == AF_INET)
		ck_assert_int_eq(ntohs(((struct sockaddr_in *)&a.sa)->sin_port), good[_i].port);
	if (good[_i].family == AF_INET6)
		ck_assert_int_eq(ntohs(((struct sockaddr_in6 *)&a.sa)->sin6_port), good[_i].port);
	if (good[_i].family == AF_UNIX)
		ck_assert_str_eq(
			((struct sockaddr_un *)&a.sa)->sun_path, good[_i].text + strlen("unix:"));
	/* The canonical text means the same. */
	ck_assert_int_eq(address_parse(a.text, &again, &why), 0);
	ck_assert(address_equal(&a, &again));
	ck_assert_str_eq(a.text, again.text);
}
END_TEST

/* The text, and a part of the advice. */
static const struct {
	const char *text, *advice;
} bad[] = {
	{"", "host:port"},
	{"8080", "host:port"},
	{"127.0.0.1", "host:port"},
	{"127.0.0.1:", "port is missing"},
	{"127.0.0.1:65536", "0 to 65535"},
	{"127.0.0.1:99999999999999999999", "0 to 65535"},
	{"127.0.0.1:-1", "0 to 65535"},
	{"127.0.0.1:+1", "0 to 65535"},
	{"127.0.0.1:http", "0 to 65535"},
	{"127.0.0.1:80 ", "0 to 65535"},
	{"127.0.0.1:80/", "0 to 65535"},
	{"127.0.0.256:80", "four numbers"},
	{"127.1:80", "four numbers"},
	{"0177.0.0.1:80", "four numbers"},
	{"2130706433:80", "four numbers"},
	{"localhost:8080", "127.0.0.1:PORT"},
	{"LOCALHOST:8080", "127.0.0.1:PORT"},
	{"example.org:80", "numeric"},
	{"a-name-that-is-longer-than-any-numeric-address-could-ever-possibly-be.example.org:80",
		"numeric"},
	{":8080", "0.0.0.0:PORT"},
	{"*:8080", "0.0.0.0:PORT"},
	{"::1:80", "brackets"},
	{"::1", "brackets"},
	{"2001:db8::1:80", "brackets"},
	{"http://127.0.0.1:80", "not a URL"},
	{"http://127.0.0.1/", "not a URL"},
	{"[::1]", "[v6]:port"},
	{"[::1]:", "port is missing"},
	{"[::1]80", "[v6]:port"},
	{"[::1:80", "[v6]:port"},
	{"[]:80", "[v6]:port"},
	{"[127.0.0.1]:80", "[v6]:port"},
	{"[::1]:65536", "0 to 65535"},
	{"[:::1]:80", "[v6]:port"},
	{"[fe80::1%eth0]:80", "scope"},
	{"[00000000000000000000000000000000000000000000000000000001]:80", "[v6]:port"},
	{"unix:", "absolute"},
	{"unix:run/x.sock", "absolute"},
	{"unix:./x", "absolute"},
	{"unix:@name", "abstract"},
	{"unix:/", "name a file"},
	{"unix:/run/", "name a file"},
	{"unix:" PATH_50 PATH_50 "/2345678", "107"},
	{"/run/x.sock", "unix:/path"},
	{"systemd:", "FileDescriptorName"},
	{"systemd:a b", "printable"},
	{"systemd:a:b", "printable"},
	{"systemd:\xc3\xa4", "printable"},
	{"systemd:" PATH_50 PATH_50 "1", "100"},
	{"Unix:/x", "numeric"},
};

START_TEST(test_bad)
{
	const char *why = NULL;
	struct address a, untouched;
	int r;

	memset(&a, 0x55, sizeof(a));
	untouched = a;
	r = address_parse(bad[_i].text, &a, &why);
	ck_assert_msg(r == -EINVAL, "\"%s\" was taken", bad[_i].text);
	ck_assert_ptr_nonnull(why);
	ck_assert_msg(strstr(why, bad[_i].advice), "\"%s\": %s", bad[_i].text, why);
	ck_assert_int_eq(memcmp(&a, &untouched, sizeof(a)), 0);
}
END_TEST

START_TEST(test_equal)
{
	static const char *const texts[] = {"127.0.0.1:80", "127.0.0.1:81", "127.0.0.2:80",
		"[::1]:80", "[::]:80", "unix:/a", "unix:/b", "systemd:a", "systemd:b"};
	struct address a, b;
	const char *why;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		for (size_t j = 0; j < sizeof(texts) / sizeof(texts[0]); j++) {
			ck_assert_int_eq(address_parse(texts[i], &a, &why), 0);
			ck_assert_int_eq(address_parse(texts[j], &b, &why), 0);
			ck_assert_int_eq(address_equal(&a, &b), i == j);
		}
	}
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_good, 0, N_ROWS(good));
	tcase_add_loop_test(tc, test_bad, 0, N_ROWS(bad));
	tcase_add_test(tc, test_equal);
}

int main(void)
{
	return run_tests("address", add);
}

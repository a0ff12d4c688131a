/* Unit test of base/proxy_header.c: both versions, byte by byte, and what is refused. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/proxy_header.h"
#include "run.h"

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))
#define BYTES(s)     s, sizeof(s) - 1
#define SIG          "\r\n\r\n\0\r\nQUIT\n"
#define V4           "\xc0\x00\x02\x01\xc0\x00\x02\x02\x1f\x90\x01\xbb"
#define V6_1         "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
#define MAPPED       "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01"
#define ZERO_27      "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define ZERO_108     ZERO_27 ZERO_27 ZERO_27 ZERO_27

/* text NULL: the socket's own peer counts */
static const struct {
	const char *bytes;
	size_t len;
	const char *text;
	unsigned port;
} good[] = {
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"), "192.0.2.1", 56324},
	{BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255",
		65535},
	{BYTES("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0", 0},
	{BYTES("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"), "2001:db8::1", 1},
	{BYTES("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe "
	       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	       " 65535 65535\r\n"),
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 65535},
	{BYTES("PROXY TCP6 ::ffff:10.0.0.1 ::1 1 2\r\n"), "10.0.0.1", 1},
	{BYTES("PROXY UNKNOWN\r\n"), NULL, 0},
	{BYTES("PROXY UNKNOWN \r\n"), NULL, 0},
	{BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
		NULL, 0},
	{BYTES(SIG "\x21\x11\x00\x0c" V4), "192.0.2.1", 8080},
	{BYTES(SIG "\x21\x12\x00\x0c" V4), "192.0.2.1", 8080},
	{BYTES(SIG "\x21\x11\x00\x12" V4 "\x04\x00\x03"
		   "abc"),
		"192.0.2.1", 8080},
	{BYTES(SIG "\x21\x11\x00\x0f" V4 "\x04\x00\x00"), "192.0.2.1", 8080},
	{BYTES(SIG "\x21\x21\x00\x24" V6_1 V6_1 "\x00\x50\x00\x51"), "2001:db8::1", 80},
	{BYTES(SIG "\x21\x21\x00\x24" MAPPED V6_1 "\x00\x50\x00\x51"), "10.0.0.1", 80},
	{BYTES(SIG "\x21\x31\x00\xd8" ZERO_108 ZERO_108), "unix:", 0},
	{BYTES(SIG "\x20\x00\x00\x00"), NULL, 0},
	{BYTES(SIG "\x20\x11\x00\x0c" V4), NULL, 0},
	{BYTES(SIG "\x20\xff\x00\x01?"), NULL, 0},
	{BYTES(SIG "\x21\x00\x00\x00"), NULL, 0},
	{BYTES(SIG "\x21\x00\x00\x02??"), NULL, 0},
	{BYTES(SIG "\x21\x10\x00\x00"), NULL, 0},
	/* a checksum, made by another implementation of CRC32c */
	{BYTES(SIG "\x21\x11\x00\x13" V4 "\x03\x00\x04"
		   "\x2a\x82\xe4\xad"),
		"192.0.2.1", 8080},
};

START_TEST(test_good)
{
	struct proxy_header h;
	char text[PEER_TEXT_MAX];
	size_t len = good[_i].len;

	for (size_t n = 0; n <= len + 3; n++) {
		char *copy = malloc(n + 1); /* of exactly that size, for the address sanitizer */
		int r;

		memset(copy, 'X', n + 1);
		memcpy(copy, good[_i].bytes, n < len ? n : len);
		memset(&h, 0xaa, sizeof(h));
		copy = realloc(copy, n ? n : 1);
		r = proxy_header_parse(copy, n, &h);
		free(copy);
		ck_assert_msg(r == (n < len ? PROXY_HEADER_MORE : 0), "%zu of %zu: %d", n, len, r);
	}
	ck_assert_uint_eq(h.size, len);
	ck_assert_uint_eq(h.source.port, good[_i].port);
	if (good[_i].text) {
		peer_text(&h.source, text);
		ck_assert_str_eq(text, good[_i].text);
	} else {
		ck_assert_int_eq(h.source.family, AF_UNSPEC);
	}
}
END_TEST

static const struct {
	const char *bytes;
	size_t len;
} bad[] = {
	{BYTES("G")},
	{BYTES("GET / HTTP/1.1\r\n")},
	{BYTES("\n")},
	{BYTES("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n")},
	{BYTES("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n")},
	{BYTES("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1\r192.0.2.2 1 2\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 99999999999999999999 2\r\n")},
	{BYTES("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n")},
	{BYTES("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 192.0.2 1 2\r\n")},
	{BYTES("PROXY TCP4 ::1 192.0.2.2 1 2\r\n")},
	{BYTES("PROXY TCP4 192.0.2.1 ::1 1 2\r\n")},
	{BYTES("PROXY TCP6 192.0.2.1 ::1 1 2\r\n")},
	{BYTES("PROXY TCP6 ::1 192.0.2.1 1 2\r\n")},
	{BYTES("PROXY TCP6 [::1] ::1 1 2\r\n")},
	{BYTES("PROXY TCP6 ::1%lo ::1 1 2\r\n")},
	{BYTES("PROXY TCP5 ::1 ::1 1 2\r\n")},
	{BYTES("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n")},
	{BYTES("PROXY UNKNOWN!\r\n")},
	{BYTES("PROXY UNKNOW\r\n")},
	{BYTES("PROXY \r\n")},
	{BYTES("PROXY \n")},
	{BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535 \r\n")},
	{BYTES("\r\n\r\n\r")},
	{BYTES(SIG "\x11")},
	{BYTES(SIG "\x31")},
	{BYTES(SIG "\x22")},
	{BYTES(SIG "\x21\x41")},
	{BYTES(SIG "\x21\x13")},
	{BYTES(SIG "\x21\x11\x0f\xf1")},
	{BYTES(SIG "\x21\x11\x00\x0b" V4)},
	{BYTES(SIG "\x21\x21\x00\x0c" V4)},
	{BYTES(SIG "\x21\x31\x00\x0c" V4)},
	{BYTES(SIG "\x21\x11\x00\x0e" V4 "\x04\x00")},
	{BYTES(SIG "\x21\x11\x00\x0f" V4 "\x04\x00\x01")},
	{BYTES(SIG "\x21\x11\x00\x13" V4 "\x03\x00\x04"
		   "\x2a\x82\xe4\xac")},
	{BYTES(SIG "\x21\x11\x00\x12" V4 "\x03\x00\x03"
		   "\x2a\x82\xe4")},
};

/* "more" until it is known, and then refused for ever. */
START_TEST(test_bad)
{
	struct proxy_header h = {.size = 77};
	bool refused = false;

	for (size_t n = 0; n <= bad[_i].len; n++) {
		int r = proxy_header_parse(bad[_i].bytes, n, &h);

		ck_assert_int_eq(r, refused || r == -EPROTO ? -EPROTO : PROXY_HEADER_MORE);
		refused = r == -EPROTO;
	}
	ck_assert(refused);
	ck_assert_uint_eq(h.size, 77);
}
END_TEST

START_TEST(test_bounds)
{
	static char data[PROXY_HEADER_MAX];
	struct proxy_header h;

	/* a line that does not end */
	memset(data, ' ', sizeof(data));
	memcpy(data, "PROXY UNKNOWN", 13);
	ck_assert_int_eq(proxy_header_parse(data, 106, &h), PROXY_HEADER_MORE);
	ck_assert_int_eq(proxy_header_parse(data, 107, &h), -EPROTO);
	/* the largest header there may be: one extension fills it */
	memset(data, 0, sizeof(data));
	memcpy(data, BYTES(SIG "\x21\x11\x0f\xf0" V4 "\xe0\x0f\xe1"));
	ck_assert_int_eq(proxy_header_parse(data, sizeof(data) - 1, &h), PROXY_HEADER_MORE);
	ck_assert_int_eq(proxy_header_parse(data, sizeof(data), &h), 0);
	ck_assert_uint_eq(h.size, PROXY_HEADER_MAX);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_good, 0, N_ROWS(good));
	tcase_add_loop_test(tc, test_bad, 0, N_ROWS(bad));
	tcase_add_test(tc, test_bounds);
}

int main(void)
{
	return run_tests("proxy_header", add);
}

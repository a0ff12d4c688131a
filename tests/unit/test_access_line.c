/* Unit test of shared/access_line.c: both formats, what is escaped, what is cut. */
#include <stdlib.h>
#include <string.h>

#include "shared/access_line.h"
#include "run.h"

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))
#define T(s)         ((struct tine_text){s, sizeof(s) - 1})
#define X8           "xxxxxxxx"

static struct peer peer;
static char line[ACCESS_LINE_MAX + 1];

static struct access_record a_record(void)
{
	ck_assert(peer_parse("192.0.2.1", 9, &peer));
	return (struct access_record){.time = {1763688552, 123456789},
		.client = &peer,
		.line = T("GET /a?b HTTP/1.1"),
		.host = T("example.com"),
		.referer = T("https://e.com/"),
		.user_agent = T("curl/8"),
		.status = 200,
		.worker = 3,
		.body_bytes = 13,
		.duration_us = 42};
}

static const char *format(enum access_format f, const struct access_record *r)
{
	struct access_clock clock = {0};
	size_t n;

	memset(line, '#', sizeof(line));
	n = access_line_format(f, &clock, r, line);
	ck_assert_uint_le(n, ACCESS_LINE_MAX);
	ck_assert_int_eq(line[n], '#');
	line[n] = '\0';
	ck_assert_ptr_eq(strchr(line, '\n'), line + n - 1);
	return line;
}

static void set_zone(const char *zone)
{
	setenv("TZ", zone, 1);
	tzset();
}

START_TEST(test_combined)
{
	struct access_record r = a_record();

	set_zone("UTC");
	ck_assert_str_eq(format(ACCESS_COMBINED, &r),
		"192.0.2.1 - - [21/Nov/2025:01:29:12 +0000] \"GET /a?b HTTP/1.1\" 200 13 "
		"\"https://e.com/\" \"curl/8\"\n");
	set_zone("XXX+03:30");
	ck_assert_ptr_nonnull(
		strstr(format(ACCESS_COMBINED, &r), " [20/Nov/2025:21:59:12 -0330] "));
	set_zone("XXX-05:45");
	ck_assert_ptr_nonnull(
		strstr(format(ACCESS_COMBINED, &r), " [21/Nov/2025:07:14:12 +0545] "));
}
END_TEST

START_TEST(test_json)
{
	struct access_record r = a_record();

	set_zone("XXX-05:45"); /* no matter */
	ck_assert_str_eq(format(ACCESS_JSON, &r),
		"{\"time\":\"2025-11-21T01:29:12.123Z\",\"client\":\"192.0.2.1\","
		"\"host\":\"example.com\",\"method\":\"GET\",\"target\":\"/a?b\","
		"\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes\":13,"
		"\"referer\":\"https://e.com/\",\"user_agent\":\"curl/8\",\"duration_us\":42,"
		"\"worker\":3}\n");
}
END_TEST

START_TEST(test_what_was_not_sent)
{
	struct access_record r = a_record();

	set_zone("UTC");
	r.line = r.host = r.referer = r.user_agent = (struct tine_text){NULL, 0};
	r.status = 408;
	r.body_bytes = 0;
	ck_assert_str_eq(format(ACCESS_COMBINED, &r),
		"192.0.2.1 - - [21/Nov/2025:01:29:12 +0000] \"-\" 408 0 \"-\" \"-\"\n");
	ck_assert_ptr_nonnull(strstr(format(ACCESS_JSON, &r),
		"\"host\":\"\",\"method\":\"\",\"target\":\"\",\"protocol\":\"\",\"status\":408,"));
}
END_TEST

START_TEST(test_a_crash)
{
	struct access_record r = a_record();

	r.status = 0;
	ck_assert_ptr_nonnull(strstr(format(ACCESS_COMBINED, &r), "\" 000 13 \""));
	ck_assert_ptr_nonnull(strstr(format(ACCESS_JSON, &r), ",\"status\":0,\"crash\":true,"));
}
END_TEST

static const struct {
	struct tine_text line;
	const char *method, *target, *protocol;
} lines[] = {
	{T("GET / HTTP/1.1"), "GET", "/", "HTTP/1.1"},
	{T("GET"), "", "GET", ""},
	{T("GET /"), "", "GET /", ""},
	{T("GET /a b c HTTP/1.1"), "GET", "/a b c", "HTTP/1.1"},
	{T("  "), "", "", ""},
	{T(" x "), "", "x", ""},
};

START_TEST(test_split)
{
	struct access_record r = a_record();
	char expected[256];

	r.line = lines[_i].line;
	snprintf(expected, sizeof(expected),
		",\"method\":\"%s\",\"target\":\"%s\",\"protocol\":\"%s\",", lines[_i].method,
		lines[_i].target, lines[_i].protocol);
	ck_assert_msg(strstr(format(ACCESS_JSON, &r), expected), "%s: %s", expected, line);
}
END_TEST

static const struct {
	struct tine_text text;
	const char *combined, *json;
} escapes[] = {
	{T("a\"b\\c"), "a\\x22b\\x5Cc", "a\\\"b\\\\c"},
	{T("\x01\n\r\t\x1f\x7f"), "\\x01\\x0A\\x0D\\x09\\x1F\\x7F",
		"\\u0001\\u000a\\u000d\\u0009\\u001f\\u007f"},
	{T("a\0b"), "a\\x00b", "a\\u0000b"},
	{T(" !#[]~"), " !#[]~", " !#[]~"},
	{T("\xc3\xa9"), "\\xC3\\xA9", "\xc3\xa9"},
	{T("\xf0\x9f\x8d\xb4"), "\\xF0\\x9F\\x8D\\xB4", "\xf0\x9f\x8d\xb4"},
	{T("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf"),
		"\\xED\\x9F\\xBF\\xEE\\x80\\x80\\xF4\\x8F\\xBF\\xBF",
		"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf"},
	/* not UTF-8: lone, cut, overlong, a surrogate, too large */
	{T("\x80z"), "\\x80z", "\\ufffdz"},
	{T("\xff"), "\\xFF", "\\ufffd"},
	{T("\xc3"), "\\xC3", "\\ufffd"},
	{T("\xc3z"), "\\xC3z", "\\ufffdz"},
	{T("\xe2\x82"), "\\xE2\\x82", "\\ufffd\\ufffd"},
	{T("\xf0\x9f\x8dz"), "\\xF0\\x9F\\x8Dz", "\\ufffd\\ufffd\\ufffdz"},
	{T("\xc0\xaf"), "\\xC0\\xAF", "\\ufffd\\ufffd"},
	{T("\xe0\x80\xaf"), "\\xE0\\x80\\xAF", "\\ufffd\\ufffd\\ufffd"},
	{T("\xed\xa0\x80"), "\\xED\\xA0\\x80", "\\ufffd\\ufffd\\ufffd"},
	{T("\xf4\x90\x80\x80"), "\\xF4\\x90\\x80\\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
	/* around the eight bytes that are looked at together */
	{T(X8 X8), X8 X8, X8 X8},
	{T(X8 "xxxxxxx\"" X8), X8 "xxxxxxx\\x22" X8, X8 "xxxxxxx\\\"" X8},
	{T(X8 "\"xxxxxxx" X8), X8 "\\x22xxxxxxx" X8, X8 "\\\"xxxxxxx" X8},
	{T("xxx\\"), "xxx\\x5C", "xxx\\\\"},
};

START_TEST(test_escapes)
{
	struct access_record r = a_record();
	char expected[256];

	r.user_agent = escapes[_i].text;
	snprintf(expected, sizeof(expected), " \"%s\"\n", escapes[_i].combined);
	ck_assert_msg(strstr(format(ACCESS_COMBINED, &r), expected), "%s: %s", expected, line);
	snprintf(expected, sizeof(expected), ",\"user_agent\":\"%s\",", escapes[_i].json);
	ck_assert_msg(strstr(format(ACCESS_JSON, &r), expected), "%s: %s", expected, line);
}
END_TEST

/* Each byte alone, at each place among eight. */
START_TEST(test_every_byte)
{
	char text[8], expected[64];
	struct access_record r = a_record();

	for (int c = 0; c < 256; c++) {
		for (int at = 0; at < 8; at++) {
			memset(text, 'x', sizeof(text));
			text[at] = (char)c;
			r.user_agent = (struct tine_text){text, sizeof(text)};
			if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
				snprintf(expected, sizeof(expected), " \"%.8s\"\n", text);
			else
				snprintf(expected, sizeof(expected), " \"%.*s\\x%02X%.*s\"\n", at,
					"xxxxxxxx", c, 7 - at, "xxxxxxxx");
			ck_assert_msg(strstr(format(ACCESS_COMBINED, &r), expected), "%s", line);
		}
	}
}
END_TEST

/* Long fields are cut, each for itself, and never within an escape. */
START_TEST(test_long)
{
	static const char bytes[] = {'x', '"', '\x01', '\x80', '\xc3'};
	static char big[9000];
	struct access_record r = a_record();
	const struct tine_text t = {big, sizeof(big)};

	memset(big, bytes[_i], sizeof(big));
	r.line = r.host = r.referer = r.user_agent = t;
	ck_assert(peer_parse("1111:2222:3333:4444:5555:6666:7777:8888", 39, &peer));
	r.body_bytes = r.duration_us = UINT64_MAX;
	r.worker = UINT32_MAX;
	format(ACCESS_COMBINED, &r);
	ck_assert_ptr_nonnull(strstr(line, "\" 200 18446744073709551615 \""));
	ck_assert_str_eq(line + strlen(line) - 2, "\"\n");
	format(ACCESS_JSON, &r);
	ck_assert_ptr_nonnull(strstr(line, "\",\"status\":200,\"bytes\":18446744073709551615,"));
	ck_assert_ptr_nonnull(strstr(line, ",\"worker\":4294967295}\n"));
	/* all of it method, or protocol */
	big[4000] = big[4001] = ' ';
	format(ACCESS_JSON, &r);
	ck_assert_ptr_nonnull(strstr(line, ",\"worker\":4294967295}\n"));
}
END_TEST

START_TEST(test_the_time_is_kept_for_a_second)
{
	struct access_clock clock = {0};
	struct access_record r = a_record();

	set_zone("UTC");
	access_line_format(ACCESS_JSON, &clock, &r, line);
	ck_assert_int_eq(clock.second, 1763688552);
	r.time.tv_sec++;
	r.time.tv_nsec = 5000000;
	line[access_line_format(ACCESS_JSON, &clock, &r, line)] = '\0';
	ck_assert_ptr_nonnull(strstr(line, "T01:29:13.005Z"));
	r.time.tv_sec--; /* the clock was set back */
	line[access_line_format(ACCESS_JSON, &clock, &r, line)] = '\0';
	ck_assert_ptr_nonnull(strstr(line, "T01:29:12.005Z"));
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_combined);
	tcase_add_test(tc, test_json);
	tcase_add_test(tc, test_what_was_not_sent);
	tcase_add_test(tc, test_a_crash);
	tcase_add_loop_test(tc, test_split, 0, N_ROWS(lines));
	tcase_add_loop_test(tc, test_escapes, 0, N_ROWS(escapes));
	tcase_add_test(tc, test_every_byte);
	tcase_add_loop_test(tc, test_long, 0, 5);
	tcase_add_test(tc, test_the_time_is_kept_for_a_second);
}

int main(void)
{
	return run_tests("access_line", add);
}

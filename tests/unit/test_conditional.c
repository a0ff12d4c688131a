/* http/conditional.c and http/date.c: preconditions, entity tags, dates in all their forms. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/conditional.h"
#include "http/date.h"
#include "http/parser.h"
#include "run.h"

#define MODIFIED 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */
#define DATE     "Sun, 06 Nov 1994 08:49:37 GMT"
#define BEFORE   "Sun, 06 Nov 1994 08:49:36 GMT"
#define AFTER    "Sun, 06 Nov 1994 08:49:38 GMT"
#define ETAG     "\"abc\""

static const struct {
	const char *fields;
	int want;
} cases[] = {
	{"", 0},
	{"If-None-Match: " ETAG "\r\n", 304},
	{"If-None-Match: W/" ETAG "\r\n", 304},
	{"If-None-Match: *\r\n", 304},
	{"If-None-Match: \"x\"\r\n", 0},
	{"If-None-Match: \"x\", " ETAG "\r\n", 304},
	{"If-None-Match: \"x\"," ETAG "\r\n", 304},
	{"If-None-Match: \"x\" ,\t W/\"y\" , W/" ETAG "\r\n", 304},
	{"If-None-Match: \"a,b\", " ETAG "\r\n", 304},
	{"If-None-Match: \"ab\"\r\n", 0},
	{"If-None-Match: \"abcd\"\r\n", 0},
	{"If-None-Match: abc\r\n", 0},
	{"If-None-Match: \"abc\r\n", 0},
	{"If-None-Match:\r\n", 0},
	{"If-None-Match: w/" ETAG "\r\n", 0},
	{"If-Modified-Since: " DATE "\r\n", 304},
	{"If-Modified-Since: " AFTER "\r\n", 304},
	{"If-Modified-Since: " BEFORE "\r\n", 0},
	{"If-Modified-Since: yesterday\r\n", 0},
	{"If-Modified-Since:\r\n", 0},
	{"If-None-Match: \"x\"\r\nIf-Modified-Since: " DATE "\r\n", 0},
	{"If-None-Match: " ETAG "\r\nIf-Modified-Since: " BEFORE "\r\n", 304},
	{"If-Match: " ETAG "\r\n", 0},
	{"If-Match: *\r\n", 0},
	{"If-Match: \"x\"\r\n", 412},
	{"If-Match: W/" ETAG "\r\n", 412},
	{"If-Match: " ETAG "\r\nIf-None-Match: " ETAG "\r\n", 304},
	{"If-Match: \"x\"\r\nIf-None-Match: " ETAG "\r\n", 412},
	{"If-Unmodified-Since: " DATE "\r\n", 0},
	{"If-Unmodified-Since: " BEFORE "\r\n", 412},
	{"If-Unmodified-Since: never\r\n", 0},
	{"If-Match: " ETAG "\r\nIf-Unmodified-Since: " BEFORE "\r\n", 0},
	{"If-None-Match: \"x\"\r\nIf-None-Match: \"y\", " ETAG "\r\n", 304},
	{"If-None-Match: \"x\"\r\nX: y\r\nIF-NONE-MATCH: \"y\"\r\n", 0},
	{"If-None-Match: " ETAG "\r\nIf-None-Match: \"y\"\r\n", 304},
	{"If-None-Match: \"x\"\r\nIf-None-Match:\r\nIf-Modified-Since: " DATE "\r\n", 0},
	{"If-Match: \"x\"\r\nif-match: " ETAG "\r\n", 0},
	{"If-Match: \"x\"\r\nIf-Match: \"y\"\r\n", 412},
	{"If-Match: \"x\"\r\nIf-Match: *\r\n", 0},
};

START_TEST(test_conditions)
{
	static const struct http_limits limits = {1024, 4096};
	struct tine_text etag = {ETAG, sizeof(ETAG) - 1};
	struct http_field fields[HTTP_FIELDS_MAX];
	struct http_head head;
	char data[1024];
	int n = snprintf(
		data, sizeof(data), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", cases[_i].fields);

	ck_assert_int_eq(http_parse_head(data, (size_t)n, &limits, fields, &head), 0);
	ck_assert_msg(
		conditional_check(&head, etag, MODIFIED) == cases[_i].want, "%s", cases[_i].fields);
}
END_TEST

static const struct {
	const char *request; /* first line and fields */
	const char *want;    /* the ranges asked for; NULL: the whole */
} range_cases[] = {
	{"GET", NULL},
	{"GET Range: bytes=0-1\r\n", "bytes=0-1"},
	{"GET range: x\r\n", "x"},
	{"GET Range: bytes=0-1\r\nRange: bytes=0-1\r\n", NULL},
	{"HEAD Range: bytes=0-1\r\n", NULL},
	{"GET Range: bytes=0-1\r\nIf-Range: " ETAG "\r\n", "bytes=0-1"},
	{"GET If-Range: " ETAG "\r\nRange: bytes=0-1\r\n", "bytes=0-1"},
	{"GET Range: bytes=0-1\r\nIf-Range: W/" ETAG "\r\n", NULL},
	{"GET Range: bytes=0-1\r\nIf-Range: \"x\"\r\n", NULL},
	{"GET Range: bytes=0-1\r\nIf-Range: \"abc\r\n", NULL},
	{"GET Range: bytes=0-1\r\nIf-Range: *\r\n", NULL},
	{"GET Range: bytes=0-1\r\nIf-Range:\r\n", NULL},
	{"GET Range: bytes=0-1\r\nIf-Range: " DATE "\r\n", "bytes=0-1"},
	{"GET Range: bytes=0-1\r\nIf-Range: " BEFORE "\r\n", NULL},
	{"GET Range: bytes=0-1\r\nIf-Range: " AFTER "\r\n", NULL},
	{"GET Range: bytes=0-1\r\nIf-Range: yesterday\r\n", NULL},
	{"GET Range: bytes=0-1\r\nIf-Range: " ETAG "\r\nIf-Range: \"x\"\r\n", NULL},
	{"GET If-Range: " ETAG "\r\n", NULL},
};

START_TEST(test_ranges)
{
	static const struct http_limits limits = {1024, 4096};
	struct tine_text etag = {ETAG, sizeof(ETAG) - 1}, got;
	const char *request = range_cases[_i].request, *want = range_cases[_i].want;
	int method = (int)strcspn(request, " ");
	struct http_field fields[HTTP_FIELDS_MAX];
	struct http_head head;
	char data[1024];
	int n = snprintf(data, sizeof(data), "%.*s / HTTP/1.1\r\nHost: a\r\n%s\r\n", method,
		request, request[method] ? request + method + 1 : "");

	ck_assert_int_eq(http_parse_head(data, (size_t)n, &limits, fields, &head), 0);
	got = conditional_range(&head, etag, MODIFIED);
	ck_assert_msg(!got.data == !want, "%s", request);
	if (want)
		ck_assert_msg(got.len == strlen(want) && memcmp(got.data, want, got.len) == 0, "%s",
			request);
}
END_TEST

static const char *good_dates[] = {
	"Sun, 06 Nov 1994 08:49:37 GMT",
	"Sunday, 06-Nov-94 08:49:37 GMT",
	"Sun Nov  6 08:49:37 1994",
	"Sun Nov 06 08:49:37 1994",
};

START_TEST(test_date_forms)
{
	const char *s = good_dates[_i];
	time_t t = 0;

	ck_assert_int_eq(http_date_parse((struct tine_text){s, strlen(s)}, &t), 0);
	ck_assert_int_eq(t, MODIFIED);
}
END_TEST

static const char *bad_dates[] = {
	"",
	"Sun",
	"Sun, 06 Nov 1994 08:49:37 UTC",
	"Sun, 06 Nov 1994 08:49:37 GMT ",
	"Sun, 06 Nov 1994 24:49:37 GMT",
	"Sun, 06 Nov 1994 08:60:37 GMT",
	"Sun, 00 Nov 1994 08:49:37 GMT",
	"Sun, 32 Nov 1994 08:49:37 GMT",
	"Sun, 06 Foo 1994 08:49:37 GMT",
	"Sun, 06 Nov 1994 08:49:3x GMT",
	"Sun, -6 Nov 1994 08:49:37 GMT",
	"Sun, 06-Nov-94 08:49:37 CET",
	"Sunday; 06-Nov-94 08:49:37 GMT",
	"Sun Nov 6 08:49:37 1994 GMT",
};

START_TEST(test_date_refused)
{
	const char *s = bad_dates[_i];
	time_t t;

	ck_assert_int_eq(http_date_parse((struct tine_text){s, strlen(s)}, &t), -EINVAL);
}
END_TEST

START_TEST(test_date_there_and_back)
{
	static const time_t times[] = {0, 1, 951782400, MODIFIED, 4102444799, 253402300799};
	char buf[HTTP_DATE_LEN];
	time_t t;

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		http_date_format(times[i], buf);
		ck_assert_int_eq(http_date_parse((struct tine_text){buf, sizeof(buf)}, &t), 0);
		ck_assert_int_eq(t, times[i]);
	}
	http_date_format(MODIFIED, buf);
	ck_assert_mem_eq(buf, DATE, HTTP_DATE_LEN);
	http_date_format((time_t)1 << 60, buf);
	ck_assert_mem_eq(buf, "Thu, 01 Jan 1970 00:00:00 GMT", HTTP_DATE_LEN);
}
END_TEST

START_TEST(test_date_line)
{
	struct http_date d = {0};

	http_date_update(&d, 5000);
	ck_assert_uint_eq(d.len, strlen("Date: " DATE "\r\n"));
	ck_assert(d.until_ms > 5000 && d.until_ms <= 6000);
	ck_assert_mem_eq(d.line, "Date: ", 6);
	ck_assert_mem_eq(d.line + d.len - 5, "GMT\r\n", 5);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_conditions, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_loop_test(tc, test_ranges, 0, sizeof(range_cases) / sizeof(range_cases[0]));
	tcase_add_loop_test(tc, test_date_forms, 0, sizeof(good_dates) / sizeof(good_dates[0]));
	tcase_add_loop_test(tc, test_date_refused, 0, sizeof(bad_dates) / sizeof(bad_dates[0]));
	tcase_add_test(tc, test_date_there_and_back);
	tcase_add_test(tc, test_date_line);
}

int main(void)
{
	return run_tests("conditional", add);
}

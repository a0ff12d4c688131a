/* http/range.c: the field Range in all its forms. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/range.h"
#include "run.h"

#define MAX "18446744073709551615"

static const struct {
	uint64_t size;
	const char *value;
	int want;
	const char *ranges; /* "first+len ..." */
} cases[] = {
	{100, "bytes=0-0", 206, "0+1"},
	{100, "bytes=0-99", 206, "0+100"},
	{100, "bytes=0-100", 206, "0+100"},
	{100, "bytes=10-", 206, "10+90"},
	{100, "bytes=99-", 206, "99+1"},
	{100, "bytes=-1", 206, "99+1"},
	{100, "bytes=-100", 206, "0+100"},
	{100, "bytes=-101", 206, "0+100"},
	{100, "BYTES=5-6", 206, "5+2"},
	{100, "bytes= 5-6 ", 206, "5+2"},
	{100, "bytes=007-0008", 206, "7+2"},
	{100, "bytes=0-1,5-6", 206, "0+2 5+2"},
	{100, "bytes=5-6 ,\t0-1", 206, "5+2 0+2"},
	{100, "bytes=,0-1,,5-6,", 206, "0+2 5+2"},
	{100, "bytes=0-1,200-300", 206, "0+2"},
	{100, "bytes=200-,-0,7-7", 206, "7+1"},
	{100, "bytes=0-49,50-99", 206, "0+50 50+50"},
	/* unsatisfiable */
	{100, "bytes=100-", 416, ""},
	{100, "bytes=100-200", 416, ""},
	{100, "bytes=-0", 416, ""},
	{100, "bytes=100-,500-600", 416, ""},
	{0, "bytes=0-", 416, ""},
	{0, "bytes=0-0", 416, ""},
	/* nothing that a range could be of */
	{0, "bytes=-5", 0, ""},
	/* numbers that do not fit */
	{100, "bytes=0-" MAX, 206, "0+100"},
	{100, "bytes=0-" MAX "0", 206, "0+100"},
	{100, "bytes=-" MAX "9", 206, "0+100"},
	{100, "bytes=" MAX "-", 416, ""},
	{100, "bytes=" MAX "0-" MAX "00", 416, ""},
	{100, "bytes=18446744073709551616-5", 0, ""},
	{UINT64_MAX, "bytes=0-" MAX, 206, "0+" MAX},
	{UINT64_MAX, "bytes=-" MAX, 206, "0+" MAX},
	{UINT64_MAX, "bytes=18446744073709551614-", 206, "18446744073709551614+1"},
	{UINT64_C(5) << 30, "bytes=4294967296-4294967297", 206, "4294967296+2"},
	{UINT64_C(5) << 30, "bytes=-4294967297", 206, "1073741823+4294967297"},
	/* not of that form */
	{100, "", 0, ""},
	{100, "bytes", 0, ""},
	{100, "bytes=", 0, ""},
	{100, "bytes=,", 0, ""},
	{100, "bytes=-", 0, ""},
	{100, "bytes=--1", 0, ""},
	{100, "bytes=5-4", 0, ""},
	{100, "bytes=0-1,5-4", 0, ""},
	{100, "bytes=5", 0, ""},
	{100, "bytes=a-5", 0, ""},
	{100, "bytes=1-b", 0, ""},
	{100, "bytes=1-2-3", 0, ""},
	{100, "bytes=1 -2", 0, ""},
	{100, "bytes=+1-2", 0, ""},
	{100, "bytes =1-2", 0, ""},
	{100, "bytes:1-2", 0, ""},
	{100, "items=1-2", 0, ""},
	{100, "bytes=0x1-2", 0, ""},
	/* more than is reasonable */
	{100, "bytes=0-,0-", 0, ""},
	{100, "bytes=0-99,0-0", 0, ""},
	{100, "bytes=0-60,-60", 0, ""},
	{100, "bytes=0-60,0-38", 206, "0+61 0+39"},
	{UINT64_MAX, "bytes=0-,0-,0-", 0, ""},
	{100, "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,10-10,11-11,12-12,13-13,14-14,15-15",
		206, "0+1 1+1 2+1 3+1 4+1 5+1 6+1 7+1 8+1 9+1 10+1 11+1 12+1 13+1 14+1 15+1"},
	{100,
		"bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,10-10,11-11,12-12,13-13,14-14,15-15,"
		"16-16",
		0, ""},
	{100,
		"bytes=100-,101-,102-,103-,104-,105-,106-,107-,108-,109-,110-,111-,112-,113-,114-,"
		"115-,0-0",
		0, ""},
};

START_TEST(test_case)
{
	struct tine_text value = {cases[_i].value, strlen(cases[_i].value)};
	struct range_set set;
	char text[1024] = "";
	size_t at = 0;

	ck_assert_msg(
		range_parse(value, cases[_i].size, &set) == cases[_i].want, "%s", cases[_i].value);
	if (cases[_i].want != RANGE_PARTIAL)
		return;
	for (unsigned i = 0; i < set.n; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%llu+%llu", i ? " " : "",
			(unsigned long long)set.ranges[i].first,
			(unsigned long long)set.ranges[i].len);
	ck_assert_str_eq(text, cases[_i].ranges);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_case, 0, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
	return run_tests("range", add);
}

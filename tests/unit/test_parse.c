/* Unit test of base/parse.c: every form, and everything next to it that must be refused. */
#include <errno.h>
#include <stdlib.h>

#include "base/parse.h"
#include "run.h"

#define UNSET 0xdeadbeefull

/* One reading: r is what the function returns, and value what it stores when that is 0. */
struct row {
	const char *text;
	int r;
	uint64_t value;
};

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

static void check_row(const struct row *row, int (*parse)(const char *, uint64_t *))
{
	uint64_t value = UNSET;
	int r = parse(row->text, &value);

	ck_assert_msg(r == row->r, "\"%s\": returned %d, not %d", row->text, r, row->r);
	ck_assert_msg(value == (r == 0 ? row->value : UNSET), "\"%s\": is %llu", row->text,
		(unsigned long long)value);
}

static const struct row u64_rows[] = {
	{"0", 0, 0},
	{"7", 0, 7},
	{"007", 0, 7},
	{"65535", 0, 65535},
	{"18446744073709551615", 0, UINT64_MAX},
	{"18446744073709551616", -ERANGE, 0},
	{"18446744073709551620", -ERANGE, 0},
	{"99999999999999999999", -ERANGE, 0},
	{"100000000000000000000000000000000", -ERANGE, 0},
	{"99999999999999999999x", -EINVAL, 0},
	{"", -EINVAL, 0},
	{" 1", -EINVAL, 0},
	{"1 ", -EINVAL, 0},
	{"+1", -EINVAL, 0},
	{"-1", -EINVAL, 0},
	{"0x10", -EINVAL, 0},
	{"1.0", -EINVAL, 0},
	{"1e3", -EINVAL, 0},
	{"1,000", -EINVAL, 0},
	{"1K", -EINVAL, 0},
	{"one", -EINVAL, 0},
};

START_TEST(test_u64)
{
	check_row(&u64_rows[_i], parse_u64);
}
END_TEST

static const struct row duration_rows[] = {
	{"0", 0, 0},
	{"0s", 0, 0},
	{"1us", 0, 1},
	{"250us", 0, 250},
	{"250ms", 0, 250000},
	{"10s", 0, 10000000},
	{"5m", 0, 300000000},
	{"2h", 0, 7200000000},
	{"1d", 0, 86400000000},
	{"213503982d", 0, 213503982ull * 86400 * 1000000},
	{"213503983d", -ERANGE, 0},
	{"18446744073709551615us", 0, UINT64_MAX},
	{"18446744073709551616us", -ERANGE, 0},
	{"18446744073709551615ms", -ERANGE, 0},
	{"99999999999999999999s", -ERANGE, 0},
	{"99999999999999999999", -EINVAL, 0},
	{"10", -EINVAL, 0},
	{"00", -EINVAL, 0},
	{"", -EINVAL, 0},
	{"s", -EINVAL, 0},
	{"10 s", -EINVAL, 0},
	{"10S", -EINVAL, 0},
	{"10sec", -EINVAL, 0},
	{"1.5s", -EINVAL, 0},
	{"1m30s", -EINVAL, 0},
	{"-1s", -EINVAL, 0},
	{"1w", -EINVAL, 0},
	{"10ss", -EINVAL, 0},
};

START_TEST(test_duration)
{
	check_row(&duration_rows[_i], parse_duration);
}
END_TEST

static const struct row size_rows[] = {
	{"0", 0, 0},
	{"512", 0, 512},
	{"64K", 0, 65536},
	{"1M", 0, 1048576},
	{"2G", 0, 2147483648},
	{"0G", 0, 0},
	{"17179869183G", 0, 17179869183ull << 30},
	{"17179869184G", -ERANGE, 0},
	{"18446744073709551615", 0, UINT64_MAX},
	{"18446744073709551616", -ERANGE, 0},
	{"18446744073709551615K", -ERANGE, 0},
	{"", -EINVAL, 0},
	{"K", -EINVAL, 0},
	{"64k", -EINVAL, 0},
	{"64KB", -EINVAL, 0},
	{"64KiB", -EINVAL, 0},
	{"64 K", -EINVAL, 0},
	{"1.5M", -EINVAL, 0},
	{"-1K", -EINVAL, 0},
	{"1T", -EINVAL, 0},
	{"512B", -EINVAL, 0},
};

START_TEST(test_size)
{
	check_row(&size_rows[_i], parse_size);
}
END_TEST

static const struct row bool_rows[] = {
	{"on", 0, 1},
	{"yes", 0, 1},
	{"true", 0, 1},
	{"off", 0, 0},
	{"no", 0, 0},
	{"false", 0, 0},
	{"On", 0, 1},
	{"FALSE", 0, 0},
	{"", -EINVAL, 0},
	{"1", -EINVAL, 0},
	{"0", -EINVAL, 0},
	{"o", -EINVAL, 0},
	{"onn", -EINVAL, 0},
	{"on ", -EINVAL, 0},
	{"y", -EINVAL, 0},
};

START_TEST(test_bool)
{
	const struct row *row = &bool_rows[_i];

	for (int before = 0; before < 2; before++) {
		bool value = before;

		ck_assert_int_eq(parse_bool(row->text, &value), row->r);
		ck_assert_int_eq(value, row->r == 0 ? (int)row->value : before);
	}
}
END_TEST

static const struct {
	const char *text;
	int r;
	uint32_t count;
	uint64_t window_us;
} rate_rows[] = {
	{"10/60s", 0, 10, 60000000},
	{"1/1us", 0, 1, 1},
	{"4294967295/1d", 0, UINT32_MAX, 86400000000},
	{"4294967296/1d", -ERANGE, 0, 0},
	{"18446744073709551616/1s", -ERANGE, 0, 0},
	{"1/99999999999999999999s", -ERANGE, 0, 0},
	{"18446744073709551616/x", -EINVAL, 0, 0},
	{"0/1s", -EINVAL, 0, 0},
	{"1/0", -EINVAL, 0, 0},
	{"1/0s", -EINVAL, 0, 0},
	{"10/60", -EINVAL, 0, 0},
	{"10", -EINVAL, 0, 0},
	{"10/", -EINVAL, 0, 0},
	{"/60s", -EINVAL, 0, 0},
	{"", -EINVAL, 0, 0},
	{"10 /60s", -EINVAL, 0, 0},
	{"10/ 60s", -EINVAL, 0, 0},
	{"10/60s/1", -EINVAL, 0, 0},
	{"-10/60s", -EINVAL, 0, 0},
	{"10/-60s", -EINVAL, 0, 0},
};

START_TEST(test_rate)
{
	struct rate rate = {.count = 77, .window_us = UNSET};
	int r = parse_rate(rate_rows[_i].text, &rate);

	ck_assert_msg(r == rate_rows[_i].r, "\"%s\": returned %d", rate_rows[_i].text, r);
	ck_assert_uint_eq(rate.count, r == 0 ? rate_rows[_i].count : 77);
	ck_assert_uint_eq(rate.window_us, r == 0 ? rate_rows[_i].window_us : UNSET);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_u64, 0, N_ROWS(u64_rows));
	tcase_add_loop_test(tc, test_duration, 0, N_ROWS(duration_rows));
	tcase_add_loop_test(tc, test_size, 0, N_ROWS(size_rows));
	tcase_add_loop_test(tc, test_bool, 0, N_ROWS(bool_rows));
	tcase_add_loop_test(tc, test_rate, 0, N_ROWS(rate_rows));
}

int main(void)
{
	return run_tests("parse", add);
}

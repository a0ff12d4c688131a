/* Unit test of shared/backtrace.c: only what looks like a backtrace is one. */
#include <stdio.h>
#include <string.h>

#include "run.h"
#include "shared/backtrace.h"

static struct backtraces b;

static void set_up(void)
{
	ck_assert_int_eq(backtraces_new(2, &b), 0);
}

static void tear_down(void)
{
	segment_free(&b.segment);
}

/* Writes a text into an entry, as a child would. Returns what is read of it. */
static const char *read_of(const char *text, uint32_t len)
{
	static char ret[BACKTRACE_TEXT + 1];

	memset(b.slots[1].text, '#', sizeof(b.slots[1].text));
	memcpy(b.slots[1].text, text, strlen(text));
	b.slots[1].len = len;
	ck_assert_uint_eq(backtrace_read(&b.slots[1], ret), strlen(ret));
	return ret;
}

START_TEST(test_lines_that_are_frames)
{
	static const struct {
		const char *text, *read;
	} cases[] = {
		{"/usr/bin/tined+0x1f\n", "/usr/bin/tined+0x1f\n"},
		{"/lib/libstdc++.so+0x0\n+0x10\n", "/lib/libstdc++.so+0x0\n+0x10\n"},
		{"/x+0x123456789abcdef0\n/y+0x2",
			"/x+0x123456789abcdef0\n"}, /* cut off in the middle */
		{"/a\033[31m\xff+0x1\n", "/a?[31m?+0x1\n"},
		{"/x+0x1\nwords\n/y+0x2\n", "/x+0x1\n"},
		{"/x+0x1\n\n/y+0x2\n", "/x+0x1\n"},
		{"/x+0x123456789abcdef01\n", ""},
		{"/x+0X1\n", ""},
		{"/x+0xF\n", ""},
		{"/x+0x\n", ""},
		{"0x1\n", ""},
		{"\n", ""},
		{"", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		ck_assert_str_eq(
			read_of(cases[i].text, (uint32_t)strlen(cases[i].text)), cases[i].read);
}
END_TEST

START_TEST(test_lengths)
{
	ck_assert_str_eq(read_of("/x+0x1\n", 0), "");
	ck_assert_str_eq(read_of("/x+0x1\n", 6), "");
	ck_assert_str_eq(read_of("/x+0x1\n", BACKTRACE_TEXT), "/x+0x1\n");
	ck_assert_str_eq(read_of("/x+0x1\n", BACKTRACE_TEXT + 1), "");
	ck_assert_str_eq(read_of("/x+0x1\n", UINT32_MAX), "");
	backtrace_clear(&b.slots[1]);
	ck_assert_uint_eq(b.slots[1].len, 0);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_lines_that_are_frames);
	tcase_add_test(tc, test_lengths);
}

int main(void)
{
	return run_tests("backtrace", add);
}

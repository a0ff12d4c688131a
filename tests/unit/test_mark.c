/* The marks that bridges write. */
#include <errno.h>
#include <string.h>

#include "bridge/bridge.h"
#include "run.h"

START_TEST(test_what_is_written_is_read)
{
	static const char groups[] = "one\0two words\0three\0t\303\266\0";
	char mark[MARK_MAX];

	ck_assert_int_eq(mark_write(mark, 0x123, -13, groups, sizeof(groups) - 1), 0);
	ck_assert_str_eq(mark, "0000000000000123 -13 one three");
	ck_assert(mark_is_of(mark, 0x123));
	ck_assert(!mark_is_of(mark, 0x124));
	ck_assert_int_eq(mark_error(mark), -13);
	ck_assert(mark_has_group(mark, "one"));
	ck_assert(mark_has_group(mark, "three"));
	ck_assert(!mark_has_group(mark, "thre"));
	ck_assert(!mark_has_group(mark, "threee"));
	ck_assert(!mark_has_group(mark, "-13"));
	ck_assert(!mark_has_group(mark, ""));
}
END_TEST

/* Of a name that cannot stand in it the others would not hear that its group has had the message. */
START_TEST(test_names_of_groups)
{
	static const char *const bad[] = {
		"", "two words", "t\303\266", "\033[31m", "a\r\nb", "\177"};

	ck_assert(mark_may_name("one>*.$~", 8));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert(!mark_may_name(bad[i], strlen(bad[i])));
}
END_TEST

START_TEST(test_no_groups)
{
	char mark[MARK_MAX];

	ck_assert_int_eq(mark_write(mark, UINT64_MAX, 0, NULL, 0), 0);
	ck_assert_str_eq(mark, "ffffffffffffffff 0");
	ck_assert(!mark_has_group(mark, "0"));
	ck_assert_int_eq(mark_error(mark), 0);
}
END_TEST

START_TEST(test_too_many_groups)
{
	char mark[MARK_MAX], groups[2 * MARK_MAX];

	memset(groups, 'g', sizeof(groups));
	for (size_t i = 63; i < sizeof(groups); i += 64)
		groups[i] = '\0';
	ck_assert_int_eq(mark_write(mark, 1, 0, groups, sizeof(groups)), -EMSGSIZE);
	ck_assert_uint_lt(strlen(mark), MARK_MAX);
}
END_TEST

/* From somebody else, who may write anything. */
static const char *const others[] = {
	"", " ", "x", "12", "12 ", "g h i", "1 99999999999999999999", "-1 -99999", "  g"};

START_TEST(test_what_others_write)
{
	const char *mark = others[_i];

	ck_assert(!mark_is_of(mark, 0x77));
	ck_assert_int_eq(mark_error(mark), 0);
	ck_assert(!mark_has_group(mark, "none"));
	ck_assert(!mark_is_of(NULL, 0));
	ck_assert(!mark_has_group(NULL, ""));
	ck_assert_int_eq(mark_error(NULL), 0);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_what_is_written_is_read);
	tcase_add_test(tc, test_names_of_groups);
	tcase_add_test(tc, test_no_groups);
	tcase_add_test(tc, test_too_many_groups);
	tcase_add_loop_test(tc, test_what_others_write, 0, sizeof(others) / sizeof(*others));
}

int main(void)
{
	return run_tests("mark", add);
}

/* Subjects and patterns: what is valid, what fits what. */
#include <errno.h>
#include <string.h>

#include "ipc/msg.h"
#include "ipc/subject.h"
#include "run.h"

#define S16  "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16"
#define T50  "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee"
#define T255 T50 T50 T50 T50 T50 "aaaaa"

static const struct {
	const char *text;
	bool subject, pattern;
} checked[] = {
	{"a", true, true},
	{"a.b.c", true, true},
	{"$tine.peer.join", true, true},
	{"A-Z_0!~#%&/:;<=?@[]^`{|}", true, true},
	{S16, true, true},
	{S16 ".17", false, false},
	{T255, true, true},
	{T255 "b", false, false},
	{"", false, false},
	{".", false, false},
	{"a.", false, false},
	{".a", false, false},
	{"a..b", false, false},
	{"a b", false, false},
	{"a\tb", false, false},
	{"a\x7f", false, false},
	{"caf\xc3\xa9", false, false},
	{"*", false, true},
	{">", false, true},
	{"a.*.b.>", false, true},
	{"*.a.*.*.*.>", false, true},
	{"*.a.*.*.*.*", false, false},
	{">.a", false, false},
	{"a.>.b", false, false},
	{"a*", false, false},
	{"a.b>", false, false},
	{"**", false, false},
};

START_TEST(test_check)
{
	const char *s = checked[_i].text, *why;

	ck_assert_int_eq(subject_check(s, strlen(s), SUBJECT_PLAIN, &why),
		checked[_i].subject ? 0 : -EINVAL);
	ck_assert(checked[_i].subject == (why == NULL));
	ck_assert_int_eq(subject_check(s, strlen(s), SUBJECT_PATTERN, &why),
		checked[_i].pattern ? 0 : -EINVAL);
	ck_assert(checked[_i].pattern == (why == NULL));
}
END_TEST

START_TEST(test_a_nul_is_no_character)
{
	const char *why;

	ck_assert_int_eq(subject_check("a\0b", 3, SUBJECT_PLAIN, &why), -EINVAL);
}
END_TEST

static const struct {
	const char *pattern, *subject;
	bool fits;
} pairs[] = {
	{"a.b", "a.b", true},
	{"a.b", "a.c", false},
	{"a.b", "a", false},
	{"a", "a.b", false},
	{"a.b", "a.bb", false},
	{"a.*", "a.b", true},
	{"a.*", "a", false},
	{"a.*", "a.b.c", false},
	{"*.b", "a.b", true},
	{"*", "a", true},
	{"*", "a.b", false},
	{"*.*", "a.b", true},
	{">", "a", true},
	{">", "a.b.c", true},
	{"a.>", "a", false},
	{"a.>", "a.b", true},
	{"a.>", "a.b.c", true},
	{"a.>", "b.b", false},
	{"a.*.>", "a.b", false},
	{"a.*.>", "a.b.c.d", true},
	{">", "$a.b", false},
	{"*.b", "$a.b", false},
	{"$a.*", "$a.b", true},
	{"$a.>", "$a.b", true},
	{"a.*", "a.$b", true},
};

START_TEST(test_matches)
{
	const char *p = pairs[_i].pattern, *s = pairs[_i].subject;

	ck_assert(subject_matches(p, strlen(p), s, strlen(s)) == pairs[_i].fits);
}
END_TEST

static const struct {
	const char *text;
	bool publishable;
} owned[] = {
	{"a", true},
	{"a.$tine", true},
	{"$", false},
	{"$tine.peer.join", false},
	{"$local", false},
	{"$local.", false},
	{"$locals.a", false},
	{"$local.a", true},
};

START_TEST(test_what_modules_may_publish)
{
	const char *s = owned[_i].text;

	ck_assert(subject_is_publishable(s, strlen(s)) == owned[_i].publishable);
}
END_TEST

START_TEST(test_keys_are_no_addresses)
{
	ck_assert_uint_ge(subject_key("a", 1), 1ull << 63);
	ck_assert_uint_ne(subject_key("a", 1), subject_key("b", 1));
	ck_assert_uint_eq(subject_key("a.b", 3), subject_key("a.bc", 3));
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_check, 0, sizeof(checked) / sizeof(*checked));
	tcase_add_test(tc, test_a_nul_is_no_character);
	tcase_add_loop_test(tc, test_matches, 0, sizeof(pairs) / sizeof(*pairs));
	tcase_add_loop_test(tc, test_what_modules_may_publish, 0, sizeof(owned) / sizeof(*owned));
	tcase_add_test(tc, test_keys_are_no_addresses);
}

int main(void)
{
	return run_tests("subject", add);
}

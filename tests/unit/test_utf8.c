/* base/utf8.c: every case whole and split at every position; all code points. */
#include <string.h>

#include "base/utf8.h"
#include "run.h"

struct utf8_case {
	const char *data;
	size_t len;
	bool valid;   /* the whole */
	bool hopeful; /* may still become valid with more */
};

#define V(s)                                 \
	{                                    \
		s, sizeof(s) - 1, true, true \
	} /* valid */
#define P(s)                                  \
	{                                     \
		s, sizeof(s) - 1, false, true \
	} /* a part */
#define X(s)                                   \
	{                                      \
		s, sizeof(s) - 1, false, false \
	}

static const struct utf8_case cases[] = {
	V(""),
	V("ascii"),
	V("\0"),
	V("\x7f"),
	V("12345678"),
	V("1234567\xc2\x80"),
	V("\xc2\x80"),
	V("\xdf\xbf"),
	V("\xe0\xa0\x80"),
	V("\xec\xbf\xbf"),
	V("\xed\x9f\xbf"),
	V("\xee\x80\x80"),
	V("\xef\xbf\xbd"),
	V("\xef\xbf\xbf"),
	V("\xf0\x90\x80\x80"),
	V("\xf3\xbf\xbf\xbf"),
	V("\xf4\x8f\xbf\xbf"),
	V("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"),
	V("12345678\xf0\x9f\x98\x80"
	  "12345678"),
	V("\xef\xbb\xbf"),
	P("\xc2"),
	P("\xe0\xa0"),
	P("\xe1"),
	P("\xed\x9f"),
	P("\xf0\x90"),
	P("\xf0\x90\x80"),
	P("\xf4\x8f\xbf"),
	P("12345678\xf4"),
	X("\x80"),
	X("\xbf"),
	X("\xc0\x80"),
	X("\xc1\xbf"),
	X("\xc2\x7f"),
	X("\xc2\xc0"),
	X("\xc2"
	  "a"),
	X("\xe0\x80"),
	X("\xe0\x9f\xbf"),
	X("\xe1\x80\x7f"),
	X("\xed\xa0\x80"),
	X("\xed\xbf\xbf"),
	X("\xf0\x80"),
	X("\xf0\x8f\xbf\xbf"),
	X("\xf0\x90\x80\xc0"),
	X("\xf4\x90"),
	X("\xf5\x80"),
	X("\xf8\x88"),
	X("\xfc"),
	X("\xfe"),
	X("\xff"),
	X("12345678\x80"),
	X("1234567\xff"),
	X("\xc2\x80\x80"),
	X("\xf4\x8f\xbf\xbf\x80"),
};

START_TEST(test_cases)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct utf8_case *c = &cases[i];

		ck_assert_msg(utf8_is_valid(c->data, c->len) == c->valid, "case %zu", i);
		for (size_t split = 0; split <= c->len; split++) {
			struct utf8 u = {0};
			bool ok = utf8_feed(&u, c->data, split) &&
				utf8_feed(&u, c->data + split, c->len - split);

			ck_assert_msg(ok == c->hopeful, "case %zu split at %zu", i, split);
			ck_assert_msg(!ok || (u.left == 0) == c->valid, "case %zu, %zu", i, split);
		}
	}
}
END_TEST

static size_t encode(unsigned code, char *to)
{
	if (code < 0x80) {
		to[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		to[0] = (char)(0xc0 | code >> 6);
		to[1] = (char)(0x80 | (code & 63));
		return 2;
	}
	if (code < 0x10000) {
		to[0] = (char)(0xe0 | code >> 12);
		to[1] = (char)(0x80 | (code >> 6 & 63));
		to[2] = (char)(0x80 | (code & 63));
		return 3;
	}
	to[0] = (char)(0xf0 | code >> 18);
	to[1] = (char)(0x80 | (code >> 12 & 63));
	to[2] = (char)(0x80 | (code >> 6 & 63));
	to[3] = (char)(0x80 | (code & 63));
	return 4;
}

START_TEST(test_all_code_points)
{
	char text[4];

	for (unsigned code = 0; code < 0x120000; code++) {
		bool valid = code < 0xd800 || (code > 0xdfff && code < 0x110000);

		ck_assert_msg(utf8_is_valid(text, encode(code, text)) == valid, "U+%04X", code);
	}
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_cases);
	tcase_add_test(tc, test_all_code_points);
}

int main(void)
{
	return run_tests("utf8", add);
}

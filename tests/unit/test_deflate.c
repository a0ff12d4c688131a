/* http/deflate.c: RFC 7692's own examples, there and back, what is no message, what grows too large. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "http/deflate.h"
#include "run.h"

struct unpack_case {
	const char *name, *packed;
	size_t len;
	size_t max;
	int r;
	const char *plain;
};

#define C(name, packed, ...)                                  \
	{                                                     \
		name, packed, sizeof(packed) - 1, __VA_ARGS__ \
	}

static const struct unpack_case cases[] = {
	/* RFC 7692 section 7.2.3 */
	C("one block", "\xf2\x48\xcd\xc9\xc9\x07\x00", 100, 0, "Hello"),
	C("not compressed", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 100, 0, "Hello"),
	C("BFINAL", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 100, 0, "Hello"),
	C("two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 100, 0, "Hello"),
	C("empty", "\x00", 100, 0, ""),
	C("empty block before", "\x00\x00\x00\xff\xff\xf2\x48\xcd\xc9\xc9\x07\x00", 100, 0,
		"Hello"),
	C("another stream behind BFINAL",
		"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", 100, 0, "HelloHello"),
	C("as long as it may be", "\xf2\x48\xcd\xc9\xc9\x07\x00", 5, 0, "Hello"),
	C("one too long", "\xf2\x48\xcd\xc9\xc9\x07\x00", 4, -EMSGSIZE, NULL),
	C("nothing allowed, nothing there", "\x00", 0, 0, ""),
	C("nothing allowed", "\xf2\x48\xcd\xc9\xc9\x07\x00", 0, -EMSGSIZE, NULL),
	C("cut off", "\xf2\x48\xcd", 100, -EBADMSG, NULL),
	C("nothing at all", "", 100, -EBADMSG, NULL),
	C("block type 3", "\xff\xff", 100, -EBADMSG, NULL),
	C("stored, lengths differ", "\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00", 100, -EBADMSG,
		NULL),
	C("distance too far back", "\x4b\x04\x82\x00", 100, -EBADMSG, NULL),
	C("no BFINAL's tail", "\xf3\x48\xcd\xc9\xc9\x07\x00", 100, -EBADMSG, NULL),
};

START_TEST(test_unpack)
{
	struct deflate d = {0};

	for (int again = 0; again < 2; again++) { /* no case leaves a trace */
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			const struct unpack_case *c = &cases[i];
			CLEANUP(freep) char *plain = NULL;
			size_t len = 0;
			int r = deflate_unpack(
				&d, (struct tine_text){c->packed, c->len}, c->max, &plain, &len);

			ck_assert_msg(r == c->r, "%s: %d, not %d", c->name, r, c->r);
			if (r < 0)
				continue;
			ck_assert_msg(len == strlen(c->plain) && memcmp(plain, c->plain, len) == 0,
				"%s: %zu bytes", c->name, len);
		}
	}
	deflate_release(&d);
}
END_TEST

/* Text that compresses, by a generator with a fixed seed. */
static char *text_of(size_t len)
{
	char *text = malloc(len + 1);
	unsigned x = 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1103515245 + 12345;
		text[i] = i > 100 && (x >> 28) > 2 ? text[i - 57] : (char)('a' + (x >> 16) % 26);
	}
	return text;
}

START_TEST(test_there_and_back)
{
	static const size_t sizes[] = {5, 64, 300, 5000, 40000, 256 << 10, 1 << 20};
	struct deflate d = {0};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		CLEANUP(freep) char *text = text_of(sizes[i]);

		for (unsigned bits = DEFLATE_BITS_MIN; bits <= DEFLATE_BITS_MAX; bits++) {
			CLEANUP(freep) char *packed = NULL, *plain = NULL;
			size_t len, plain_len;
			int r = deflate_pack(
				&d, bits, (struct tine_text){text, sizes[i]}, &packed, &len);

			ck_assert(r == 0 || (r == DEFLATE_NO_GAIN && sizes[i] < 100));
			if (r != 0)
				continue;
			ck_assert(len < sizes[i]);
			r = deflate_unpack(
				&d, (struct tine_text){packed, len}, sizes[i], &plain, &plain_len);
			ck_assert_int_eq(r, 0);
			ck_assert(plain_len == sizes[i] && memcmp(plain, text, plain_len) == 0);
		}
	}
	deflate_release(&d);
}
END_TEST

START_TEST(test_no_gain)
{
	struct deflate d = {0};
	CLEANUP(freep) char *packed = NULL;
	char noise[4096];
	unsigned x = 7;
	size_t len;

	for (size_t i = 0; i < sizeof(noise); i++) {
		x = x * 1664525 + 1013904223;
		noise[i] = (char)(x >> 24);
	}
	ck_assert_int_eq(
		deflate_pack(&d, 15, (struct tine_text){noise, sizeof(noise)}, &packed, &len),
		DEFLATE_NO_GAIN);
	ck_assert_int_eq(
		deflate_pack(&d, 15, (struct tine_text){"", 0}, &packed, &len), DEFLATE_NO_GAIN);
	ck_assert_int_eq(
		deflate_pack(&d, 15, (struct tine_text){"ab", 2}, &packed, &len), DEFLATE_NO_GAIN);
	ck_assert_int_eq(deflate_pack(&d, 8, (struct tine_text){"ab", 2}, &packed, &len), -EINVAL);
	ck_assert_int_eq(deflate_pack(&d, 16, (struct tine_text){"ab", 2}, &packed, &len), -EINVAL);
	ck_assert_ptr_null(packed);
	deflate_release(&d);
}
END_TEST

/* A thousand to one: it is given up at the limit, whatever it would become. */
START_TEST(test_bomb)
{
	struct deflate d = {0};
	size_t size = 64 << 20, len, plain_len;
	CLEANUP(freep) char *zeros = calloc(1, size), *packed = NULL, *plain = NULL;

	ck_assert_int_eq(deflate_pack(&d, 15, (struct tine_text){zeros, size}, &packed, &len), 0);
	ck_assert(len < size / 200);
	ck_assert_int_eq(
		deflate_unpack(&d, (struct tine_text){packed, len}, 1 << 20, &plain, &plain_len),
		-EMSGSIZE);
	ck_assert_ptr_null(plain);
	ck_assert_int_eq(
		deflate_unpack(&d, (struct tine_text){packed, len}, size - 1, &plain, &plain_len),
		-EMSGSIZE);
	ck_assert_int_eq(
		deflate_unpack(&d, (struct tine_text){packed, len}, size, &plain, &plain_len), 0);
	ck_assert_int_eq(plain_len, size);
	deflate_release(&d);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_unpack);
	tcase_add_test(tc, test_there_and_back);
	tcase_add_test(tc, test_no_gain);
	tcase_add_test(tc, test_bomb);
}

int main(void)
{
	return run_tests("deflate", add);
}

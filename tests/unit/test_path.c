/* http/path.c: normalising and encoding. */
#include <stdlib.h>
#include <string.h>

#include "http/path.h"
#include "run.h"

static const struct {
	const char *raw, *want; /* want NULL: 400 */
} paths[] = {
	{"/", "/"},
	{"/a", "/a"},
	{"/a/b.c", "/a/b.c"},
	{"/a/", "/a/"},
	{"//", "/"},
	{"///a//b///", "/a/b/"},
	{"/.", "/"},
	{"/./", "/"},
	{"/..", "/"},
	{"/../", "/"},
	{"/../..", "/"},
	{"/../a", "/a"},
	{"/a/.", "/a/"},
	{"/a/./b", "/a/b"},
	{"/a/..", "/"},
	{"/a/../", "/"},
	{"/a/../b", "/b"},
	{"/a/b/..", "/a/"},
	{"/a/b/../..", "/"},
	{"/a/b/../../../c", "/c"},
	{"/a//../b", "/b"},
	{"/a/b/c/./../../g", "/a/g"},
	{"/...", "/..."},
	{"/.a", "/.a"},
	{"/a./b..", "/a./b.."},
	{"/.../..a/", "/.../..a/"},
	{"/%41", "/A"},
	{"/%7e%7E", "/~~"},
	{"/a%20b", "/a b"},
	{"/%c3%a4", "/\xc3\xa4"},
	{"/%25", "/%"},
	{"/%252e%252e/", "/%2e%2e/"},
	{"/%2e", "/"},
	{"/%2e%2e/a", "/a"},
	{"/a/%2E./b", "/b"},
	{"/a/.%2e", "/"},
	{"/%0a%01", "/\n\x01"},
	{"/%", NULL},
	{"/%4", NULL},
	{"/%4x", NULL},
	{"/%x4", NULL},
	{"/%%41", NULL},
	{"/%00", NULL},
	{"/a%00b", NULL},
	{"/a%2fb", NULL},
	{"/..%2f..%2fetc", NULL},
	{"/a%2Fb", NULL},
};

START_TEST(test_normalise)
{
	const char *raw = paths[_i].raw, *want = paths[_i].want;
	size_t len = strlen(raw);
	struct tine_text in = {raw, len}, out;
	char *buf = malloc(len);
	int r = path_normalise(in, buf, &out);

	ck_assert_msg(r == (want ? 0 : 400), "%s: %d", raw, r);
	if (want) {
		ck_assert_msg(out.len == strlen(want) && memcmp(out.data, want, out.len) == 0,
			"%s became %.*s", raw, (int)out.len, out.data);
		if (path_is_plain(in))
			ck_assert_str_eq(raw, want);
	} else {
		ck_assert(!path_is_plain(in));
	}
	free(buf);
}
END_TEST

/* Whatever goes in, what comes out keeps the promise of a normalised path. */
START_TEST(test_normalise_random)
{
	static const char *pieces[] = {"/", ".", "..", "%2e", "a", "/", "%41", "%2E%2e", "//"};
	char raw[256], buf[256];
	struct tine_text out;

	srandom(11);
	for (int round = 0; round < 20000; round++) {
		strcpy(raw, "/");
		for (int i = (int)(random() % 24); i > 0; i--)
			strcat(raw, pieces[random() % 9]);
		ck_assert_int_eq(
			path_normalise((struct tine_text){raw, strlen(raw)}, buf, &out), 0);
		ck_assert(out.len > 0 && out.len <= strlen(raw) && out.data[0] == '/');
		buf[out.len] = '\0';
		ck_assert_msg(path_is_plain(out) || strstr(buf, "/..") || strstr(buf, "/."),
			"%s -> %s", raw, buf);
		ck_assert_ptr_null(strstr(buf, "//"));
		strcat(buf, "/");
		ck_assert_ptr_null(strstr(buf, "/../"));
		ck_assert_ptr_null(strstr(buf, "/./"));
	}
}
END_TEST

START_TEST(test_encode)
{
	static const char path[] = "/a b/\r\n?#%\"<>\xc3\xa4~";
	static const char want[] = "/a%20b/%0D%0A%3F%23%25%22%3C%3E%C3%A4~";
	char buf[128];
	struct tine_text in = {path, sizeof(path) - 1};
	size_t n = path_encode(in, buf, sizeof(buf));

	ck_assert_uint_eq(n, sizeof(want) - 1);
	ck_assert_mem_eq(buf, want, n);
	ck_assert_uint_eq(path_encode(in, buf, 20), 0);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_normalise, 0, sizeof(paths) / sizeof(paths[0]));
	tcase_add_test(tc, test_normalise_random);
	tcase_add_test(tc, test_encode);
}

int main(void)
{
	return run_tests("path", add);
}

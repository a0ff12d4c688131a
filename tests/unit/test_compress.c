/* http/compress.c: there and back again, and when it is in vain. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include <zlib.h>

#include "http/compress.h"
#include "run.h"

static int file;

static void setup(void)
{
	file = memfd_create("compress", MFD_CLOEXEC);
	ck_assert_int_ge(file, 0);
}

static void teardown(void)
{
	close(file);
}

static char *make_text(size_t size)
{
	char *text = malloc(size + 64);

	ck_assert_ptr_nonnull(text);
	for (size_t at = 0; at < size;)
		at += (size_t)sprintf(text + at, "line %zu of many\n", at);
	ck_assert_int_eq(pwrite(file, text, size, 0), (ssize_t)size);
	return text;
}

static const size_t sizes[] = {500, 65535, 65536, 65537, 1000000};

START_TEST(test_there_and_back)
{
	size_t size = sizes[_i], len = 0, again_len = 0;
	char *text = make_text(size), *data = NULL, *again = NULL, *back = malloc(size + 1);
	z_stream z = {0};

	ck_assert_int_eq(
		compress_gzip(&(struct compress_source){NULL, file, size}, 6, &data, &len), 0);
	ck_assert_uint_lt(len, size);
	ck_assert_int_eq(inflateInit2(&z, 15 + 16), Z_OK);
	z.next_in = (unsigned char *)data;
	z.avail_in = (unsigned)len;
	z.next_out = (unsigned char *)back;
	z.avail_out = (unsigned)size + 1;
	ck_assert_int_eq(inflate(&z, Z_FINISH), Z_STREAM_END);
	ck_assert_uint_eq(z.total_out, size);
	ck_assert_uint_eq(z.avail_in, 0);
	ck_assert_mem_eq(back, text, size);
	inflateEnd(&z);
	/* the same once more, for the tag that names it */
	ck_assert_int_eq(
		compress_gzip(&(struct compress_source){text, -1, size}, 6, &again, &again_len), 0);
	ck_assert_uint_eq(again_len, len);
	ck_assert_mem_eq(again, data, len);
	free(again);
	free(back);
	free(data);
	free(text);
}
END_TEST

START_TEST(test_in_vain)
{
	static char noise[100000];
	char *data = NULL;
	size_t len;

	ck_assert_int_eq(getrandom(noise, sizeof(noise), 0), sizeof(noise));
	ck_assert_int_eq(pwrite(file, noise, sizeof(noise), 0), sizeof(noise));
	ck_assert_int_eq(
		compress_gzip(&(struct compress_source){NULL, file, sizeof(noise)}, 6, &data, &len),
		COMPRESS_IN_VAIN);
	ck_assert_int_eq(compress_gzip(&(struct compress_source){NULL, file, 10}, 6, &data, &len),
		COMPRESS_IN_VAIN);
	ck_assert_int_eq(compress_gzip(&(struct compress_source){NULL, file, 0}, 6, &data, &len),
		COMPRESS_IN_VAIN);
	ck_assert_ptr_null(data);
}
END_TEST

START_TEST(test_errors)
{
	char *data = NULL;
	size_t len;

	free(make_text(10000));
	ck_assert_int_eq(
		compress_gzip(&(struct compress_source){NULL, file, 10001}, 6, &data, &len),
		-ESTALE);
	ck_assert_int_eq(compress_gzip(&(struct compress_source){NULL, file, UINT64_C(5) << 30}, 6,
				 &data, &len),
		-EFBIG);
	ck_assert_int_eq(
		compress_gzip(&(struct compress_source){NULL, -1, 1000}, 6, &data, &len), -EBADF);
	ck_assert_ptr_null(data);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, test_there_and_back, 0, sizeof(sizes) / sizeof(sizes[0]));
	tcase_add_test(tc, test_in_vain);
	tcase_add_test(tc, test_errors);
}

int main(void)
{
	return run_tests("compress", add);
}

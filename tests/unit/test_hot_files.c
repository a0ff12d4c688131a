/* http/hot_files.c: what is taken, what is given up, when memory goes back. Time is a parameter. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "http/hot_files.h"
#include "run.h"

#define SKIPPED 77 /* to Meson: no huge pages here */

static struct hot_files hot;
static uint64_t now = 100000; /* ms */
static char content[HOT_FILE_MAX + 1];
static int file; /* holds `content` */

static void setup(void)
{
	FILE *f = tmpfile();

	ck_assert_ptr_nonnull(f);
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (char)('a' + (i * 7 + i / 1000) % 26);
	ck_assert_uint_eq(fwrite(content, 1, sizeof(content), f), sizeof(content));
	ck_assert_int_eq(fflush(f), 0);
	file = dup(fileno(f));
	fclose(f);
	hot_files_init(&hot);
}

static void teardown(void)
{
	hot_files_clear(&hot);
	close(file);
}

static int take(struct hot_file *f, size_t size)
{
	return hot_files_take(&hot, f, file, size, now);
}

/* Whether there is memory at an address. */
static bool is_mapped(const char *data)
{
	unsigned char there;

	return mincore((void *)((uintptr_t)data & ~(uintptr_t)4095), 1, &there) == 0;
}

/* Fills the room there is: two files in each chunk. */
static void fill(struct hot_file *files)
{
	for (unsigned i = 0; i < 2 * HOT_CHUNKS; i++)
		ck_assert_int_eq(take(&files[i], HOT_FILE_MAX), 0);
	ck_assert_uint_eq(hot.n_chunks, HOT_CHUNKS);
}

START_TEST(test_nothing_ahead)
{
	ck_assert(hot_files_possible(&hot));
	ck_assert_uint_eq(hot.n_chunks, 0);
	ck_assert(TAILQ_EMPTY(&hot.chunks));
}
END_TEST

START_TEST(test_content)
{
	static struct hot_file a = {0}, b = {0};

	ck_assert_int_eq(take(&a, 100001), 0);
	ck_assert_int_eq(take(&b, HOT_FILE_MAX), 0);
	ck_assert_mem_eq(a.data, content, 100001);
	ck_assert_mem_eq(b.data, content, HOT_FILE_MAX);
	ck_assert_ptr_eq(a.chunk, b.chunk);
	ck_assert(b.data >= a.data + 100001);
	ck_assert_uint_eq((uintptr_t)a.data % HOT_CHUNK, 0);
	ck_assert_uint_eq((uintptr_t)b.data % 4096, 0);
	ck_assert_uint_eq(hot.n_chunks, 1);
}
END_TEST

START_TEST(test_what_cannot_be_taken)
{
	static struct hot_file f = {0};

	ck_assert_int_eq(take(&f, 0), -EFBIG);
	ck_assert_int_eq(take(&f, HOT_FILE_MAX + 1), -EFBIG);
	ck_assert_int_eq(hot_files_take(&hot, &f, -1, 100, now), -EIO);
	ck_assert_int_eq(ftruncate(file, 50000), 0);
	ck_assert_int_eq(take(&f, 50001), -EIO);
	ck_assert_ptr_null(f.data);
	ck_assert_uint_eq(hot.n_chunks, 0); /* not for nothing */
}
END_TEST

/* Memory is never used twice, also when what was in it is not needed any more. */
START_TEST(test_nothing_is_overwritten)
{
	static struct hot_file stays = {0}, f = {0};
	const char *last;

	ck_assert_int_eq(take(&stays, 20000), 0);
	last = stays.data;
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(take(&f, 20000), 0);
		ck_assert_ptr_eq(f.chunk, stays.chunk);
		ck_assert(f.data >= last + 20000);
		last = f.data;
		hot_file_forget(&f);
		ck_assert_ptr_null(f.data);
	}
	ck_assert_uint_eq(hot.n_chunks, 1);
}
END_TEST

START_TEST(test_unmapped_when_unused)
{
	static struct hot_file a = {0}, b = {0};
	const char *data;

	ck_assert_int_eq(take(&a, 30000), 0);
	ck_assert_int_eq(take(&b, 30000), 0);
	data = a.data;
	hot_file_forget(&a);
	hot_file_forget(&a); /* has none: nothing to do */
	ck_assert(is_mapped(data));
	hot_file_forget(&b);
	ck_assert(!is_mapped(data));
	ck_assert_uint_eq(hot.n_chunks, 0);
}
END_TEST

START_TEST(test_transfer_keeps_it)
{
	static struct hot_file f = {0};
	struct hot_chunk *transfer;
	const char *data;

	ck_assert_int_eq(take(&f, 30000), 0);
	data = f.data;
	transfer = hot_chunk_ref(f.chunk);
	hot_file_forget(&f);
	ck_assert_mem_eq(data, content, 30000);
	ck_assert_uint_eq(hot.n_chunks, 1);
	hot_chunk_unref(transfer);
	ck_assert(!is_mapped(data));
}
END_TEST

/* More hot files than room: the oldest chunk goes, not more than one a second. */
START_TEST(test_bounded)
{
	static struct hot_file files[2 * HOT_CHUNKS] = {0}, more[5] = {0};
	const char *next;

	fill(files);
	next = files[2].data;
	ck_assert_int_eq(take(&more[0], HOT_FILE_MAX), 0);
	ck_assert_ptr_null(files[0].data);
	ck_assert_ptr_null(files[1].data);
	ck_assert_ptr_eq(files[2].data, next);
	ck_assert_uint_eq(hot.n_chunks, HOT_CHUNKS);
	ck_assert_int_eq(take(&more[1], HOT_FILE_MAX), 0);
	now += HOT_DROP_MS - 1;
	ck_assert_int_eq(take(&more[2], HOT_FILE_MAX), -ENOSPC);
	ck_assert_ptr_eq(files[2].data, next);
	now++;
	ck_assert_int_eq(take(&more[2], HOT_FILE_MAX), 0);
	ck_assert_ptr_null(files[2].data);
	ck_assert_uint_eq(hot.n_chunks, HOT_CHUNKS);
	ck_assert_int_eq(take(&more[3], HOT_FILE_MAX), 0);
	ck_assert_int_eq(take(&more[4], HOT_FILE_MAX), -ENOSPC);
}
END_TEST

/* A client that reads slowly holds one chunk; it does not cost all others theirs. */
START_TEST(test_bounded_with_transfers)
{
	static struct hot_file files[2 * HOT_CHUNKS] = {0}, more = {0};
	struct hot_chunk *transfer;
	const char *data;

	fill(files);
	transfer = hot_chunk_ref(files[0].chunk);
	data = files[0].data;
	for (int i = 0; i < 5; i++) {
		now += HOT_DROP_MS;
		ck_assert_int_eq(take(&more, HOT_FILE_MAX), -ENOSPC);
		ck_assert_ptr_null(files[1].data);
		ck_assert_ptr_nonnull(files[2].data);
		ck_assert_uint_eq(hot.n_chunks, HOT_CHUNKS);
	}
	ck_assert_mem_eq(data, content, HOT_FILE_MAX);
	hot_chunk_unref(transfer);
	ck_assert_int_eq(take(&more, HOT_FILE_MAX), 0);
	ck_assert_uint_eq(hot.n_chunks, HOT_CHUNKS);
}
END_TEST

/* The folder goes first: files have no snapshot any more, the transfer goes on. */
START_TEST(test_cleared_under_a_transfer)
{
	static struct hot_file a = {0}, b = {0};
	struct hot_chunk *transfer;
	const char *used, *other;

	ck_assert_int_eq(take(&a, HOT_FILE_MAX), 0);
	ck_assert_int_eq(take(&b, HOT_FILE_MAX), 0);
	transfer = hot_chunk_ref(a.chunk);
	used = a.data;
	ck_assert_int_eq(take(&b, HOT_FILE_MAX), 0);
	other = b.data;
	hot_files_clear(&hot);
	ck_assert_ptr_null(a.data);
	ck_assert_ptr_null(b.data);
	ck_assert(!is_mapped(other));
	ck_assert_mem_eq(used, content, HOT_FILE_MAX);
	hot_chunk_unref(transfer);
	ck_assert(!is_mapped(used));
}
END_TEST

START_TEST(test_refused)
{
	static struct hot_file f = {0};

	hot.support = HOT_REFUSED;
	ck_assert(!hot_files_possible(&hot));
	ck_assert_int_eq(take(&f, 30000), -ENOTSUP);
	ck_assert_uint_eq(hot.n_chunks, 0);
}
END_TEST

static void add(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_nothing_ahead);
	tcase_add_test(t, test_content);
	tcase_add_test(t, test_what_cannot_be_taken);
	tcase_add_test(t, test_nothing_is_overwritten);
	tcase_add_test(t, test_unmapped_when_unused);
	tcase_add_test(t, test_transfer_keeps_it);
	tcase_add_test(t, test_bounded);
	tcase_add_test(t, test_bounded_with_transfers);
	tcase_add_test(t, test_cleared_under_a_transfer);
	tcase_add_test(t, test_refused);
}

int main(void)
{
	hot_files_init(&hot);
	return hot_files_possible(&hot) ? run_tests("hot_files", add) : SKIPPED;
}

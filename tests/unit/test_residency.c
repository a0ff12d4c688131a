/* net/residency.c: what is in memory, what is not, and what cannot be read at all. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "needs.h"
#include "net/residency.h"
#include "run.h"

#define SIZE (1u << 20)

static char data[SIZE];
static int file;

static void setup(void)
{
	char path[] = "/var/tmp/test-residency-XXXXXX";

	file = mkostemp(path, O_CLOEXEC);
	ck_assert_int_ge(file, 0);
	unlink(path);
	memset(data, 'x', sizeof(data));
	ck_assert_int_eq(pwrite(file, data, SIZE, 0), SIZE);
	ck_assert_int_eq(fsync(file), 0);
}

static void teardown(void)
{
	close(file);
}

static void read_all(void)
{
	ck_assert_int_eq(pread(file, data, SIZE, 0), SIZE);
}

/* Returns whether the kernel has forgotten all of it: not where files live in memory. */
static bool forget(void)
{
	unsigned char pages[SIZE / 4096];
	void *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, file, 0);
	bool any = false;

	ck_assert_ptr_ne(map, MAP_FAILED);
	posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	ck_assert_int_eq(mincore(map, SIZE, pages), 0);
	munmap(map, SIZE);
	for (size_t i = 0; i < sizeof(pages); i++)
		any = any || (pages[i] & 1);
	return !any;
}

START_TEST(test_in_memory)
{
	read_all();
	ck_assert(residency_is_cached(file, 0, SIZE));
	ck_assert(residency_is_cached(file, 1, 1));
	ck_assert(residency_is_cached(file, 4095, 2));
	ck_assert(residency_is_cached(file, SIZE - 1, 1));
}
END_TEST

START_TEST(test_on_the_disk)
{
	NEEDS(forget());
	ck_assert(!residency_is_cached(file, 0, SIZE));
	NEEDS(forget());
	ck_assert(!residency_is_cached(file, SIZE / 2, 1));
	read_all();
	ck_assert(residency_is_cached(file, 0, SIZE));
}
END_TEST

START_TEST(test_partly)
{
	NEEDS(forget());
	posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM); /* no reading ahead */
	ck_assert_int_eq(pread(file, data, 8192, 0), 8192);
	ck_assert(residency_is_cached(file, 0, 8192));
	ck_assert(!residency_is_cached(file, 0, SIZE));
	ck_assert(!residency_is_cached(file, 4096, SIZE / 2));
}
END_TEST

START_TEST(test_errors)
{
	char byte;

	ck_assert(!residency_is_cached(-1, 0, 1));
	ck_assert_int_eq(residency_read(-1, &byte, 1, 0), -1);
	ck_assert_int_eq(errno, EBADF);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_in_memory);
	tcase_add_test(tc, test_on_the_disk);
	tcase_add_test(tc, test_partly);
	tcase_add_test(tc, test_errors);
}

int main(void)
{
	return run_tests("residency", add);
}

/* Where our other files lie. What lies beside this test is the test itself. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/beside.h"
#include "run.h"

START_TEST(test_beside_the_binary)
{
	char self[PATH_MAX], path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	ck_assert_int_gt(n, 0);
	self[n] = '\0';
	ck_assert_int_eq(beside_path(strrchr(self, '/') + 1, path, sizeof(path)), 0);
	ck_assert_str_eq(path, self);
	ck_assert_int_eq(beside_path(strrchr(self, '/') + 1, path, (size_t)n + 1), 0);
	ck_assert_str_eq(path, self);
}
END_TEST

START_TEST(test_nowhere)
{
	char path[PATH_MAX];

	ck_assert_int_eq(beside_path("no-such-file", path, sizeof(path)), -ENOENT);
	ck_assert_ptr_nonnull(strstr(path, "/tined/no-such-file"));
}
END_TEST

START_TEST(test_no_room)
{
	char path[PATH_MAX];

	for (size_t size = 1; size < 16; size++) {
		path[size] = '#';
		ck_assert_int_lt(beside_path("no-such-file", path, size), 0);
		ck_assert_int_eq(path[size], '#');
	}
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_beside_the_binary);
	tcase_add_test(tc, test_nowhere);
	tcase_add_test(tc, test_no_room);
}

int main(void)
{
	return run_tests("beside", add);
}

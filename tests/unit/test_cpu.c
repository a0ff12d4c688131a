/* The CPU quota of a cgroup hierarchy, made of plain files. */
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cpu.h"
#include "run.h"

static char root[64];

static void put(const char *path, const char *text)
{
	char file[256];
	FILE *f;

	snprintf(file, sizeof(file), "%s%s", root, path);
	mkdir(file, 0700);
	strcat(file, "/cpu.max");
	f = fopen(file, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void make_root(void)
{
	snprintf(root, sizeof(root), "/tmp/tined-test-cpu-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
}

static void remove_root(void)
{
	static const char *const paths[] = {
		"/a/b/cpu.max", "/a/b", "/a/cpu.max", "/a", "/cpu.max", ""};

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		char file[256];

		snprintf(file, sizeof(file), "%s%s", root, paths[i]);
		remove(file);
	}
}

static const struct {
	const char *text;
	unsigned cpus;
} quotas[] = {
	{"max 100000\n", UINT_MAX},
	{"100000 100000\n", 1},
	{"150000 100000\n", 2},
	{"1000 100000\n", 1},
	{"250000 100000\n", 3},
	{"400000 100000\n", 4},
	{"50000 10000\n", 5},
	{"100000 0\n", UINT_MAX},
	{"nonsense\n", UINT_MAX},
	{"", UINT_MAX},
};

START_TEST(test_quota_is_rounded_up)
{
	make_root();
	put("/a", quotas[_i].text);
	ck_assert_uint_eq(cpu_from_quota(root, "/a"), quotas[_i].cpus);
	remove_root();
}
END_TEST

START_TEST(test_the_smallest_of_all_above_wins)
{
	make_root();
	put("/a", "300000 100000\n");
	put("/a/b", "max 100000\n");
	ck_assert_uint_eq(cpu_from_quota(root, "/a/b"), 3);
	put("/a/b", "700000 100000\n");
	ck_assert_uint_eq(cpu_from_quota(root, "/a/b"), 3);
	put("/a/b", "200000 100000\n");
	ck_assert_uint_eq(cpu_from_quota(root, "/a/b"), 2);
	ck_assert_uint_eq(cpu_from_quota(root, "/"), UINT_MAX);
	ck_assert_uint_eq(cpu_from_quota(root, "/not/there"), UINT_MAX);
	remove_root();
}
END_TEST

START_TEST(test_available_follows_the_affinity_mask)
{
	cpu_set_t before, one;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(before), &before), 0);
	ck_assert_uint_ge(cpu_available(), 1);
	ck_assert_uint_le(cpu_available(), (unsigned)CPU_COUNT(&before));
	ck_assert_int_eq(cpu_pin(1), 0);
	ck_assert_int_eq(sched_getaffinity(0, sizeof(one), &one), 0);
	ck_assert_int_eq(CPU_COUNT(&one), 1);
	ck_assert_uint_eq(cpu_available(), 1);
	sched_setaffinity(0, sizeof(before), &before);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_quota_is_rounded_up, 0, sizeof(quotas) / sizeof(*quotas));
	tcase_add_test(tc, test_the_smallest_of_all_above_wins);
	tcase_add_test(tc, test_available_follows_the_affinity_mask);
}

int main(void)
{
	return run_tests("cpu", add);
}

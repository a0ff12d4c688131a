/* base/sized.c: structures of modules that are older or newer than we are. */
#include <errno.h>
#include <stdint.h>

#include "base/sized.h"
#include "run.h"

/* The first version ended with `first`. */
struct options {
	size_t size;
	const char *text;
	int first;
	uint64_t second;
	char third;
};

/* The same, when it has grown once more. */
struct newer {
	struct options o;
	uint64_t fourth;
	char rest[64];
};

#define FIRST SIZED_TO(struct options, first)

static struct options taken;

static void setup(void)
{
	memset(&taken, 0x55, sizeof(taken));
}

static struct newer module_of(size_t size)
{
	return (struct newer){.o = {size, "text", 1, 2, 3}};
}

static int take(const struct newer *n)
{
	return SIZED_TAKE(&taken, &n->o, first);
}

START_TEST(test_too_small)
{
	static const size_t sizes[] = {0, 1, sizeof(size_t), sizeof(size_t) + 4, FIRST - 1};
	struct newer n = module_of(sizes[_i]);

	ck_assert_int_eq(take(&n), -EINVAL);
}
END_TEST

START_TEST(test_nothing)
{
	ck_assert_int_eq(SIZED_TAKE(&taken, (const struct options *)NULL, first), -EINVAL);
}
END_TEST

/* What it does not have is 0, whatever lies behind it. */
START_TEST(test_first_version)
{
	struct newer n = module_of(FIRST);

	ck_assert_int_eq(take(&n), 0);
	ck_assert_uint_eq(taken.size, FIRST);
	ck_assert_str_eq(taken.text, "text");
	ck_assert_int_eq(taken.first, 1);
	ck_assert_uint_eq(taken.second, 0);
	ck_assert_int_eq(taken.third, 0);
}
END_TEST

START_TEST(test_second_version)
{
	struct newer n = module_of(SIZED_TO(struct options, second));

	ck_assert_int_eq(take(&n), 0);
	ck_assert_uint_eq(taken.second, 2);
	ck_assert_int_eq(taken.third, 0);
}
END_TEST

START_TEST(test_ours)
{
	struct newer n = module_of(sizeof(struct options));

	n.fourth = 4; /* is not the structure's */
	ck_assert_int_eq(take(&n), 0);
	ck_assert_str_eq(taken.text, "text");
	ck_assert_uint_eq(taken.second, 2);
	ck_assert_int_eq(taken.third, 3);
}
END_TEST

START_TEST(test_newer)
{
	struct newer n = module_of(sizeof(n));

	ck_assert_int_eq(take(&n), 0);
	ck_assert_uint_eq(taken.second, 2);
	ck_assert_int_eq(taken.third, 3);
}
END_TEST

/* It wants something that we do not know: the first byte of that, or the last. */
START_TEST(test_newer_with_more)
{
	struct newer n = module_of(sizeof(n));

	n.fourth = 1;
	ck_assert_int_eq(take(&n), -ENOTSUP);
	n.fourth = 0;
	n.rest[sizeof(n.rest) - 1] = 1;
	ck_assert_int_eq(take(&n), -ENOTSUP);
	n.o.size--;
	ck_assert_int_eq(take(&n), 0);
}
END_TEST

/* The largest there is, and what nobody meant as a size: nothing is read there. */
START_TEST(test_too_large)
{
	union {
		struct newer n;
		char bytes[SIZED_MAX];
	} large = {.n = module_of(SIZED_MAX)};

	memset(large.bytes + sizeof(large.n), 0, sizeof(large) - sizeof(large.n));
	ck_assert_int_eq(take(&large.n), 0);
	large.n.o.size++;
	ck_assert_int_eq(take(&large.n), -EINVAL);
	large.n.o.size = SIZE_MAX;
	ck_assert_int_eq(take(&large.n), -EINVAL);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_loop_test(tc, test_too_small, 0, 5);
	tcase_add_test(tc, test_nothing);
	tcase_add_test(tc, test_first_version);
	tcase_add_test(tc, test_second_version);
	tcase_add_test(tc, test_ours);
	tcase_add_test(tc, test_newer);
	tcase_add_test(tc, test_newer_with_more);
	tcase_add_test(tc, test_too_large);
}

int main(void)
{
	return run_tests("sized", add);
}

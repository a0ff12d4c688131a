/* Unit test of base/siphash.c and keyed_hash.c: the vectors of the paper and of the authors' code. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/keyed_hash.h"
#include "base/siphash.h"
#include "run.h"

/* Key 00 01 … 0f, as two little-endian words. */
static const uint64_t key[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};

START_TEST(test_vectors)
{
	static const struct {
		size_t len; /* of the message 00 01 02 … */
		uint64_t hash;
	} vectors[] = {
		{0, UINT64_C(0x726fdb47dd0e0e31)},
		{1, UINT64_C(0x74f839c593dc67fd)},
		{8, UINT64_C(0x93f5f5799a932462)},
		{15, UINT64_C(0xa129ca6149be45e5)},
	};
	unsigned char message[16];

	for (unsigned i = 0; i < sizeof(message); i++)
		message[i] = (unsigned char)i;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++)
		ck_assert_uint_eq(siphash(key, message, vectors[i].len), vectors[i].hash);
}
END_TEST

START_TEST(test_key_matters)
{
	const uint64_t other[2] = {key[0], key[1] ^ 1};

	ck_assert_uint_ne(siphash(key, "a", 1), siphash(other, "a", 1));
	ck_assert_uint_ne(siphash(key, "a", 1), siphash(key, "a\0", 2));
}
END_TEST

START_TEST(test_every_process_has_a_secret)
{
	char self[256], command[300];
	unsigned long long other;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	FILE *f;

	ck_assert_uint_eq(keyed_hash(1, "a", 1), keyed_hash(1, "a", 1));
	ck_assert_uint_ne(keyed_hash(1, "a", 1), keyed_hash(2, "a", 1));
	ck_assert_int_gt(n, 0);
	self[n] = '\0';
	snprintf(command, sizeof(command), "'%s' hash", self);
	f = popen(command, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%llu", &other), 1);
	pclose(f);
	ck_assert_uint_ne(keyed_hash(0, "a", 1), other);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_vectors);
	tcase_add_test(tc, test_key_matters);
	tcase_add_test(tc, test_every_process_has_a_secret);
}

int main(int argc, char **argv)
{
	if (argc > 1) { /* for the test above */
		printf("%llu\n", (unsigned long long)keyed_hash(0, "a", 1));
		return 0;
	}
	return run_tests("siphash", add);
}

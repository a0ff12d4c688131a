/* tine/work_crypto.h: known answers, keys that OpenSSL reads back, what is refused, cancelling. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>

#include <tine/work_crypto.h>

#include "run.h"
#include "runtime/work_crypto.h"
#include "work_harness.h"

typedef int (*crypto_fn)(
	struct tine_worker *worker, const struct tine_crypto *c, struct tine_work **ret);

/* The last result. */
static struct {
	int status;
	size_t len;
	char hex[257], text[256], private_key[16384], public_key[8192];
} last;

static void on_done(struct tine_crypto_result *r, void *arg)
{
	ck_assert_ptr_eq(arg, &last);
	memset(&last, 0, sizeof(last));
	last.status = r->status;
	last.len = r->len;
	for (size_t i = 0; i < r->len && i < 128; i++)
		snprintf(last.hex + 2 * i, 3, "%02x", r->data[i]);
	snprintf(last.text, sizeof(last.text), "%s", r->text);
	ck_assert_int_eq(r->status < 0, *r->text != '\0');
	if (r->private_key)
		snprintf(last.private_key, sizeof(last.private_key), "%s", r->private_key);
	if (r->public_key)
		snprintf(last.public_key, sizeof(last.public_key), "%s", r->public_key);
	n_done++;
}

static int submit(crypto_fn fn, struct tine_crypto c, struct tine_work **ret)
{
	c.size = sizeof(c);
	c.on_done = on_done;
	c.arg = &last;
	return fn(&worker, &c, ret);
}

static int run(crypto_fn fn, struct tine_crypto c)
{
	unsigned n = n_done;

	ck_assert_int_eq(submit(fn, c, NULL), 0);
	run_until(n + 1);
	return last.status;
}

#define RUN(name, ...) run(tine_crypto_##name, (struct tine_crypto){__VA_ARGS__})

/* FIPS 180-4's examples: "abc". */
static const struct {
	const char *name, *hex;
} abc[] = {
	{"SHA224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"},
	{"SHA256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"sha-384",
		"cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
		"8086072ba1e7cc2358baeca134c825a7"},
	{"sha512",
		"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
		"2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
	{"SHA512-256", "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"},
};

START_TEST(test_digest)
{
	for (size_t i = 0; i < sizeof(abc) / sizeof(abc[0]); i++) {
		ck_assert_int_eq(RUN(digest, .algorithm = abc[i].name, .data = "abc", .len = 3), 0);
		ck_assert_str_eq(last.hex, abc[i].hex);
	}
	ck_assert_int_eq(RUN(digest, .algorithm = "SHA256"), 0);
	ck_assert_str_eq(
		last.hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
END_TEST

/* A million times "a" (FIPS 180-4), and more than one piece of it. */
START_TEST(test_digest_long)
{
	size_t len = 3 * WORK_PIECE + 5;
	char *data = malloc(len);

	memset(data, 'a', len);
	ck_assert_int_eq(RUN(digest, .algorithm = "SHA256", .data = data, .len = 1000000), 0);
	ck_assert_str_eq(
		last.hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	ck_assert_int_eq(
		RUN(digest, .algorithm = "SHA256", .data = data, .len = len, .lent = true), 0);
	ck_assert_str_eq(
		last.hex, "aff2c7498aae939dfb2fb1dc6c0c83fa3708b069428e51338801af7f5dc2bf0f");
	free(data);
}
END_TEST

/* RFC 4231, case 2. */
static const struct {
	const char *name, *hex;
} jefe[] = {
	{"SHA224", "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44"},
	{"SHA256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
	{"SHA384",
		"af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
		"8e2240ca5e69e2c78b3239ecfab21649"},
	{"SHA512",
		"164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
		"9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"},
};

START_TEST(test_hmac)
{
	static const char data[] = "what do ya want for nothing?";
	char key[131];

	for (size_t i = 0; i < sizeof(jefe) / sizeof(jefe[0]); i++) {
		ck_assert_int_eq(RUN(hmac, .algorithm = jefe[i].name, .data = data,
					 .len = sizeof(data) - 1, .key = "Jefe", .key_len = 4),
			0);
		ck_assert_str_eq(last.hex, jefe[i].hex);
	}
	memset(key, 0xaa, sizeof(key)); /* case 6: a key that is longer than a block */
	ck_assert_int_eq(RUN(hmac, .algorithm = "SHA256",
				 .data = "Test Using Larger Than Block-Size Key - Hash Key First",
				 .len = 54, .key = key, .key_len = sizeof(key)),
		0);
	ck_assert_str_eq(
		last.hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	ck_assert_int_eq(RUN(hmac, .algorithm = "SHA256"), 0); /* neither key nor data */
	ck_assert_str_eq(
		last.hex, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}
END_TEST

/* RFC 7914, section 11. */
START_TEST(test_pbkdf2)
{
	ck_assert_int_eq(RUN(pbkdf2, .algorithm = "SHA256", .key = "passwd", .key_len = 6,
				 .salt = "salt", .salt_len = 4, .iterations = 1, .length = 64),
		0);
	ck_assert_str_eq(last.hex,
		"55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
		"49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783");
	/* RFC 6070's third case, with SHA-256 for SHA-1. */
	ck_assert_int_eq(RUN(pbkdf2, .algorithm = "SHA256", .key = "password", .key_len = 8,
				 .salt = "salt", .salt_len = 4, .iterations = 4096, .length = 32),
		0);
	ck_assert_str_eq(
		last.hex, "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a");
}
END_TEST

/* RFC 7914, section 12. */
START_TEST(test_scrypt)
{
	ck_assert_int_eq(RUN(scrypt, .n = 16, .r = 1, .p = 1, .length = 64), 0);
	ck_assert_str_eq(last.hex,
		"77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
		"fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906");
	ck_assert_int_eq(RUN(scrypt, .key = "password", .key_len = 8, .salt = "NaCl", .salt_len = 4,
				 .n = 1024, .r = 8, .p = 16, .length = 64),
		0);
	ck_assert_str_eq(last.hex,
		"fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
		"2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640");
	/* As much memory as it may have. */
	ck_assert_int_eq(RUN(scrypt, .n = 1024, .r = 8, .p = 2, .length = 1,
				 .memory_max = 128 * 8 * (1024 + 2 + 2)),
		0);
}
END_TEST

START_TEST(test_random)
{
	char first[sizeof(last.hex)];

	ck_assert_int_eq(RUN(random, .length = 128), 0);
	ck_assert_uint_eq(last.len, 128);
	strcpy(first, last.hex);
	ck_assert_int_eq(RUN(random, .length = 128), 0);
	ck_assert_str_ne(first, last.hex);
	ck_assert_int_eq(RUN(random, .length = 3 * WORK_PIECE + 1), 0);
	ck_assert_uint_eq(last.len, 3 * WORK_PIECE + 1);
}
END_TEST

static EVP_PKEY *read_key(const char *text, bool private_key)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	EVP_PKEY *key = private_key ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL)
				    : PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);

	BIO_free(bio);
	ck_assert_ptr_nonnull(key);
	return key;
}

/* Both halves are what they should be, and of one pair. */
static void check_pair(const char *type, int bits, const char *group)
{
	EVP_PKEY *private_key = read_key(last.private_key, true);
	EVP_PKEY *public_key = read_key(last.public_key, false);
	char name[32] = "";

	ck_assert_int_eq(strncmp(last.private_key, "-----BEGIN PRIVATE KEY-----\n", 28), 0);
	ck_assert_int_eq(strncmp(last.public_key, "-----BEGIN PUBLIC KEY-----\n", 27), 0);
	ck_assert_int_eq(EVP_PKEY_is_a(private_key, type), 1);
	ck_assert_int_eq(EVP_PKEY_get_bits(private_key), bits);
	ck_assert_int_eq(EVP_PKEY_eq(private_key, public_key), 1);
	if (group) {
		ck_assert_int_eq(EVP_PKEY_get_group_name(private_key, name, sizeof(name), NULL), 1);
		ck_assert_str_eq(name, group);
	}
	EVP_PKEY_free(private_key);
	EVP_PKEY_free(public_key);
}

START_TEST(test_key)
{
	ck_assert_int_eq(RUN(key, .algorithm = "rsa", .bits = 2048), 0);
	check_pair("RSA", 2048, NULL);
	ck_assert_int_eq(RUN(key, .algorithm = "P-256"), 0);
	check_pair("EC", 256, "prime256v1");
	ck_assert_int_eq(RUN(key, .algorithm = "P-384"), 0);
	check_pair("EC", 384, "secp384r1");
	ck_assert_int_eq(RUN(key, .algorithm = "p-521"), 0);
	check_pair("EC", 521, "secp521r1");
	ck_assert_int_eq(RUN(key, .algorithm = "secp256k1"), 0);
	check_pair("EC", 256, "secp256k1");
}
END_TEST

/* A key that would take minutes: the first look at whether to stop ends it. */
START_TEST(test_key_stops)
{
	struct crypto_op o = {
		.op.work.stop = -ECANCELED, .op.kind = &(struct work_op_kind){.name = "key"}};

	o.c = (struct tine_crypto){.algorithm = "RSA", .bits = TINE_CRYPTO_RSA_MAX};
	ck_assert_int_eq(key_make(&o), -ECANCELED);
	ck_assert_ptr_null(o.private_key);
	ck_assert_uint_eq(ERR_peek_error(), 0);
}
END_TEST

static void refuse(crypto_fn fn, struct tine_crypto c)
{
	c.size = sizeof(c);
	c.on_done = on_done;
	ck_assert_int_eq(fn(&worker, &c, NULL), -EINVAL);
}

#define REFUSE(name, ...) refuse(tine_crypto_##name, (struct tine_crypto){__VA_ARGS__})
#define GOOD_SCRYPT       .r = 8, .p = 1, .length = 32

START_TEST(test_bad_input)
{
	REFUSE(digest, .data = "x", .len = 1);
	REFUSE(digest, .algorithm = "", .data = "x", .len = 1);
	REFUSE(digest, .algorithm = "MD5", .data = "x", .len = 1);
	REFUSE(digest, .algorithm = "SHA256 ", .data = "x", .len = 1);
	REFUSE(digest, .algorithm = "SHA256", .len = 1);
	REFUSE(digest, .algorithm = "SHA256", .data = "x", .len = SIZE_MAX);
	REFUSE(hmac, .algorithm = "SHA256", .key_len = 1);
	REFUSE(hmac, .algorithm = "SHA256", .key = "x", .key_len = SIZE_MAX);
	REFUSE(pbkdf2, .algorithm = "SHA256", .length = 32, .iterations = 0);
	REFUSE(pbkdf2, .algorithm = "SHA256", .length = 32, .iterations = UINT64_MAX);
	REFUSE(pbkdf2, .algorithm = "SHA256", .length = 0, .iterations = 1);
	REFUSE(pbkdf2, .algorithm = "SHA256", .length = SIZE_MAX, .iterations = 1);
	REFUSE(pbkdf2, .algorithm = "none", .length = 32, .iterations = 1);
	REFUSE(scrypt, GOOD_SCRYPT, .n = 0);
	REFUSE(scrypt, GOOD_SCRYPT, .n = 1);
	REFUSE(scrypt, GOOD_SCRYPT, .n = 1023);
	REFUSE(scrypt, GOOD_SCRYPT, .n = UINT64_C(1) << 63);
	REFUSE(scrypt, GOOD_SCRYPT, .n = 1 << 16); /* 64 MiB and a little */
	REFUSE(scrypt, GOOD_SCRYPT, .n = 1024, .memory_max = 128 * 8 * (1024 + 1 + 2) - 1);
	REFUSE(scrypt, GOOD_SCRYPT, .n = 1024, .memory_max = UINT64_MAX);
	REFUSE(scrypt, .n = 1024, .r = 0, .p = 1, .length = 32);
	REFUSE(scrypt, .n = 1024, .r = 8, .p = 0, .length = 32);
	REFUSE(scrypt, .n = 2, .r = UINT32_MAX, .p = UINT32_MAX, .length = 32);
	REFUSE(scrypt, .n = 1 << 16, .r = 1, .p = 1, .length = 32);
	REFUSE(random, .length = 0);
	REFUSE(random, .length = SIZE_MAX);
	REFUSE(key, .bits = 2048);
	REFUSE(key, .algorithm = "RSA", .bits = 0);
	REFUSE(key, .algorithm = "RSA", .bits = 1024);
	REFUSE(key, .algorithm = "RSA", .bits = 2049);
	REFUSE(key, .algorithm = "RSA", .bits = 32768);
	REFUSE(key, .algorithm = "P-255");
	run_idle();
}
END_TEST

START_TEST(test_bad_call)
{
	static const crypto_fn all[] = {tine_crypto_digest, tine_crypto_hmac, tine_crypto_pbkdf2,
		tine_crypto_scrypt, tine_crypto_random, tine_crypto_key};
	struct tine_crypto good = {.size = sizeof(good), .length = 1, .on_done = on_done};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct tine_crypto bad = good;

		bad.on_done = NULL;
		ck_assert_int_eq(all[i](&worker, &bad, NULL), -EINVAL);
		ck_assert_int_eq(all[i](&worker, NULL, NULL), -EINVAL);
		ck_assert_int_eq(all[i](NULL, &good, NULL), -EINVAL);
		bad = good;
		bad.size = 0;
		ck_assert_int_eq(all[i](&worker, &bad, NULL), -EINVAL);
	}
}
END_TEST

/* An OpenSSL that has nothing of the kind, as a policy may want it. */
START_TEST(test_openssl_refuses)
{
	ck_assert_int_eq(EVP_set_default_properties(NULL, "fips=yes"), 1);
	ck_assert_int_eq(RUN(hmac, .algorithm = "SHA256", .key = "k", .key_len = 1), -EIO);
	ck_assert_ptr_nonnull(strstr(last.text, "hmac: unsupported"));
	ck_assert_int_eq(RUN(key, .algorithm = "P-256"), -EIO);
	ck_assert_str_eq(last.private_key, "");
	ck_assert_int_eq(EVP_set_default_properties(NULL, ""), 1);
	ck_assert_int_eq(RUN(hmac, .algorithm = "SHA256", .key = "k", .key_len = 1), 0);
}
END_TEST

START_TEST(test_cancel)
{
	struct tine_crypto random = {.length = 32};
	struct tine_crypto key = {.algorithm = "RSA", .bits = TINE_CRYPTO_RSA_MAX};
	struct tine_work *w[2];
	struct hold h;

	ck_assert_int_eq(submit(tine_crypto_random, random, &w[0]), 0);
	hold_begin(&h, POOL_CPU);
	ck_assert_int_eq(submit(tine_crypto_key, key, &w[1]), 0);
	work_cancel(w[0]); /* done */
	work_cancel(w[1]); /* waits */
	run_until(2);
	ck_assert_int_eq(last.status, TINE_E_CANCELED);
	ck_assert_uint_eq(last.len, 0);
	hold_end(&h);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, work_setup, work_teardown);
	tcase_add_test(tc, test_digest);
	tcase_add_test(tc, test_digest_long);
	tcase_add_test(tc, test_hmac);
	tcase_add_test(tc, test_pbkdf2);
	tcase_add_test(tc, test_scrypt);
	tcase_add_test(tc, test_random);
	tcase_add_test(tc, test_key);
	tcase_add_test(tc, test_key_stops);
	tcase_add_test(tc, test_bad_input);
	tcase_add_test(tc, test_bad_call);
	tcase_add_test(tc, test_openssl_refuses);
	tcase_add_test(tc, test_cancel);
}

int main(void)
{
	return run_tests("work_crypto", add);
}

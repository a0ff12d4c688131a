/*
 * tine/work_crypto.h - digests, message authentication, key derivation, random bytes and key pairs, by OpenSSL's libcrypto. Done on a
 * thread of the worker's pool, lane `cpu`: hashing a password well takes a tenth of a second, an RSA key a second.
 *
 *	static void on_hashed(struct tine_crypto_result *r, void *arg)
 *	{
 *		if (r->status < 0)
 *			tine_log(TINE_LOG_WARNING, "%s", r->text);
 *		else
 *			compare(arg, r->data, r->len);
 *	}
 *	...
 *	r = tine_crypto_scrypt(worker, &(struct tine_crypto){.size = sizeof(struct tine_crypto),
 *		.key = password, .key_len = strlen(password), .salt = salt, .salt_len = 16,
 *		.n = 16384, .r = 8, .p = 5, .length = 32, .on_done = on_hashed, .arg = login}, NULL);
 *
 * What the functions return, when on_done is called, and what cancelling means is as in work_file.h. Digests, HMACs and random
 * bytes stop at the next MiB, keys at the next candidate for a prime; the two derivations do not stop, but their result is dropped.
 *
 * Secrets: copies of arguments, and results, are overwritten before their memory is freed, right after the callback. What
 * the callback copies is its own to overwrite.
 */
#ifndef TINE_WORK_CRYPTO_H
#define TINE_WORK_CRYPTO_H

#include <stdbool.h>

#include "errors.h"
#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tine_work;

#define TINE_CRYPTO_BYTES_MAX      ((size_t)1 << 30)  /* of data */
#define TINE_CRYPTO_KEY_MAX        ((size_t)1 << 20)  /* of key, and of salt */
#define TINE_CRYPTO_DERIVED_MAX    ((size_t)1 << 20)  /* of length, derived */
#define TINE_CRYPTO_RANDOM_MAX     ((size_t)64 << 20) /* of length, random */
#define TINE_CRYPTO_ITERATIONS_MAX UINT64_C(100000000)
#define TINE_CRYPTO_MEMORY         ((uint64_t)64 << 20) /* of scrypt, when memory_max is 0 */
#define TINE_CRYPTO_MEMORY_MAX     ((uint64_t)1 << 30)
#define TINE_CRYPTO_RSA_MIN        2048u /* bits */
#define TINE_CRYPTO_RSA_MAX        16384u

/* How an operation ended. All of it is overwritten and freed after the callback. The structure may grow at its end. */
struct tine_crypto_result {
	int status;       /* 0 or a negative errno: -EIO for what OpenSSL would not do */
	const char *text; /* what went wrong, OpenSSL's reason in it; "" when nothing did */
	const unsigned char *data; /* the digest, the derived key, ... */
	size_t len;
	const char *private_key; /* PEM, PKCS #8 without encryption (RFC 5958, RFC 7468) */
	const char *public_key;  /* PEM, SubjectPublicKeyInfo (RFC 5280) */
};

typedef void (*tine_crypto_fn)(struct tine_crypto_result *result, void *arg);

struct tine_crypto {
	size_t size; /* sizeof(struct tine_crypto) */
	/*
	 * digest, hmac, pbkdf2: "SHA224", "SHA256", "SHA384", "SHA512" or "SHA512-256" (FIPS 180-4), also written "SHA-256" and in
	 * lower case. key: "RSA", or a curve: "P-256", "P-384", "P-521" (FIPS 186-4), "secp256k1".
	 */
	const char *algorithm;
	const void *data; /* digest, hmac: of this */
	size_t len;
	bool lent; /* data is not copied: it stays as it is until on_done is called, also after a cancellation */
	const void *key; /* hmac; pbkdf2, scrypt: the password */
	size_t key_len;
	const void *salt; /* pbkdf2, scrypt */
	size_t salt_len;
	uint64_t iterations; /* pbkdf2: 1 or more */
	uint64_t n;          /* scrypt: cost, a power of 2 above 1 */
	uint32_t r, p;       /* scrypt: block size and parallelization; r * p up to 65,536 */
	uint64_t memory_max; /* scrypt: bytes; it needs 128 * r * (n + p + 2) of them */
	size_t length;       /* pbkdf2, scrypt, random: bytes wanted */
	unsigned bits;       /* key: of RSA, TINE_CRYPTO_RSA_MIN to _MAX, a multiple of 8 */
	uint64_t timeout_us; /* from now to the end of the work; 0: none */
	tine_crypto_fn on_done;
	void *arg; /* handed to it */
};

/* algorithm, data, len. */
TINE_EXPORT int tine_crypto_digest(
	struct tine_worker *worker, const struct tine_crypto *c, struct tine_work **ret);
/* RFC 2104: algorithm, data, len, key, key_len. Compare with CRYPTO_memcmp(3), not with memcmp(3). */
TINE_EXPORT int tine_crypto_hmac(
	struct tine_worker *worker, const struct tine_crypto *c, struct tine_work **ret);
/* RFC 8018, with HMAC: algorithm, key, key_len, salt, salt_len, iterations, length. */
TINE_EXPORT int tine_crypto_pbkdf2(
	struct tine_worker *worker, const struct tine_crypto *c, struct tine_work **ret);
/* RFC 7914: key, key_len, salt, salt_len, n, r, p, memory_max, length. -EINVAL when it needs more than memory_max. */
TINE_EXPORT int tine_crypto_scrypt(
	struct tine_worker *worker, const struct tine_crypto *c, struct tine_work **ret);
/* RAND_bytes(3): length. */
TINE_EXPORT int tine_crypto_random(
	struct tine_worker *worker, const struct tine_crypto *c, struct tine_work **ret);
/* A new key pair: algorithm, bits. */
TINE_EXPORT int tine_crypto_key(
	struct tine_worker *worker, const struct tine_crypto *c, struct tine_work **ret);

#ifdef __cplusplus
}
#endif
#endif

/* Ready-made work with OpenSSL's libcrypto: the operations of tine/work_crypto.h. */
#pragma once

#include <openssl/evp.h>

#include <tine/work_crypto.h>

#include "runtime/work_op.h"

enum crypto_kind {
	CRYPTO_DIGEST,
	CRYPTO_HMAC,
	CRYPTO_PBKDF2,
	CRYPTO_SCRYPT,
	CRYPTO_RANDOM,
	CRYPTO_KEY,
	CRYPTO_KINDS,
};

struct crypto_op {
	struct work_op op; /* first */
	struct tine_crypto c;
	const EVP_MD *digest;
	unsigned char *data; /* the result */
	size_t len;
	char *private_key, *public_key;
};

int work_crypto_submit(struct tine_worker *worker, enum crypto_kind kind,
	const struct tine_crypto *c, struct tine_work **ret);
int crypto_failed(struct crypto_op *o);

bool key_is_sound(const struct tine_crypto *c);
int key_make(struct crypto_op *o);

/*
 * tine/work_crypto.h: OpenSSL's work off the loop, for modules. Runs in the worker, on the loop's thread; what each operation may
 * be given is checked by the table of runtime/work_crypto.c.
 */
#include "runtime/work_crypto.h"

#define OPERATION(name, kind)                                                                    \
	int tine_crypto_##name(                                                                  \
		struct tine_worker *worker, const struct tine_crypto *c, struct tine_work **ret) \
	{                                                                                        \
		return work_crypto_submit(worker, kind, c, ret);                                 \
	}

OPERATION(digest, CRYPTO_DIGEST)
OPERATION(hmac, CRYPTO_HMAC)
OPERATION(pbkdf2, CRYPTO_PBKDF2)
OPERATION(scrypt, CRYPTO_SCRYPT)
OPERATION(random, CRYPTO_RANDOM)
OPERATION(key, CRYPTO_KEY)

/*
 * SipHash with a secret that is drawn when the process starts; its children have the same. Any process, any thread.
 */
#include "base/keyed_hash.h"

#include <sys/random.h>

#include "base/siphash.h"

static uint64_t secret[2];

/* Before main(): no thread finds it half drawn. Where there is no randomness yet, nobody connects yet either. */
__attribute__((constructor)) static void draw(void)
{
	if (getrandom(secret, sizeof(secret), GRND_NONBLOCK) < 0)
		secret[0] = (uintptr_t)&secret;
}

/* Equal keys have equal hashes in one context, and others in another one. */
uint64_t keyed_hash(uint64_t context, const void *data, size_t len)
{
	const uint64_t key[2] = {secret[0] ^ context, secret[1]};

	return siphash(key, data, len);
}

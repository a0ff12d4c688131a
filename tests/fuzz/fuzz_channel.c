/*
 * Fuzz target: any bytes from a child's message channel. The first byte is the largest message there may be, the second how many bytes come
 * at a time, the third after how many messages nobody wants more for a while. However they come, the messages are the same.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/subprocess_message.h"

#define MAX_HERE 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sum {
	uint64_t hash;
	unsigned n, pause_every;
	uint32_t max;
};

static void require(bool holds)
{
	if (!holds)
		abort();
}

static bool on_message(const void *data, size_t len, void *arg)
{
	struct sum *s = arg;

	require(len <= s->max);
	for (size_t i = 0; i < len; i++)
		s->hash = (s->hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3;
	s->hash = (s->hash ^ len) * 0x100000001b3;
	s->n++;
	return s->pause_every == 0 || s->n % s->pause_every != 0;
}

/* Feeds all, `step` bytes at a time; after each, what a pause has left. */
static int feed(struct sum *s, const uint8_t *data, size_t size, size_t step)
{
	struct message_reader m = {.max = s->max};
	int r = 0;

	for (size_t at = 0; at < size && r == 0; at += step) {
		size_t len = size - at < step ? size - at : step;
		unsigned n;

		r = message_reader_feed(&m, data + at, len, on_message, s);
		do {
			n = s->n;
			if (r == 0)
				r = message_reader_feed(&m, NULL, 0, on_message, s);
		} while (r == 0 && s->n > n);
		require(r != 0 || m.used < MESSAGE_HEAD + (size_t)s->max);
	}
	message_reader_reset(&m);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sum whole = {0}, parts = {0};
	int r;

	if (size < 3 || size > MAX_HERE)
		return 0;
	whole.max = parts.max = data[0];
	parts.pause_every = data[2] % 8;
	r = feed(&whole, data + 3, size - 3, MAX_HERE);
	require(r == 0 || r == -EMSGSIZE);
	require(feed(&parts, data + 3, size - 3, data[1] + 1u) == r);
	require(parts.n == whole.n && parts.hash == whole.hash);
	return 0;
}

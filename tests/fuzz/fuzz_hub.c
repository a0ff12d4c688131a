/*
 * Fuzz target: what the hub takes apart. The first byte says what the rest is: a path, a pattern and a subject, a token, an id,
 * a query, text; or bytes that somebody has written into the ring.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "modules/hub/ring.h"
#include "modules/hub/text.h"
#include "modules/hub/token.h"
#include "modules/hub/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void fuzz_path(struct tine_text in)
{
	struct topic t, again;
	const char *fault;

	if (topic_from_path(in, &t, &fault) < 0)
		return require(fault != NULL);
	require(t.len > 0 && t.len <= TOPIC_MAX && t.text[t.len] == '\0');
	require(topic_parse(topic_text(&t), &again) == 0 && again.is_pattern == t.is_pattern);
	require(topic_covers(topic_text(&t), topic_text(&t)));
}

/* What a subject fits it fits as well if more is allowed. */
static void fuzz_patterns(struct tine_text in)
{
	const char *cut = memchr(in.data, ' ', in.len);
	struct topic a, b;
	struct tine_text left, right;

	if (!cut)
		return;
	left = (struct tine_text){in.data, (size_t)(cut - in.data)};
	right = (struct tine_text){cut + 1, in.len - left.len - 1};
	if (topic_parse(left, &a) < 0 || topic_parse(right, &b) < 0)
		return;
	if (topic_covers(left, right) && topic_covers(right, left))
		require(left.len == right.len && memcmp(left.data, right.data, left.len) == 0);
	if (!a.is_pattern)
		require(topic_covers(left, right) ==
			(left.len == right.len && memcmp(left.data, right.data, left.len) == 0));
}

/* Nobody finds a signature. */
static void fuzz_token(struct tine_text in)
{
	static const struct token_secrets secrets = {.n = 1, .secret = {{16, "0123456789abcdef"}}};
	struct token t;

	require(token_parse(&secrets, in, 0, &t) < 0);
}

static void fuzz_id(struct tine_text in)
{
	struct ring_id id, again;
	char text[RING_ID_MAX];

	if (!ring_parse_id(in, &id))
		return;
	require(ring_write_id(id, text) < sizeof(text));
	require(ring_parse_id((struct tine_text){text, strlen(text)}, &again));
	require(again.epoch == id.epoch && again.position == id.position);
}

static void fuzz_query(struct tine_text in)
{
	char to[16];
	size_t len;

	if (text_query(in, "a", to, sizeof(to), &len))
		require(len <= sizeof(to) || len == SIZE_MAX);
	text_has_token(in, "a/b");
}

static void fuzz_text(struct tine_text in)
{
	struct text t = {0};

	if (text_is_utf8(in)) {
		text_put_json(&t, in);
		require(!t.failed && t.len >= in.len + 2 && t.len <= in.len * 6 + 2);
		for (size_t i = 0; i < t.len; i++)
			require((unsigned char)t.data[i] >= ' ');
	}
	text_free(&t);
}

/* A few records, bytes over them, and whoever reads or appends stays within the memory and comes to an end. */
static void fuzz_ring(struct tine_text in)
{
	static _Alignas(64) char memory[RING_SIZE_MIN];
	static const char zeros[300];
	struct tine_text subject = {"a", 1}, text = {zeros, sizeof(zeros)};
	struct ring_record m;
	struct ring r;
	struct ring_id id;
	uint64_t at;
	int result;

	memset(memory, 0, sizeof(memory));
	require(ring_open(&r, memory, sizeof(memory), 1) == 0);
	for (int i = 0; i < 16; i++)
		require(ring_append(&r, subject, text, 1, 2, &id) == 0);
	for (size_t i = 0; i + 3 <= in.len; i += 3) {
		size_t where =
			(unsigned char)in.data[i] | (size_t)(unsigned char)in.data[i + 1] << 8;

		memory[where % sizeof(memory)] = in.data[i + 2];
	}
	at = ring_tail(&r);
	for (int i = 0; i < 1000; i++) {
		ring_peek(&r, at, &m);
		result = ring_read(&r, at, &m);
		if (result != 0 && result != RING_TORN)
			break;
		require(m.end > at);
		at = m.end;
	}
	text.data = "x";
	text.len = 1;
	require(ring_append(&r, subject, text, 1, 2, &id) == 0);
	ring_close(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(struct tine_text in) = {
		fuzz_path, fuzz_patterns, fuzz_token, fuzz_id, fuzz_query, fuzz_text, fuzz_ring};
	char *copy;

	if (size < 1)
		return 0;
	copy = malloc(size); /* so that a read beyond its end is noticed */
	require(copy != NULL);
	memcpy(copy, data, size);
	targets[data[0] % (sizeof(targets) / sizeof(targets[0]))](
		(struct tine_text){copy + 1, size - 1});
	free(copy);
	return 0;
}

/*
 * Fuzz target: any bytes as requests. The outcome must not depend on how they are split, every
 * result must lie within the input, and what is accepted must keep the promises that the rest of
 * src/http relies on.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/conditional.h"
#include "http/parser.h"
#include "http/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_limits limits = {.max_line = 128, .max_head = 256};

static void require(bool holds)
{
	if (!holds)
		abort();
}

static bool within(struct tine_text t, const char *data, size_t size)
{
	return t.len == 0 || (t.data >= data && t.data + t.len <= data + size);
}

/*
 * "More" until it is known, and then the same for ever: a few prefixes, chosen by the input, and the
 * two that decide.
 */
static void check_prefixes(const char *data, size_t size, int outcome, size_t head_size)
{
	static struct http_field fields[HTTP_FIELDS_MAX];
	static struct http_head head;
	size_t last_more = 0, first_known = SIZE_MAX;
	uint32_t seed = (uint32_t)size;

	for (size_t i = 0; i < size; i++)
		seed = seed * 31 + (uint8_t)data[i];
	for (unsigned i = 0; i < 6; i++) {
		size_t n = i > 1        ? (seed = seed * 1664525 + 1013904223) % (size + 1)
			: head_size > 0 ? head_size - i
					: size - i;
		int r = http_parse_head(data, n, &limits, fields, &head);

		require(r == PARSER_MORE || r == outcome);
		require(r != 0 || (head.size == head_size && n >= head_size));
		if (r == PARSER_MORE && n > last_more)
			last_more = n;
		else if (r != PARSER_MORE && n < first_known)
			first_known = n;
	}
	require(last_more < first_known);
}

/* A moved head says the same, of the copy. */
static void check_move(const struct http_head *h, const char *data)
{
	struct http_field *fields = malloc((h->n_fields + 1u) * sizeof(*fields));
	char *copy = malloc(h->size);
	struct http_head moved = *h;

	memcpy(copy, data, h->size);
	http_head_move(&moved, data, copy, fields);
	require(within(moved.line, copy, h->size) && within(moved.query, copy, h->size));
	require(within(moved.host, copy, h->size));
	require(moved.path.len == h->path.len);
	require(h->path.len == 0 || memcmp(moved.path.data, h->path.data, h->path.len) == 0);
	for (unsigned i = 0; i < h->n_fields; i++) {
		require(within(fields[i].name, copy, h->size));
		require(within(fields[i].value, copy, h->size));
	}
	free(copy);
	free(fields);
}

static void check_path(struct tine_text raw)
{
	struct tine_text path, again;
	char *buf = malloc(raw.len), *second, *encoded;
	size_t n;

	if (path_normalise(raw, buf, &path) == 0) {
		require(path.len > 0 && path.len <= raw.len && path.data[0] == '/');
		require(!memchr(path.data, '\0', path.len));
		require(!memmem(path.data, path.len, "//", 2));
		require(!memmem(path.data, path.len, "/../", 4));
		require(!memmem(path.data, path.len, "/./", 3));
		/* encoded and read again it is the same */
		encoded = malloc(3 * path.len + 3);
		second = malloc(3 * path.len + 3);
		n = path_encode(path, encoded, 3 * path.len + 3);
		require(n >= path.len);
		require(path_normalise((struct tine_text){encoded, n}, second, &again) == 0);
		require(again.len == path.len && memcmp(again.data, path.data, path.len) == 0);
		free(encoded);
		free(second);
	} else {
		require(!path_is_plain(raw));
	}
	free(buf);
}

static void check_head(const struct http_head *h, const char *data, size_t size)
{
	require(h->size <= size && h->size <= limits.max_head);
	require(h->n_fields <= HTTP_FIELDS_MAX && h->minor <= 1);
	require(h->method != METHOD_UNKNOWN && !(h->chunked && h->has_length));
	require(h->minor == 0 || h->has_host);
	require(within(h->line, data, h->size) && within(h->query, data, h->size));
	require(within(h->host, data, h->size));
	require(h->content_length <= INT64_MAX);
	for (unsigned i = 0; i < h->n_fields; i++) {
		require(within(h->fields[i].name, data, h->size));
		require(within(h->fields[i].value, data, h->size));
		require(http_is_token(h->fields[i].name.data, h->fields[i].name.len));
		require(http_is_value(h->fields[i].value.data, h->fields[i].value.len));
	}
	check_move(h, data);
	if (h->path.len > 0 && h->path.data[0] == '/')
		check_path(h->path);
	else
		require(h->method == METHOD_CONNECT || h->method == METHOD_OPTIONS);
	conditional_check(h, (struct tine_text){"\"a\"", 3}, 784111777);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct http_field fields[HTTP_FIELDS_MAX];
	static struct http_head head;
	const char *data = (const char *)bytes;
	int r;

	/* one request after the other, as on a connection */
	for (int i = 0; i < 8 && size > 0; i++) {
		r = http_parse_head(data, size, &limits, fields, &head);
		require(r == 0 || r == PARSER_MORE || (r >= 400 && r <= 505));
		check_prefixes(data, size, r, r == 0 ? head.size : 0);
		if (r != 0)
			break;
		check_head(&head, data, size);
		data += head.size;
		size -= head.size;
	}
	return 0;
}

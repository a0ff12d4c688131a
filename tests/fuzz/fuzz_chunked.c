/*
 * Fuzz target: any bytes as a chunked body. What comes of it must not depend on how it is split, and
 * must be what a plain reading of the whole gives.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX 4096 /* no limit in bytes is within reach; unit tests see to those */

struct outcome {
	int result;
	size_t used, body_len, trailer_len;
	char body[INPUT_MAX], trailer[2 * INPUT_MAX];
};

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void add_data(struct outcome *o, const char *data, size_t len)
{
	memcpy(o->body + o->body_len, data, len);
	o->body_len += len;
}

/* name NUL value NUL */
static void add_field(struct outcome *o, struct tine_text name, struct tine_text value)
{
	char *p = mempcpy(o->trailer + o->trailer_len, name.data, name.len);

	*p++ = '\0';
	p = mempcpy(p, value.data, value.len);
	*p++ = '\0';
	o->trailer_len = (size_t)(p - o->trailer);
}

/* --- what is tested --- */

/* Gives data[o->used, end) to the decoder until it wants more. */
static void decode_piece(struct chunked *d, struct outcome *o, const char *data, size_t end)
{
	struct http_field f;
	size_t used;

	do {
		const char *p = data + o->used;

		o->result = chunked_decode(d, p, end - o->used, &f, &used);
		o->used += used;
		require(o->used <= end);
		if (o->result == CHUNKED_DATA) {
			require(f.value.len > 0 && f.value.data >= p);
			require(f.value.data + f.value.len == data + o->used);
			add_data(o, f.value.data, f.value.len);
		} else if (o->result == CHUNKED_TRAILER) {
			require(http_is_token(f.name.data, f.name.len));
			require(http_is_value(f.value.data, f.value.len));
			add_field(o, f.name, f.value);
		}
	} while (o->result == CHUNKED_DATA || o->result == CHUNKED_TRAILER);
}

/* In pieces of 1 to `max` bytes, their lengths coming of `seed`; max 0: in one. */
static void decode(const char *data, size_t size, size_t max, uint32_t seed, struct outcome *o)
{
	struct chunked d = {0};
	size_t end = 0;

	o->used = o->body_len = o->trailer_len = 0;
	do {
		seed = seed * 1664525 + 1013904223;
		end += max > 0 ? 1 + (seed >> 16) % max : size;
		end = end < size ? end : size;
		decode_piece(&d, o, data, end);
	} while (end < size && o->result == CHUNKED_MORE);
}

/* --- the plain reading --- */

static const char *find_crlf(const char *p, const char *end)
{
	return memmem(p, (size_t)(end - p), "\r\n", 2);
}

static const char *skip(const char *p, const char *bytes)
{
	return p + strspn(p, bytes);
}

/* Behind a token or quoted-string, or NULL. */
static const char *skip_word(const char *p, bool may_be_quoted)
{
	const char *word = p;

	if (*p != '"' || !may_be_quoted) {
		while (*p && http_is_token(p, 1))
			p++;
		return p > word ? p : NULL;
	}
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && *++p == '\0')
			return NULL;
	return *p == '"' ? p + 1 : NULL;
}

/* All of a line behind the digits of its size, as a string. */
static bool read_extensions(const char *p)
{
	while (p && *p) {
		p = skip(p, " \t");
		if (*p != ';')
			return false;
		p = skip_word(skip(p + 1, " \t"), false);
		if (p && *skip(p, " \t") == '=')
			p = skip_word(skip(skip(p, " \t") + 1, " \t"), true);
	}
	return p != NULL;
}

static bool read_size(const char *p, const char *end, uint64_t *ret)
{
	char line[INPUT_MAX + 1], digits[17];
	size_t n;

	for (const char *q = p; q < end; q++)
		if (((unsigned char)*q < ' ' && *q != '\t') || *q == 0x7f)
			return false;
	*(char *)mempcpy(line, p, (size_t)(end - p)) = '\0';
	n = strspn(line, "0123456789abcdefABCDEF");
	if (n == 0 || n > 16 || !read_extensions(line + n))
		return false;
	*(char *)mempcpy(digits, line, n) = '\0';
	*ret = strtoull(digits, NULL, 16);
	return *ret <= INT64_MAX;
}

static bool name_is_allowed(struct tine_text name)
{
	static const char forbidden[] =
		"|authorization|cache-control|connection|content-encoding|content-length"
		"|content-range|content-type|cookie|expect|forwarded|host|if-match"
		"|if-modified-since|if-none-match|if-range|if-unmodified-since|keep-alive"
		"|max-forwards|pragma|proxy-authorization|proxy-connection|range|te|trailer"
		"|transfer-encoding|upgrade|x-forwarded-for|x-forwarded-host|x-forwarded-proto|";
	char key[64];

	if (name.len > sizeof(key) - 3 || memchr(name.data, '|', name.len))
		return true;
	snprintf(key, sizeof(key), "|%.*s|", (int)name.len, name.data);
	return !strcasestr(forbidden, key);
}

static bool read_field(struct outcome *o, const char *p, const char *end)
{
	const char *colon = memchr(p, ':', (size_t)(end - p)), *value = colon + 1;
	struct tine_text name;

	if (!colon)
		return false;
	name = (struct tine_text){p, (size_t)(colon - p)};
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (!http_is_token(name.data, name.len) || !http_is_value(value, (size_t)(end - value)) ||
		!name_is_allowed(name))
		return false;
	add_field(o, name, (struct tine_text){value, (size_t)(end - value)});
	return true;
}

/* True when a whole body begins at data. */
static bool read_body(const char *data, size_t size, struct outcome *o)
{
	const char *p = data, *end = data + size, *crlf;
	uint64_t n = 1;

	o->used = o->body_len = o->trailer_len = 0;
	while (n > 0) {
		crlf = find_crlf(p, end);
		if (!crlf || !read_size(p, crlf, &n))
			return false;
		p = crlf + 2;
		if (n == 0)
			break;
		if ((size_t)(end - p) < 2 || n > (size_t)(end - p) - 2 || memcmp(p + n, "\r\n", 2))
			return false;
		add_data(o, p, (size_t)n);
		p += n + 2;
	}
	for (unsigned fields = 0; (crlf = find_crlf(p, end)) && crlf > p; p = crlf + 2)
		if (++fields > CHUNKED_FIELDS_MAX || !read_field(o, p, crlf))
			return false;
	o->used = crlf ? (size_t)(crlf + 2 - data) : 0;
	return crlf != NULL;
}

static void require_same(const struct outcome *a, const struct outcome *b)
{
	require(a->used == b->used);
	require(a->body_len == b->body_len && memcmp(a->body, b->body, a->body_len) == 0);
	require(a->trailer_len == b->trailer_len);
	require(memcmp(a->trailer, b->trailer, a->trailer_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct outcome whole, split, plain;
	const char *data = (const char *)bytes;
	uint32_t seed = (uint32_t)size;

	if (size > INPUT_MAX)
		return 0;
	for (size_t i = 0; i < size; i++)
		seed = seed * 31 + bytes[i];
	decode(data, size, 0, 0, &whole);
	decode(data, size, 1 + seed % 16, seed, &split);
	require(whole.result == split.result);
	if (whole.result <= CHUNKED_MORE)
		require_same(&whole, &split);
	else
		require(whole.result == 400);
	require(read_body(data, size, &plain) == (whole.result == CHUNKED_END));
	if (whole.result == CHUNKED_END)
		require_same(&whole, &plain);
	return 0;
}

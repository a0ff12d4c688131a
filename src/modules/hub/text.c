/* Text: UTF-8, JSON, the query of a URL, and memory that grows as it is written to. Worker only. */
#include "modules/hub/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

static uint64_t secret[2];

/* As the module is loaded; where there is no randomness yet, nobody connects yet either. */
__attribute__((constructor)) static void draw(void)
{
	if (getrandom(secret, sizeof(secret), GRND_NONBLOCK) < 0)
		secret[0] = secret[1] = (uintptr_t)&secret;
	secret[1] |= 1;
}

/* For tables in memory: clients, who choose the keys, cannot know which ones meet. FNV-1a with a basis and a factor of our own. */
unsigned text_hash(const void *data, size_t len)
{
	const unsigned char *bytes = data;
	uint64_t hash = secret[0];

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * secret[1];
	return (unsigned)(hash >> 32);
}

void text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){0};
}

/* Room for n more bytes, to be followed by adding to `len`. Returns NULL when there is no memory. */
char *text_reserve(struct text *t, size_t n)
{
	size_t cap = t->len + n + t->cap / 2;
	char *data;

	if (t->cap - t->len >= n)
		return t->data + t->len;
	data = realloc(t->data, cap);
	if (!data) {
		t->failed = true;
		return NULL;
	}
	t->data = data;
	t->cap = cap;
	return data + t->len;
}

void text_put(struct text *t, const void *data, size_t len)
{
	char *p = text_reserve(t, len);

	if (!p || len == 0)
		return;
	memcpy(p, data, len);
	t->len += len;
}

/* For short things: at most 256 bytes. */
void text_print(struct text *t, const char *fmt, ...)
{
	char *p = text_reserve(t, 256);
	va_list args;
	int n;

	if (!p)
		return;
	va_start(args, fmt);
	n = vsnprintf(p, 256, fmt, args);
	va_end(args);
	t->len += n < 256 ? (size_t)n : 255;
}

/* A JSON string, with its quotes; `s` is UTF-8. */
void text_put_json(struct text *t, struct tine_text s)
{
	static const char shorts[] = "\b\f\n\r\t\"\\", names[] = "bfnrt\"\\",
			  hex[] = "0123456789abcdef";
	char *p = text_reserve(t, s.len * 6 + 2), *start = p;

	if (!p)
		return;
	*p++ = '"';
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.data[i];
		const char *known = c ? strchr(shorts, c) : NULL;

		if (known) {
			*p++ = '\\';
			*p++ = names[known - shorts];
		} else if (c < ' ') {
			memcpy(p, "\\u00", 4);
			p[4] = hex[c >> 4];
			p[5] = hex[c & 15];
			p += 6;
		} else {
			*p++ = (char)c;
		}
	}
	*p++ = '"';
	t->len += (size_t)(p - start);
}

/* Bytes of the sequence at p (RFC 3629), of which `left` are there; 0 when it is none. */
static size_t sequence(const unsigned char *p, size_t left)
{
	static const struct {
		unsigned char first, last, low, high; /* of the first byte; of the second one */
		size_t len;
	} rows[] = {
		{0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3},
		{0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (p[0] < rows[i].first || p[0] > rows[i].last)
			continue;
		if (left < rows[i].len || p[1] < rows[i].low || p[1] > rows[i].high)
			return 0;
		for (size_t k = 2; k < rows[i].len; k++) {
			if ((p[k] & 0xc0) != 0x80)
				return 0;
		}
		return rows[i].len;
	}
	return 0;
}

bool text_is_utf8(struct tine_text s)
{
	const unsigned char *p = (const unsigned char *)s.data;
	size_t i = 0, n;

	while (i < s.len) {
		n = p[i] < 0x80 ? 1 : sequence(p + i, s.len - i);
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Returns false when it is too long or malformed. */
static bool decode(struct tine_text s, char *to, size_t size, size_t *ret_len)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		int high, low;
		char c = s.data[i] == '+' ? ' ' : s.data[i];

		if (n == size)
			return false;
		if (c == '%') {
			if (s.len - i < 3)
				return false;
			high = hex_digit(s.data[i + 1]);
			low = hex_digit(s.data[i + 2]);
			if (high < 0 || low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
		}
		to[n++] = c;
	}
	*ret_len = n;
	return true;
}

/*
 * The value of the first parameter of that name, percent-decoded to `to`. Returns whether it is there; *ret_len is SIZE_MAX
 * when it is malformed or longer than `size`.
 */
bool text_query(struct tine_text query, const char *name, char *to, size_t size, size_t *ret_len)
{
	const char *p = query.data, *end = query.len > 0 ? p + query.len : p;
	size_t name_len = strlen(name);

	while (p < end) {
		const char *amp = memchr(p, '&', (size_t)(end - p)), *stop = amp ? amp : end;

		if ((size_t)(stop - p) > name_len && p[name_len] == '=' &&
			memcmp(p, name, name_len) == 0) {
			p += name_len + 1;
			if (!decode((struct tine_text){p, (size_t)(stop - p)}, to, size, ret_len))
				*ret_len = SIZE_MAX;
			return true;
		}
		p = amp ? amp + 1 : end;
	}
	return false;
}

/* Whether the parameters say that this is what is not wanted: q=0, with up to three more zeros. */
static bool is_unwanted(const char *p, const char *stop)
{
	while ((p = memchr(p, ';', (size_t)(stop - p)))) {
		p++;
		while (p < stop && (*p == ' ' || *p == '\t'))
			p++;
		if (stop - p < 3 || strncasecmp(p, "q=0", 3) != 0)
			continue;
		p += 3;
		while (p < stop && (*p == '.' || *p == '0'))
			p++;
		return p == stop || strchr(" \t;", *p);
	}
	return false;
}

/* Whether a list with commas has an element, case aside, which is wanted: whatever its parameters but q=0. */
bool text_has_token(struct tine_text list, const char *token)
{
	const char *p = list.data, *end = list.len > 0 ? p + list.len : p;
	size_t len = strlen(token);

	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma ? comma : end;

		while (p < stop && (*p == ' ' || *p == '\t'))
			p++;
		if ((size_t)(stop - p) >= len && strncasecmp(p, token, len) == 0 &&
			((size_t)(stop - p) == len || strchr(" \t;", p[len])))
			return !is_unwanted(p, stop);
		p = comma ? comma + 1 : end;
	}
	return false;
}

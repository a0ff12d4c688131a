/*
 * PROXY protocol, versions 1 and 2, as haproxy defines it. Worker; pure functions.
 *
 * Strict, since whoever may send this header decides who the client is: one wrong byte refuses the
 * connection. Always: the outcome depends on the bytes alone, not on how many of them come at once.
 * Version 2's checksum is verified when there is one; its other extensions are skipped, but have to
 * be well-formed.
 */
#include "base/proxy_header.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define V1_MAX         107 /* bytes of a line with its CRLF */
#define V2_HEAD        16  /* bytes before the addresses */
#define V2_TYPE_CRC32C 3

static const char v1_signature[] = "PROXY ";
static const char v2_signature[] = "\r\n\r\n\0\r\nQUIT\n";

#define V1_SIGNATURE (sizeof(v1_signature) - 1)
#define V2_SIGNATURE (sizeof(v2_signature) - 1)

enum v2_command { V2_LOCAL, V2_PROXY };
enum v2_family { V2_UNSPEC, V2_INET, V2_INET6, V2_UNIX };

static const struct {
	sa_family_t family;
	uint16_t host; /* bytes of one address */
	uint16_t size; /* of both, with their ports */
} v2_families[] = {
	[V2_UNSPEC] = {AF_UNSPEC, 0, 0},
	[V2_INET] = {AF_INET, 4, 12},
	[V2_INET6] = {AF_INET6, 16, 36},
	[V2_UNIX] = {AF_UNIX, 108, 216},
};

static bool begins_alike(const char *data, size_t len, const char *with, size_t with_len)
{
	return memcmp(data, with, len < with_len ? len : with_len) == 0;
}

/* --- version 1 --- */

/* Cuts the word before the next blank, or what is left. Returns false when it is empty. */
static bool v1_word(const char **p, const char *end, const char **ret, size_t *ret_len)
{
	const char *blank = memchr(*p, ' ', (size_t)(end - *p));
	const char *stop = blank ? blank : end;

	*ret = *p;
	*ret_len = (size_t)(stop - *p);
	*p = blank ? blank + 1 : end;
	return *ret_len > 0;
}

static bool v1_port(const char *s, size_t len, uint16_t *ret)
{
	unsigned port = 0;

	if (len > 5 || (len > 1 && *s == '0'))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		port = port * 10 + (unsigned)(s[i] - '0');
	}
	*ret = (uint16_t)port;
	return port <= UINT16_MAX;
}

/* "TCP4 SOURCE DESTINATION PORT PORT" */
static bool v1_addresses(const char *p, const char *end, struct peer *ret)
{
	const char *words[5];
	size_t lens[5];
	struct peer destination;
	uint16_t port;
	bool v6;

	for (int i = 0; i < 5; i++)
		if (!v1_word(&p, end, &words[i], &lens[i]))
			return false;
	if (p != end || end[-1] == ' ' || lens[0] != 4)
		return false;
	v6 = memcmp(words[0], "TCP6", 4) == 0;
	if (!v6 && memcmp(words[0], "TCP4", 4) != 0)
		return false;
	for (int i = 1; i <= 2; i++)
		if (!!memchr(words[i], ':', lens[i]) != v6)
			return false;
	return peer_parse(words[2], lens[2], &destination) && v1_port(words[4], lens[4], &port) &&
		peer_parse(words[1], lens[1], ret) && v1_port(words[3], lens[3], &ret->port);
}

static int v1_parse(const char *data, size_t len, struct proxy_header *ret)
{
	const char *lf = memchr(data, '\n', len < V1_MAX ? len : V1_MAX);
	const char *p = data + V1_SIGNATURE, *end;
	static const char unknown[] = "UNKNOWN";

	if (!lf)
		return len < V1_MAX ? PROXY_HEADER_MORE : -EPROTO;
	end = lf - 1;
	if (end < p || *end != '\r' || memchr(data, '\r', (size_t)(end - data)))
		return -EPROTO;
	ret->size = (size_t)(lf - data) + 1;
	if ((size_t)(end - p) >= sizeof(unknown) - 1 &&
		memcmp(p, unknown, sizeof(unknown) - 1) == 0) {
		p += sizeof(unknown) - 1;
		return p == end || *p == ' ' ? 0 : -EPROTO; /* what follows is to be ignored */
	}
	return v1_addresses(p, end, &ret->source) ? 0 : -EPROTO;
}

/* --- version 2 --- */

static uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* CRC32c of the header with zeros in place of the four bytes at `hole`. */
static uint32_t v2_checksum(const uint8_t *data, size_t len, const uint8_t *hole)
{
	uint32_t crc = UINT32_MAX;

	for (const uint8_t *p = data; p < data + len; p++) {
		crc ^= p >= hole && p < hole + 4 ? 0 : *p;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
	}
	return ~crc;
}

/* Walks over the extensions from `at` on. Returns whether they are well-formed and the checksum, if there, is right. */
static bool v2_extensions(const uint8_t *data, size_t at, size_t len)
{
	const uint8_t *value;
	size_t n;

	for (; at < len; at += 3 + n) {
		if (len - at < 3)
			return false;
		n = get_u16(data + at + 1);
		if (n > len - at - 3)
			return false;
		if (data[at] != V2_TYPE_CRC32C)
			continue;
		value = data + at + 3;
		if (n != 4 ||
			v2_checksum(data, len, value) !=
				((uint32_t)get_u16(value) << 16 | get_u16(value + 2)))
			return false;
	}
	return true;
}

/* What the bytes 13 to 16 say must be possible at all. */
static bool v2_head_is_good(const uint8_t *d, size_t len)
{
	if (len > 12 && (d[12] >> 4 != 2 || (d[12] & 15) > V2_PROXY))
		return false;
	if (len > 13 && (d[12] & 15) == V2_PROXY && (d[13] >> 4 > V2_UNIX || (d[13] & 15) > 2))
		return false;
	return len < V2_HEAD || V2_HEAD + (size_t)get_u16(d + 14) <= PROXY_HEADER_MAX;
}

static void v2_source(const uint8_t *d, unsigned family, struct peer *ret)
{
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6};

	if (family == V2_INET6) {
		memcpy(&sin6.sin6_addr, d + V2_HEAD, 16); /* may be IPv4 in disguise */
		peer_from_sockaddr((const struct sockaddr *)&sin6, ret);
	} else {
		ret->family = v2_families[family].family;
		if (family == V2_INET)
			memcpy(ret->addr, d + V2_HEAD, 4);
	}
	if (family != V2_UNIX)
		ret->port = get_u16(d + V2_HEAD + 2u * v2_families[family].host);
}

static int v2_parse(const uint8_t *d, size_t len, struct proxy_header *ret)
{
	unsigned family;
	size_t size, fixed;

	if (!v2_head_is_good(d, len))
		return -EPROTO;
	size = len < V2_HEAD ? V2_HEAD : V2_HEAD + (size_t)get_u16(d + 14);
	if (len < size)
		return PROXY_HEADER_MORE;
	ret->size = size;
	family = d[13] >> 4;
	/* A health check of the proxy's own, or nothing it could name: all that follows is to be ignored. */
	if ((d[12] & 15) == V2_LOCAL || family == V2_UNSPEC || (d[13] & 15) == 0)
		return 0;
	fixed = V2_HEAD + (size_t)v2_families[family].size;
	if (fixed > size || !v2_extensions(d, fixed, size))
		return -EPROTO;
	v2_source(d, family, &ret->source);
	return 0;
}

/*
 * Reads the header that `data` begins with. Returns 0, PROXY_HEADER_MORE, or -EPROTO: not a header,
 * whatever may follow. *ret is set on success only.
 */
int proxy_header_parse(const char *data, size_t len, struct proxy_header *ret)
{
	struct proxy_header h = {0};
	int r = -EPROTO;

	if (len == 0)
		return PROXY_HEADER_MORE;
	if (begins_alike(data, len, v1_signature, V1_SIGNATURE))
		r = v1_parse(data, len, &h);
	else if (begins_alike(data, len, v2_signature, V2_SIGNATURE))
		r = v2_parse((const uint8_t *)data, len, &h);
	if (r == 0)
		*ret = h;
	return r;
}

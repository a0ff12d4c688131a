/* Whether bytes are UTF-8: the well-formed sequences of Unicode, table 3-7. Pure functions. */
#include "base/utf8.h"

#include <string.h>

/* What follows a first byte; only the second byte is ever restricted beyond 80 to BF. */
static bool utf8_begin(struct utf8 *u, unsigned char first)
{
	if (first < 0xc2 || first > 0xf4)
		return false;
	u->left = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
	u->low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
	u->high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
	return true;
}

static const unsigned char *skip_ascii(const unsigned char *p, const unsigned char *end)
{
	uint64_t eight;

	for (; end - p >= 8; p += 8) {
		memcpy(&eight, p, sizeof(eight));
		if (eight & 0x8080808080808080)
			break;
	}
	while (p < end && *p < 0x80)
		p++;
	return p;
}

/*
 * Goes on with more bytes of a text. Returns false as soon as they cannot be part of one; true says that u->left bytes are
 * missing to the end of a character.
 */
bool utf8_feed(struct utf8 *u, const void *data, size_t len)
{
	const unsigned char *p = data, *end = p + len;

	while (p < end) {
		if (u->left == 0) {
			p = skip_ascii(p, end);
			if (p < end && !utf8_begin(u, *p++))
				return false;
			continue;
		}
		if (*p < u->low || *p > u->high)
			return false;
		p++;
		u->left--;
		u->low = 0x80;
		u->high = 0xbf;
	}
	return true;
}

bool utf8_is_valid(const void *data, size_t len)
{
	struct utf8 u = {0};

	return utf8_feed(&u, data, len) && u.left == 0;
}

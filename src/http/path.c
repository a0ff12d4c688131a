/*
 * Paths of request targets. Pure functions.
 *
 * A normalised path begins with '/', holds no NUL, no empty segment and no segment "." or "..":
 * what is decoded is decoded before segments are looked at, so "%2e%2e" is "..". An encoded slash
 * ("%2F") is refused: decoded it would turn one segment into two, and left as it is it could not be
 * told from "%252F".
 */
#include "http/path.h"

#include <string.h>

/* True when path_normalise would change nothing and refuse nothing: the common case, at no cost. */
bool path_is_plain(struct tine_text raw)
{
	const char *p = raw.data, *last = raw.data + raw.len - 1;

	for (; p < last; p++)
		if (*p == '%' || (*p == '/' && (p[1] == '/' || p[1] == '.')))
			return false;
	return *p != '%';
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Returns 0, or 400 for a bad escape, an encoded NUL or an encoded slash. */
static int path_decode(struct tine_text raw, char *buf, size_t *ret_len)
{
	size_t n = 0;

	for (size_t i = 0; i < raw.len; i++) {
		int high, low, c = raw.data[i];

		if (c == '%') {
			if (raw.len - i < 3)
				return 400;
			high = hex(raw.data[i + 1]);
			low = hex(raw.data[i + 2]);
			if (high < 0 || low < 0)
				return 400;
			c = high << 4 | low;
			if (c == 0 || c == '/')
				return 400;
			i += 2;
		}
		buf[n++] = (char)c;
	}
	*ret_len = n;
	return 0;
}

/*
 * Removes "//", "/./" and "/x/../" in place (RFC 3986 section 5.2.4); ".." stops at the root.
 * Returns the new length.
 */
static size_t path_remove_dots(char *buf, size_t len)
{
	size_t from = 0, to = 0; /* both at a '/' or at the end */

	while (from < len) {
		size_t next = from + 1, n;

		while (next < len && buf[next] != '/')
			next++;
		n = next - from; /* with its slash in front */
		if (n == 3 && memcmp(buf + from, "/..", 3) == 0) {
			while (to > 0 && buf[--to] != '/')
				;
		} else if (n > 1 && !(n == 2 && buf[from + 1] == '.')) {
			memmove(buf + to, buf + from, n);
			to += n;
		}
		/* a path that ends in an empty or dot segment names a folder */
		if (next == len &&
			(n == 1 || (n == 2 && buf[from + 1] == '.') ||
				(n == 3 && memcmp(buf + from, "/..", 3) == 0)))
			buf[to++] = '/';
		from = next;
	}
	return to;
}

/*
 * Decodes and normalises raw, which begins with '/', into buf (at least raw.len bytes). Returns 0,
 * or 400.
 */
int path_normalise(struct tine_text raw, char *buf, struct tine_text *ret)
{
	size_t len;
	int r = path_decode(raw, buf, &len);

	if (r != 0)
		return r;
	*ret = (struct tine_text){buf, path_remove_dots(buf, len)};
	return 0;
}

static bool path_byte_is_safe(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		(c != 0 && strchr("-._~!$&'()*+,;=:@/", c));
}

/* Percent-encodes a path for a Location field. Returns the length, or 0 when it does not fit. */
size_t path_encode(struct tine_text path, char *buf, size_t size)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < path.len; i++) {
		unsigned char c = (unsigned char)path.data[i];

		if (size - n < 3)
			return 0;
		if (path_byte_is_safe(c)) {
			buf[n++] = (char)c;
			continue;
		}
		buf[n++] = '%';
		buf[n++] = digits[c >> 4];
		buf[n++] = digits[c & 15];
	}
	return n;
}

/*
 * Addresses of clients: from the kernel or from text into one small form, and to text without the
 * port. Any process; pure functions.
 *
 * Always: equal hosts have equal family and addr, whichever way they were written.
 */
#include "base/peer.h"

#include <arpa/inet.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void peer_set_v6(struct peer *p, const uint8_t addr[16])
{
	if (memcmp(addr, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		p->family = AF_INET;
		memcpy(p->addr, addr + sizeof(mapped_prefix), 4);
	} else {
		p->family = AF_INET6;
		memcpy(p->addr, addr, 16);
	}
}

/* From what accept4(2) or getpeername(2) filled in. */
void peer_from_sockaddr(const struct sockaddr *sa, struct peer *ret)
{
	struct sockaddr_in sin;
	struct sockaddr_in6 sin6;

	memset(ret, 0, sizeof(*ret));
	if (sa->sa_family == AF_INET) {
		memcpy(&sin, sa, sizeof(sin));
		ret->family = AF_INET;
		ret->port = ntohs(sin.sin_port);
		memcpy(ret->addr, &sin.sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		memcpy(&sin6, sa, sizeof(sin6));
		ret->port = ntohs(sin6.sin6_port);
		peer_set_v6(ret, sin6.sin6_addr.s6_addr);
	} else if (sa->sa_family == AF_UNIX) {
		ret->family = AF_UNIX;
	}
}

/*
 * From an address of `len` bytes without port and brackets: four decimal numbers without leading
 * zeros, or IPv6 of any legal form but without a scope. Returns whether it is one; *ret is set on
 * success only.
 */
bool peer_parse(const char *s, size_t len, struct peer *ret)
{
	struct peer p = {.family = AF_INET};
	char text[PEER_TEXT_MAX];
	uint8_t v6[16];

	if (len >= sizeof(text) || memchr(s, '\0', len))
		return false;
	memcpy(text, s, len);
	text[len] = '\0';
	if (memchr(s, ':', len)) {
		if (inet_pton(AF_INET6, text, v6) != 1)
			return false;
		peer_set_v6(&p, v6);
	} else if (inet_pton(AF_INET, text, p.addr) != 1) {
		return false;
	}
	*ret = p;
	return true;
}

static char *put_byte(char *p, unsigned n)
{
	if (n >= 100)
		*p++ = (char)('0' + n / 100);
	if (n >= 10)
		*p++ = (char)('0' + n / 10 % 10);
	*p++ = (char)('0' + n % 10);
	return p;
}

/*
 * The host without the port, terminated: 127.0.0.1, 2001:db8::1, "unix:", or "-" when it is not
 * known. Returns its length.
 */
size_t peer_text(const struct peer *p, char buf[PEER_TEXT_MAX])
{
	char *end = buf;

	if (p->family == AF_INET) {
		for (int i = 0; i < 4; i++) {
			if (i > 0)
				*end++ = '.';
			end = put_byte(end, p->addr[i]);
		}
		*end = '\0';
	} else if (p->family == AF_INET6) {
		inet_ntop(AF_INET6, p->addr, buf, PEER_TEXT_MAX);
		end += strlen(buf);
	} else {
		end = stpcpy(buf, p->family == AF_UNIX ? "unix:" : "-");
	}
	return (size_t)(end - buf);
}

/*
 * Socket addresses from text: host:port, [v6]:port, unix:/path, systemd:NAME. Pure functions, any
 * process.
 *
 * Host names are refused rather than looked up: the primary must not wait for a name server, and a
 * name may mean several addresses. What was read is written back in one canonical form, so equal
 * addresses have equal text.
 */
#include "base/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "base/parse.h"

#define SYSTEMD_NAME_MAX 100 /* bytes; fits address.text with room to spare */

static const char *const why_form =
	"not an address; write host:port, [v6]:port, unix:/path or systemd:NAME";

static int address_refuse(const char *why, const char **ret_why)
{
	*ret_why = why;
	return -EINVAL;
}

static int address_parse_port(const char *s, in_port_t *ret, const char **ret_why)
{
	uint64_t port;

	if (*s == '\0')
		return address_refuse("the port is missing; write host:port", ret_why);
	if (parse_u64(s, &port) < 0 || port > UINT16_MAX)
		return address_refuse(
			"the port must be a number from 0 to 65535 (0: any free one)", ret_why);
	*ret = htons((uint16_t)port);
	return 0;
}

/*
 * Why `host`, which is no IPv4 address, is none: the mistakes people really make get an answer of
 * their own.
 */
static const char *address_why_not_v4(const char *host)
{
	if (strcasecmp(host, "localhost") == 0)
		return "host names are not looked up; write 127.0.0.1:PORT or [::1]:PORT for "
		       "localhost";
	if (*host == '\0' || strcmp(host, "*") == 0)
		return "the host is missing; write 0.0.0.0:PORT for every IPv4 address or "
		       "[::]:PORT for every "
		       "address";
	if (strchr(host, ':'))
		return "an IPv6 address needs brackets; write [::1]:PORT";
	if (strspn(host, "0123456789.") == strlen(host))
		return "not an IPv4 address; write four numbers from 0 to 255, such as "
		       "127.0.0.1:PORT";
	return "host names are not looked up; write a numeric address such as 127.0.0.1:PORT";
}

static int address_parse_v4(const char *s, struct address *ret, const char **ret_why)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	const char *colon = strrchr(s, ':');
	char host[INET6_ADDRSTRLEN + 2], text[INET_ADDRSTRLEN];
	int r;

	if (strstr(s, "://"))
		return address_refuse("an address is wanted, not a URL; write host:port", ret_why);
	if (!colon)
		return address_refuse(why_form, ret_why);
	if ((size_t)(colon - s) >= sizeof(host))
		return address_refuse(address_why_not_v4("long"), ret_why);
	memcpy(host, s, (size_t)(colon - s));
	host[colon - s] = '\0';
	if (inet_pton(AF_INET, host, &sin.sin_addr) != 1)
		return address_refuse(address_why_not_v4(host), ret_why);
	r = address_parse_port(colon + 1, &sin.sin_port, ret_why);
	if (r < 0)
		return r;

	inet_ntop(AF_INET, &sin.sin_addr, text, sizeof(text));
	snprintf(ret->text, sizeof(ret->text), "%s:%u", text, ntohs(sin.sin_port));
	memcpy(&ret->sa, &sin, sizeof(sin));
	ret->len = sizeof(sin);
	return 0;
}

static int address_parse_v6(const char *s, struct address *ret, const char **ret_why)
{
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6};
	const char *close = strchr(s, ']');
	char host[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN];
	size_t n;
	int r;

	if (!close || close[1] != ':')
		return address_refuse(
			"an IPv6 address is written [v6]:port, such as [::1]:8080", ret_why);
	n = (size_t)(close - s - 1);
	if (memchr(s, '%', n + 1))
		return address_refuse(
			"addresses with a scope (%) are not supported; use [::]:PORT", ret_why);
	if (n >= sizeof(host))
		return address_refuse(
			"not an IPv6 address; write [v6]:port, such as [::1]:8080", ret_why);
	memcpy(host, s + 1, n);
	host[n] = '\0';
	if (inet_pton(AF_INET6, host, &sin6.sin6_addr) != 1)
		return address_refuse(
			"not an IPv6 address; write [v6]:port, such as [::1]:8080", ret_why);
	r = address_parse_port(close + 2, &sin6.sin6_port, ret_why);
	if (r < 0)
		return r;

	inet_ntop(AF_INET6, &sin6.sin6_addr, text, sizeof(text));
	snprintf(ret->text, sizeof(ret->text), "[%s]:%u", text, ntohs(sin6.sin6_port));
	memcpy(&ret->sa, &sin6, sizeof(sin6));
	ret->len = sizeof(sin6);
	return 0;
}

static int address_parse_unix(const char *path, struct address *ret, const char **ret_why)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t n = strlen(path);

	if (*path == '@')
		return address_refuse(
			"abstract sockets are not supported, they have no permissions; write "
			"unix:/path",
			ret_why);
	if (*path != '/')
		return address_refuse(
			"the path of a Unix socket must be absolute; write unix:/path", ret_why);
	if (path[n - 1] == '/')
		return address_refuse(
			"the path of a Unix socket must name a file; write unix:/path", ret_why);
	if (n >= sizeof(sun.sun_path))
		return address_refuse(
			"the path of a Unix socket may have 107 bytes at most", ret_why);

	memcpy(sun.sun_path, path, n + 1);
	snprintf(ret->text, sizeof(ret->text), "unix:%s", path);
	memcpy(&ret->sa, &sun, sizeof(sun));
	ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	return 0;
}

/* The name of a socket that systemd passes on: FileDescriptorName= of the .socket unit. */
static int address_parse_systemd(const char *name, struct address *ret, const char **ret_why)
{
	size_t n = strlen(name);

	if (n == 0)
		return address_refuse("the name is missing; write systemd:NAME with the "
				      "FileDescriptorName= of the "
				      ".socket unit",
			ret_why);
	if (n > SYSTEMD_NAME_MAX)
		return address_refuse(
			"the name of a systemd socket may have 100 bytes at most here", ret_why);
	for (const char *p = name; *p; p++)
		if (*p <= ' ' || *p >= 0x7f || *p == ':')
			return address_refuse("the name of a systemd socket is printable ASCII "
					      "without blanks and "
					      "colons",
				ret_why);
	snprintf(ret->text, sizeof(ret->text), "systemd:%s", name);
	return 0;
}

/*
 * Reads an address. Port 0 means any free port. Returns 0, or -EINVAL with *ret_why (static text)
 * saying what is wrong and what would be right; *ret is set on success only.
 */
int address_parse(const char *s, struct address *ret, const char **ret_why)
{
	struct address a = {0};
	int r;

	if (strncmp(s, "unix:", 5) == 0) {
		a.kind = ADDRESS_UNIX;
		r = address_parse_unix(s + 5, &a, ret_why);
	} else if (strncmp(s, "systemd:", 8) == 0) {
		a.kind = ADDRESS_SYSTEMD;
		r = address_parse_systemd(s + 8, &a, ret_why);
	} else if (*s == '/') {
		r = address_refuse("a Unix socket is written unix:/path", ret_why);
	} else {
		a.kind = ADDRESS_INET;
		r = *s == '[' ? address_parse_v6(s, &a, ret_why) : address_parse_v4(s, &a, ret_why);
	}
	if (r < 0)
		return r;
	*ret = a;
	return 0;
}

/*
 * Whether both name the same socket. Two addresses with port 0 are equal here, although they never
 * clash.
 */
bool address_equal(const struct address *a, const struct address *b)
{
	return a->kind == b->kind && strcmp(a->text, b->text) == 0;
}

/* What a socket is bound to. Returns 0 or -errno; -EAFNOSUPPORT for what has no such text. */
int address_of_socket(int fd, struct address *ret)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&sa;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&sa;
	char host[INET6_ADDRSTRLEN] = "", text[sizeof(sa) + 8];
	const char *why;

	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	if (sa.ss_family == AF_INET && inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host)))
		snprintf(text, sizeof(text), "%s:%u", host, ntohs(v4->sin_port));
	else if (sa.ss_family == AF_INET6 &&
		inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host)))
		snprintf(text, sizeof(text), "[%s]:%u", host, ntohs(v6->sin6_port));
	else if (sa.ss_family == AF_UNIX && *((const struct sockaddr_un *)&sa)->sun_path == '/')
		snprintf(
			text, sizeof(text), "unix:%s", ((const struct sockaddr_un *)&sa)->sun_path);
	else
		return -EAFNOSUPPORT;
	return address_parse(text, ret, &why);
}

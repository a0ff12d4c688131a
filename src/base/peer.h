/*
 * Who is at the other end of a connection: an IP address and port, or "a process over a Unix
 * socket". Small, because every connection has one. Pure functions, any process.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PEER_TEXT_MAX INET6_ADDRSTRLEN /* with the NUL */

/* IPv4 carried in IPv6 (::ffff:a.b.c.d) is IPv4 here, so one host has one form. */
struct peer {
	uint16_t family;  /* AF_INET, AF_INET6, AF_UNIX; AF_UNSPEC: not known */
	uint16_t port;    /* 0: not known */
	uint8_t addr[16]; /* network order; AF_INET: the first four bytes, the others are 0 */
};

void peer_from_sockaddr(const struct sockaddr *sa, struct peer *ret);
bool peer_parse(const char *s, size_t len, struct peer *ret);
size_t peer_text(const struct peer *p, char buf[PEER_TEXT_MAX]);

/*
 * What a proxy that speaks the PROXY protocol says of the client before the client's own bytes
 * (version 1, text; version 2, binary). Pure function over a buffer.
 */
#pragma once

#include <stddef.h>

#include "base/peer.h"

#define PROXY_HEADER_MAX 4096 /* bytes of a whole header; a longer one is refused */

/* Answer of proxy_header_parse: what is there is fine so far, but more must come. */
#define PROXY_HEADER_MORE 1

struct proxy_header {
	size_t size; /* bytes of it; the client's own follow */
	/* AF_UNSPEC: the proxy speaks for itself or does not know; the socket's peer counts */
	struct peer source;
};

int proxy_header_parse(const char *data, size_t len, struct proxy_header *ret);

/* Who the client is behind trusted proxies: X-Forwarded-For, or Forwarded (RFC 7239). */
#pragma once

#include "base/netmask.h"
#include "base/peer.h"
#include "http/parser.h"
#include "shared/config.h"

void forwarded_client(const struct http_head *h, enum client_header field,
	const struct netmask_list *trusted, struct peer *client);
bool forwarded_is_https(const struct http_head *h, enum client_header field);

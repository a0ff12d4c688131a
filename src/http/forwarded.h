/* Who the client is behind trusted proxies: X-Forwarded-For, or Forwarded (RFC 7239). */
#pragma once

#include "base/netmask.h"
#include "base/peer.h"
#include "http/parser.h"

/* The one field that is believed. Never both: a proxy that writes one passes the client's other one on. */
enum forwarded_field { FORWARDED_X_FORWARDED_FOR, FORWARDED_FORWARDED };

void forwarded_client(const struct http_head *h, enum forwarded_field field,
	const struct netmask_list *trusted, struct peer *client);

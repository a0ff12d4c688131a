/* Connections that come through a proxy which speaks the PROXY protocol. */
#pragma once

#include "net/net.h"

/* What is spoken behind the proxy's header; the service of proxy_protocol's connections. */
struct proxy_service {
	const struct protocol *protocol;
	const void *service;
};

extern const struct protocol proxy_protocol;

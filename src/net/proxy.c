/*
 * The PROXY protocol before another one: the first bytes say who the client is. Worker only.
 * On a listener with proxy_protocol = on every connection begins with them; what does not is closed.
 */
#include "net/proxy.h"

#include "base/proxy_header.h"
#include "net/connection.h"

static size_t proxy_input(struct connection *c, const char *data, size_t len, size_t seen)
{
	const struct proxy_service *behind = c->service;
	struct proxy_header h;
	int r = proxy_header_parse(data, len, &h);

	if (r == PROXY_HEADER_MORE)
		return 0;
	if (r != 0) {
		sb_add(c->server->slot->client_errors, 1);
		connection_close(c);
		return len;
	}
	if (h.source.family != AF_UNSPEC)
		c->peer = h.source;
	c->service = behind->service;
	c->protocol = behind->protocol;
	connection_begin(c);
	return h.size;
}

/* The deadline is the one of a connection that has just been made. */
static void proxy_settle(struct connection *c)
{
}

const struct protocol proxy_protocol = {
	.name = "proxy",
	.on_input = proxy_input,
	.on_settle = proxy_settle,
};

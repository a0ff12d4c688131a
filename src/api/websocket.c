/* tine/websocket.h: checks what modules hand in and calls down. On the loop's thread. */
#include <errno.h>
#include <string.h>

#include <tine/websocket.h>

#include "base/sized.h"
#include "http/websocket.h"
#include "http/websocket_handshake.h"

int tine_websocket_accept(struct tine_request *request,
	const struct tine_websocket_options *options, struct tine_websocket **ret)
{
	struct tine_websocket_options o;
	int r = request ? SIZED_TAKE(&o, options, no_compression) : -EINVAL;

	if (r < 0)
		return r;
	if (!o.on_message || o.max_message > WEBSOCKET_RECEIVE_MAX ||
		!websocket_protocols_are_valid(o.protocols))
		return -EINVAL;
	return websocket_accept(request, &o, ret);
}

int tine_websocket_send(
	struct tine_websocket *ws, enum tine_websocket_type type, const void *data, size_t len)
{
	if ((type != TINE_WEBSOCKET_TEXT && type != TINE_WEBSOCKET_BINARY) || (len > 0 && !data))
		return -EINVAL;
	return websocket_send(ws, type, data, len);
}

int tine_websocket_close(struct tine_websocket *ws, unsigned code, const char *reason)
{
	size_t len = reason ? strlen(reason) : 0;

	if (len > WEBSOCKET_REASON_MAX)
		return -EINVAL;
	return websocket_close(ws, code, (struct tine_text){reason, len});
}

size_t tine_websocket_waiting(const struct tine_websocket *ws)
{
	return websocket_waiting(ws);
}

struct tine_text tine_websocket_client(const struct tine_websocket *ws)
{
	return websocket_client(ws);
}

struct tine_text tine_websocket_protocol(const struct tine_websocket *ws)
{
	return websocket_subprotocol(ws);
}

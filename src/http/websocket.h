/* WebSocket connections (RFC 6455): what a connection speaks after its upgrade. */
#pragma once

#include <stddef.h>

#include <tine/http.h>

#define WEBSOCKET_SEND_MAX    (16u << 20) /* bytes of a message that is sent */
#define WEBSOCKET_REASON_MAX  123         /* bytes of the reason of a close */
#define WEBSOCKET_RECEIVE_MAX (1u << 30)  /* bytes of a message that is received, at most */

struct websocket_hub;

int websocket_accept(struct tine_request *rq, const struct tine_websocket_options *o,
	struct tine_websocket **ret);
int websocket_send(
	struct tine_websocket *ws, enum tine_websocket_type type, const void *data, size_t len);
int websocket_close(struct tine_websocket *ws, unsigned code, struct tine_text reason);
size_t websocket_waiting(const struct tine_websocket *ws);
struct tine_text websocket_client(const struct tine_websocket *ws);
struct tine_text websocket_subprotocol(const struct tine_websocket *ws);

struct websocket_hub *websocket_hub_free(struct websocket_hub *hub);

/*
 * tine/websocket.h - WebSocket connections (RFC 6455, RFC 7692). Included by tine/http.h.
 *
 * A handler turns its request into a WebSocket with tine_websocket_accept(). From then on the callbacks below are called
 * on the worker's loop thread. Pings, pongs, fragments, UTF-8 and the closing handshake are tined's business.
 */
#ifndef TINE_WEBSOCKET_H
#define TINE_WEBSOCKET_H

#include "http.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tine_websocket; /* one connection; valid until on_close has returned */

enum tine_websocket_type {
	TINE_WEBSOCKET_TEXT = 1, /* UTF-8, checked */
	TINE_WEBSOCKET_BINARY = 2,
};

struct tine_websocket_options {
	size_t size; /* sizeof(struct tine_websocket_options) */

	/* A whole message; data is valid during the call. */
	void (*on_message)(struct tine_websocket *ws, enum tine_websocket_type type,
		const void *data, size_t len, void *arg);

	/* There is room again after tine_websocket_send() returned -EAGAIN. May be NULL. */
	void (*on_room)(struct tine_websocket *ws, void *arg);

	/*
	 * The last call: it is closed. code and reason are the peer's (RFC 6455 section 7.4), 1006 when there was no closing
	 * handshake, 1001 when the worker drains. May be NULL.
	 */
	void (*on_close)(
		struct tine_websocket *ws, unsigned code, struct tine_text reason, void *arg);

	void *arg; /* handed to all of them */

	/* Subprotocols the service speaks, "chat.v2, chat.v1": the first that the client offers is chosen. NULL: none. */
	const char *protocols;

	/*
	 * Whose pages may connect: NULL: those of the same host as the request's, and clients that send no Origin; "*": all;
	 * else a list, "https://a.example, https://b.example". Others are answered 403.
	 */
	const char *origins;

	size_t max_message; /* bytes; 0: [http] websocket_max_message. Longer ones are answered with close code 1009 */
	bool no_compression; /* do not offer permessage-deflate */
};

/*
 * Answers the request with the upgrade. Returns 0 and *ret (may be NULL); when the request is not a proper
 * handshake it has been answered with what is wrong (400, 403, 405, 426) and -EPROTO is returned.
 */
TINE_EXPORT int tine_websocket_accept(struct tine_request *request,
	const struct tine_websocket_options *options, struct tine_websocket **ret);

/*
 * Sends a message, which is copied. Returns 0; -EAGAIN when the client is slow and nothing was taken (on_room will be
 * called); -EPIPE when it is closing; -EMSGSIZE above 16 MiB; -EINVAL for text that is not UTF-8.
 */
TINE_EXPORT int tine_websocket_send(
	struct tine_websocket *ws, enum tine_websocket_type type, const void *data, size_t len);

/* Begins the closing handshake. code: 1000, 1001, 1003, 1007 to 1014 or 3000 to 4999; reason: up to 123 bytes, or NULL. */
TINE_EXPORT int tine_websocket_close(struct tine_websocket *ws, unsigned code, const char *reason);

/* Bytes that wait to be taken by the client. */
TINE_EXPORT size_t tine_websocket_waiting(const struct tine_websocket *ws);

/* The client's address as text, as tine_request_client(). */
TINE_EXPORT struct tine_text tine_websocket_client(const struct tine_websocket *ws);

#ifdef __cplusplus
}
#endif
#endif

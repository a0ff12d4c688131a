/*
 * tine/websocket.h - WebSocket connections (RFC 6455, RFC 7692). Included by tine/http.h.
 *
 * A handler turns its request into a WebSocket with tine_websocket_accept(). From then on the callbacks below are called
 * on the worker's loop thread, one at a time, never from within a call of the module's. Pings, pongs, fragments, UTF-8,
 * compression and the closing handshake are tined's business. Every function here is for the loop's thread; those that return int
 * return 0 or a negative errno.
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

	/*
	 * A whole message; data is valid during the call. While the answers to earlier ones wait for a slow client no more
	 * are read, so a handler that answers each with one finds that tine_websocket_send() has room. None come any more after
	 * tine_websocket_close().
	 */
	void (*on_message)(struct tine_websocket *ws, enum tine_websocket_type type,
		const void *data, size_t len, void *arg);

	/* There is room again after tine_websocket_send() returned -EAGAIN. May be NULL. */
	void (*on_room)(struct tine_websocket *ws, void *arg);

	/*
	 * The last call, once for each accepted WebSocket, on any end. code and reason are the client's (RFC 6455 section 7.4),
	 * 1005 when it gave none; without its close what ended the connection: 1002, 1007, 1009, 1011 when tined
	 * did, for what the client sent; 1001 when the worker drained; 1006 when the client was gone, or did not answer a
	 * ping or a close. reason is valid during the call. May be NULL.
	 */
	void (*on_close)(
		struct tine_websocket *ws, unsigned code, struct tine_text reason, void *arg);

	void *arg; /* handed to all of them */

	/*
	 * Subprotocols the service speaks, the best first: "chat.v2, chat.v1". The first of them that the client offers is
	 * chosen, none when it offers none of them. Tokens of up to 128 bytes. NULL: none.
	 */
	const char *protocols;

	/*
	 * Whose pages may connect: NULL: those of the same host as the request's, and clients that send no Origin; "*": all;
	 * else a list, "https://a.example, https://b.example:8443", as browsers write them. Others are answered 403.
	 */
	const char *origins;

	size_t max_message; /* bytes, up to 1 GiB; 0: [http] websocket_max_message. Longer ones end it with code 1009 */
	bool no_compression; /* do not offer permessage-deflate */
};

/*
 * Answers the request with the upgrade; options are copied. Returns 0 and *ret (may be NULL), to which messages may be sent
 * at once. -EPROTO: the request was no proper handshake and has been answered with what is wrong (400, 403, 405, 426; 503
 * while the worker drains). Not answered yet: -EINVAL for bad options, -ENOMEM. -EALREADY, -ECANCELED as for other
 * answers. Unless it returns 0 no callback will be called.
 */
TINE_EXPORT int tine_websocket_accept(struct tine_request *request,
	const struct tine_websocket_options *options, struct tine_websocket **ret);

/*
 * Sends a message, which is copied. Returns 0; -EAGAIN when the client is slow and nothing was taken (on_room will be
 * called); -EPIPE when it is closing or gone (on_close will be called); -EMSGSIZE above 16 MiB; -EINVAL for another
 * type, or text that is not UTF-8.
 */
TINE_EXPORT int tine_websocket_send(
	struct tine_websocket *ws, enum tine_websocket_type type, const void *data, size_t len);

/*
 * Begins the closing handshake; on_close follows when the client has answered, or after 5 s. code: 1000, 1001, 1003, 1007 to
 * 1014 (not 1010) or 3000 to 4999; reason: UTF-8 of up to 123 bytes, or NULL. Returns 0, -EINVAL, -EPIPE when it is closing.
 */
TINE_EXPORT int tine_websocket_close(struct tine_websocket *ws, unsigned code, const char *reason);

/* Bytes that wait to be taken by the client. */
TINE_EXPORT size_t tine_websocket_waiting(const struct tine_websocket *ws);

/* The client's address as text, as tine_request_client(). */
TINE_EXPORT struct tine_text tine_websocket_client(const struct tine_websocket *ws);

/* The subprotocol that was chosen; data is NULL when there is none. */
TINE_EXPORT struct tine_text tine_websocket_protocol(const struct tine_websocket *ws);

#ifdef __cplusplus
}
#endif
#endif

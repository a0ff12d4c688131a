/* The opening handshake of a WebSocket (RFC 6455 section 4.2, RFC 7692 section 7.1). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tine/http.h>

#include "http/parser.h"

/* What the service wants. */
struct websocket_terms {
	const char *protocols; /* as in struct tine_websocket_options */
	const char *origins;
	bool compression;
};

/* What was agreed on. */
struct websocket_handshake {
	char accept[29];           /* answer to the client's key */
	struct tine_text protocol; /* within the terms; data is NULL: none */
	uint8_t bits;              /* of the window of what is sent compressed; 0: no compression */
	bool tell_bits;            /* the client asked for such a window */
	const char *why;           /* what is wrong with it; NULL: its status says that */
};

#define WEBSOCKET_PROTOCOL_MAX 128 /* bytes of the name of a subprotocol */
#define WEBSOCKET_FIELDS_MAX   512 /* bytes of the header fields of an answer */

unsigned websocket_handshake(const struct http_head *h, const struct websocket_terms *t,
	struct websocket_handshake *ret);
size_t websocket_handshake_write(const struct websocket_handshake *hs, char *buf, size_t size);
bool websocket_protocols_are_valid(const char *list);

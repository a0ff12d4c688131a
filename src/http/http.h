/*
 * What the files of this folder share: the structures of the server and of the request being
 * served. Everything outside goes through server.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <tine/http.h>

#include "http/chunked.h"
#include "http/date.h"
#include "http/parser.h"
#include "http/router.h"
#include "http/server.h"
#include "net/net.h"

#define HTTP_EXTRA_MAX 8192 /* bytes of header fields a handler may add to one answer */

/* What becomes of a request's body. */
enum body_mode {
	BODY_WAIT,    /* it is not decided: none of it is read */
	BODY_COLLECT, /* the handler gets all of it at once */
	BODY_STREAM,  /* a function of the module's gets it as it comes */
	BODY_DISCARD, /* it is read and dropped */
};

struct http_body {
	uint64_t left;  /* bytes to come, when the length is known */
	uint64_t taken; /* bytes that have come */
	uint64_t max;
	struct chunked chunked;
	uint8_t mode; /* enum body_mode */
	bool is_chunked;
	bool complete;
	bool paused;           /* by the module */
	bool asked;            /* the client waits for leave (Expect: 100-continue) */
	struct stash *data;    /* BODY_COLLECT */
	struct stash *trailer; /* lines, each with its CRLF */
	tine_body_fn fn;       /* BODY_STREAM */
	void *arg;
};

enum answer_state {
	ANSWER_NONE,
	ANSWER_STARTED,
	ANSWER_PIECES, /* all of it has been said, and is being sent */
	ANSWER_DONE,
};

/* How the end of a streamed answer is known. */
enum answer_framing { FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };

/*
 * The request being served: the server's own while all happens within a burst, so that nothing is
 * allocated; else one of its connection's (c->state), with a copy of all it needs.
 */
struct tine_request {
	LIST_ENTRY(tine_request) link; /* in the server's list of those that are kept */
	struct http_server *server;
	struct connection *connection; /* NULL: the client is gone */
	const char *base;              /* where its head begins */
	struct http_head head;
	struct http_field fields[HTTP_FIELDS_MAX];
	struct tine_text path; /* normalised */
	struct http_match match;
	const struct http_middleware *middleware; /* the one that was called last */
	struct tine_text ahead; /* what had come behind the head, while it is the server's */
	size_t ahead_used;

	struct http_body body;
	struct tine_text whole; /* the body, when all is there */

	uint8_t answer;  /* enum answer_state */
	uint8_t framing; /* enum answer_framing */
	bool kept;       /* it is its connection's, or its module's */
	bool deferred;   /* the module has promised an answer */
	bool keep_alive; /* the connection stays open after this answer */
	bool bodyless;   /* nothing but the head of the answer is sent */
	bool wants_room; /* on_room is to be called */
	bool is_sse;
	bool is_followed; /* when it was kept, something that is not its own had come behind it */
	bool is_logged;   /* it will get a line in the access log */
	unsigned ticket;  /* of access_log_begin() */
	uint64_t begun_us;
	uint16_t status;
	uint64_t left; /* bytes still to be written; FRAMING_LENGTH */
	uint64_t sent; /* bytes of the answer's body */
	tine_http_fn on_room, on_gone;
	void *room_arg, *gone_arg;

	uint8_t client_len; /* of `client`, once it is known */
	char client[PEER_TEXT_MAX];
	struct peer peer; /* the client behind trusted proxies */

	size_t extra_len, extra_cap;
	char *extra; /* header fields added by the handler, then trailer fields, each with its CRLF */
	char *own;   /* memory of the head, once it is kept */
};

LIST_HEAD(request_list, tine_request);

struct websocket_hub;

struct http_server {
	struct protocol protocol; /* http_server_of() relies on it */
	struct net_server *net;
	struct net_ticker ticker;
	const struct conf_http *conf;
	struct access_log *access; /* NULL: none */
	struct error_pages *pages; /* NULL: none */

	struct http_limits limits;
	uint64_t header_ms, idle_ms, answer_ms, ping_ms;
	struct http_date date;

	struct websocket_hub *websockets; /* NULL: there has been none yet */
	struct request_list kept;         /* of connections, and those whose client is gone */
	struct request_list dead;         /* freed at the end of the turn */

	/* room for the request of a burst */
	struct tine_request *request;
	struct http_field *fields;
	char *extra;
	char *path;
	unsigned n_requests; /* of this burst, not yet on the scoreboard */
};

/* The server of a connection that speaks HTTP. */
static inline struct http_server *http_server_of(const struct connection *c)
{
	return (struct http_server *)((char *)(uintptr_t)c->protocol -
		offsetof(struct http_server, protocol));
}

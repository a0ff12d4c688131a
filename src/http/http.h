/*
 * What the files of this folder share: the structures of the server, its connections and the
 * request being served. Everything outside goes through server.h.
 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/wheel.h"
#include "http/date.h"
#include "http/parser.h"
#include "http/server.h"
#include "http/splice.h"
#include "shared/scoreboard.h"

#define HTTP_EXTRA_MAX 8192 /* bytes of header fields a handler may add to one answer */

struct http_route;
struct http_sending;

/* Bytes that must outlive a burst. */
struct http_stash {
	size_t off, len, cap; /* data[off] to data[len - 1] */
	char data[];
};

enum connection_state {
	CONNECTION_IDLE,   /* nothing of a request has come */
	CONNECTION_HEAD,   /* part of a head has */
	CONNECTION_BODY,   /* a body is being discarded */
	CONNECTION_WRITE,  /* waiting for the socket to take more of an answer; nothing is read */
	CONNECTION_LINGER, /* all is answered: reading on until the peer closes */
	CONNECTION_CLOSED, /* on the list of what end_turn frees */
};

/* Whether the kernel spreads what is sent over time. */
enum connection_pacing { PACING_UNKNOWN, PACING_ON, PACING_OFF };

/*
 * There may be ten thousand of these, most of them idle: every byte counts, and an idle one holds
 * nothing else.
 */
struct http_connection {
	struct event event; /* the only one: EV_READ, or EV_WRITE while in CONNECTION_WRITE */
	struct wheel_entry timer;
	LIST_ENTRY(http_connection) link;
	struct http_server *server;
	const struct http_router *router;
	struct http_stash
		*input; /* requests that are not complete, or wait for the output to drain */
	struct http_stash *output; /* answers the socket did not take yet */
	struct http_sending *file; /* a file to be sent after `output` */
	uint64_t body_left;        /* bytes of a request's body to be discarded */
	uint8_t state;             /* enum connection_state */
	uint8_t pacing;            /* enum connection_pacing */
	bool closing;              /* the last answer has been made: no further request is served */
	bool broken;               /* nothing can be sent any more */
	bool yielded;              /* requests wait in `input` for no more than their turn */
};

/* The request being served. There is one at a time, in the server. */
struct tine_request {
	struct http_connection *connection;
	const struct http_route *route;
	struct http_head head;
	struct http_field fields[HTTP_FIELDS_MAX];
	struct tine_text path; /* normalised */
	bool answered;
	bool keep_alive; /* the connection stays open after this answer */
	size_t extra_len;
	char extra[HTTP_EXTRA_MAX]; /* header fields added by the handler, each with its CRLF */
};

/* Answers of the burst being served, for one send. */
struct http_out {
	char *data;
	size_t len, cap;
};

LIST_HEAD(connection_list, http_connection);

struct http_server {
	struct event_base *base;
	struct sb_slot *slot;
	struct sb_slot *own_slot; /* when the options gave none */
	void (*on_closed)(void *arg);
	void *arg;

	struct http_limits limits;
	uint64_t max_body;
	uint64_t header_ms, body_ms, idle_ms, grace_ms;
	bool draining;

	struct connection_list open, closed;
	uint32_t n_open;

	struct wheel wheel;
	struct event timer; /* of timer_fd, which drives the wheel */
	int timer_fd;
	unsigned timer_ms; /* its interval; 0: not armed */
	uint64_t now_ms;   /* coarse; set at each callback */
	struct http_date date;

	/* shared by all connections, used by one burst at a time */
	char *in;
	size_t in_size;
	struct http_out out;
	struct http_splice splice;
	uint64_t n_requests; /* of this burst, not yet on the scoreboard */
	char *path;          /* room for a normalised path */
	struct tine_request request;
};

/*
 * Connected sockets of one process, served from one loop: what they share (buffers, deadlines,
 * counters) and what is kept of each. What their bytes mean is a protocol's business.
 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/peer.h"
#include "base/wheel.h"
#include "net/output.h"
#include "net/admission.h"
#include "net/splice.h"
#include "shared/scoreboard.h"

struct connection;
struct net_server;
struct pool;

/* After so many bytes that the socket took from one connection it is the turn of others. */
#define NET_BURST_BYTES (2u << 20)

/* What waits to be sent on one connection is kept below this by those who can wait. */
#define NET_OUTPUT_HIGH (256u << 10)

/* Read at once, beside what a connection had kept. */
#define NET_INPUT_SIZE (16u << 10)

/*
 * What the bytes of a connection mean. Every function may be NULL but on_input and on_settle; each may close the
 * connection (which lives on until the end of the turn), none may free it.
 */
struct protocol {
	const char *name;
	bool duplex;         /* input is taken while output waits */
	const char *refusal; /* what is said when there is no room; NULL: nothing */

	/* A connection is there; nothing has been read. */
	void (*on_open)(struct connection *c);

	/*
	 * `len` bytes are there, the first `seen` of which were offered before. Returns how many are done with; the rest
	 * is kept and offered again with what comes after it. Not called while c->paused or c->closing. data is invalid after
	 * the call.
	 */
	size_t (*on_input)(struct connection *c, const char *data, size_t len, size_t seen);

	/*
	 * The burst is over, and all of its output sent: sets the deadline that fits what is waited for.
	 */
	void (*on_settle)(struct connection *c);

	/* Output waited and does no longer. */
	void (*on_drained)(struct connection *c);

	/*
	 * The peer has sent its last byte, and all of them have been offered unless c->paused. NULL: the connection is
	 * closed.
	 */
	void (*on_eof)(struct connection *c);

	/* The deadline set by on_settle has passed. NULL: the connection is closed. */
	void (*on_expired)(struct connection *c);

	/* The process begins to drain. */
	void (*on_drain)(struct connection *c);

	/* It is being closed: nothing can be sent any more, c->state is to be let go of. */
	void (*on_close)(struct connection *c);
};

/* Bytes that must outlive a burst. */
struct stash {
	size_t off, len, cap; /* data[off] to data[len - 1] */
	char data[];
};

enum connection_life {
	CONNECTION_OPEN,
	CONNECTION_LINGER, /* all is said: reading on until the peer closes */
	CONNECTION_CLOSED, /* on the list of what the end of the turn frees */
};

/* Whether the kernel spreads what is sent over time. */
enum connection_pacing { PACING_UNKNOWN, PACING_ON, PACING_OFF };

/*
 * There may be ten thousand of these, most of them idle: every byte counts, and an idle one holds
 * nothing else.
 */
struct connection {
	struct event event; /* the only one */
	struct wheel_entry timer;
	LIST_ENTRY(connection) link;     /* open or closed */
	TAILQ_ENTRY(connection) touched; /* while is_touched */
	struct net_server *server;
	const struct protocol *protocol;
	const void *service;   /* the protocol's: what is served here */
	void *state;           /* the protocol's: what is being served */
	struct stash *input;   /* what has come and waits */
	struct stash *output;  /* what the socket did not take yet */
	struct sending *sends; /* files to be sent after `output` */
	uint64_t moved;        /* bytes that came, or went, in the present phase */
	uint64_t waited_out;   /* of those, how many the peer had taken at the last look */
	uint64_t client_key;   /* of admission.c; 0: it is not counted */
	uint32_t n_served;     /* requests, by protocols that count them */
	struct peer peer;
	int16_t error;   /* errno of why it was closed; 0: in good order */
	uint8_t life;    /* enum connection_life */
	uint8_t pacing;  /* enum connection_pacing */
	uint8_t phase;   /* the protocol's: what is waited for */
	uint8_t n_holds; /* threads that use the descriptor */
	bool paused;     /* nothing is read: the protocol waits for something else */
	bool closing;    /* nothing more is read; closed when the output is gone */
	bool broken;     /* nothing can be sent any more */
	bool yielded;    /* input waits for no more than its turn */
	bool writing;    /* waits for the socket to take more */
	bool half;       /* the peer has sent its last byte */
	bool wants_room; /* on_drained is to be called even if nothing waits */
	bool is_limited; /* see connection_limit_unsent() */
	bool is_touched;
	bool is_expired; /* its deadline has passed; it waits for its turn */
};

LIST_HEAD(connection_list, connection);
TAILQ_HEAD(connection_queue, connection);

/* What the connection that is being served has to say, for one send. */
struct net_out {
	char *data;
	size_t len, cap;
};

/*
 * Called about every 256 ms while a connection is open. Returns how soon it wants to be called when there is none: in
 * milliseconds, or 0 for not at all. now_ms: as server->now_ms.
 */
struct net_ticker {
	LIST_ENTRY(net_ticker) link;
	unsigned (*fn)(struct net_ticker *t, uint64_t now_ms);
};

struct net_server {
	struct event_base *base;
	struct pool *pool; /* NULL: there are no threads */
	struct sb_slot *slot;
	struct sb_slot *own_slot; /* when the options gave none */
	char *request_line;       /* SB_REQUEST_LINE bytes: what is being served */
	void (*on_closed)(void *arg);
	void *arg;

	uint64_t window_ms; /* how long a body or an answer may make no progress... */
	uint64_t min_bytes; /* ...worth this many bytes */
	uint64_t grace_ms, drained_ms;
	bool draining;
	bool ended; /* nothing is adopted any more */
	struct admission admission;

	struct connection_list open, closed;
	struct connection_queue touched;
	uint32_t n_open;

	struct wheel wheel;
	LIST_HEAD(, net_ticker) tickers;
	struct event timer; /* of timer_fd, which drives the wheel */
	int timer_fd;
	unsigned timer_ms; /* its interval; 0: not armed */
	uint64_t now_ms;   /* coarse; set at each callback */

	/* shared by all connections, used by one burst at a time */
	struct connection *bursting;
	unsigned n_answered; /* requests of this turn, by protocols that count them */
	uint64_t burst_end;  /* bytes_out of the slot at which it is the turn of others */
	char *in;
	size_t in_size;
	struct net_out out;
	struct net_splice splice;

	/* pieces of files that are sent by threads */
	struct sending_queue cold; /* those that wait for one */
	unsigned n_cold;           /* those that have one */
};

/*
 * The connection to NATS, as a table of functions: tined-nats.so has it, which alone is linked with libnats and which the bridge
 * process alone loads. Between the two there are no other names.
 *
 * open() is called first, on any thread; the functions after it by one thread. Callbacks come on threads of libnats.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NATS_DRIVER_ABI    2
#define NATS_DRIVER_SYMBOL "tined_nats_driver"

struct nats;

/* What came; all of it is valid during the call. */
struct nats_incoming {
	uint64_t key;      /* of the subscription that it came by */
	const char *group; /* of that; NULL: none */
	const char *subject;
	const char *reply; /* where its sender waits for an answer; NULL: he does not */
	const char *mark;  /* what a bridge has written on it; NULL: it comes from somebody else */
	const void *data;
	size_t len;
	bool nobody; /* the server's word that a request has reached nobody */
};

/* What goes out. */
struct nats_outgoing {
	const char *subject, *reply, *mark;
	const void *data;
	size_t len;
};

enum nats_state {
	NATS_STATE_AWAY, /* the connection has ended */
	NATS_STATE_UNREACHABLE, /* there is none, and another attempt has failed; what is published waits */
	NATS_STATE_REFUSED, /* the same, by a server that answers; nothing waits */
	NATS_STATE_CONNECTED,
	NATS_STATE_TROUBLE,
};

struct nats_options {
	const char *urls;                                      /* commas between them */
	const char *credentials, *tls_ca, *tls_cert, *tls_key; /* files; NULL: none */
	const char *name;                                      /* under which the server lists us */
	uint64_t buffer; /* bytes that wait while the server is away */
	void (*on_message)(const struct nats_incoming *m, void *arg);
	/* So many more were dropped before they came to on_message. On the thread of tend(). */
	void (*on_dropped)(uint64_t n, void *arg);
	void (*on_state)(enum nats_state state, const char *text, void *arg);
	void *arg;
};

struct nats_driver {
	unsigned abi;
	/* Reads the files. Returns 0, or -errno and what is wrong. */
	int (*open)(const struct nats_options *o, struct nats **ret, char *error, size_t size);
	/* Once, and then about every second: connects, and again when the connection was given up. */
	void (*tend)(struct nats *n);
	int (*subscribe)(struct nats *n, uint64_t key, const char *subject, const char *group);
	void (*unsubscribe)(struct nats *n, uint64_t key);
	/* Returns 0; -ENOBUFS: too much waits already; -EMSGSIZE: the server takes none that large; -errno. */
	int (*publish)(struct nats *n, const struct nats_outgoing *m);
	/* Waits until the server has taken what was published. Returns 0 or -errno. */
	int (*flush)(struct nats *n, int64_t timeout_ms);
	/* Unsubscribes from everything, hands up what had come, and closes the connection when all has gone out; or waits so long. */
	void (*finish)(struct nats *n, int64_t timeout_ms);
};

/*
 * tine/bus.h - messages between the workers of one tined.
 *
 * Every worker is a peer with an address of its own. What a module sends goes through the primary to the module of the same
 * name ([module:NAME]) in another worker, or in all of them; what it publishes under a subject goes to everybody who has
 * subscribed to that, whatever his module.
 *
 * Order: what one worker sends to another arrives in the order in which it was sent, published messages included; where several
 * of its subscriptions fit what is published, in that order for each subscription. Between different senders there is no order.
 *
 * Delivery: a send ends as "put into the receiver's queue", or with an error that says why not; `on_done` tells which. A
 * message in the queue of a worker that dies is lost with it. Nothing is ever sent twice.
 *
 * Payloads: up to 64 KiB travel in the queue, and cost two copies; larger ones, up to [bus] max_message, as sealed memory that
 * all receivers map. A receiver sees them as bytes in either case.
 *
 * Back-pressure: queues are bounded. Functions that send return TINE_E_FULL when there is no room: then try again when the
 * service's on_writable is called. Nothing was sent until then, and others go on.
 *
 * Functions run on the worker's loop thread, from worker_start on, and copy what they are given. They return 0 or:
 *	-EINVAL		an argument is malformed, or a descriptor is to go along with more than 64 KiB
 *	-ENOMEM
 *	-EBADF		the descriptor that is to go along is not open
 *	TINE_E_FULL	no room at present; on_writable will be called
 *	TINE_E_TOO_LARGE	more than [bus] max_message
 *	TINE_E_QUOTA	too many subscriptions, requests or descriptors at a time
 *	TINE_E_CLOSED	the primary is gone
 */
#ifndef TINE_BUS_H
#define TINE_BUS_H

#include "errors.h"
#include "http.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- peers --- */

/*
 * A worker process, from its start to its end: the next one in its slot has another address. 0 is nobody's. The three below
 * stand for more than one: of the workers that are ready, so in worker_start this one is not among them yet.
 */
typedef uint32_t tine_peer;

#define TINE_PEER_ALL    UINT32_MAX       /* every worker, this one too */
#define TINE_PEER_OTHERS (UINT32_MAX - 1) /* every other worker */
#define TINE_PEER_ANY    (UINT32_MAX - 2) /* the other worker with the fewest connections */

/* Also what is published as "$tine.peer.join" when a worker is ready, and as "$tine.peer.leave" when it has ended. */
struct tine_peer_info {
	tine_peer peer;
	uint32_t slot;
	uint64_t generation;
};

/* This worker's own address. */
TINE_EXPORT tine_peer tine_bus_self(const struct tine_worker *worker);

/*
 * The workers that are ready or drain, this one too when it is ready. Fills in as many as there is room for. Returns how many
 * there are.
 */
TINE_EXPORT size_t tine_bus_peers(
	const struct tine_worker *worker, struct tine_peer_info *ret, size_t max);

/* --- receiving --- */

/*
 * A message; all of it is valid until the callback returns. The structure may grow at its end.
 */
struct tine_message {
	const void *data; /* aligned to 8 bytes */
	size_t len;
	tine_peer from;           /* 0: tined itself */
	struct tine_text subject; /* under which it was published; empty for one that was sent */
	int fd; /* a descriptor that came along, or -1: closed after the callback, unless it is set to -1 */
	uint64_t request; /* not 0: its sender waits for an answer; see tine_bus_answer() */
};

typedef void (*tine_message_fn)(struct tine_message *message, void *arg);

struct tine_bus_service {
	size_t size; /* sizeof(struct tine_bus_service) */

	/* A message for this module from its like. NULL: there are none; who sends one, and waits for an answer, is told. */
	tine_message_fn on_message;

	/* Something that returned TINE_E_FULL may have room again. May be NULL. */
	void (*on_writable)(void *arg);

	void *arg; /* handed to both; must live until worker_stop */
};

/*
 * Opens the bus for this module; in worker_start, once, before anything but subscribing. Returns -EEXIST when it is open, or when
 * the name of another module in this configuration has the same 32-bit hash.
 */
TINE_EXPORT int tine_bus_open(struct tine_worker *worker, const struct tine_bus_service *service);

/* --- sending --- */

/*
 * Called once for each send that returned 0 and had one: 0 when the message is in the queue of its receiver (of all of them), else
 * an error: TINE_E_FULL, _GONE, _NOBODY, _TOO_LARGE, _QUOTA, _CLOSED. Sent to ALL or OTHERS, an error means that not
 * everybody got it. Published, TINE_E_FULL means that nobody did. Not called after worker_stop.
 */
typedef void (*tine_done_fn)(int status, void *arg);

/*
 * The answer to a request, once: status 0 and the answer; or an error and NULL: TINE_E_TIMEOUT, what tine_done_fn may get, or
 * what the other side gave as its error. A worker that leaves does not wait for answers: it is not called after worker_stop, and
 * what is answered then goes to nobody.
 */
typedef void (*tine_answer_fn)(int status, struct tine_message *answer, void *arg);

/* All that a send may have. What is 0 is not there. */
struct tine_send {
	size_t size; /* sizeof(struct tine_send) */
	tine_peer
		to; /* a peer, or TINE_PEER_ALL, _OTHERS, _ANY; with a subject: _OTHERS leaves out this worker's own */
	const char *subject; /* publish it under this, instead of sending it */
	const void *data;
	size_t len;
	/* A descriptor of any kind that goes along, with at most 64 KiB of data: more is -EINVAL. The caller keeps its own. A socket
	 * loses SO_LINGER, if that has a time. */
	const int *fd;
	tine_done_fn on_done;
	/* It is a request. Who was asked may answer; of several, the first answer counts. */
	tine_answer_fn on_answer;
	uint64_t timeout_us; /* of the request; 0: 5 s */
	void *arg;           /* handed to both */
};

TINE_EXPORT int tine_bus_post(struct tine_worker *worker, const struct tine_send *send);

/* The same for what needs no more: messages whose fate nobody asks for. */
TINE_EXPORT int tine_bus_send(
	struct tine_worker *worker, tine_peer to, const void *data, size_t len);

/*
 * Publishes to everybody who has subscribed to what `subject` fits, this worker too. A subject is up to 16 tokens of printable
 * ASCII with dots between them, "chat.room.7", 255 bytes at most; none may be or hold `*` or `>`. Those that begin with `$`
 * are tined's own: -EINVAL; but for "$local.…", which stays on this machine whatever [bus] nats_subjects says, and which only
 * modules can publish.
 */
TINE_EXPORT int tine_bus_publish(
	struct tine_worker *worker, const char *subject, const void *data, size_t len);

/*
 * Answers a request: `to` and `request` are the message's `from` and `request`, kept for as long as it takes. status: 0, or a
 * negative errno for which the requester's on_answer is called with that error and without the data.
 */
TINE_EXPORT int tine_bus_answer(struct tine_worker *worker, tine_peer to, uint64_t request,
	int status, const void *data, size_t len);

/* --- subscriptions --- */

/* What becomes of a message when the queue of the worker that subscribed is full. */
enum tine_bus_policy {
	TINE_BUS_REFUSE, /* its sender is told so, and waits; nobody else gets it either */
	TINE_BUS_DROP_OLDEST, /* the newest wait, about [bus] queue_high / 4 of them; large payloads are dropped */
	TINE_BUS_DROP_NEWEST, /* it is lost for this subscription */
	TINE_BUS_DISCONNECT,  /* the subscription ends: on_end is called */
};

struct tine_subscribe {
	size_t size; /* sizeof(struct tine_subscribe) */
	/* A subject; `*` stands for any one token (four times at most), `>` as the last one for one or more. Wildcards do not stand for a first token
	 * that begins with `$`. */
	const char *pattern;
	/* A queue group, by a name of 1 to 63 bytes: each message goes to one of its subscriptions in all workers; NULL: to each. One
	 * that is not printable ASCII without blanks is known to this machine alone. */
	const char *group;
	enum tine_bus_policy policy;
	tine_message_fn on_message;
	/* tined has ended it: TINE_E_FULL (policy), TINE_E_QUOTA, -ENOMEM, TINE_E_CLOSED. May be NULL. */
	void (*on_end)(int status, void *arg);
	void *arg; /* handed to both; must live until it has ended */
};

struct tine_subscription;

/* Counts from the moment at which tined gets it: what this worker publishes after the call is in it. ret may be NULL: it stays. */
TINE_EXPORT int tine_bus_subscribe(
	struct tine_worker *worker, const struct tine_subscribe *s, struct tine_subscription **ret);

/* From here on nothing of it is called; also within its own callbacks, but not after on_end. NULL is fine. */
TINE_EXPORT void tine_bus_unsubscribe(struct tine_subscription *subscription);

/* How many subscriptions a subject fits, in all workers: asked of the primary. `n` is 0 when status is an error. */
TINE_EXPORT int tine_bus_count(struct tine_worker *worker, const char *subject,
	void (*on_count)(int status, uint64_t n, void *arg), void *arg);

#ifdef __cplusplus
}
#endif
#endif

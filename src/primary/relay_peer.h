/*
 * The structures that relay.c and publish.c share. Runs in the primary.
 */
#pragma once

#include <sys/queue.h>

#include "base/spin.h"
#include "primary/outlet.h"
#include "primary/relay.h"

#define RELAY_SLOTS (1u << ADDRESS_SLOT_BITS)

/* Frames that lie one behind the other in what was read and go the same way: they are copied in one piece. */
struct relay_run {
	const char *start; /* NULL: there is none */
	size_t len;
	uint64_t n, max; /* frames; how many they may be */
	uint32_t dst;
	const char *subject; /* of PUBLISH; NULL: they go to dst */
	size_t subject_len;
};

struct relay_peer {
	TAILQ_ENTRY(relay_peer) link;
	struct relay *relay;
	struct relay_peer_options o;
	struct lane *lane;
	struct outlet outlet;
	struct farm_client *farm_client; /* NULL: it has submitted no task yet */
	bool announced;
	uint64_t closed_us; /* when its lane was first seen to be closed; 0: it is open */

	/* as a sender */
	struct relay_run run;
	uint64_t n_handled, bytes_handled; /* frames it sent so far, the run included */
	uint64_t bytes_acked;
	uint64_t n_seen; /* frames, at the end of the last burst */
	bool ack_wanted;
	struct msg_nak nak; /* what is to be said next; n is 0: nothing */
	size_t work;        /* done for it since it was last interrupted */

	/* as a receiver */
	struct subscription **subs; /* by their index */
	size_t n_subs, subs_size;
	uint64_t any_given; /* messages to "any" that it got of late */
	uint64_t any_turn;
	struct relay_figures figures;
};

TAILQ_HEAD(relay_peers, relay_peer);

struct relay {
	struct event_base *base;
	const struct scoreboard *scoreboard;
	struct subjects *subjects;
	struct remote *remote;
	struct relay_peers peers;
	struct relay_peer *by_slot[RELAY_SLOTS];
	uint32_t births[RELAY_SLOTS];
	struct spin_seen seen; /* bursts of frames */
	uint64_t any_turns;
	size_t fds_left;               /* descriptors that may still be put into queues */
	struct subscription **targets; /* publish.c: room for those of one message */
	size_t targets_size;
};

/* What comes from one sender and goes to subscribers. */
struct publication {
	struct relay_peer *sender; /* NULL: the primary itself */
	char *frames;              /* each of the same subject; frame.dst is written to */
	size_t len;                /* bytes */
	uint64_t n, first; /* how many they are, and which of the sender's the first one is */
	uint32_t dst;      /* ADDRESS_OTHERS: not to the sender */
	const char *subject;
	size_t subject_len;
	int fd;         /* along with the only one; -1: none */
	uint64_t large; /* bytes behind the descriptor */
};

/* What comes with a frame that may not be copied together with others. */
struct relay_extra {
	int fd;         /* -1: none */
	uint64_t large; /* bytes behind it */
};

/* relay.c */
bool relay_serves(const struct relay_peer *p);
void relay_fail(struct relay_peer *p, uint64_t first, uint64_t n, int error);
void relay_end_subscription(struct subscription *sub, int error);

/* direct.c */
void direct_run(struct relay_peer *p, const struct relay_run *run);
void direct_welcome(struct relay_peer *p);
void direct_alone(struct relay_peer *p, struct frame *f, const struct relay_extra *x);

/* publish.c */
void publish(struct relay *r, const struct publication *p);
void publish_to(const struct publication *p, struct subscription **targets, size_t n);
#define PUBLISH_BEST 3u
unsigned publish_rank(const struct publication *p, const struct subscription *sub);
bool publish_has_room(const struct subscription *sub, uint64_t n);

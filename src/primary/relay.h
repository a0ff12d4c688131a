/*
 * The relay: messages from one process to others, through the primary. Runs in the primary, and knows of processes no more than
 * their slot, their lane and what the scoreboard says of them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/msg.h"
#include "primary/subjects.h"

struct event_base;
struct farms;
struct relay;
struct relay_peer;
struct remote;
struct scoreboard;
struct spin_seen;

struct relay_peer_options {
	uint32_t address; /* of relay_next_address() */
	enum msg_role role;
	uint64_t generation;
	int fd;                       /* of its bus lane; the relay's from here on, in any case */
	size_t queue_high, queue_low; /* bytes */
	uint64_t max_message;         /* bytes of a payload */
	size_t max_subscriptions;
	struct farms *farms; /* for which it may have tasks; NULL: none */
	void (*on_offence)(const char *why, void *arg); /* it broke a rule; its lane is closed */
	void *arg;
};

/* What went through, in frames and bytes. */
struct relay_figures {
	uint64_t sent, sent_bytes;         /* by the process */
	uint64_t received, received_bytes; /* put into its queue; those behind descriptors too */
	uint64_t failed;                   /* of those sent: refused, or to nobody */
	uint64_t dropped;                  /* before they reached it, by its policies */
	uint64_t queued;                   /* bytes that wait for it now */
	size_t n_subscriptions, n_waiting; /* senders that wait for it */
	bool full;
};

/* A message for a subscription of the primary's own. body: NULL when it is in a blob, or when there is none. */
typedef void (*relay_message_fn)(
	const char *subject, size_t subject_len, const void *body, uint64_t len, void *arg);
struct relay_tap;

int relay_new(struct event_base *base, const struct scoreboard *sb, struct relay **ret);
struct relay *relay_free(struct relay *r);
uint32_t relay_next_address(struct relay *r, unsigned slot);
int relay_attach(struct relay *r, const struct relay_peer_options *o, struct relay_peer **ret);
struct relay_peer *relay_detach(struct relay_peer *p);
void relay_announce(struct relay_peer *p);
void relay_read_rest(struct relay_peer *p);
int relay_publish(struct relay *r, const char *subject, const void *body, size_t len);
int relay_tap_new(struct relay *r, const char *pattern, relay_message_fn fn, void *arg,
	struct relay_tap **ret);
struct relay_tap *relay_tap_free(struct relay_tap *t);
void relay_heartbeat(struct relay *r, uint64_t now_us);
const struct spin_seen *relay_seen(const struct relay *r);
struct relay_figures relay_peer_figures(const struct relay_peer *p);
const struct subjects *relay_subjects(const struct relay *r);
void relay_send_last(struct relay_peer *p);
struct remote *relay_remote(const struct relay *r);

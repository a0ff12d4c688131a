/*
 * Taking connections from the listening sockets, evenly among the workers that share them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct acceptor;
struct event_base;
struct peer;
struct sb_slot;
struct scoreboard;

/* Takes over a connected socket. */
typedef void (*accept_fn)(int fd, unsigned listener, const struct peer *peer, void *arg);

struct acceptor_options {
	struct event_base *base;
	const struct scoreboard *scoreboard;
	struct sb_slot *slot; /* our own, which others are told by */
	uint64_t max_connections;
	uint32_t (*n_connections)(void *arg); /* that we hold, whatever the slot has come to say */
	accept_fn on_connection;
	bool (*free_descriptors)(
		void); /* when they run out: gives up some kept for later; false: there were none */
	/* What a client is told for whom there is none; NULL: nothing. */
	const char *(*no_descriptor_text)(unsigned listener, void *arg);
	void *arg;
};

int acceptor_new(const struct acceptor_options *o, struct acceptor **ret);
int acceptor_add(struct acceptor *a, unsigned listener, unsigned socket, int fd, bool shared);
void acceptor_remove(struct acceptor *a, unsigned listener, unsigned socket);
void acceptor_start(struct acceptor *a);
void acceptor_stop(struct acceptor *a);
void acceptor_connection_closed(struct acceptor *a);

/*
 * The connections of one process: what the worker (and later the admin process) drives.
 * One per event_base; every call on the loop's thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct admission;
struct event_base;
struct net_server;
struct net_ticker;
struct pool;
struct protocol;
struct sb_slot;
struct peer;

struct net_options {
	struct event_base *base;
	struct pool *pool;    /* for work off the loop; may be NULL */
	struct sb_slot *slot; /* counters; written with sb_add(); NULL: nobody wants to know */
	char *request_line; /* SB_REQUEST_LINE bytes that show what is served; NULL: those of the slot */
	size_t input_max; /* bytes a protocol may leave unused, at most */
	uint64_t
		window_us; /* a body, or the taking of an answer, must make progress in this time... */
	uint64_t min_rate;                 /* ...of so many bytes per second; 0: of a byte */
	const struct admission *admission; /* copied; NULL: no limits */
	void (*on_closed)(void *arg);      /* a connection is gone: room for another, or drained */
	void *arg;
};

int net_server_new(const struct net_options *o, struct net_server **ret);
struct net_server *net_server_free(struct net_server *s);

/*
 * Takes a connected, non-blocking socket; owns it in every case, also when it returns an error. service: what the
 * protocol serves there. peer: NULL when it is not known.
 */
int net_server_accept(struct net_server *s, const struct protocol *p, const void *service, int fd,
	const struct peer *peer);

/* The same for one that was served elsewhere; see connection_adopt(). */
int net_server_adopt(struct net_server *s, const struct protocol *p, const void *service, int fd,
	const struct peer *peer, const void *data, size_t len);

/*
 * From now on connections are to end: protocols are told, idle ones are closed after grace_ms, requests
 * in flight are finished.
 */
void net_server_drain(struct net_server *s, unsigned grace_ms);

/* Closes everything that is still open, without more ado. Nothing is to be adopted from here on. */
void net_server_abort(struct net_server *s);

/* Whether net_server_abort() has been called. */
bool net_server_has_ended(const struct net_server *s);

/*
 * To be called after each turn of the loop: goes on with what was touched during it and frees what was closed.
 * Returns true when there is more of it: then the loop must not wait before the next call.
 */
bool net_server_end_turn(struct net_server *s);

uint32_t net_server_connections(const struct net_server *s);
void net_server_add_ticker(struct net_server *s, struct net_ticker *t);

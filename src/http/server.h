/*
 * The HTTP server of one process: what the worker (and later the admin process) drives.
 * One per event_base; every call on the loop's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <tine/http.h>

struct conf_http;
struct event_base;
struct http_router;
struct http_server;
struct sb_slot;

struct http_server_options {
	struct event_base *base;
	const struct conf_http *conf;
	struct sb_slot *slot;         /* counters; written with sb_add() */
	void (*on_closed)(void *arg); /* a connection is gone: room for another, or drained */
	void *arg;
};

int http_server_new(const struct http_server_options *o, struct http_server **ret);
struct http_server *http_server_free(struct http_server *s);

/* Takes a connected, non-blocking socket; owns it in every case, also when it returns an error. */
int http_server_accept(struct http_server *s, const struct http_router *router, int fd);

/*
 * From now on every answer that ends a burst says "Connection: close"; a connection that has been idle for
 * grace_ms since its last answer or since this call, whichever is later, is closed. Requests in flight are finished.
 */
void http_server_drain(struct http_server *s, unsigned grace_ms);

/* Closes everything that is still open, without more ado. */
void http_server_abort(struct http_server *s);

/* To be called after each turn of the loop: frees what was closed during it. */
void http_server_end_turn(struct http_server *s);

uint32_t http_server_connections(const struct http_server *s);

/*
 * How many descriptors of files that were sent may be kept open for the next time, in all folders of this process
 * together; 256 unless told. Those being sent are extra.
 */
void http_files_set_budget(unsigned n_fds);

/* Descriptors have run out: closes half of those that are kept without use. Returns false when there was none. */
bool http_files_release_some(void);

/* Routes of one listener. Filled before the first connection, then read-only. */
struct http_router *http_router_new(void);
struct http_router *http_router_free(struct http_router *r);

enum http_route_flags {
	HTTP_ROUTE_STREAM_BODY = 1,     /* the handler is called before the body has come */
	HTTP_ROUTE_LENGTH_REQUIRED = 2, /* a body without Content-Length: 411 */
	HTTP_ROUTE_FLAGS = 3,           /* all of them */
};

struct http_route_spec {
	const char *mount; /* as in conf_module: "/" or "/x/y" */
	const char *path;  /* as in tine_http_route() */
	unsigned methods;  /* enum http_method or-ed; GET brings HEAD when no other route has it */
	tine_http_fn fn;
	void *arg;
	unsigned flags;    /* enum http_route_flags */
	uint64_t max_body; /* bytes; 0: as [http] max_body says */
};

int http_router_add(struct http_router *r, const struct http_route_spec *spec);

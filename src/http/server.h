/*
 * The HTTP server of one process: a protocol for the connections of src/net. Worker and admin.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <tine/http.h>

struct access_log;
struct conf_http;
struct http_router;
struct http_server;
struct net_server;
struct protocol;

#define HTTP_ERROR_MAX 512

/* access: stays the caller's; NULL: no access log. error: what is wrong, when there is something to say. */
int http_server_new(struct net_server *net, const struct conf_http *conf, struct access_log *access,
	char error[HTTP_ERROR_MAX], struct http_server **ret);
struct http_server *http_server_free(struct http_server *s);

/* What net_server_accept() is to be given, with a router as the service. */
const struct protocol *http_server_protocol(const struct http_server *s);

/* To be called after each turn of the loop: frees the requests that ended in it. */
void http_server_end_turn(struct http_server *s);

/* Bytes of input a connection may have to keep. */
size_t http_input_max(const struct conf_http *conf);

struct http_router *http_router_new(void);
struct http_router *http_router_free(struct http_router *r);

/*
 * How many descriptors of files that were sent may be kept open for the next time, in all folders of this process
 * together; 256 unless told. Those being sent are extra.
 */
void http_files_set_budget(unsigned n_fds);

/* Descriptors have run out: closes half of those that are kept without use. Returns false when there was none. */
bool http_files_release_some(void);

enum http_route_flags {
	HTTP_ROUTE_STREAM_BODY = TINE_ROUTE_STREAM_BODY,
	HTTP_ROUTE_LENGTH_REQUIRED = TINE_ROUTE_LENGTH_REQUIRED,
	HTTP_ROUTE_FLAGS = 3, /* all of them */
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
int http_router_use(struct http_router *r, const char *mount, const char *path,
	tine_middleware_fn fn, void *arg);

/*
 * Routes and middleware of one listener. Filled before the first connection, then read-only.
 *
 * Which route serves a path is decided segment by segment from the left: a segment of text goes before a parameter,
 * a parameter before a route that ends with '/' and stands for all the rest. So "/users/me" is served by the first of
 * "/users/me", "/users/{id}", "/users/", "/{any}/me", "/" that there is; the order of registration does not matter.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tine/http.h>

#include "http/server.h"

#define HTTP_PARAMS_MAX 8 /* parameters of one route */

/* Answer of http_router_find: the path is served, but not for this method. */
#define ROUTER_OTHER_METHOD 1

struct http_route {
	char *path; /* mount and path together */
	size_t len;
	size_t prefix_len; /* bytes of path before its first parameter; len when it has none */
	size_t mount_len;  /* bytes of path that belong to the mount point; 0 for "/" */
	unsigned methods;  /* HEAD is in when GET is, unless another route serves it */
	unsigned n_params;
	bool below;        /* path ends with '/': it stands for everything below it */
	bool more;         /* the next route has the same pattern, for other methods */
	bool head_implied; /* nobody asked for HEAD: GET brought it */
	unsigned flags;    /* enum http_route_flags */
	uint64_t max_body;
	tine_http_fn fn;
	void *arg;
};

struct http_match {
	const struct http_route *route;
	unsigned methods; /* after ROUTER_OTHER_METHOD: those that are served */
	unsigned n_params;
	struct tine_text params[HTTP_PARAMS_MAX]; /* parts of the path, in the route's order */
};

struct http_middleware {
	char *prefix; /* mount and path together, without a '/' at the end */
	size_t len;
	tine_middleware_fn fn;
	void *arg;
};

struct http_router {
	struct http_route *routes; /* the more specific first */
	size_t n_routes;
	struct http_middleware *middleware; /* in order of registration */
	size_t n_middleware;
};

int http_router_find(const struct http_router *r, struct tine_text path, unsigned method,
	struct http_match *ret);
struct tine_text http_match_param(const struct http_match *m, const char *name);

int http_router_use(struct http_router *r, const char *mount, const char *path,
	tine_middleware_fn fn, void *arg);
const struct http_middleware *http_router_next(
	const struct http_router *r, struct tine_text path, const struct http_middleware *after);

/*
 * The middleware that a normalised path goes through: the first one when `after` is NULL, else the one after it. Returns
 * NULL at the end.
 */
static inline const struct http_middleware *http_router_middleware(
	const struct http_router *r, struct tine_text path, const struct http_middleware *after)
{
	return r->n_middleware == 0 ? NULL : http_router_next(r, path, after);
}

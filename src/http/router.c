/*
 * Routes of one listener. Worker and admin.
 *
 * Always: routes are sorted by length, the longest first, so the first one that fits is the answer.
 * A service has a handful of them; comparing lengths and then bytes is as fast as anything.
 */
#include "http/router.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

struct http_router {
	struct http_route *routes;
	size_t n_routes;
};

struct http_router *http_router_new(void)
{
	return calloc(1, sizeof(struct http_router));
}

struct http_router *http_router_free(struct http_router *r)
{
	if (!r)
		return NULL;
	for (size_t i = 0; i < r->n_routes; i++)
		free(r->routes[i].path);
	free(r->routes);
	free(r);
	return NULL;
}

static int router_insert(struct http_router *r, const struct http_route *route)
{
	struct http_route *routes;
	size_t at = 0;

	routes = reallocarray(r->routes, r->n_routes + 1, sizeof(*routes));
	if (!routes)
		return -ENOMEM;
	r->routes = routes;
	while (at < r->n_routes && routes[at].len >= route->len)
		at++;
	memmove(routes + at + 1, routes + at, (r->n_routes - at) * sizeof(*routes));
	routes[at] = *route;
	r->n_routes++;
	return 0;
}

int http_router_add(struct http_router *r, const char *mount, unsigned methods, const char *path,
	tine_http_fn fn, void *arg)
{
	size_t mount_len = strcmp(mount, "/") == 0 ? 0 : strlen(mount);
	size_t len = mount_len + strlen(path);
	CLEANUP(freep) char *full = NULL;
	int e;

	if (path[0] != '/' || mount[0] != '/' || !fn)
		return -EINVAL;
	if (methods & TINE_GET)
		methods |= TINE_HEAD;
	for (size_t i = 0; i < r->n_routes; i++)
		if (r->routes[i].len == len && memcmp(r->routes[i].path, mount, mount_len) == 0 &&
			strcmp(r->routes[i].path + mount_len, path) == 0)
			return -EEXIST;
	if (asprintf(&full, "%.*s%s", (int)mount_len, mount, path) < 0) {
		full = NULL;
		return -ENOMEM;
	}
	e = router_insert(r,
		&(struct http_route){.path = full,
			.len = len,
			.mount_len = mount_len,
			.below = full[len - 1] == '/',
			.methods = methods,
			.fn = fn,
			.arg = arg});
	if (e == 0)
		full = NULL; /* the route's now */
	return e;
}

/*
 * Finds the longest route that fits a normalised path. "/x/" fits "/x" too, unless that is a route
 * of its own. Returns 0 and *ret, or -ENOENT.
 */
int http_router_find(
	const struct http_router *r, struct tine_text path, const struct http_route **ret)
{
	const struct http_route *folder = NULL;

	for (size_t i = 0; i < r->n_routes; i++) {
		const struct http_route *route = &r->routes[i];

		if (route->len > path.len) {
			if (route->below && route->len == path.len + 1 &&
				memcmp(route->path, path.data, path.len) == 0)
				folder = route;
			continue;
		}
		if (folder && route->len < path.len)
			break;
		if ((route->below || route->len == path.len) &&
			memcmp(route->path, path.data, route->len) == 0) {
			*ret = route;
			return 0;
		}
	}
	*ret = folder;
	return folder ? 0 : -ENOENT;
}

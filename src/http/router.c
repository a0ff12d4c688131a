/*
 * Routes and middleware of one listener. Worker and admin.
 *
 * Always: routes are sorted, the more specific first, so the first one that fits is the answer, and
 * those that share a pattern are neighbours. A service has a handful of them; comparing lengths and
 * then bytes is as fast as anything.
 */
#include "http/router.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

/* The more specific first. */
enum segment_kind { SEGMENT_TEXT, SEGMENT_PARAM, SEGMENT_END, SEGMENT_REST };

struct segment {
	enum segment_kind kind;
	struct tine_text text; /* of a parameter: its name */
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
	for (size_t i = 0; i < r->n_middleware; i++)
		free(r->middleware[i].prefix);
	free(r->routes);
	free(r->middleware);
	free(r);
	return NULL;
}

static bool text_is(struct tine_text a, struct tine_text b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* The segment whose '/' is at *at, which is moved on to the next one. A mount has no parameters. */
static struct segment segment_next(const struct http_route *route, size_t *at)
{
	bool in_mount = *at < route->mount_len;
	const char *p = route->path + *at + 1;
	size_t len;

	if (*at == route->len)
		return (struct segment){.kind = SEGMENT_END};
	if (*p == '\0')
		return (struct segment){.kind = SEGMENT_REST};
	len = strcspn(p, "/");
	*at += 1 + len;
	if (*p == '{' && !in_mount)
		return (struct segment){SEGMENT_PARAM, {p + 1, len - 2}};
	return (struct segment){SEGMENT_TEXT, {p, len}};
}

static bool name_is_valid(struct tine_text name)
{
	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];

		if (!(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') &&
			c != '_')
			return false;
	}
	return name.len > 0;
}

/* Normalised paths have no such segments: a route with one would never be found. */
static bool segment_is_lost(const char *p, size_t len)
{
	return len == 0 || (len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.');
}

/* Returns how many parameters a pattern has, or -EINVAL when it is malformed. */
static int pattern_check(const char *path)
{
	struct tine_text names[HTTP_PARAMS_MAX];
	size_t len, n = 0;

	if (path[0] != '/')
		return -EINVAL;
	for (const char *p = path; *p && p[1]; p += len) {
		len = strcspn(++p, "/");
		if (segment_is_lost(p, len))
			return -EINVAL;
		if (strcspn(p, "{}") >= len)
			continue;
		if (n == HTTP_PARAMS_MAX || *p != '{' || p[len - 1] != '}')
			return -EINVAL;
		names[n] = (struct tine_text){p + 1, len - 2};
		if (!name_is_valid(names[n]))
			return -EINVAL;
		for (size_t i = 0; i < n; i++)
			if (text_is(names[i], names[n]))
				return -EINVAL;
		n++;
	}
	return (int)n;
}

/* Whatever order texts have among themselves: two of them never fit the same path. */
static int text_compare(struct tine_text a, struct tine_text b)
{
	if (a.len != b.len)
		return a.len < b.len ? -1 : 1;
	return memcmp(a.data, b.data, a.len);
}

/* < 0: a before b; 0: the same pattern, whatever its parameters are called. */
static int route_compare(const struct http_route *a, const struct http_route *b)
{
	size_t at_a = 0, at_b = 0;

	for (;;) {
		struct segment x = segment_next(a, &at_a), y = segment_next(b, &at_b);
		int order = x.kind == SEGMENT_TEXT && y.kind == SEGMENT_TEXT
			? text_compare(x.text, y.text)
			: (int)x.kind - (int)y.kind;

		if (order != 0 || x.kind >= SEGMENT_END)
			return order;
	}
}

/*
 * Shares the methods of one pattern, routes[first] to routes[end - 1], with another route of it:
 * HEAD belongs to the one that asks for it, else to the one that has GET.
 */
static int router_share_methods(
	struct http_router *r, size_t first, size_t end, struct http_route *route)
{
	unsigned taken = 0;

	for (size_t i = first; i < end; i++)
		taken |= r->routes[i].methods & ~(r->routes[i].head_implied ? TINE_HEAD : 0u);
	if (taken & route->methods)
		return -EEXIST;
	if (route->methods & TINE_HEAD) {
		for (size_t i = first; i < end; i++) {
			if (!r->routes[i].head_implied)
				continue;
			r->routes[i].methods &= ~(unsigned)TINE_HEAD;
			r->routes[i].head_implied = false;
		}
	} else if ((route->methods & TINE_GET) && !(taken & TINE_HEAD)) {
		route->methods |= TINE_HEAD;
		route->head_implied = true;
	}
	return 0;
}

static int router_insert(struct http_router *r, struct http_route *route)
{
	struct http_route *routes = reallocarray(r->routes, r->n_routes + 1, sizeof(*routes));
	size_t first = 0, end;
	int e;

	if (!routes)
		return -ENOMEM;
	r->routes = routes;
	while (first < r->n_routes && route_compare(&routes[first], route) < 0)
		first++;
	for (end = first; end < r->n_routes && route_compare(&routes[end], route) == 0; end++)
		;
	e = router_share_methods(r, first, end, route);
	if (e < 0)
		return e;
	if (end > first)
		routes[end - 1].more = true;
	memmove(routes + end + 1, routes + end, (r->n_routes - end) * sizeof(*routes));
	routes[end] = *route;
	r->n_routes++;
	return 0;
}

static size_t mount_length(const char *mount)
{
	return strcmp(mount, "/") == 0 ? 0 : strlen(mount);
}

/*
 * Adds a route. spec and its texts need not outlive the call, spec->arg must outlive the router.
 * Several routes may have the same pattern when their methods differ; "/{a}" and "/{b}" are the
 * same. Returns 0; -EINVAL for a malformed path, no or unknown methods, unknown flags; -EEXIST;
 * -ENOMEM.
 */
int http_router_add(struct http_router *r, const struct http_route_spec *spec)
{
	size_t mount_len = mount_length(spec->mount);
	struct http_route route = {.len = mount_len + strlen(spec->path),
		.mount_len = mount_len,
		.methods = spec->methods,
		.flags = spec->flags,
		.max_body = spec->max_body,
		.fn = spec->fn,
		.arg = spec->arg};
	int n = pattern_check(spec->path), e;

	if (n < 0 || spec->mount[0] != '/' || !spec->fn || spec->methods == 0 ||
		(spec->flags & ~(unsigned)HTTP_ROUTE_FLAGS))
		return -EINVAL;
	if (asprintf(&route.path, "%.*s%s", (int)mount_len, spec->mount, spec->path) < 0)
		return -ENOMEM;
	route.n_params = (unsigned)n;
	route.prefix_len = mount_len + strcspn(spec->path, "{");
	route.below = route.path[route.len - 1] == '/';
	e = router_insert(r, &route);
	if (e < 0)
		free(route.path);
	return e;
}

/* A route with parameters, whose text before the first of them is known to fit. */
static bool params_fit(const struct http_route *route, struct tine_text path, struct http_match *m)
{
	const char *p = path.data + route->prefix_len - 1, *end = path.data + path.len;
	size_t at = route->prefix_len - 1;
	unsigned n = 0;
	struct segment s;

	while ((s = segment_next(route, &at)).kind < SEGMENT_END) {
		struct tine_text part = {p + 1, 0};

		if (p == end)
			return false;
		while (part.data + part.len < end && part.data[part.len] != '/')
			part.len++;
		if (s.kind == SEGMENT_TEXT ? !text_is(s.text, part) : part.len == 0)
			return false;
		if (s.kind == SEGMENT_PARAM)
			m->params[n++] = part;
		p = part.data + part.len;
	}
	if (s.kind == SEGMENT_END && p != end)
		return false;
	m->n_params = n;
	return true;
}

/* "/x/" fits "/x" too; if that is a route of its own, it was looked at before. */
static inline bool route_fits(
	const struct http_route *route, struct tine_text path, struct http_match *m)
{
	if (route->prefix_len > path.len)
		return route->below && route->len == path.len + 1 &&
			memcmp(route->path, path.data, path.len) == 0;
	if (!route->below && route->n_params == 0 && route->len != path.len)
		return false;
	/* both begin with '/', and many a service has the route "/" and no other */
	if (route->prefix_len > 1 && memcmp(route->path, path.data, route->prefix_len) != 0)
		return false;
	return route->n_params == 0 || params_fit(route, path, m);
}

/*
 * Finds what serves a normalised path, at a cost linear in the number of routes. Returns 0 with
 * ret->route and its parameters, which point into path; ROUTER_OTHER_METHOD with ret->methods, all
 * those of the pattern that fits best; or -ENOENT. What is not named is not set.
 */
int http_router_find(
	const struct http_router *r, struct tine_text path, unsigned method, struct http_match *ret)
{
	const struct http_route *route = r->routes, *end = r->routes + r->n_routes;
	unsigned methods = 0;

	ret->n_params = 0;
	while (route < end && !route_fits(route, path, ret))
		route++;
	if (route == end)
		return -ENOENT;
	for (;; route++) {
		if (route->methods & method) {
			ret->route = route;
			return 0;
		}
		methods |= route->methods;
		if (!route->more)
			break;
	}
	ret->methods = methods;
	return ROUTER_OTHER_METHOD;
}

/* A parameter by its name; data is NULL when the route has none of it. Valid as long as the path. */
struct tine_text http_match_param(const struct http_match *m, const char *name)
{
	struct tine_text wanted = {name, strlen(name)};
	size_t at = 0, i = 0;

	while (i < m->n_params) {
		struct segment s = segment_next(m->route, &at);

		if (s.kind != SEGMENT_PARAM)
			continue;
		if (text_is(s.text, wanted))
			return m->params[i];
		i++;
	}
	return (struct tine_text){NULL, 0};
}

/*
 * Has fn called for every request at or below mount and path, after what was added before. arg
 * must outlive the router. Returns 0; -EINVAL for a malformed path or one with parameters; -ENOMEM.
 */
int http_router_use(struct http_router *r, const char *mount, const char *path,
	tine_middleware_fn fn, void *arg)
{
	size_t mount_len = mount_length(mount), len = mount_len + strlen(path);
	struct http_middleware *all;
	char *prefix;

	if (mount[0] != '/' || pattern_check(path) != 0 || !fn)
		return -EINVAL;
	all = reallocarray(r->middleware, r->n_middleware + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	r->middleware = all;
	if (asprintf(&prefix, "%.*s%s", (int)mount_len, mount, path) < 0)
		return -ENOMEM;
	if (prefix[len - 1] == '/')
		len--;
	all[r->n_middleware++] = (struct http_middleware){prefix, len, fn, arg};
	return 0;
}

/* http_router_middleware() when there is any. */
const struct http_middleware *http_router_next(
	const struct http_router *r, struct tine_text path, const struct http_middleware *after)
{
	const struct http_middleware *end = r->middleware + r->n_middleware, *m;

	for (m = after ? after + 1 : r->middleware; m < end; m++)
		if (m->len <= path.len && memcmp(m->prefix, path.data, m->len) == 0 &&
			(m->len == path.len || path.data[m->len] == '/'))
			return m;
	return NULL;
}

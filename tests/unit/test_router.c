/* http/router.c: which route serves a path, what it goes through before. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/parser.h"
#include "http/router.h"
#include "run.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct http_router *router;

static void handler(struct tine_request *request, void *arg)
{
}

static int middleware(struct tine_request *request, void *arg)
{
	return TINE_NEXT;
}

static void setup(void)
{
	router = http_router_new();
}

static void teardown(void)
{
	router = http_router_free(router);
}

static int add_for(unsigned methods, const char *mount, const char *path, void *arg)
{
	return http_router_add(router,
		&(struct http_route_spec){.mount = mount,
			.path = path,
			.methods = methods,
			.fn = handler,
			.arg = arg});
}

static int add(const char *mount, const char *path)
{
	return add_for(METHOD_GET, mount, path, NULL);
}

static struct tine_text text(const char *s)
{
	return (struct tine_text){s, strlen(s)};
}

/* The route's path, or "" when there is none. */
static const char *find(const char *path)
{
	struct http_match m;
	int r = http_router_find(router, text(path), METHOD_GET, &m);

	ck_assert(r == 0 || r == -ENOENT);
	return r == 0 ? m.route->path : "";
}

/* "name=value" of each parameter, in the order of the route, comma-separated. */
static const char *find_params(const char *path)
{
	static char buf[512];
	struct http_match m;
	size_t n = 0, i = 0;

	ck_assert_int_eq(http_router_find(router, text(path), METHOD_GET, &m), 0);
	ck_assert_uint_eq(m.n_params, m.route->n_params);
	buf[0] = '\0';
	for (const char *p = m.route->path; (p = strchr(p, '{')); i++) {
		char name[64];
		int len = (int)strcspn(++p, "}");

		ck_assert_uint_lt(i, m.n_params);
		snprintf(name, sizeof(name), "%.*s", len, p);
		ck_assert_ptr_eq(http_match_param(&m, name).data, m.params[i].data);
		n += (size_t)snprintf(buf + n, sizeof(buf) - n, "%s%s=%.*s", i > 0 ? "," : "", name,
			(int)m.params[i].len, m.params[i].data);
	}
	ck_assert_uint_eq(i, m.n_params);
	return buf;
}

static const struct {
	const char *path, *route;
} plain_cases[] = {
	{"/", "/"},
	{"/x", "/"},
	{"/a", "/a"},
	{"/ab", "/"},
	{"/a/", "/a/"},
	{"/a/x/y", "/a/"},
	{"/a/b", "/a/b/"},
	{"/a/b/", "/a/b/"},
	{"/a/b/c", "/a/b/c"},
	{"/a/b/cd", "/a/b/"},
	{"/a/b/c/", "/a/b/"},
	{"/a/b/c/d", "/a/b/"},
};

START_TEST(test_plain)
{
	add("/", "/");
	add("/", "/a");
	add("/", "/a/b/");
	add("/", "/a/");
	add("/", "/a/b/c");
	ck_assert_str_eq(find(plain_cases[_i].path), plain_cases[_i].route);
}
END_TEST

START_TEST(test_exact_only)
{
	add("/", "/a");
	ck_assert_str_eq(find("/a"), "/a");
	ck_assert_str_eq(find("/a/"), "");
	ck_assert_str_eq(find("/a/b"), "");
	ck_assert_str_eq(find("/"), "");
	ck_assert_str_eq(find("/b"), "");
}
END_TEST

START_TEST(test_folder_without_slash)
{
	add("/", "/x/");
	add("/", "/abc/");
	ck_assert_str_eq(find("/x"), "/x/");
	ck_assert_str_eq(find("/y"), "");
	ck_assert_str_eq(find("/abc"), "/abc/");
	ck_assert_str_eq(find("/abd"), "");
}
END_TEST

START_TEST(test_mounts)
{
	struct http_match m;

	ck_assert_int_eq(add("/m", "/"), 0);
	ck_assert_int_eq(add("/m/n", "/"), 0);
	ck_assert_int_eq(add("/", "/"), 0);
	ck_assert_int_eq(add("/m", "/n/"), -EEXIST);
	ck_assert_int_eq(add("/m", "/"), -EEXIST);
	ck_assert_str_eq(find("/m"), "/m/");
	ck_assert_str_eq(find("/m/n/x"), "/m/n/");
	ck_assert_str_eq(find("/mm"), "/");
	ck_assert_int_eq(http_router_find(router, text("/m/n/x"), METHOD_GET, &m), 0);
	ck_assert_uint_eq(m.route->mount_len, 4);
	ck_assert_int_eq(http_router_find(router, text("/z"), METHOD_GET, &m), 0);
	ck_assert_uint_eq(m.route->mount_len, 0);
	ck_assert_uint_eq(m.route->methods, METHOD_GET | METHOD_HEAD);
}
END_TEST

/* A mount is text, whatever it holds. */
START_TEST(test_mount_with_braces)
{
	ck_assert_int_eq(add("/{m}", "/x/{id}"), 0);
	ck_assert_str_eq(find("/{m}/x/7"), "/{m}/x/{id}");
	ck_assert_str_eq(find("/q/x/7"), "");
	ck_assert_int_eq(add("/", "/{m}/x/{id}"), 0);
	ck_assert_str_eq(find_params("/q/x/7"), "m=q,id=7");
}
END_TEST

static const char *const malformed[] = {"a", "", "{a}", "/{", "/}", "/{}", "/a{b}", "/{b}a",
	"/{a}{b}", "/{a", "/{abc", "/{abc}}", "/a}", "/{a-b}", "/{a b}", "/{{a}}", "/{\xc3\xa9}",
	"/{a}/{a}", "/{a}/b/{a}/", "/{a}/{}", "/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}/{9}", "//", "/a//b",
	"/a//", "//a", "/.", "/..", "/a/../b", "/a/./", "/{a}//"};

START_TEST(test_malformed)
{
	ck_assert_int_eq(add("/", malformed[_i]), -EINVAL);
	ck_assert_int_eq(add("/m", malformed[_i]), -EINVAL);
	ck_assert_int_eq(http_router_use(router, "/", malformed[_i], middleware, NULL), -EINVAL);
	ck_assert_str_eq(find("/"), "");
	ck_assert_ptr_null(http_router_middleware(router, text("/"), NULL));
}
END_TEST

START_TEST(test_refused)
{
	struct http_route_spec s = {
		.mount = "/", .path = "/", .methods = METHOD_GET, .fn = handler};

	s.fn = NULL;
	ck_assert_int_eq(http_router_add(router, &s), -EINVAL);
	s.fn = handler;
	s.methods = 0;
	ck_assert_int_eq(http_router_add(router, &s), -EINVAL);
	s.methods = METHOD_GET;
	s.mount = "m";
	ck_assert_int_eq(http_router_add(router, &s), -EINVAL);
	s.mount = "/";
	s.flags = 1u << 7;
	ck_assert_int_eq(http_router_add(router, &s), -EINVAL);
	ck_assert_str_eq(find("/"), "");
	s.flags = HTTP_ROUTE_STREAM_BODY | HTTP_ROUTE_LENGTH_REQUIRED;
	ck_assert_int_eq(http_router_add(router, &s), 0);
	ck_assert_int_eq(http_router_add(router, &s), -EEXIST);
	ck_assert_int_eq(http_router_use(router, "/", "/", NULL, NULL), -EINVAL);
	ck_assert_int_eq(http_router_use(router, "/", "/{a}", middleware, NULL), -EINVAL);
	ck_assert_int_eq(http_router_use(router, "m", "/", middleware, NULL), -EINVAL);
}
END_TEST

START_TEST(test_options_of_a_route)
{
	struct http_route_spec s = {.mount = "/m",
		.path = "/up",
		.methods = METHOD_PUT | METHOD_POST,
		.fn = handler,
		.arg = &s,
		.flags = HTTP_ROUTE_STREAM_BODY,
		.max_body = UINT64_C(1) << 40};
	struct http_match m;

	ck_assert_int_eq(http_router_add(router, &s), 0);
	ck_assert_int_eq(http_router_find(router, text("/m/up"), METHOD_PUT, &m), 0);
	ck_assert_uint_eq(m.route->flags, HTTP_ROUTE_STREAM_BODY);
	ck_assert_uint_eq(m.route->max_body, UINT64_C(1) << 40);
	ck_assert_uint_eq(m.route->methods, METHOD_PUT | METHOD_POST);
	ck_assert_ptr_eq(m.route->arg, &s);
	ck_assert(m.route->fn == handler);
	ck_assert_uint_eq(m.n_params, 0);
}
END_TEST

static const struct {
	const char *route, *path, *params; /* params NULL: does not fit */
} param_cases[] = {
	{"/users/{id}", "/users/7", "id=7"},
	{"/users/{id}", "/users/a.b-c {d}", "id=a.b-c {d}"},
	{"/users/{id}", "/users/", NULL},
	{"/users/{id}", "/users", NULL},
	{"/users/{id}", "/user", NULL},
	{"/users/{id}", "/users/7/", NULL},
	{"/users/{id}", "/users/7/x", NULL},
	{"/users/{id}", "/Users/7", NULL},
	{"/users/{id}", "/", NULL},
	{"/users/{id}/posts/{post}", "/users/7/posts/12", "id=7,post=12"},
	{"/users/{id}/posts/{post}", "/users/7/post/12", NULL},
	{"/users/{id}/posts/{post}", "/users/7/postss/12", NULL},
	{"/users/{id}/posts/{post}", "/users/7/posts", NULL},
	{"/users/{id}/posts/{post}", "/users/7/posts/", NULL},
	{"/users/{id}/posts/{post}", "/users//posts/12", NULL},
	{"/users/{id}/posts", "/users/7/posts", "id=7"},
	{"/users/{id}/posts", "/users/7/posts/", NULL},
	{"/users/{id}/posts", "/users/7/post", NULL},
	{"/users/{id}/posts", "/users/7", NULL},
	{"/users/{id}/", "/users/7", "id=7"},
	{"/users/{id}/", "/users/7/", "id=7"},
	{"/users/{id}/", "/users/7/a/b", "id=7"},
	{"/users/{id}/", "/users/", NULL},
	{"/users/{id}/", "/users", NULL},
	{"/users/{id}/x/", "/users/7/x", "id=7"},
	{"/users/{id}/x/", "/users/7/xy", NULL},
	{"/users/{id}/x/", "/users/7", NULL},
	{"/{a}", "/x", "a=x"},
	{"/{a}", "/", NULL},
	{"/{a}/", "/x/y", "a=x"},
	{"/{a}/", "/", NULL},
	{"/{A_9}/{a}", "/x/y", "A_9=x,a=y"},
	{"/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}", "/a/b/c/d/e/f/g/h", "1=a,2=b,3=c,4=d,5=e,6=f,7=g,8=h"},
	{"/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}", "/a/b/c/d/e/f/g", NULL},
	{"/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}/", "/a/b/c/d/e/f/g/h/i",
		"1=a,2=b,3=c,4=d,5=e,6=f,7=g,8=h"},
};

/* In a buffer of exactly the path's size, so that reading on is found out. */
START_TEST(test_params)
{
	size_t len = strlen(param_cases[_i].path);
	char *path = malloc(len);
	struct http_match m;
	int r;

	ck_assert_int_eq(add("/", param_cases[_i].route), 0);
	memcpy(path, param_cases[_i].path, len);
	r = http_router_find(router, (struct tine_text){path, len}, METHOD_GET, &m);
	free(path);
	ck_assert_int_eq(r, param_cases[_i].params ? 0 : -ENOENT);
	if (r == 0)
		ck_assert_str_eq(find_params(param_cases[_i].path), param_cases[_i].params);
}
END_TEST

START_TEST(test_param_by_name)
{
	struct http_match m;

	add("/m", "/{a}/{ab}");
	add("/m", "/x");
	ck_assert_int_eq(http_router_find(router, text("/m/1/2"), METHOD_GET, &m), 0);
	ck_assert_uint_eq(http_match_param(&m, "ab").len, 1);
	ck_assert_int_eq(http_match_param(&m, "ab").data[0], '2');
	ck_assert_ptr_null(http_match_param(&m, "b").data);
	ck_assert_ptr_null(http_match_param(&m, "").data);
	ck_assert_int_eq(http_router_find(router, text("/m/x"), METHOD_GET, &m), 0);
	ck_assert_ptr_null(http_match_param(&m, "a").data);
}
END_TEST

static const char *const mixed[] = {"/", "/users/", "/users/me", "/users/{id}", "/users/{id}/",
	"/users/{id}/posts", "/users/{id}/posts/{post}", "/users/{id}/{what}", "/users/me/posts/",
	"/{any}/me", "/{any}/me/", "/{any}/{b}/c", "/files/", "/files/{name}", "/x/{a}/y", "/x/z/"};

static const struct {
	const char *path, *route;
} mixed_cases[] = {
	{"/users/me", "/users/me"},
	{"/users/you", "/users/{id}"},
	{"/users/me/", "/users/{id}/"},
	{"/users/", "/users/"},
	{"/users", "/users/"},
	{"/users/7/posts", "/users/{id}/posts"},
	{"/users/me/posts", "/users/me/posts/"},
	{"/users/me/posts/1", "/users/me/posts/"},
	{"/users/7/posts/1", "/users/{id}/posts/{post}"},
	{"/users/7/likes", "/users/{id}/{what}"},
	{"/users/me/likes", "/users/{id}/{what}"},
	{"/users/7/likes/2", "/users/{id}/"},
	{"/users/7/posts/1/2", "/users/{id}/"},
	{"/them/me", "/{any}/me"},
	{"/them/me/too", "/{any}/me/"},
	{"/them/you", "/"},
	{"/them/you/c", "/{any}/{b}/c"},
	{"/them/me/c", "/{any}/me/"},
	{"/files/a", "/files/{name}"},
	{"/files/a/b", "/files/"},
	{"/files", "/files/"},
	{"/x/1/y", "/x/{a}/y"},
	{"/x/z/y", "/x/z/"},
	{"/x/1/z", "/"},
	{"/other", "/"},
};

/* Each of many orders of registration gives the same answers. */
START_TEST(test_specificity)
{
	size_t order[N(mixed)];

	for (size_t i = 0; i < N(mixed); i++)
		order[i] = i;
	srand((unsigned)_i);
	for (size_t i = N(mixed) - 1; i > 0; i--) {
		size_t j = (size_t)rand() % (i + 1), was = order[i];

		order[i] = order[j];
		order[j] = was;
	}
	for (size_t i = 0; i < N(mixed); i++)
		ck_assert_int_eq(add("/", mixed[order[i]]), 0);
	for (size_t i = 0; i < N(mixed_cases); i++)
		ck_assert_str_eq(find(mixed_cases[i].path), mixed_cases[i].route);
}
END_TEST

static const struct {
	const char *a, *b;
	int expected;
} same_cases[] = {
	{"/{a}", "/{b}", -EEXIST},
	{"/x/{a}/y", "/x/{other}/y", -EEXIST},
	{"/x/{a}/", "/x/{b}/", -EEXIST},
	{"/x/{a}", "/x/{a}/", 0},
	{"/x/{a}", "/x/a", 0},
	{"/x/", "/x", 0},
	{"/x/{a}/y", "/x/{a}/z", 0},
	{"/x/{a}/{b}", "/x/{b}/{a}", -EEXIST},
};

START_TEST(test_same_pattern)
{
	ck_assert_int_eq(add("/m", same_cases[_i].a), 0);
	ck_assert_int_eq(add("/m", same_cases[_i].b), same_cases[_i].expected);
	ck_assert_int_eq(add_for(METHOD_GET | METHOD_POST, "/m", same_cases[_i].a, NULL), -EEXIST);
	ck_assert_int_eq(add_for(METHOD_POST, "/m", same_cases[_i].b, NULL), 0);
}
END_TEST

static const struct {
	unsigned method;
	const char *path;
	int expected;
	int route;        /* which of those added */
	unsigned methods; /* of ROUTER_OTHER_METHOD */
} method_cases[] = {
	{METHOD_GET, "/i/7", 0, 0, 0},
	{METHOD_HEAD, "/i/7", 0, 0, 0},
	{METHOD_DELETE, "/i/7", 0, 1, 0},
	{METHOD_PUT, "/i/7", 0, 2, 0},
	{METHOD_PATCH, "/i/7", 0, 2, 0},
	{METHOD_POST, "/i/7", ROUTER_OTHER_METHOD, -1,
		METHOD_GET | METHOD_HEAD | METHOD_DELETE | METHOD_PUT | METHOD_PATCH},
	{METHOD_UNKNOWN, "/i/7", ROUTER_OTHER_METHOD, -1,
		METHOD_GET | METHOD_HEAD | METHOD_DELETE | METHOD_PUT | METHOD_PATCH},
	{METHOD_POST, "/i/", 0, 3, 0},
	{METHOD_POST, "/i", 0, 3, 0},
	{METHOD_GET, "/i", ROUTER_OTHER_METHOD, -1, METHOD_POST},
	{METHOD_GET, "/h", 0, 4, 0},
	{METHOD_HEAD, "/h", 0, 5, 0},
	{METHOD_POST, "/h", ROUTER_OTHER_METHOD, -1, METHOD_GET | METHOD_HEAD},
	{METHOD_HEAD, "/g", 0, 6, 0},
	{METHOD_GET, "/g", 0, 7, 0},
	{METHOD_GET, "/none", -ENOENT, -1, 0},
};

START_TEST(test_methods)
{
	static const struct {
		unsigned methods;
		const char *path;
	} routes[] = {
		{METHOD_GET, "/i/{id}"},
		{METHOD_DELETE, "/i/{name}"},
		{METHOD_PUT | METHOD_PATCH, "/i/{id}"},
		{METHOD_POST, "/i/"},
		{METHOD_GET, "/h"},
		{METHOD_HEAD, "/h"},
		{METHOD_HEAD, "/g"},
		{METHOD_GET, "/g"},
	};
	static int args[N(routes)];
	struct http_match m;

	for (size_t i = 0; i < N(routes); i++)
		ck_assert_int_eq(add_for(routes[i].methods, "/", routes[i].path, &args[i]), 0);
	ck_assert_int_eq(add_for(METHOD_HEAD, "/", "/h", NULL), -EEXIST);
	ck_assert_int_eq(add_for(METHOD_HEAD, "/", "/g", NULL), -EEXIST);
	ck_assert_int_eq(add_for(METHOD_PATCH | METHOD_OPTIONS, "/", "/i/{x}", NULL), -EEXIST);
	ck_assert_int_eq(
		http_router_find(router, text(method_cases[_i].path), method_cases[_i].method, &m),
		method_cases[_i].expected);
	if (method_cases[_i].expected == 0) {
		ck_assert_uint_eq(m.route->methods & TINE_HEAD,
			m.route->arg == &args[0]
				? TINE_HEAD
				: routes[method_cases[_i].route].methods & TINE_HEAD);
		ck_assert_ptr_eq(m.route->arg, &args[method_cases[_i].route]);
	}
	if (method_cases[_i].expected == ROUTER_OTHER_METHOD)
		ck_assert_uint_eq(m.methods, method_cases[_i].methods);
}
END_TEST

/* Each of two routes of a pattern calls its parameter as it likes. */
START_TEST(test_names_are_the_routes)
{
	struct http_match m;

	add_for(METHOD_GET, "/", "/i/{id}", NULL);
	add_for(METHOD_PUT, "/", "/i/{name}", NULL);
	ck_assert_int_eq(http_router_find(router, text("/i/7"), METHOD_PUT, &m), 0);
	ck_assert_int_eq(http_match_param(&m, "name").data[0], '7');
	ck_assert_ptr_null(http_match_param(&m, "id").data);
}
END_TEST

static const struct {
	const char *path, *through; /* the letters of those it goes through, in order */
} middleware_cases[] = {
	{"/", "ac"},
	{"/a", "abc"},
	{"/a/", "abc"},
	{"/a/x", "abc"},
	{"/ab", "ac"},
	{"/m", "acde"},
	{"/m/", "acde"},
	{"/m/x", "acde"},
	{"/m/a/b", "acdef"},
	{"/m/a", "acdef"},
	{"/m/ab", "acde"},
	{"/mm", "ac"},
};

START_TEST(test_middleware)
{
	static const struct {
		const char *mount, *path;
	} all[] = {{"/", "/"}, {"/", "/a/"}, {"/", "/"}, {"/m", "/"}, {"/", "/m"}, {"/m", "/a"}};
	static char letters[] = "abcdef";
	const struct http_middleware *m = NULL;
	char through[8] = "";
	size_t n = 0;

	ck_assert_ptr_null(http_router_middleware(router, text("/"), NULL));
	for (size_t i = 0; i < N(all); i++)
		ck_assert_int_eq(
			http_router_use(router, all[i].mount, all[i].path, middleware, &letters[i]),
			0);
	while ((m = http_router_middleware(router, text(middleware_cases[_i].path), m))) {
		ck_assert(m->fn == middleware);
		ck_assert_uint_lt(n, sizeof(through) - 1);
		through[n++] = *(char *)m->arg;
	}
	ck_assert_str_eq(through, middleware_cases[_i].through);
}
END_TEST

START_TEST(test_many)
{
	char path[32];

	for (int i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), "/r%d%s", i, i % 2 ? "/" : "");
		ck_assert_int_eq(add("/", path), 0);
	}
	for (int i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), "/r%d%s", i, i % 2 ? "/" : "");
		ck_assert_str_eq(find(path), path);
	}
	ck_assert_str_eq(find("/r300"), "");
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, test_plain, 0, N(plain_cases));
	tcase_add_test(tc, test_exact_only);
	tcase_add_test(tc, test_folder_without_slash);
	tcase_add_test(tc, test_mounts);
	tcase_add_test(tc, test_mount_with_braces);
	tcase_add_loop_test(tc, test_malformed, 0, N(malformed));
	tcase_add_test(tc, test_refused);
	tcase_add_test(tc, test_options_of_a_route);
	tcase_add_loop_test(tc, test_params, 0, N(param_cases));
	tcase_add_test(tc, test_param_by_name);
	tcase_add_loop_test(tc, test_specificity, 0, 50);
	tcase_add_loop_test(tc, test_same_pattern, 0, N(same_cases));
	tcase_add_loop_test(tc, test_methods, 0, N(method_cases));
	tcase_add_test(tc, test_names_are_the_routes);
	tcase_add_loop_test(tc, test_middleware, 0, N(middleware_cases));
	tcase_add_test(tc, test_many);
}

int main(void)
{
	return run_tests("router", add_tests);
}

/* http/router.c: which route serves a path. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/router.h"
#include "run.h"

static struct http_router *router;

static void handler(struct tine_request *request, void *arg)
{
}

static void setup(void)
{
	router = http_router_new();
}

static void teardown(void)
{
	router = http_router_free(router);
}

static int add(const char *mount, const char *path)
{
	return http_router_add(router, mount, TINE_GET, path, handler, NULL);
}

/* The route's path, or "" when there is none. */
static const char *find(const char *path)
{
	const struct http_route *route = NULL;
	int r = http_router_find(router, (struct tine_text){path, strlen(path)}, &route);

	ck_assert(r == 0 || r == -ENOENT);
	return r == 0 ? route->path : "";
}

START_TEST(test_longest_wins)
{
	add("/", "/");
	add("/", "/a");
	add("/", "/a/b/");
	add("/", "/a/");
	add("/", "/a/b/c");
	ck_assert_str_eq(find("/"), "/");
	ck_assert_str_eq(find("/x"), "/");
	ck_assert_str_eq(find("/a"), "/a");
	ck_assert_str_eq(find("/ab"), "/");
	ck_assert_str_eq(find("/a/"), "/a/");
	ck_assert_str_eq(find("/a/x/y"), "/a/");
	ck_assert_str_eq(find("/a/b"), "/a/b/");
	ck_assert_str_eq(find("/a/b/"), "/a/b/");
	ck_assert_str_eq(find("/a/b/c"), "/a/b/c");
	ck_assert_str_eq(find("/a/b/cd"), "/a/b/");
	ck_assert_str_eq(find("/a/b/c/d"), "/a/b/");
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
	const struct http_route *route;

	ck_assert_int_eq(add("/m", "/"), 0);
	ck_assert_int_eq(add("/m/n", "/"), 0);
	ck_assert_int_eq(add("/", "/"), 0);
	ck_assert_int_eq(add("/m", "/n/"), -EEXIST);
	ck_assert_int_eq(add("/m", "/"), -EEXIST);
	ck_assert_str_eq(find("/m"), "/m/");
	ck_assert_str_eq(find("/m/n/x"), "/m/n/");
	ck_assert_str_eq(find("/mm"), "/");
	ck_assert_int_eq(http_router_find(router, (struct tine_text){"/m/n/x", 6}, &route), 0);
	ck_assert_uint_eq(route->mount_len, 4);
	ck_assert_int_eq(http_router_find(router, (struct tine_text){"/z", 2}, &route), 0);
	ck_assert_uint_eq(route->mount_len, 0);
	ck_assert_uint_eq(route->methods, TINE_GET | TINE_HEAD);
}
END_TEST

START_TEST(test_refused)
{
	ck_assert_int_eq(add("/", "a"), -EINVAL);
	ck_assert_int_eq(add("/", ""), -EINVAL);
	ck_assert_int_eq(http_router_add(router, "/", TINE_GET, "/", NULL, NULL), -EINVAL);
	ck_assert_str_eq(find("/"), "");
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
	tcase_add_test(tc, test_longest_wins);
	tcase_add_test(tc, test_exact_only);
	tcase_add_test(tc, test_folder_without_slash);
	tcase_add_test(tc, test_mounts);
	tcase_add_test(tc, test_refused);
	tcase_add_test(tc, test_many);
}

int main(void)
{
	return run_tests("router", add_tests);
}

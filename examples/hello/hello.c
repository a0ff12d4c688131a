/*
 * hello: the smallest service that is one. An option, a route, a route with a parameter.
 *
 *	cc -shared -fPIC -Iinclude -o examples/hello/hello.so examples/hello/hello.c
 *	build/tined -c examples/hello/hello.ini
 *
 *	curl http://127.0.0.1:8080/
 *	curl http://127.0.0.1:8080/hello/you
 */
#include <stdio.h>
#include <string.h>

#include <tine/http.h>

static const struct tine_option options[] = {
	{.name = "greeting", .def = "Hello", .doc = "What everybody is greeted with."},
	{.name = NULL},
};

static void answer(struct tine_request *request, const char *greeting, struct tine_text name)
{
	char text[256];
	int len = snprintf(text, sizeof(text), "%s, %.*s!\n", greeting, (int)name.len, name.data);

	if (len < 0 || (size_t)len >= sizeof(text))
		tine_respond_status(request, 414); /* URI too long */
	else
		tine_respond(request, 200, "text/plain; charset=utf-8", text, (size_t)len);
}

static void on_root(struct tine_request *request, void *arg)
{
	answer(request, arg, (struct tine_text){"World", 5});
}

static void on_hello(struct tine_request *request, void *arg)
{
	answer(request, arg, tine_request_param(request, "name"));
}

/* Called in each worker before it takes connections. */
static int start(struct tine_worker *worker, void **ret_state)
{
	/* belongs to the configuration, which outlives every request */
	void *greeting = (void *)tine_config_string(tine_worker_config(worker), "greeting");
	int r = tine_http_route(worker, TINE_GET, "/", on_root, greeting);

	if (r == 0)
		r = tine_http_route(worker, TINE_GET, "/hello/{name}", on_hello, greeting);
	if (r < 0)
		return tine_worker_error(worker, "routes: %s", strerror(-r));
	return 0;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "hello",
	.options = options,
	.worker_start = start,
};

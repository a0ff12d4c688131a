/*
 * A module that says what it was asked: "METHOD|path|query|host|X-Sum of the trailer|body". For the tests of requests. Below
 * its mount point:
 *   /         everything, all methods
 *   /small    the same, for bodies of 10 bytes at most
 *   /length   the same, for bodies whose length is told in advance
 *   /count    reads the body as it comes and answers with the number of bytes
 *   /hasty    answers before the body has come
 */
#include <stdio.h>
#include <stdlib.h>

#include <tine/http.h>

#define METHODS (TINE_GET | TINE_POST | TINE_PUT | TINE_DELETE | TINE_PATCH | TINE_OPTIONS)

static const char *method_name(enum tine_method method)
{
	static const struct {
		enum tine_method method;
		const char *name;
	} names[] = {{TINE_GET, "GET"}, {TINE_HEAD, "HEAD"}, {TINE_POST, "POST"}, {TINE_PUT, "PUT"},
		{TINE_DELETE, "DELETE"}, {TINE_OPTIONS, "OPTIONS"}, {TINE_PATCH, "PATCH"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].method == method)
			return names[i].name;
	return "?";
}

static void put(FILE *f, struct tine_text text, char end)
{
	if (text.len > 0)
		fwrite(text.data, 1, text.len, f);
	if (end)
		putc(end, f);
}

static void on_echo(struct tine_request *request, void *arg)
{
	char *answer = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&answer, &len);

	if (!f)
		abort();
	fprintf(f, "%s|", method_name(tine_request_method(request)));
	put(f, tine_request_path(request), '|');
	put(f, tine_request_query(request), '|');
	put(f, tine_request_host(request), '|');
	put(f, tine_request_trailer(request, "x-sum"), '|');
	put(f, tine_request_body(request), '\0');
	fclose(f);
	tine_respond(request, 200, "text/plain", answer, len);
	free(answer);
}

struct count {
	size_t bytes;
};

static void on_body(struct tine_request *request, enum tine_body_event event, const void *data,
	size_t len, void *arg)
{
	struct count *count = arg;
	char answer[32];

	if (event == TINE_BODY_DATA) {
		count->bytes += len;
		return;
	}
	len = (size_t)snprintf(answer, sizeof(answer), "%zu", count->bytes);
	tine_respond(request, 200, "text/plain", answer, len);
	free(count);
}

static void on_count(struct tine_request *request, void *arg)
{
	struct count *count = calloc(1, sizeof(*count));

	if (!count || tine_request_read(request, on_body, count) < 0)
		abort();
}

static void on_hasty(struct tine_request *request, void *arg)
{
	tine_respond(request, 200, "text/plain", "hasty", 5);
}

static int worker_start(struct tine_worker *worker, void **ret_state)
{
	const struct tine_route routes[] = {
		{.path = "/", .methods = METHODS, .fn = on_echo},
		{.path = "/small", .methods = METHODS, .fn = on_echo, .max_body = 10},
		{.path = "/length",
			.methods = METHODS,
			.fn = on_echo,
			.flags = TINE_ROUTE_LENGTH_REQUIRED},
		{.path = "/count",
			.methods = TINE_POST,
			.fn = on_count,
			.flags = TINE_ROUTE_STREAM_BODY},
		{.path = "/hasty",
			.methods = TINE_POST,
			.fn = on_hasty,
			.flags = TINE_ROUTE_STREAM_BODY},
	};

	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		struct tine_route route = routes[i];
		int r;

		route.size = sizeof(route);
		r = tine_http_route_with(worker, &route);
		if (r < 0)
			return r;
	}
	return 0;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "echo",
	.worker_start = worker_start,
};

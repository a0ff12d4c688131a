/*
 * A module that fails in the way its option `fault` names, or not at all: for reloads that must not go through.
 */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tine/http.h>
#include <tine/loop.h>

static const struct tine_option options[] = {
	{.name = "fault",
		.def = "none",
		.doc = "none, error, hang, later (crashes a second after the start) or first."},
	{.name = NULL},
};

static void serve(struct tine_request *request, void *arg)
{
	const char *fault = arg;

	if (strcmp(fault, "first") == 0)
		abort();
	tine_respond(request, 200, "text/plain", "Hello, World!", 13);
}

static void on_later(evutil_socket_t fd, short what, void *arg)
{
	abort();
}

static int start(struct tine_worker *worker, void **ret_state)
{
	const struct timeval second = {1, 0};
	const char *fault = tine_config_string(tine_worker_config(worker), "fault");

	*ret_state = NULL;
	if (strcmp(fault, "error") == 0)
		return tine_worker_error(worker, "told to fail");
	while (strcmp(fault, "hang") == 0)
		pause();
	if (strcmp(fault, "later") == 0)
		event_base_once(tine_loop_base(worker), -1, EV_TIMEOUT, on_later, NULL, &second);
	return tine_http_route(worker, TINE_GET, "/", serve, (void *)fault);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "faulty",
	.options = options,
	.worker_start = start,
};

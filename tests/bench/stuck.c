/*
 * A module that hangs: below its mount point /spin burns CPU for ever, /sleep sleeps; / answers after some milliseconds of work.
 * With crash_slot = N the worker of that slot dies as soon as it starts.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <tine/http.h>

static const struct tine_option options[] = {
	{.name = "crash_slot", .def = "", .doc = "The slot whose worker dies at once."},
	{.name = NULL},
};

static volatile unsigned long turns;

static void on_spin(struct tine_request *request, void *arg)
{
	while (1)
		turns++;
}

static void on_sleep(struct tine_request *request, void *arg)
{
	while (1)
		sleep(60);
}

static void on_mount(struct tine_request *request, void *arg)
{
	tine_respond(request, 200, "text/plain", "Hello, World!", 13);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	const char *slot = tine_config_string(tine_worker_config(worker), "crash_slot");

	*ret_state = NULL;
	if (*slot && tine_worker_slot(worker) == (unsigned)atoi(slot) && access("crash", F_OK) == 0)
		abort();
	if (tine_http_route(worker, TINE_GET, "/spin", on_spin, NULL) < 0 ||
		tine_http_route(worker, TINE_GET, "/sleep", on_sleep, NULL) < 0)
		return tine_worker_error(worker, "no routes");
	return tine_http_route(worker, TINE_GET, "/", on_mount, NULL);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "stuck",
	.options = options,
	.worker_start = start,
};

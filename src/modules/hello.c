/*
 * builtin:hello: the smallest service. Answers every path below its mount point with the same 13
 * bytes.
 */
#include <tine/http.h>

#include "modules/builtin.h"

static void hello_answer(struct tine_request *request, void *arg)
{
	tine_respond(request, 200, "text/plain", "Hello, World!", 13);
}

static int hello_start(struct tine_worker *worker, void **ret_state)
{
	int r = tine_http_route(worker, TINE_GET, "/", hello_answer, NULL);

	return r < 0 ? tine_worker_error(worker, "the mount point is taken") : 0;
}

const struct tine_module tine_module_hello = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "hello",
	.worker_start = hello_start,
};

/* builtin:whoami: says which worker answered, as JSON. */
#include <stdio.h>
#include <unistd.h>

#include <tine/http.h>

#include "modules/builtin.h"

static void whoami_answer(struct tine_request *request, void *arg)
{
	const struct tine_worker *worker = arg;
	char body[160];
	int n;

	n = snprintf(body, sizeof(body),
		"{\"worker\":%u,\"generation\":%llu,\"pid\":%ld,\"version\":\"%s\"}\n",
		tine_worker_slot(worker), (unsigned long long)tine_worker_generation(worker),
		(long)getpid(), tine_version());
	tine_respond_header(request, "Cache-Control", "no-store");
	tine_respond(request, 200, "application/json", body, (size_t)n);
}

static int whoami_start(struct tine_worker *worker, void **ret_state)
{
	int r = tine_http_route(worker, TINE_GET, "/", whoami_answer, worker);

	return r < 0 ? tine_worker_error(worker, "the mount point is taken") : 0;
}

const struct tine_module tine_module_whoami = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "whoami",
	.worker_start = whoami_start,
};

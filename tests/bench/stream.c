/*
 * A module: an answer without end, as fast as the client takes it. It comes in blocks of 16 KiB that begin with their
 * number, so that a client can tell whether it got all of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tine/http.h>

#define BLOCK 16384

static void on_room(struct tine_request *request, void *arg)
{
	static char block[BLOCK];
	uint64_t *next = arg;
	int r;

	do {
		snprintf(block, sizeof(block), "%015llu", (unsigned long long)*next);
		block[15] = '\n';
		r = tine_respond_write(request, block, sizeof(block));
		if (r == 0)
			++*next;
	} while (r == 0);
	if (r == -EAGAIN)
		return;
	free(next);
	tine_respond_abort(request);
}

static void serve(struct tine_request *request, void *arg)
{
	uint64_t *next = calloc(1, sizeof(*next));

	(void)arg;
	if (!next || tine_respond_start(request, 200, "application/octet-stream", -1) < 0) {
		free(next);
		tine_respond_abort(request);
		return;
	}
	tine_respond_on_room(request, on_room, next);
	on_room(request, next);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	*ret_state = NULL;
	return tine_http_route(worker, TINE_GET, "/", serve, NULL);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "stream",
	.worker_start = start,
};

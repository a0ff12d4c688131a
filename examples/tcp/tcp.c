/*
 * tcp: an echo service (RFC 862) on plain TCP.
 *
 *	cc -shared -fPIC -Iinclude -o examples/tcp/tcp.so examples/tcp/tcp.c
 *	build/tined -c examples/tcp/tcp.ini
 *
 *	nc 127.0.0.1 7007
 *
 * A client that sends and does not read its echo is read from no more until it does.
 */
#include <errno.h>
#include <string.h>

#include <tine/stream.h>

static const struct tine_option options[] = {
	{.name = "idle",
		.type = TINE_OPTION_DURATION,
		.def = "1m",
		.min = "100ms",
		.max = "1d",
		.doc = "A connection that is silent for so long is closed."},
	{.name = NULL},
};

static size_t on_data(struct tine_stream *stream, const void *data, size_t len, void *arg)
{
	int r = tine_stream_write(stream, data, len);

	if (r == -EAGAIN) {
		tine_stream_pause(stream, true);
		return 0; /* the same bytes come again */
	}
	if (r < 0)
		tine_stream_abort(stream);
	return len;
}

static void on_room(struct tine_stream *stream, void *arg)
{
	tine_stream_pause(stream, false);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	struct tine_stream_service echo = {.size = sizeof(echo),
		.on_data = on_data,
		.on_room = on_room,
		.idle_us = (uint64_t)tine_config_number(tine_worker_config(worker), "idle")};
	int r = tine_stream_serve(worker, &echo);

	return r < 0 ? tine_worker_error(worker, "%s", strerror(-r)) : 0;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "tcp",
	.options = options,
	.worker_start = start,
};

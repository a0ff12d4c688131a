/*
 * A module: WebSocket messages come back as they came. A client that does not take its echoes loses them, which a
 * load that checks every echo notices; the benchmark keeps far less in flight than tined holds for a client.
 */
#include <tine/http.h>

static void on_message(struct tine_websocket *ws, enum tine_websocket_type type, const void *data,
	size_t len, void *arg)
{
	(void)arg;
	(void)tine_websocket_send(ws, type, data, len);
}

static void upgrade(struct tine_request *request, void *arg)
{
	static const struct tine_websocket_options options = {
		.size = sizeof(options), .on_message = on_message, .origins = "*"};

	(void)arg;
	(void)tine_websocket_accept(request, &options, NULL);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	*ret_state = NULL;
	return tine_http_route(worker, TINE_GET, "/", upgrade, NULL);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "echo_ws",
	.worker_start = start,
};

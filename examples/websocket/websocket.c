/*
 * websocket: /echo sends each message back, /chat sends it to everybody.
 *
 *	cc -shared -fPIC -Iinclude -o examples/websocket/websocket.so examples/websocket/websocket.c
 *	build/tined -c examples/websocket/websocket.ini
 *
 *	python3 -m websockets ws://127.0.0.1:8080/chat
 *
 * Everybody means: the clients of this worker process, who are all there are as long as websocket.ini asks for one worker.
 *
 * Who is too slow for what is sent to it is disconnected (1013, try again later): nothing piles up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <tine/http.h>

#define TOO_SLOW 1013

struct member {
	struct tine_websocket *ws;
	struct room *room;
	LIST_ENTRY(member) link;
};

/* One in each worker. */
struct room {
	LIST_HEAD(, member) members;
};

static void send_or_close(
	struct tine_websocket *ws, enum tine_websocket_type type, const void *data, size_t len)
{
	if (tine_websocket_send(ws, type, data, len) == -EAGAIN)
		tine_websocket_close(ws, TOO_SLOW, "too slow");
}

/* --- /echo --- */

static void echo_message(struct tine_websocket *ws, enum tine_websocket_type type, const void *data,
	size_t len, void *arg)
{
	send_or_close(ws, type, data, len);
}

static void on_echo(struct tine_request *request, void *arg)
{
	static const struct tine_websocket_options o = {
		.size = sizeof(o), .on_message = echo_message};

	tine_websocket_accept(request, &o, NULL); /* what is no handshake has been answered */
}

/* --- /chat --- */

static void chat_message(struct tine_websocket *ws, enum tine_websocket_type type, const void *data,
	size_t len, void *arg)
{
	struct member *from = arg, *m;

	LIST_FOREACH (m, &from->room->members, link)
		send_or_close(m->ws, type, data, len);
}

static void chat_close(struct tine_websocket *ws, unsigned code, struct tine_text reason, void *arg)
{
	struct member *m = arg;

	LIST_REMOVE(m, link);
	free(m);
}

static void on_chat(struct tine_request *request, void *arg)
{
	struct member *m = calloc(1, sizeof(*m));
	struct tine_websocket_options o = {.size = sizeof(o),
		.on_message = chat_message,
		.on_close = chat_close,
		.arg = m,
		.max_message = 4096};

	if (!m) {
		tine_respond_status(request, 500);
		return;
	}
	m->room = arg;
	if (tine_websocket_accept(request, &o, &m->ws) < 0) {
		free(m);
		return;
	}
	LIST_INSERT_HEAD(&m->room->members, m, link);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	struct room *room = calloc(1, sizeof(*room));
	int r;

	if (!room)
		return -ENOMEM;
	LIST_INIT(&room->members);
	r = tine_http_route(worker, TINE_GET, "/echo", on_echo, NULL);
	if (r == 0)
		r = tine_http_route(worker, TINE_GET, "/chat", on_chat, room);
	if (r < 0) {
		free(room);
		return tine_worker_error(worker, "%s", strerror(-r));
	}
	*ret_state = room;
	return 0;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "websocket",
	.worker_start = start,
	.worker_stop = free,
};

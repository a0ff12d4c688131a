/*
 * tine/stream.h: checks what modules hand in and calls down. Runs in the worker, on the loop's thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include <tine/stream.h>

#include "base/peer.h"
#include "base/sized.h"
#include "net/server.h"
#include "net/stream.h"
#include "runtime/module.h"
#include "shared/config.h"

int tine_stream_serve(struct tine_worker *worker, const struct tine_stream_service *service)
{
	struct tine_stream_service s;
	int r;

	if (!worker)
		return -EINVAL;
	worker->misplaced |= !worker->stream;
	if (!worker->stream)
		return -EINVAL;
	if (*worker->stream)
		return -EEXIST;
	r = SIZED_TAKE(&s, service, max_input);
	if (r < 0)
		return r;
	r = stream_service_new(&s, &worker->config.config->http, worker->stream);
	worker->serves_stream = r == 0;
	return r;
}

int tine_stream_write(struct tine_stream *stream, const void *data, size_t len)
{
	return stream_write(&stream->connection, data, len);
}

void tine_stream_pause(struct tine_stream *stream, bool pause)
{
	stream_pause(&stream->connection, pause);
}

void tine_stream_close(struct tine_stream *stream)
{
	stream_close(&stream->connection);
}

void tine_stream_abort(struct tine_stream *stream)
{
	stream_abort(&stream->connection);
}

void tine_stream_set_state(struct tine_stream *stream, void *state)
{
	stream->connection.state = state;
}

void *tine_stream_state(const struct tine_stream *stream)
{
	return stream->connection.state;
}

struct tine_text tine_stream_client(const struct tine_stream *stream)
{
	static char text[PEER_TEXT_MAX]; /* rather than in each of ten thousand streams */

	return (struct tine_text){text, peer_text(&stream->connection.peer, text)};
}

size_t tine_stream_waiting(const struct tine_stream *stream)
{
	return stream_waiting(&stream->connection);
}

/* --- handing one over --- */

struct tine_text tine_stream_unused(const struct tine_stream *stream)
{
	return stream_unused(&stream->connection);
}

int tine_stream_detach(struct tine_stream *stream, int *ret_fd)
{
	int r = stream_detach(&stream->connection);

	if (r < 0)
		return r == -EMFILE || r == -ENFILE ? TINE_E_QUOTA : r;
	*ret_fd = r;
	return 0;
}

/* Whose connection it is: what the other side said, or the kernel. */
static bool find_client(const struct tine_stream_arrival *a, struct peer *ret)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	int type = 0;
	socklen_t type_len = sizeof(type);

	if (getsockopt(a->fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 || type != SOCK_STREAM ||
		getpeername(a->fd, (struct sockaddr *)&ss, &len) < 0)
		return false;
	peer_from_sockaddr((const struct sockaddr *)&ss, ret);
	if (!a->client)
		return true;
	if (strcmp(a->client, "unix:") == 0) {
		*ret = (struct peer){.family = AF_UNIX};
		return true;
	}
	return peer_parse(a->client, strlen(a->client), ret);
}

int tine_stream_adopt(struct tine_worker *worker, const struct tine_stream_arrival *arrival)
{
	struct tine_stream_arrival a;
	struct peer peer;
	int r = worker && worker->stream && *worker->stream ? SIZED_TAKE(&a, arrival, len)
							    : -EINVAL;

	if (r < 0)
		return r;
	if ((!a.data && a.len > 0) || a.len > (*worker->stream)->max_input ||
		!find_client(&a, &peer) || fcntl(a.fd, F_SETFL, O_NONBLOCK) < 0)
		return -EINVAL;
	if (net_server_has_ended(worker->net))
		return TINE_E_CLOSED;
	if (net_server_connections(worker->net) >= worker->config.config->workers.max_connections)
		return TINE_E_QUOTA;
	return net_server_adopt(
		worker->net, &stream_protocol, *worker->stream, a.fd, &peer, a.data, a.len);
}

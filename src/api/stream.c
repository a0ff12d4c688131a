/*
 * tine/stream.h: checks what modules hand in and calls down. Runs in the worker, on the loop's thread.
 */
#include <errno.h>

#include <tine/stream.h>

#include "base/peer.h"
#include "base/sized.h"
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

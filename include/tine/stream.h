/*
 * tine/stream.h - plain TCP and Unix-stream services, on a listener with protocol = tcp.
 *
 * A module registers one service for its listener in worker_start. Its callbacks are called on the worker's
 * loop thread; connections are accepted, limited, drained and counted like those of HTTP.
 */
#ifndef TINE_STREAM_H
#define TINE_STREAM_H

#include "http.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tine_stream; /* one connection; valid until on_close has returned */

struct tine_stream_service {
	size_t size; /* sizeof(struct tine_stream_service) */

	/* A client has connected. May be NULL. */
	void (*on_open)(struct tine_stream *stream, void *arg);

	/*
	 * Bytes have come: all that were not used yet. Returns how many it is done with; the rest is handed in again with what
	 * comes after it. A service that leaves max_input bytes unused gets its connection closed.
	 */
	size_t (*on_data)(struct tine_stream *stream, const void *data, size_t len, void *arg);

	/* There is room again after tine_stream_write() returned -EAGAIN. May be NULL. */
	void (*on_room)(struct tine_stream *stream, void *arg);

	/* The client has sent its last byte, and may still be reading. NULL: the stream is closed after what was written. */
	void (*on_eof)(struct tine_stream *stream, void *arg);

	/* The worker drains: say goodbye and close soon. NULL: it is closed when it has been idle for a moment. */
	void (*on_drain)(struct tine_stream *stream, void *arg);

	/* The last call. error: 0 when this side closed or the client did in good order, else an errno (ETIMEDOUT, ECONNRESET). */
	void (*on_close)(struct tine_stream *stream, int error, void *arg);

	void *arg; /* handed to all of them */
	uint64_t
		idle_us; /* closed after so long without a byte in either direction; 0: [http] idle_timeout */
	size_t max_input; /* bytes that may be left unused, at most 64 KiB; 0: [http] max_header */
};

/*
 * Serves the module's listener. Returns 0, -EINVAL when the listener's protocol is not tcp, -EEXIST when it has a
 * service already, -ENOMEM.
 */
TINE_EXPORT int tine_stream_serve(
	struct tine_worker *worker, const struct tine_stream_service *service);

/*
 * Sends bytes, which are copied. Returns 0; -EAGAIN when the client is slow and nothing was taken (on_room will be called);
 * -EPIPE when it is closing; -EMSGSIZE above 1 MiB at once.
 */
TINE_EXPORT int tine_stream_write(struct tine_stream *stream, const void *data, size_t len);

/* Stops reading for a while, so that a slow consumer slows its client down; and goes on. */
TINE_EXPORT void tine_stream_pause(struct tine_stream *stream, bool pause);

/* Closes once everything written has been sent; on_close is called in a later turn. */
TINE_EXPORT void tine_stream_close(struct tine_stream *stream);

/* Closes at once, with what was not sent yet. */
TINE_EXPORT void tine_stream_abort(struct tine_stream *stream);

/* The service's own pointer, NULL at first. */
TINE_EXPORT void tine_stream_set_state(struct tine_stream *stream, void *state);
TINE_EXPORT void *tine_stream_state(const struct tine_stream *stream);

/* The client's address as text, without port; "unix:" for a Unix socket. */
TINE_EXPORT struct tine_text tine_stream_client(const struct tine_stream *stream);

/* Bytes that wait to be taken by the client. */
TINE_EXPORT size_t tine_stream_waiting(const struct tine_stream *stream);

#ifdef __cplusplus
}
#endif
#endif

/*
 * tine/stream.h - plain TCP and Unix-stream services, on a listener with protocol = tcp.
 *
 * A module registers one service for its listener in worker_start, and has to: without one the worker does not
 * start. Its callbacks are called on the worker's loop thread, one at a time, never from within a function below, but for
 * tine_stream_adopt(); connections are accepted, limited, drained and counted like those of HTTP.
 */
#ifndef TINE_STREAM_H
#define TINE_STREAM_H

#include "errors.h"
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
	 * Bytes have come: all that were not used yet. Returns how many it is done with. When these are some but not
	 * all, it is called again with the rest at once; when none, with what comes after them. After a write that was
	 * refused (-EAGAIN) the rest waits until there is room, and nothing more is read. A service that otherwise
	 * leaves more than max_input bytes unused gets its connection closed.
	 */
	size_t (*on_data)(struct tine_stream *stream, const void *data, size_t len, void *arg);

	/* There is room again after tine_stream_write() returned -EAGAIN. May be NULL. */
	void (*on_room)(struct tine_stream *stream, void *arg);

	/*
	 * The client has sent its last byte, and may still be reading: writing works until the stream is closed. What
	 * on_data left unused stays so. NULL: the stream is closed after what was written.
	 */
	void (*on_eof)(struct tine_stream *stream, void *arg);

	/*
	 * The worker drains: say goodbye and close soon; [workers] drain_timeout is the end. NULL: the stream is closed
	 * when it has been idle for a moment.
	 */
	void (*on_drain)(struct tine_stream *stream, void *arg);

	/*
	 * The last call, once for each on_open, also when the worker has to end. error: 0 when this side closed or the
	 * client did in good order, else an errno: ETIMEDOUT (idle, or too slow in taking what was written), ECONNRESET,
	 * EPIPE, EMSGSIZE (max_input), ECONNABORTED (drain_timeout), ... May be NULL.
	 */
	void (*on_close)(struct tine_stream *stream, int error, void *arg);

	/* Handed to all of them; must live until worker_stop. */
	void *arg;

	/* Closed after so long without a byte in either direction; 0: [http] idle_timeout. */
	uint64_t idle_us;

	/* Bytes that may be left unused, at most 64 KiB; 0: [http] max_header, or 64 KiB if that is less. */
	size_t max_input;
};

/*
 * Serves the module's listener. `service` is copied. Returns 0, -EINVAL when the listener's protocol is not tcp or the
 * service is malformed, -EEXIST when the listener has one already, -ENOMEM.
 */
TINE_EXPORT int tine_stream_serve(
	struct tine_worker *worker, const struct tine_stream_service *service);

/*
 * Sends bytes, which are copied. Returns 0; -EAGAIN when the client is slow and nothing was taken (on_room will be
 * called); -EPIPE when the stream is closing; -EMSGSIZE above 1 MiB at once.
 */
TINE_EXPORT int tine_stream_write(struct tine_stream *stream, const void *data, size_t len);

/*
 * Stops reading for a while, so that a slow consumer slows its client down; and goes on: what waits is handed to on_data
 * in a later turn.
 */
TINE_EXPORT void tine_stream_pause(struct tine_stream *stream, bool pause);

/*
 * Closes once everything written has been sent. on_data is not called any more; on_close is, when the client has
 * closed too or did not for a while.
 */
TINE_EXPORT void tine_stream_close(struct tine_stream *stream);

/* Closes at once, and forgets what was not sent yet; on_close is called before the loop's turn ends. */
TINE_EXPORT void tine_stream_abort(struct tine_stream *stream);

/* The service's own pointer, NULL at first. */
TINE_EXPORT void tine_stream_set_state(struct tine_stream *stream, void *state);
TINE_EXPORT void *tine_stream_state(const struct tine_stream *stream);

/*
 * The client's address as text, without port; "unix:" for a Unix socket. Valid until the next call of this
 * function.
 */
TINE_EXPORT struct tine_text tine_stream_client(const struct tine_stream *stream);

/* Bytes that were written and wait for the client to take others. */
TINE_EXPORT size_t tine_stream_waiting(const struct tine_stream *stream);

/* --- handing a connection to another worker --- */

/* Bytes that have come and were not used; within on_data those it was called with. Valid until the callback has returned. */
TINE_EXPORT struct tine_text tine_stream_unused(const struct tine_stream *stream);

/*
 * Leaves the connection to the caller, without a word to the client: *ret_fd is its socket, non-blocking and close-on-exec, for
 * tine_send.fd or any other use. What tine_stream_unused() says now is not read from it again, and has to go along. on_close is called
 * before the loop's turn ends, with error 0. Returns 0; -EAGAIN while something that was written waits (on_room will be called); -EPIPE
 * when the stream is closing; TINE_E_QUOTA when there is no descriptor for it.
 */
TINE_EXPORT int tine_stream_detach(struct tine_stream *stream, int *ret_fd);

struct tine_stream_arrival {
	size_t size; /* sizeof(struct tine_stream_arrival) */

	/* The socket: connected, of type SOCK_STREAM. */
	int fd;

	/* Who the client is, as tine_stream_client() said on the other side; NULL: as the socket says. */
	const char *client;

	/* What on_data is called with first; copied. May be NULL when len is 0. At most max_input of the service. */
	const void *data;
	size_t len;
};

/*
 * Serves a connection that was accepted elsewhere, by another worker or by the module itself, with the service of this module: on_open is
 * called before this function returns. A client above [http] max_total or max_per_client is turned away, as one that came by itself: on_open
 * is not called. Returns 0 or -ENOMEM (it is closed), and the descriptor is tined's; it stays the caller's with -EINVAL (the socket is none
 * of that kind, client is no address, len is too large, the module has no service), TINE_E_QUOTA ([workers] max_connections are open) and
 * TINE_E_CLOSED (the worker is about to end).
 */
TINE_EXPORT int tine_stream_adopt(
	struct tine_worker *worker, const struct tine_stream_arrival *arrival);

#ifdef __cplusplus
}
#endif
#endif

/*
 * tine/work_zlib.h - gzip and deflate, by zlib, on a thread of the worker's pool, lane `cpu`: all at once, or as a stream.
 *
 *	static void on_packed(struct tine_zlib_result *r, void *arg)
 *	{
 *		if (r->status < 0)
 *			tine_log(TINE_LOG_WARNING, "%s", r->text); // "inflate: incorrect data check"
 *		else
 *			use(r->data, r->len);
 *	}
 *	...
 *	r = tine_zlib_deflate(worker, &(struct tine_zlib){.size = sizeof(struct tine_zlib),
 *		.format = TINE_ZLIB_GZIP, .data = page, .len = len, .on_done = on_packed}, NULL);
 *
 * What tine_zlib_deflate() and tine_zlib_inflate() return, when on_done is called, and what cancelling means is as in work_file.h; they
 * stop between two pieces.
 */
#ifndef TINE_WORK_ZLIB_H
#define TINE_WORK_ZLIB_H

#include <stdbool.h>

#include "errors.h"
#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tine_work;

#define TINE_ZLIB_BYTES_MAX ((size_t)1 << 30)  /* of data, and of max */
#define TINE_ZLIB_MAX       ((size_t)64 << 20) /* of max, when it is 0 */

enum tine_zlib_format {
	TINE_ZLIB_GZIP = 1, /* RFC 1952; of several members, one after the other, all are read */
	TINE_ZLIB_DEFLATE,  /* RFC 1950, what HTTP calls "deflate" */
	TINE_ZLIB_RAW,      /* RFC 1951, without head and checksum */
	TINE_ZLIB_ANY,      /* to inflate: gzip or deflate, by how it begins */
};

/* How an operation ended. All of it is freed after the callback, but what was taken. The structure may grow at its end. */
struct tine_zlib_result {
	int status; /* 0 or a negative errno: -EBADMSG when what is to be inflated is broken, cut off, or followed by something else */
	const char *text; /* what went wrong, in zlib's words; "" when nothing did */
	void *data; /* to keep it, set data to NULL; free(3) it then. Never NULL when status is 0 */
	size_t len;
};

typedef void (*tine_zlib_fn)(struct tine_zlib_result *result, void *arg);

struct tine_zlib {
	size_t size; /* sizeof(struct tine_zlib) */
	enum tine_zlib_format format;
	int level; /* to deflate: 1 fast to 9 small; 0: zlib's default, 6 */
	const void *data;
	size_t len;
	bool lent; /* data is not copied: it stays as it is until on_done is called, also after a cancellation */
	size_t max; /* bytes that may come out; more is TINE_E_TOO_LARGE, and no more than that is ever held */
	uint64_t timeout_us; /* from now to the end of the work; 0: none */
	tine_zlib_fn on_done;
	void *arg; /* handed to it */
};

TINE_EXPORT int tine_zlib_deflate(
	struct tine_worker *worker, const struct tine_zlib *z, struct tine_work **ret);
TINE_EXPORT int tine_zlib_inflate(
	struct tine_worker *worker, const struct tine_zlib *z, struct tine_work **ret);

/*
 * --- streams ---
 *
 * What is written is worked at piece by piece, in order, one piece of a stream at a time; what comes out goes to on_data in
 * pieces of up to TINE_ZLIB_PIECE bytes, in order. A stream holds about 300 KiB for zlib (40 to inflate), what was written and waits, and
 * one piece of output.
 *
 * A stream lives until on_end has been called or tine_zlib_close() was. Close those that have not ended in worker_stop at
 * the latest.
 */
struct tine_zlib_stream;

#define TINE_ZLIB_PIECE ((size_t)64 << 10)
#define TINE_ZLIB_QUEUE ((size_t)1 << 20) /* of queue_max, when it is 0 */

struct tine_zlib_options {
	size_t size;  /* sizeof(struct tine_zlib_options) */
	bool inflate; /* else deflate */
	enum tine_zlib_format format;
	int level;        /* as above */
	size_t queue_max; /* bytes that were written and wait, up to TINE_ZLIB_BYTES_MAX */
	uint64_t max; /* bytes that may come out in all; 0: any number. More is TINE_E_TOO_LARGE */
	/*
	 * Some of what comes out, valid until it returns. May call everything here. Returns 0; or TINE_E_FULL, if it has taken nothing: then
	 * the stream is paused, and offers the same bytes again when it goes on; or another negative errno, with which the stream ends. So
	 * may be what tine_respond_write() returns.
	 */
	int (*on_data)(struct tine_zlib_stream *stream, const void *data, size_t len, void *arg);
	/*
	 * The last call: 0, after all that came out was taken by on_data; or an error (as above; what on_data returned; TINE_E_CANCELED: the
	 * worker is about to exit), after which nothing more comes out. text: why, as above, valid until it returns. The stream is gone.
	 */
	void (*on_end)(int status, const char *text, void *arg);
	/* The queue has become half empty, after it was fuller than that or refused something. Not after
	 * tine_zlib_end(). May be NULL. */
	void (*on_writable)(struct tine_zlib_stream *stream, void *arg);
	void *arg; /* handed to all three */
};

/* Returns 0, -EINVAL or -ENOMEM. */
TINE_EXPORT int tine_zlib_open(struct tine_worker *worker, const struct tine_zlib_options *o,
	struct tine_zlib_stream **ret);

/*
 * Has these bytes worked at after those before. flush: all that was written until now comes out, so that who inflates it has it
 * (Z_SYNC_FLUSH); it costs some bytes, and len may then be 0. Copies the bytes. Returns 0, -EINVAL, -ENOMEM, TINE_E_FULL
 * when they would not fit into the queue (wait for on_writable; what is larger than queue_max goes in when nothing waits),
 * or TINE_E_CLOSED after tine_zlib_end().
 */
TINE_EXPORT int tine_zlib_write(
	struct tine_zlib_stream *stream, const void *data, size_t len, bool flush);

/* Bytes that may be written now: for who cannot keep what is refused, and stops its source in time. */
TINE_EXPORT size_t tine_zlib_room(const struct tine_zlib_stream *stream);

/* Nothing more will be written: the rest comes out, then on_end is called. Returns 0, or TINE_E_CLOSED the second time. */
TINE_EXPORT int tine_zlib_end(struct tine_zlib_stream *stream);

/*
 * Stops and goes on with output, for receivers that are slow: after the call that stops it on_data is not called
 * until the one that lets it go on. What is written meanwhile waits in the queue.
 */
TINE_EXPORT void tine_zlib_pause(struct tine_zlib_stream *stream, bool on);

/* Drops the stream, wherever it is: nothing of it is called any more. NULL is fine. Not after on_end. */
TINE_EXPORT void tine_zlib_close(struct tine_zlib_stream *stream);

#ifdef __cplusplus
}
#endif
#endif

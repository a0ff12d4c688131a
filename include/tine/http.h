/*
 * tine/http.h - answering HTTP requests (RFC 9110, RFC 9112).
 *
 * A module registers routes in worker_start; tined parses requests, strictly, and calls the handler of the route
 * that fits best. The handler answers before it returns, or calls tine_defer() (or begins to read a body, or to stream
 * an answer) and answers later. Everything here runs on the worker's loop thread; a thread that has
 * something to tell uses tine_loop_post() of tine/loop.h.
 *
 * Functions that return int return 0 or a negative errno. Common to all that answer: -EALREADY when the request has
 * been answered, -ECANCELED when the client is gone (see tine_defer()).
 */
#ifndef TINE_HTTP_H
#define TINE_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * One request. Valid until its handler has returned, or, when that began something that goes on, until it has
 * been answered in full: by tine_respond(), tine_respond_file(), tine_respond_end() or tine_respond_abort().
 */
struct tine_request;

/* Text with a length; not terminated by NUL. Valid as long as what it came from. */
struct tine_text {
	const char *data;
	size_t len;
};

/* Bits, so that a set of methods is an unsigned. CONNECT and TRACE are never routed. */
enum tine_method {
	TINE_GET = 1,
	TINE_HEAD = 2,
	TINE_POST = 4,
	TINE_PUT = 8,
	TINE_DELETE = 16,
	TINE_OPTIONS = 64,
	TINE_PATCH = 256,
};

/* --- routes --- */

typedef void (*tine_http_fn)(struct tine_request *request, void *arg);

/*
 * Serves `path` below the module's mount point on the module's listener. A segment {name} stands for any one segment,
 * which tine_request_param() gives. A path that ends with '/' stands for everything below it (and for itself without the
 * '/', unless that is a route), any other for itself alone. Of several that fit the most specific one is taken, segment by
 * segment from the left: text before a parameter, a parameter before "everything below".
 *
 * methods: enum tine_method or-ed; TINE_GET includes HEAD. Other methods are answered 405 with Allow, OPTIONS 204
 * with Allow. The same path may be registered again for other methods. The handler is called when the whole body is
 * there; one that is larger than [http] max_body was answered 413.
 * `arg` is handed to every call and must live until worker_stop.
 *
 * Returns 0, -EINVAL for a path that does not begin with '/' or is malformed, -EEXIST when the path is taken for
 * one of the methods, -ENOMEM.
 */
TINE_EXPORT int tine_http_route(
	struct tine_worker *worker, unsigned methods, const char *path, tine_http_fn fn, void *arg);

enum tine_route_flags {
	TINE_ROUTE_STREAM_BODY =
		1, /* the handler is called before the body: see tine_request_read() */
	TINE_ROUTE_LENGTH_REQUIRED = 2, /* a body without Content-Length is answered 411 */
};

struct tine_route {
	size_t size; /* sizeof(struct tine_route) */
	const char *path;
	unsigned methods;
	unsigned flags; /* enum tine_route_flags or-ed */
	tine_http_fn fn;
	void *arg;
	uint64_t max_body; /* bytes; 0: [http] max_body */
};

/* The same, with more to choose. */
TINE_EXPORT int tine_http_route_with(struct tine_worker *worker, const struct tine_route *route);

enum tine_middleware_result {
	TINE_NEXT = 0, /* go on with the next one, or with the route's handler */
	TINE_TAKEN =
		1, /* it has answered; or it has called tine_defer() and will answer, or call tine_next() */
};

typedef int (*tine_middleware_fn)(struct tine_request *request, void *arg);

/*
 * Calls fn for each request at or below `path` (which is below the module's mount point), before any handler and before
 * its body has been read, also when no route fits: it may guard, or add header fields to whatever the answer
 * will be. In order of registration; modules are started in the order of the configuration file.
 */
TINE_EXPORT int tine_http_use(
	struct tine_worker *worker, const char *path, tine_middleware_fn fn, void *arg);

/* --- the request --- */

TINE_EXPORT enum tine_method tine_request_method(const struct tine_request *request);

/*
 * The path, percent-decoded and with empty and dot segments removed: it begins with '/', and holds neither NUL nor "//" nor
 * a segment "." or "..". tine_request_subpath is the part below the route's mount point (also beginning with '/').
 */
TINE_EXPORT struct tine_text tine_request_path(const struct tine_request *request);
TINE_EXPORT struct tine_text tine_request_subpath(const struct tine_request *request);

/* The whole path as it was sent, neither decoded nor shortened. */
TINE_EXPORT struct tine_text tine_request_raw_path(const struct tine_request *request);

/* The segment that {name} of the route's path stands for, decoded; data is NULL when it has none of that name. */
TINE_EXPORT struct tine_text tine_request_param(
	const struct tine_request *request, const char *name);

/* What follows '?' as it was sent, without the '?'; empty when there is none. */
TINE_EXPORT struct tine_text tine_request_query(const struct tine_request *request);

/*
 * The value of the first header field of that name, without surrounding white space; data is NULL when it was not sent.
 * Case of the name does not matter.
 */
TINE_EXPORT struct tine_text tine_request_header(
	const struct tine_request *request, const char *name);

/* The index-th header field as it was sent. Returns 0, or -ENOENT beyond the last. */
TINE_EXPORT int tine_request_field(const struct tine_request *request, unsigned index,
	struct tine_text *ret_name, struct tine_text *ret_value);

/* The host the client meant: of the target, or of the field Host; with its port, if it has one. */
TINE_EXPORT struct tine_text tine_request_host(const struct tine_request *request);

/*
 * The client's address as text, without port ("unix:" for a Unix socket): behind proxies that [http] trusted_proxies
 * lists, the one they tell. "https" if such a proxy says so, else "http".
 */
TINE_EXPORT struct tine_text tine_request_client(const struct tine_request *request);
TINE_EXPORT struct tine_text tine_request_scheme(const struct tine_request *request);

/* The body; empty when there is none or the route streams it. */
TINE_EXPORT struct tine_text tine_request_body(const struct tine_request *request);

/* Bytes the body will have; -1 when that is not known yet (chunked). */
TINE_EXPORT int64_t tine_request_length(const struct tine_request *request);

/* A trailer field of a chunked body, once all of it is there; as tine_request_header(). */
TINE_EXPORT struct tine_text tine_request_trailer(
	const struct tine_request *request, const char *name);

enum tine_body_event {
	TINE_BODY_DATA, /* some bytes, valid during the call */
	TINE_BODY_END,  /* all is there; the last call */
	TINE_BODY_FAILED, /* the client is gone, too slow, or sent nonsense and has been told so; the last call. Answer */
	/* all the same: that gives the request back, and returns -ECANCELED */
};

typedef void (*tine_body_fn)(struct tine_request *request, enum tine_body_event event,
	const void *data, size_t len, void *arg);

/*
 * Begins to read the body, on a route with TINE_ROUTE_STREAM_BODY; a client that asked for leave (Expect) gets it now.
 * fn is called as the body comes, beginning in a later turn. An answer may be given, or begun, at any time; what is still to
 * come of the body is then read and dropped. Returns 0, -EALREADY, or -EINVAL when the route does not stream.
 */
TINE_EXPORT int tine_request_read(struct tine_request *request, tine_body_fn fn, void *arg);

/* Stops reading for a while, so that a slow consumer slows its client down; and goes on. */
TINE_EXPORT void tine_request_pause(struct tine_request *request, bool pause);

/*
 * Keeps the request beyond the handler's return. It must then be answered exactly once, whatever
 * happens to the client; that releases it. When the client is gone by then, the answer returns -ECANCELED. After
 * [http] answer_timeout the client is told 503. Returns 0 or -ENOMEM.
 */
TINE_EXPORT int tine_defer(struct tine_request *request);

/* Goes on after a middleware has returned TINE_TAKEN. */
TINE_EXPORT void tine_next(struct tine_request *request);

/* fn is called once if the client goes away before a deferred or streamed answer is complete. Answer all the same. */
TINE_EXPORT void tine_on_gone(struct tine_request *request, tine_http_fn fn, void *arg);

/* --- whole answers --- */

/*
 * Adds a header field to the answer to come. Returns 0; -EINVAL when name or value hold bytes that RFC 9110 does not
 * allow (so nothing can be injected) or name one that tined writes itself (Content-Length, Connection, Date,
 * Transfer-Encoding, Trailer, Upgrade, Keep-Alive); -ENOSPC when the answer's header would become too large (8 KiB).
 */
TINE_EXPORT int tine_respond_header(
	struct tine_request *request, const char *name, const char *value);

/*
 * Answers with a whole body, which is copied (or, for HEAD, only measured). status: 200 to 599. type: Content-Type, or
 * NULL for none.
 */
TINE_EXPORT int tine_respond(
	struct tine_request *request, int status, const char *type, const void *body, size_t len);

/* Answers with a status and its standard short text, or the operator's page for it. status: 200 to 599. */
TINE_EXPORT int tine_respond_status(struct tine_request *request, int status);

/* --- streamed answers --- */

/*
 * Begins an answer whose body follows piece by piece, and keeps the request as tine_defer() does. length: bytes in all, or -1
 * when that is not known: it is sent chunked then (to HTTP/1.0, until the connection closes). type as tine_respond().
 */
TINE_EXPORT int tine_respond_start(
	struct tine_request *request, int status, const char *type, int64_t length);

/*
 * Sends some of the body, which is copied. Returns 0; -EAGAIN when the client is slow to take what it has been sent:
 * nothing was taken, the function given to tine_respond_on_room() will be called; -EMSGSIZE above 1 MiB at once or
 * beyond the announced length; -ECANCELED when the client is gone. For HEAD bytes are counted and dropped.
 */
TINE_EXPORT int tine_respond_write(struct tine_request *request, const void *data, size_t len);

/* fn is called, from the loop, each time there is room again after tine_respond_write() returned -EAGAIN. */
TINE_EXPORT void tine_respond_on_room(struct tine_request *request, tine_http_fn fn, void *arg);

/* Adds a trailer field. -ENOTSUP when the answer is not chunked; else as tine_respond_header(). */
TINE_EXPORT int tine_respond_trailer(
	struct tine_request *request, const char *name, const char *value);

/*
 * The body is complete. If less than the announced length was written the connection is broken off, so that the client
 * notices. The request is gone with this, whatever it returns.
 */
TINE_EXPORT int tine_respond_end(struct tine_request *request);

/* Breaks the answer off: the client sees that it is not complete. The request is gone. */
TINE_EXPORT void tine_respond_abort(struct tine_request *request);

/* --- server-sent events (WHATWG HTML, section 9.2) --- */

/* Begins a stream of events; end it with tine_respond_end(). It is ended by itself when the worker drains. */
TINE_EXPORT int tine_sse_start(struct tine_request *request);

/*
 * Sends an event. event, id: NULL for none; neither may hold a line break. data: text of any number of lines. Returns as
 * tine_respond_write(), or -EINVAL.
 */
TINE_EXPORT int tine_sse_send(struct tine_request *request, const char *event, const char *id,
	const void *data, size_t len);

/* --- files --- */

/* A folder of files to serve, with its cache of open descriptors. */
struct tine_files;

struct tine_files_options {
	size_t size;       /* sizeof(struct tine_files_options) */
	const char *root;  /* folder; nothing outside it is ever served, symbolic links included */
	const char *index; /* file served for a folder; NULL or "": none */

	/* Since then; a smaller `size` leaves them off. The texts are copied. */
	bool listing;       /* a folder without index file is shown as a page of what is in it */
	bool precompressed; /* NAME.br or NAME.gz is sent in place of NAME to clients that take it */
	bool gzip; /* text of 1 KiB to 8 MiB is compressed for clients that take it, on the thread pool */
	const char *cache_control; /* Cache-Control of all answers with content; NULL or "": none */
	const char *
		fallback; /* file answered with 200 for paths that are not found and have no '.' in their last segment */
};

/*
 * Opens a folder for serving. Returns 0 and *ret_files, or a negative errno (why root could not be opened; -EINVAL for a
 * cache_control that cannot be written into a header).
 * tine_files_free(NULL) is fine; free only in worker_stop.
 */
TINE_EXPORT int tine_files_new(struct tine_worker *worker, const struct tine_files_options *options,
	struct tine_files **ret_files);
TINE_EXPORT void tine_files_free(struct tine_files *files);

/*
 * Answers with the file `path` (relative to the root; a leading '/' is ignored): 200 with Content-Type from the
 * system's MIME table, Last-Modified and ETag; 206 or 416 when parts of it are asked for (RFC 9110 section 14; more than 16
 * of them, or more bytes than it has, get it whole); 304 when the client has it, 412 (section 13); 301 to the same path
 * with '/' for a folder; 403, 404 or 500 when it cannot be read. May keep the request as tine_defer() does, when threads have
 * to do something first. Returns as tine_respond.
 */
TINE_EXPORT int tine_respond_file(
	struct tine_request *request, struct tine_files *files, struct tine_text path);

#ifdef __cplusplus
}
#endif

#include "websocket.h"

#endif

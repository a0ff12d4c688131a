/*
 * tine/http.h - answering HTTP requests (RFC 9110, RFC 9112).
 *
 * A module registers routes in worker_start; tined parses requests, strictly, and calls the handler of the route
 * that fits best. Everything here runs on the worker's loop thread.
 */
#ifndef TINE_HTTP_H
#define TINE_HTTP_H

#include <stddef.h>

#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tine_request; /* one request; valid until its handler returns */

/* Text with a length; not terminated by NUL. Valid as long as what it came from. */
struct tine_text {
	const char *data;
	size_t len;
};

enum tine_method {
	TINE_GET = 1,
	TINE_HEAD = 2,
};

/* Answers one request: calls exactly one of the tine_respond functions before it returns. */
typedef void (*tine_http_fn)(struct tine_request *request, void *arg);

/*
 * Serves `path` below the module's mount point on the module's listener. A path that ends with '/' stands for
 * everything below it (at the mount point also for the mount point itself without the '/'), any other for itself alone;
 * the longest one that fits wins, over all modules of a listener.
 * methods: enum tine_method or-ed; TINE_GET includes HEAD. Other methods are answered 405 with Allow.
 * `arg` is handed to every call and must live until worker_stop.
 * Returns 0, -EINVAL for a path that does not begin with '/', -EEXIST when the path is taken, -ENOMEM.
 */
TINE_EXPORT int tine_http_route(
	struct tine_worker *worker, unsigned methods, const char *path, tine_http_fn fn, void *arg);

/* What a middleware says. */
enum tine_verdict {
	TINE_NEXT = 0,  /* go on: the next one, or the handler of the route */
	TINE_TAKEN = 1, /* it has answered; or deferred it, and will answer or call tine_next() */
};

/*
 * Sees requests before their handlers do: every request whose path is the one it was registered for or below it
 * (on segment boundaries: "/a" covers "/a" and "/a/b", not "/ab"), also when no route fits, so that it can guard
 * everything. Called in order of registration, modules in the order of the configuration file.
 * Returns enum tine_verdict.
 */
typedef int (*tine_middleware_fn)(struct tine_request *request, void *arg);

TINE_EXPORT enum tine_method tine_request_method(const struct tine_request *request);

/*
 * The path, percent-decoded and with dot segments removed: it begins with '/', and holds neither NUL nor a
 * segment "." or "..". tine_request_subpath is the part below the module's mount point (also beginning with '/').
 */
TINE_EXPORT struct tine_text tine_request_path(const struct tine_request *request);
TINE_EXPORT struct tine_text tine_request_subpath(const struct tine_request *request);

/* What follows '?' as it was sent, without the '?'; empty when there is none. */
TINE_EXPORT struct tine_text tine_request_query(const struct tine_request *request);

/*
 * The value of a header field, without surrounding white space; data is NULL when it was not sent. Case of the name
 * does not matter.
 */
TINE_EXPORT struct tine_text tine_request_header(
	const struct tine_request *request, const char *name);

/*
 * Adds a header field to the answer to come. Returns 0; -EINVAL when name or value hold bytes that RFC 9110 does not
 * allow (so nothing can be injected) or name one that tined writes itself (Content-Length, Connection, Date,
 * Transfer-Encoding); -ENOSPC when the answer's header would become too large (8 KiB).
 */
TINE_EXPORT int tine_respond_header(
	struct tine_request *request, const char *name, const char *value);

/*
 * Answers with a whole body, which is copied (or, for HEAD, only measured). status: 200 to 599. type: Content-Type, or NULL for none.
 * Returns 0, or a negative errno when no answer could be made (the client then gets 500).
 */
TINE_EXPORT int tine_respond(
	struct tine_request *request, int status, const char *type, const void *body, size_t len);

/* A folder of files to serve, with its cache of open descriptors. */
struct tine_files;

struct tine_files_options {
	size_t size;       /* sizeof(struct tine_files_options) */
	const char *root;  /* folder; nothing outside it is ever served, symbolic links included */
	const char *index; /* file served for a folder; NULL or "": none */
};

/*
 * Opens a folder for serving. Returns 0 and *ret_files, or a negative errno (why root could not be opened).
 * tine_files_free(NULL) is fine; free only in worker_stop.
 */
TINE_EXPORT int tine_files_new(struct tine_worker *worker, const struct tine_files_options *options,
	struct tine_files **ret_files);
TINE_EXPORT void tine_files_free(struct tine_files *files);

/*
 * Answers with the file `path` (relative to the root; a leading '/' is ignored): 200 with Content-Type from the
 * system's MIME table, Last-Modified and ETag; 304 when the client has it (RFC 9110 section 13); 301 to the same path with '/' for a folder;
 * 403, 404 or 500 when it cannot be read. Returns as tine_respond.
 */
TINE_EXPORT int tine_respond_file(
	struct tine_request *request, struct tine_files *files, struct tine_text path);

#ifdef __cplusplus
}
#endif
#endif

/*
 * tine/http.h: checks what modules hand in and calls down. Runs in the process that serves, on the
 * loop's thread.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include <tine/http.h>

#include "base/sized.h"
#include "http/body.h"
#include "http/files.h"
#include "http/forwarded.h"
#include "http/http.h"
#include "http/request.h"
#include "http/response.h"
#include "http/router.h"
#include "http/streamed.h"
#include "runtime/module.h"
#include "shared/config.h"

#define TYPE_MAX 255 /* bytes of a Content-Type */

#define METHODS \
	(TINE_GET | TINE_HEAD | TINE_POST | TINE_PUT | TINE_DELETE | TINE_OPTIONS | TINE_PATCH)

static struct tine_text text_of(const char *s)
{
	return (struct tine_text){s, s ? strlen(s) : 0};
}

/* Of the module's listener; NULL when plain tcp is spoken there. */
static struct http_router *router_of(struct tine_worker *worker)
{
	worker->misplaced |= !worker->router;
	return worker->router;
}

int tine_http_route_with(struct tine_worker *worker, const struct tine_route *given)
{
	struct http_route_spec spec;
	struct tine_route route;
	int r = worker && router_of(worker) ? SIZED_TAKE(&route, given, max_body) : -EINVAL;

	if (r < 0)
		return r;
	if (!route.path || !route.fn || (route.flags & ~(unsigned)HTTP_ROUTE_FLAGS) ||
		route.methods == 0 || (route.methods & ~(unsigned)METHODS))
		return -EINVAL;
	spec = (struct http_route_spec){.mount = worker->config.conf->mount,
		.path = route.path,
		.methods = route.methods,
		.fn = route.fn,
		.arg = route.arg,
		.flags = route.flags,
		.max_body = route.max_body};
	return http_router_add(worker->router, &spec);
}

int tine_http_route(
	struct tine_worker *worker, unsigned methods, const char *path, tine_http_fn fn, void *arg)
{
	return tine_http_route_with(worker,
		&(struct tine_route){.size = sizeof(struct tine_route),
			.path = path,
			.methods = methods,
			.fn = fn,
			.arg = arg});
}

int tine_http_use(struct tine_worker *worker, const char *path, tine_middleware_fn fn, void *arg)
{
	if (!worker || !router_of(worker) || !path || !fn)
		return -EINVAL;
	return http_router_use(worker->router, worker->config.conf->mount, path, fn, arg);
}

enum tine_method tine_request_method(const struct tine_request *request)
{
	return (enum tine_method)request->head.method;
}

struct tine_text tine_request_path(const struct tine_request *request)
{
	return request->path;
}

struct tine_text tine_request_subpath(const struct tine_request *request)
{
	const struct http_route *route = request->match.route;
	size_t mount = route ? route->mount_len : 0;

	if (request->path.len == mount)
		return (struct tine_text){"/", 1};
	return (struct tine_text){request->path.data + mount, request->path.len - mount};
}

struct tine_text tine_request_raw_path(const struct tine_request *request)
{
	return request->head.path;
}

struct tine_text tine_request_param(const struct tine_request *request, const char *name)
{
	if (!request->match.route)
		return (struct tine_text){NULL, 0};
	return http_match_param(&request->match, name);
}

struct tine_text tine_request_query(const struct tine_request *request)
{
	return request->head.query;
}

struct tine_text tine_request_header(const struct tine_request *request, const char *name)
{
	return http_head_field(&request->head, name, strlen(name));
}

int tine_request_field(const struct tine_request *request, unsigned index,
	struct tine_text *ret_name, struct tine_text *ret_value)
{
	if (index >= request->head.n_fields)
		return -ENOENT;
	*ret_name = request->head.fields[index].name;
	*ret_value = request->head.fields[index].value;
	return 0;
}

struct tine_text tine_request_host(const struct tine_request *request)
{
	return request->head.host;
}

struct tine_text tine_request_client(const struct tine_request *request)
{
	return request_client((struct tine_request *)(uintptr_t)request);
}

struct tine_text tine_request_scheme(const struct tine_request *request)
{
	return request_scheme(request);
}

struct tine_text tine_request_body(const struct tine_request *request)
{
	return request->whole;
}

int64_t tine_request_length(const struct tine_request *request)
{
	return request->head.chunked ? -1 : (int64_t)request->head.content_length;
}

struct tine_text tine_request_trailer(const struct tine_request *request, const char *name)
{
	return body_trailer(request, name, strlen(name));
}

int tine_request_read(struct tine_request *request, tine_body_fn fn, void *arg)
{
	return fn ? body_read(request, fn, arg) : -EINVAL;
}

void tine_request_pause(struct tine_request *request, bool pause)
{
	body_pause(request, pause);
}

int tine_defer(struct tine_request *request)
{
	return request->answer == ANSWER_NONE ? request_defer(request) : -EALREADY;
}

void tine_next(struct tine_request *request)
{
	request_resume(request);
}

void tine_on_gone(struct tine_request *request, tine_http_fn fn, void *arg)
{
	request->on_gone = fn;
	request->gone_arg = arg;
}

int tine_respond_header(struct tine_request *request, const char *name, const char *value)
{
	if (!name || !value)
		return -EINVAL;
	if (request->answer != ANSWER_NONE)
		return -EALREADY;
	return response_add_header(request, text_of(name), text_of(value));
}

static bool is_answer(int status, const char *type)
{
	size_t len = type ? strlen(type) : 0;

	return status >= 200 && status <= 599 && len <= TYPE_MAX && http_is_value(type, len);
}

int tine_respond(
	struct tine_request *request, int status, const char *type, const void *body, size_t len)
{
	if (!is_answer(status, type) || (len > 0 && !body))
		return -EINVAL;
	return response_write(request,
		&(struct http_answer){.status = (unsigned)status,
			.type = text_of(type),
			.length = len,
			.body = body});
}

int tine_respond_status(struct tine_request *request, int status)
{
	return is_answer(status, NULL) ? response_text(request, (unsigned)status) : -EINVAL;
}

int tine_respond_start(struct tine_request *request, int status, const char *type, int64_t length)
{
	if (!is_answer(status, type) || length < -1)
		return -EINVAL;
	return streamed_start(request, (unsigned)status, text_of(type), length);
}

int tine_respond_write(struct tine_request *request, const void *data, size_t len)
{
	return data || len == 0 ? streamed_write(request, data, len) : -EINVAL;
}

void tine_respond_on_room(struct tine_request *request, tine_http_fn fn, void *arg)
{
	request->on_room = fn;
	request->room_arg = arg;
}

int tine_respond_trailer(struct tine_request *request, const char *name, const char *value)
{
	if (!name || !value)
		return -EINVAL;
	return streamed_add_trailer(request, text_of(name), text_of(value));
}

int tine_respond_end(struct tine_request *request)
{
	return streamed_end(request);
}

void tine_respond_abort(struct tine_request *request)
{
	streamed_abort(request);
}

int tine_sse_start(struct tine_request *request)
{
	return sse_start(request);
}

int tine_sse_send(struct tine_request *request, const char *event, const char *id, const void *data,
	size_t len)
{
	if (!data && len > 0)
		return -EINVAL;
	return sse_send(request, text_of(event), text_of(id), data, len);
}

int tine_files_new(struct tine_worker *worker, const struct tine_files_options *options,
	struct tine_files **ret_files)
{
	struct tine_files_options o;
	int r = worker ? SIZED_TAKE(&o, options, index) : -EINVAL;

	if (r < 0)
		return r;
	return o.root ? files_new(&o, ret_files) : -EINVAL;
}

void tine_files_free(struct tine_files *files)
{
	files_free(files);
}

int tine_respond_file(struct tine_request *request, struct tine_files *files, struct tine_text path)
{
	if (request->answer != ANSWER_NONE)
		return -EALREADY;
	if (!request->connection)
		return response_write(request, &(struct http_answer){.status = 503});
	return files_answer(files, request, path);
}

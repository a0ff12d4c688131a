/*
 * tine/http.h: checks what modules hand in and calls down. Runs in the process that serves, on the
 * loop's thread.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include <tine/http.h>

#include "http/files.h"
#include "http/http.h"
#include "http/response.h"
#include "http/router.h"
#include "runtime/module.h"
#include "shared/config.h"

#define TYPE_MAX 255 /* bytes of a Content-Type */

int tine_http_route(
	struct tine_worker *worker, unsigned methods, const char *path, tine_http_fn fn, void *arg)
{
	if (!worker || !worker->router || !path || !fn)
		return -EINVAL;
	if (methods == 0 || (methods & ~(unsigned)(TINE_GET | TINE_HEAD)))
		return -EINVAL;
	return http_router_add(worker->router,
		&(struct http_route_spec){.mount = worker->config.conf->mount,
			.path = path,
			.methods = methods,
			.fn = fn,
			.arg = arg});
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
	size_t mount = request->route->mount_len;

	if (request->path.len == mount)
		return (struct tine_text){"/", 1};
	return (struct tine_text){request->path.data + mount, request->path.len - mount};
}

struct tine_text tine_request_query(const struct tine_request *request)
{
	return request->head.query;
}

struct tine_text tine_request_header(const struct tine_request *request, const char *name)
{
	return http_head_field(&request->head, name, strlen(name));
}

int tine_respond_header(struct tine_request *request, const char *name, const char *value)
{
	if (!name || !value)
		return -EINVAL;
	if (request->answered)
		return -EALREADY;
	return response_add_header(request, (struct tine_text){name, strlen(name)},
		(struct tine_text){value, strlen(value)});
}

int tine_respond(
	struct tine_request *request, int status, const char *type, const void *body, size_t len)
{
	struct http_answer a = {.status = (unsigned)status, .length = len, .body = body};

	if (status < 200 || status > 599 || (len > 0 && !body))
		return -EINVAL;
	if (type) {
		a.type = (struct tine_text){type, strlen(type)};
		if (a.type.len > TYPE_MAX || !http_is_value(type, a.type.len))
			return -EINVAL;
	}
	return response_write(request, &a);
}

int tine_files_new(struct tine_worker *worker, const struct tine_files_options *options,
	struct tine_files **ret_files)
{
	if (!worker || !options || options->size < sizeof(*options) || !options->root)
		return -EINVAL;
	return files_new(options->root, options->index, ret_files);
}

void tine_files_free(struct tine_files *files)
{
	files_free(files);
}

int tine_respond_file(struct tine_request *request, struct tine_files *files, struct tine_text path)
{
	if (request->answered)
		return -EALREADY;
	return files_answer(files, request, path);
}

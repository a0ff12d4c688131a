/* Handlers that have files, names, keys and compression done on the thread pool, and answer when it is done. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tine/http.h>
#include <tine/work_crypto.h>
#include <tine/work_dns.h>
#include <tine/work_file.h>
#include <tine/work_zlib.h>

static const struct tine_option options[] = {
	{.name = "folder", .type = TINE_OPTION_PATH, .doc = "Where its files are."},
	{.name = "max", .type = TINE_OPTION_SIZE, .def = "1M", .doc = "Of what comes out."},
	{.name = NULL},
};

struct state {
	struct tine_worker *worker;
	const char *folder;
	size_t max;
};

/* Says what a call has returned, or keeps the request until its callback comes. */
static void begun(struct tine_request *request, int r)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "refused %d", r);

	if (r < 0)
		tine_respond(request, 500, "text/plain", text, (size_t)n);
	else
		tine_defer(request);
}

static void answer(
	struct tine_request *request, int status, const char *text, const void *data, size_t len)
{
	if (status < 0)
		tine_respond(request, 500, "text/plain", text, strlen(text));
	else
		tine_respond(request, 200, "application/octet-stream", data, len);
}

/* --- files --- */

/* A path below the folder, of the parameter of that name; two at a time. */
static const char *path_of(const struct state *s, struct tine_request *request, const char *param)
{
	static char paths[2][4096];
	static unsigned next;
	struct tine_text name = tine_request_param(request, param);
	char *path = paths[next++ % 2];

	snprintf(path, sizeof(paths[0]), "%s/%.*s", s->folder, (int)name.len, name.data);
	return path;
}

static void on_loaded(struct tine_file_result *r, void *arg)
{
	answer(arg, r->status, r->text, r->data, (size_t)r->len);
}

static void on_load(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct tine_file f = {.size = sizeof(f),
		.path = path_of(s, request, "name"),
		.max = s->max,
		.on_done = on_loaded,
		.arg = request};

	begun(request, tine_file_load(s->worker, &f, NULL));
}

static void on_counted(struct tine_file_result *r, void *arg)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)r->len);

	answer(arg, r->status, r->text, text, (size_t)n);
}

static void on_save(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct tine_text body = tine_request_body(request);
	struct tine_file f = {.size = sizeof(f),
		.path = path_of(s, request, "name"),
		.data = body.data,
		.len = body.len,
		.on_done = on_counted,
		.arg = request};

	begun(request, tine_file_save(s->worker, &f, NULL));
}

static void on_copy(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct tine_file f = {.size = sizeof(f),
		.path = path_of(s, request, "name"),
		.to = path_of(s, request, "to"),
		.on_done = on_counted,
		.arg = request};

	begun(request, tine_file_copy(s->worker, &f, NULL));
}

static void on_listed(struct tine_file_result *r, void *arg)
{
	char text[4096] = "";
	size_t n = 0;

	for (size_t i = 0; i < r->len && n < sizeof(text); i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\n", r->entries[i].name);
	answer(arg, r->status, r->text, text, strlen(text));
}

static void on_list(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct tine_file f = {
		.size = sizeof(f), .path = s->folder, .on_done = on_listed, .arg = request};

	begun(request, tine_file_list(s->worker, &f, NULL));
}

/* --- names --- */

static void on_found(struct tine_dns_result *r, void *arg)
{
	char text[128] = "";
	const struct sockaddr_in *in = r->addresses ? (const void *)r->addresses->ai_addr : NULL;

	if (in)
		snprintf(text, sizeof(text), "%08x", ntohl(in->sin_addr.s_addr));
	answer(arg, r->status, r->text, text, strlen(text));
}

static void on_lookup(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct tine_text host = tine_request_param(request, "host");
	struct tine_dns d = {.size = sizeof(d),
		.host = strndup(host.data, host.len),
		.family = AF_INET,
		.on_done = on_found,
		.arg = request};

	begun(request, tine_dns_lookup(s->worker, &d, NULL));
	free((void *)d.host);
}

/* --- crypto --- */

static void on_bytes(struct tine_crypto_result *r, void *arg)
{
	answer(arg, r->status, r->text, r->data, r->len);
}

static void on_pair(struct tine_crypto_result *r, void *arg)
{
	char text[32768];

	snprintf(text, sizeof(text), "%s%s", r->private_key ? r->private_key : "",
		r->public_key ? r->public_key : "");
	answer(arg, r->status, r->text, text, strlen(text));
}

static void on_digest(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct tine_text name = tine_request_param(request, "name");
	struct tine_text body = tine_request_body(request);
	struct tine_crypto c = {.size = sizeof(c),
		.algorithm = strndup(name.data, name.len),
		.data = body.data,
		.len = body.len,
		.on_done = on_bytes,
		.arg = request};

	begun(request, tine_crypto_digest(s->worker, &c, NULL));
	free((void *)c.algorithm);
}

/* Takes its time. */
static void on_scrypt(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct tine_text body = tine_request_body(request);
	struct tine_crypto c = {.size = sizeof(c),
		.key = body.data,
		.key_len = body.len,
		.salt = "salt",
		.salt_len = 4,
		.n = 32768,
		.r = 8,
		.p = 8,
		.length = 32,
		.on_done = on_bytes,
		.arg = request};

	begun(request, tine_crypto_scrypt(s->worker, &c, NULL));
}

static void on_key(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct tine_text name = tine_request_param(request, "name");
	struct tine_crypto c = {.size = sizeof(c),
		.algorithm = strndup(name.data, name.len),
		.bits = 2048,
		.on_done = on_pair,
		.arg = request};

	begun(request, tine_crypto_key(s->worker, &c, NULL));
	free((void *)c.algorithm);
}

static void on_forgotten(struct tine_crypto_result *r, void *arg)
{
	tine_log(TINE_LOG_INFO, "ready module: %s", r->text);
}

/* A key that takes minutes, and nobody waits for. */
static void on_forget(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct tine_crypto c = {.size = sizeof(c),
		.algorithm = "RSA",
		.bits = TINE_CRYPTO_RSA_MAX,
		.on_done = on_forgotten};

	tine_respond_status(request, tine_crypto_key(s->worker, &c, NULL) < 0 ? 500 : 204);
}

/* --- zlib --- */

static void on_coded(struct tine_zlib_result *r, void *arg)
{
	answer(arg, r->status, r->text, r->data, r->len);
}

static void code(struct tine_request *request, const struct state *s,
	int (*fn)(struct tine_worker *, const struct tine_zlib *, struct tine_work **))
{
	struct tine_text body = tine_request_body(request);
	struct tine_zlib z = {.size = sizeof(z),
		.format = TINE_ZLIB_GZIP,
		.data = body.data,
		.len = body.len,
		.max = s->max,
		.on_done = on_coded,
		.arg = request};

	begun(request, fn(s->worker, &z, NULL));
}

static void on_gzip(struct tine_request *request, void *arg)
{
	code(request, arg, tine_zlib_deflate);
}

static void on_gunzip(struct tine_request *request, void *arg)
{
	code(request, arg, tine_zlib_inflate);
}

/* A body of any length through gzip, as it comes. A client that takes its answer slowly is read slowly. */
struct passage {
	struct tine_request *request;
	struct tine_zlib_stream *stream;
};

#define ROOM_MIN (128 << 10)

static void passage_abort(struct passage *p)
{
	tine_zlib_close(p->stream);
	tine_respond_abort(p->request);
	free(p);
}

static void on_gone(struct tine_request *request, void *arg)
{
	passage_abort(arg);
}

static void on_room(struct tine_request *request, void *arg)
{
	struct passage *p = arg;

	tine_zlib_pause(p->stream, false);
}

static int on_out(struct tine_zlib_stream *stream, const void *data, size_t len, void *arg)
{
	struct passage *p = arg;

	return tine_respond_write(p->request, data, len);
}

static void on_out_end(int status, const char *text, void *arg)
{
	struct passage *p = arg;

	if (status < 0)
		tine_respond_abort(p->request);
	else
		tine_respond_end(p->request);
	free(p);
}

static void on_writable(struct tine_zlib_stream *stream, void *arg)
{
	struct passage *p = arg;

	tine_request_pause(p->request, false);
}

static void on_body(struct tine_request *request, enum tine_body_event event, const void *data,
	size_t len, void *arg)
{
	struct passage *p = arg;
	int r = 0;

	if (event == TINE_BODY_DATA)
		r = tine_zlib_write(p->stream, data, len, false);
	else if (event == TINE_BODY_END)
		r = tine_zlib_end(p->stream);
	if (event == TINE_BODY_FAILED || r < 0)
		passage_abort(p);
	else if (event == TINE_BODY_DATA && tine_zlib_room(p->stream) < ROOM_MIN)
		tine_request_pause(request, true);
}

static void on_stream(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct passage *p = calloc(1, sizeof(*p));
	struct tine_zlib_options o = {.size = sizeof(o),
		.format = TINE_ZLIB_GZIP,
		.level = 1,
		.on_data = on_out,
		.on_end = on_out_end,
		.on_writable = on_writable,
		.arg = p};

	p->request = request;
	if (tine_zlib_open(s->worker, &o, &p->stream) < 0 ||
		tine_respond_start(request, 200, "application/gzip", -1) < 0)
		abort();
	tine_on_gone(request, on_gone, p);
	tine_respond_on_room(request, on_room, p);
	tine_request_read(request, on_body, p);
}

static const struct tine_route routes[] = {
	{.path = "/load/{name}", .methods = TINE_GET, .fn = on_load},
	{.path = "/save/{name}", .methods = TINE_POST, .fn = on_save},
	{.path = "/copy/{name}/{to}", .methods = TINE_POST, .fn = on_copy},
	{.path = "/list", .methods = TINE_GET, .fn = on_list},
	{.path = "/lookup/{host}", .methods = TINE_GET, .fn = on_lookup},
	{.path = "/digest/{name}", .methods = TINE_POST, .fn = on_digest},
	{.path = "/scrypt", .methods = TINE_POST, .fn = on_scrypt},
	{.path = "/key/{name}", .methods = TINE_GET, .fn = on_key},
	{.path = "/forget", .methods = TINE_POST, .fn = on_forget},
	{.path = "/gzip", .methods = TINE_POST, .fn = on_gzip},
	{.path = "/gunzip", .methods = TINE_POST, .fn = on_gunzip},
	{.path = "/stream",
		.methods = TINE_POST,
		.flags = TINE_ROUTE_STREAM_BODY,
		.fn = on_stream,
		.max_body = 1 << 30},
};

static int on_start(struct tine_worker *worker, void **ret_state)
{
	struct state *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	s->worker = worker;
	s->folder = tine_config_string(tine_worker_config(worker), "folder");
	s->max = (size_t)tine_config_number(tine_worker_config(worker), "max");
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]) && r == 0; i++) {
		struct tine_route route = routes[i];

		route.size = sizeof(route);
		route.arg = s;
		r = tine_http_route_with(worker, &route);
	}
	*ret_state = s;
	return r;
}

static void on_stop(void *state)
{
	free(state);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "ready",
	.options = options,
	.worker_start = on_start,
	.worker_stop = on_stop,
};

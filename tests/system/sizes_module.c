/*
 * Every function that takes options with `size`, called with those of modules that are older or newer than tined, and with wrong ones.
 * /try below its mount point answers a line for each: its name, and what it returned for each size (see try_row()).
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tine/bus.h>
#include <tine/child.h>
#include <tine/farm.h>
#include <tine/http.h>
#include <tine/loop.h>
#include <tine/shared.h>
#include <tine/thread.h>
#include <tine/work.h>
#include <tine/work_crypto.h>
#include <tine/work_dns.h>
#include <tine/work_file.h>
#include <tine/work_zlib.h>

#define TOO_LARGE 4097

static struct tine_worker *worker;
static struct tine_request *asking; /* its answer has begun */
static struct tine_thread *thread;

/* --- what is called back --- */

static void on_request(struct tine_request *request, void *arg)
{
}

static void on_message(struct tine_message *message, void *arg)
{
}

static int step(size_t begin, size_t end, void *arg)
{
	return 0;
}

static void run(struct tine_work *work, void *arg)
{
}

static int idle(struct tine_thread_self *self, void *data, size_t len)
{
	return 0;
}

static void on_digest(struct tine_crypto_result *result, void *arg)
{
}

static void on_names(struct tine_dns_result *result, void *arg)
{
}

static void on_file(struct tine_file_result *result, void *arg)
{
}

static void on_packed(struct tine_zlib_result *result, void *arg)
{
}

static int on_piece(struct tine_zlib_stream *stream, const void *data, size_t len, void *arg)
{
	return 0;
}

static void on_end(int status, const char *text, void *arg)
{
}

static void on_frame(struct tine_websocket *ws, enum tine_websocket_type type, const void *data,
	size_t len, void *arg)
{
}

/* --- what is called: each gives back what it got --- */

static int open_bus(const void *o)
{
	return tine_bus_open(worker, o); /* it is open already */
}

static int post(const void *o)
{
	return tine_bus_post(worker, o);
}

static int subscribe(const void *o)
{
	struct tine_subscription *s;
	int r = tine_bus_subscribe(worker, o, &s);

	if (r == 0)
		tine_bus_unsubscribe(s);
	return r;
}

static int spawn(const void *o)
{
	return tine_child_spawn(worker, o, NULL);
}

static int submit_task(const void *o)
{
	return tine_farm_submit(worker, o, NULL);
}

static int open_files(const void *o)
{
	struct tine_files *files;
	int r = tine_files_new(worker, o, &files);

	if (r == 0)
		tine_files_free(files);
	return r;
}

static int add_route(const void *o)
{
	return tine_http_route_with(worker, o); /* there is one already */
}

static int accept_websocket(const void *o)
{
	return tine_websocket_accept(asking, o, NULL);
}

static int walk(const void *o)
{
	return tine_loop_slices(worker, o, NULL);
}

static int ask_figures(const void *o)
{
	return tine_loop_figures(worker, (struct tine_loop_figures *)(uintptr_t)o);
}

static int find_limit(const void *o)
{
	struct tine_limit *limit;

	return tine_shared_limit(worker, "sizes", o, &limit);
}

static int start_thread(const void *o)
{
	struct tine_thread *t;
	int r = tine_thread_start(worker, o, &t);

	if (r == 0)
		tine_thread_terminate(t, 0);
	return r;
}

static int send_to_thread(const void *o)
{
	return tine_thread_send(thread, o);
}

static int start_threads(const void *o)
{
	struct tine_thread_pool *pool;
	int r = tine_thread_pool_start(worker, o, &pool);

	if (r == 0)
		tine_thread_pool_stop(pool, 0);
	return r;
}

static int submit_work(const void *o)
{
	return tine_work_submit(worker, o, NULL);
}

static int digest(const void *o)
{
	return tine_crypto_digest(worker, o, NULL);
}

static int look_up(const void *o)
{
	return tine_dns_lookup(worker, o, NULL);
}

static int reverse(const void *o)
{
	return tine_dns_reverse(worker, o, NULL);
}

static int list(const void *o)
{
	return tine_file_list(worker, o, NULL);
}

static int deflate(const void *o)
{
	return tine_zlib_deflate(worker, o, NULL);
}

static int open_zlib(const void *o)
{
	struct tine_zlib_stream *stream;
	int r = tine_zlib_open(worker, o, &stream);

	if (r == 0)
		tine_zlib_close(stream);
	return r;
}

/* --- all of them --- */

static const uint32_t address[] = {2 /* AF_INET */, 0x0100007f, 0, 0};

/* last: the last field of the first version. */
#define ROW(fn, type, last, ...)                                                        \
	{                                                                               \
#fn, fn, sizeof(struct type),                                           \
			offsetof(struct type, last) + sizeof(((struct type *)0)->last), \
			&(const struct type)                                            \
		{                                                                       \
			__VA_ARGS__                                                     \
		}                                                                       \
	}

static const struct row {
	const char *name;
	int (*fn)(const void *options);
	size_t size, first;
	const void *options;
} rows[] = {
	ROW(open_bus, tine_bus_service, arg, .on_message = on_message),
	ROW(post, tine_send, arg, .to = TINE_PEER_ALL),
	ROW(subscribe, tine_subscribe, arg, .pattern = "sizes", .on_message = on_message),
	ROW(spawn, tine_child_options, arg, .program = "/bin/true"),
	ROW(submit_task, tine_farm_task, arg, .farm = "none", .function = "none"),
	ROW(open_files, tine_files_options, index, .root = "/"),
	ROW(add_route, tine_route, max_body, .path = "/try", .methods = TINE_GET, .fn = on_request),
	ROW(accept_websocket, tine_websocket_options, no_compression, .on_message = on_frame),
	ROW(walk, tine_slices_options, arg, .n = 1, .step = step),
	ROW(ask_figures, tine_loop_figures, turn_us, 0),
	ROW(find_limit, tine_limit_options, keys, .amount = 1, .period_us = 1000, .keys = 1),
	ROW(start_thread, tine_thread_options, arg, .main = idle),
	ROW(send_to_thread, tine_thread_send, buffer, 0),
	ROW(start_threads, tine_thread_pool_options, arg, .main = idle, .n_threads = 1),
	ROW(submit_work, tine_work_options, timeout_us, .run = run),
	ROW(digest, tine_crypto, arg, .algorithm = "SHA256", .on_done = on_digest),
	ROW(look_up, tine_dns, arg, .host = "127.0.0.1", .on_done = on_names),
	ROW(reverse, tine_dns, arg, .address = address, .address_len = sizeof(address),
		.on_done = on_names),
	ROW(list, tine_file, arg, .path = "/", .on_done = on_file),
	ROW(deflate, tine_zlib, arg, .format = TINE_ZLIB_GZIP, .on_done = on_packed),
	ROW(open_zlib, tine_zlib_options, arg, .format = TINE_ZLIB_GZIP, .on_data = on_piece,
		.on_end = on_end),
};

/* Calls it with options of this size, in memory that ends with them: behind today's all zero, but for the last byte. */
static int try(const struct row *row, size_t size, char last)
{
	size_t n = size < sizeof(size) ? sizeof(size) : size < TOO_LARGE ? size : row->size;
	char *memory = calloc(1, n);
	int r;

	memcpy(memory, row->options, n < row->size ? n : row->size);
	memcpy(memory, &size, sizeof(size));
	if (last)
		memory[n - 1] = last;
	r = row->fn(memory);
	free(memory);
	return r;
}

static int try_row(const struct row *row, char *text, size_t room)
{
	return snprintf(text, room, "%s %d %d %d %d %d %d %d %d\n", row->name, try(row, 0, 0),
		try(row, sizeof(void *), 0), try(row, row->first - 1, 0), try(row, row->first, 0),
		try(row, row->size, 0), try(row, row->size + 64, 0), try(row, row->size + 64, 1),
		try(row, TOO_LARGE, 0));
}

static void on_try(struct tine_request *request, void *arg)
{
	static char text[4096];
	size_t n = 0;

	asking = request;
	tine_respond_start(request, 200, "text/plain", -1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		n += (size_t)try_row(&rows[i], text + n, sizeof(text) - n);
	tine_respond_write(request, text, n);
	tine_respond_end(request);
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct tine_bus_service service = {.size = sizeof(service)};
	static const struct tine_thread_options o = {.size = sizeof(o), .main = idle};
	int r = tine_bus_open(w, &service);

	worker = w;
	if (r == 0)
		r = tine_thread_start(w, &o, &thread);
	return r == 0 ? tine_http_route(w, TINE_GET, "/try", on_try, NULL) : r;
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "sizes",
	.worker_start = start};

/*
 * upload: takes bodies of any size and streams them into files. A few KiB of memory for each, however large it is.
 *
 *	cc -shared -fPIC -Iinclude -o examples/upload/upload.so examples/upload/upload.c -lz
 *	mkdir -p /tmp/uploads && build/tined -c examples/upload/upload.ini
 *
 *	curl -T some-file http://127.0.0.1:8080/files/
 *
 * A file gets its name only when all of it is there (O_TMPFILE: nothing is left behind by a broken upload, or a crash),
 * and none is ever overwritten.
 *
 * Back-pressure: while the handler writes, nothing is read from the client, so it can send no faster than the
 * file takes it; `rate` makes it slower still. write(2) to a file normally only copies into the page cache: microseconds.
 * When the disk cannot keep up for long the kernel makes it wait, and with it every client of this worker; a service that
 * expects that hands the writing to a thread of its own, which tells the loop with tine_loop_post().
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_TMPFILE */
#endif
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include <tine/http.h>
#include <tine/loop.h>

#define NAME_SIZE 128

static const struct tine_option options[] = {
	{.name = "folder", .type = TINE_OPTION_PATH, .def = ".", .doc = "Where the files go."},
	{.name = "max_size",
		.type = TINE_OPTION_SIZE,
		.def = "10G",
		.min = "1",
		.doc = "Of one file."},
	{.name = "rate",
		.type = TINE_OPTION_SIZE,
		.def = "0",
		.doc = "Bytes per second from one client; 0: no limit."},
	{.name = NULL},
};

/* One in each worker. */
struct place {
	struct event_base *base;
	int folder;
	uint64_t rate;
};

/* One file on its way. */
struct upload {
	struct place *place;
	struct tine_request *request;
	struct event *go_on;
	int fd;
	uint64_t size;
	unsigned long crc;
	double begun; /* seconds */
	char name[NAME_SIZE];
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void upload_free(struct upload *u)
{
	if (u->go_on)
		event_free(u->go_on);
	if (u->fd >= 0)
		close(u->fd);
	free(u);
}

/* Answers, also to nobody: that gives the request back. */
static void upload_fail(struct upload *u, int status)
{
	tine_respond_status(u->request, status);
	upload_free(u);
}

static int status_of(int error)
{
	if (error == EEXIST)
		return 409;
	return error == ENOSPC || error == EDQUOT || error == EFBIG ? 507 : 500;
}

static void upload_done(struct upload *u)
{
	char self[64], text[NAME_SIZE + 128];
	int len;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", u->fd);
	if (linkat(AT_FDCWD, self, u->place->folder, u->name, AT_SYMLINK_FOLLOW) < 0) {
		upload_fail(u, status_of(errno));
		return;
	}
	len = snprintf(text, sizeof(text),
		"{\"name\":\"%s\",\"size\":%" PRIu64 ",\"crc32\":\"%08lx\"}\n", u->name, u->size,
		u->crc);
	tine_respond(u->request, 201, "application/json", text, (size_t)len);
	upload_free(u);
}

static void on_go_on(evutil_socket_t fd, short what, void *arg)
{
	struct upload *u = arg;

	tine_request_pause(u->request, false);
}

/* When the client is ahead of its rate: reads no more until it is not. */
static void upload_slow_down(struct upload *u)
{
	double ahead = (double)u->size / (double)u->place->rate - (now() - u->begun);
	struct timeval wait = {(time_t)ahead, (suseconds_t)((ahead - (double)(time_t)ahead) * 1e6)};

	if (ahead < 0.001)
		return;
	tine_request_pause(u->request, true);
	event_add(u->go_on, &wait);
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static void on_body(struct tine_request *request, enum tine_body_event event, const void *data,
	size_t len, void *arg)
{
	struct upload *u = arg;
	int r;

	if (event == TINE_BODY_END) {
		upload_done(u);
		return;
	}
	if (event == TINE_BODY_FAILED) {
		upload_fail(u, 400);
		return;
	}
	r = write_all(u->fd, data, len);
	if (r < 0) {
		upload_fail(u, status_of(-r)); /* what is still to come is read and dropped */
		return;
	}
	u->size += len;
	u->crc = crc32_z(u->crc, data, len);
	if (u->place->rate > 0)
		upload_slow_down(u);
}

/* Letters, digits, '-', '_' and '.', which is not the first. */
static bool name_is_good(struct tine_text name)
{
	static const char good[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";

	for (size_t i = 0; i < name.len; i++)
		if (name.data[i] == '\0' || !strchr(good, name.data[i]))
			return false;
	return name.len > 0 && name.len < NAME_SIZE && name.data[0] != '.';
}

static int upload_begin(struct upload *u)
{
	u->go_on = evtimer_new(u->place->base, on_go_on, u);
	if (!u->go_on)
		return -ENOMEM;
	if (faccessat(u->place->folder, u->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST; /* said before the client has sent it all */
	u->fd = openat(u->place->folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
	if (u->fd < 0)
		return -errno;
	return tine_request_read(u->request, on_body, u);
}

static void on_put(struct tine_request *request, void *arg)
{
	struct tine_text name = tine_request_param(request, "name");
	struct upload *u;
	int r;

	if (!name_is_good(name)) {
		tine_respond_status(request, 400);
		return;
	}
	u = calloc(1, sizeof(*u));
	if (!u) {
		tine_respond_status(request, 500);
		return;
	}
	*u = (struct upload){.place = arg, .request = request, .fd = -1, .begun = now()};
	memcpy(u->name, name.data, name.len);
	r = upload_begin(u);
	if (r < 0)
		upload_fail(u, status_of(-r));
}

static void stop(void *state)
{
	struct place *place = state;

	if (place->folder >= 0)
		close(place->folder);
	free(place);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	const struct tine_config *config = tine_worker_config(worker);
	const char *folder = tine_config_string(config, "folder");
	struct place *place = calloc(1, sizeof(*place));
	struct tine_route route = {.size = sizeof(route),
		.path = "/files/{name}",
		.methods = TINE_PUT,
		.flags = TINE_ROUTE_STREAM_BODY,
		.fn = on_put,
		.arg = place,
		.max_body = (uint64_t)tine_config_number(config, "max_size")};
	int r;

	if (!place)
		return -ENOMEM;
	place->base = tine_loop_base(worker);
	place->rate = (uint64_t)tine_config_number(config, "rate");
	place->folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = place->folder < 0 ? -errno : tine_http_route_with(worker, &route);
	if (r < 0) {
		stop(place);
		return tine_worker_error(worker, "%s: %s", folder, strerror(-r));
	}
	*ret_state = place;
	return 0;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "upload",
	.options = options,
	.worker_start = start,
	.worker_stop = stop,
};

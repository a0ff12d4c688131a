/*
 * The client's side of the control socket. Blocking, with a deadline.
 */
#include "tinectl/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "ipc/commands.h"

#define ERROR_SIZE ((size_t)CLIENT_ERROR_MAX * 8)
#define LINE_LIMIT (8u << 20) /* no answer has a longer line */

static const struct {
	const char *code;
	enum tinectl_status status;
} codes[] = {
	{"usage", TINECTL_USAGE},
	{"denied", TINECTL_DENIED},
	{"busy", TINECTL_BUSY},
	{"failed", TINECTL_FAILED},
};

struct reader {
	int fd;
	uint64_t end_us; /* 0: never */
	char *data;
	size_t used, size;
};

static enum tinectl_status unreachable(const char *path, int r, char *error)
{
	const char *hint = "";

	if (r == -ENOENT || r == -ECONNREFUSED)
		hint = "; is it running, and is this its [tined] control?";
	else if (r == -EACCES)
		hint = "; root, its own user and members of its control_group may ask it";
	snprintf(error, ERROR_SIZE, "cannot reach tined at %s: %s%s", path, strerror(-r), hint);
	return r == -EACCES ? TINECTL_DENIED : TINECTL_UNREACHABLE;
}

static int connect_to(const char *path, int *ret_fd)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	CLEANUP(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Waits for more bytes. Returns how many came, 0 at the end, -ETIMEDOUT or another -errno. */
static ssize_t read_more(struct reader *rd)
{
	struct pollfd p = {.fd = rd->fd, .events = POLLIN};
	uint64_t now = now_us();
	int ms = -1, r;
	ssize_t n;

	if (rd->size - rd->used < 4096) {
		char *grown = rd->size < LINE_LIMIT ? realloc(rd->data, rd->size * 2 + 8192) : NULL;

		if (!grown)
			return -ENOMEM;
		rd->data = grown;
		rd->size = rd->size * 2 + 8192;
	}
	if (rd->end_us)
		ms = now < rd->end_us ? (int)((rd->end_us - now) / US_PER_MS) + 1 : 0;
	r = poll(&p, 1, ms);
	if (r == 0)
		return -ETIMEDOUT;
	if (r < 0)
		return -errno;
	n = read(rd->fd, rd->data + rd->used, rd->size - rd->used);
	if (n > 0)
		rd->used += (size_t)n;
	return n < 0 ? -errno : n;
}

/* The next line, without its newline, to be freed. Returns 1, 0 at the end, or -errno. */
static int next_line(struct reader *rd, char **ret)
{
	char *newline;

	while (!(newline = rd->used ? memchr(rd->data, '\n', rd->used) : NULL)) {
		ssize_t n = read_more(rd);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return (int)n;
	}
	*newline++ = '\0';
	*ret = strdup(rd->data);
	rd->used -= (size_t)(newline - rd->data);
	memmove(rd->data, newline, rd->used);
	return *ret ? 1 : -ENOMEM;
}

static void copy_printable(char *out, const char *text)
{
	size_t n = 0;

	for (; *text && n + 1 < ERROR_SIZE; text++)
		out[n++] = (*text >= 0x20 && *text <= 0x7e) || *text == '\n' ? *text : '?';
	out[n] = '\0';
}

static enum tinectl_status judge(const json_t *last, char *error)
{
	const char *code = json_string_value(json_object_get(last, "code"));
	const char *text = json_string_value(json_object_get(last, "error"));

	if (json_is_true(json_object_get(last, "ok")))
		return TINECTL_OK;
	copy_printable(error, text ? text : "the daemon's answer makes no sense");
	for (size_t i = 0; code && i < sizeof(codes) / sizeof(*codes); i++) {
		if (strcmp(codes[i].code, code) == 0)
			return codes[i].status;
	}
	return TINECTL_FAILED;
}

static enum tinectl_status broken(int r, char *error)
{
	if (r == -ETIMEDOUT) {
		snprintf(error, ERROR_SIZE, "no answer in time; what was begun goes on");
		return TINECTL_TIMEOUT;
	}
	snprintf(error, ERROR_SIZE, "the connection to tined ended before its answer did%s%s",
		r < 0 ? ": " : "", r < 0 ? strerror(-r) : "");
	return TINECTL_GONE;
}

/* Reads to the last object. */
static enum tinectl_status receive(
	struct reader *rd, client_record_fn on_record, void *arg, json_t **ret_last, char *error)
{
	for (;;) {
		CLEANUP(freep) char *line = NULL;
		int r = next_line(rd, &line);
		json_t *o;

		if (r <= 0)
			return broken(r, error);
		o = json_loads(line, 0, NULL);
		if (json_is_object(o) && json_object_get(o, "ok")) {
			*ret_last = o;
			return judge(o, error);
		}
		if (o && on_record && !on_record(o, line, arg)) {
			json_decref(o);
			return TINECTL_OK;
		}
		json_decref(o);
	}
}

enum tinectl_status client_run(const struct client_options *o, const char *command,
	client_record_fn on_record, void *arg, json_t **ret_last, char error[CLIENT_ERROR_MAX * 8])
{
	CLEANUP(closep) int fd = -1;
	CLEANUP(freep) char *line = NULL;
	enum tinectl_status status;
	struct reader rd = {0};
	int r = connect_to(o->path, &fd), len;

	*ret_last = NULL;
	if (r < 0)
		return unreachable(o->path, r, error);
	len = asprintf(&line, "%s\n", command);
	if (len < 0)
		return broken(-ENOMEM, error);
	if (send(fd, line, (size_t)len, MSG_NOSIGNAL) != len && errno != EPIPE)
		return broken(-errno, error);
	rd.fd = fd;
	rd.end_us = o->timeout_us ? now_us() + o->timeout_us : 0;
	status = receive(&rd, on_record, arg, ret_last, error);
	free(rd.data);
	return status;
}

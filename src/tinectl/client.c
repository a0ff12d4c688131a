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
#include <sys/stat.h>
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
	bool until_unread;
	uint64_t end_us; /* 0: never */
	char *data;
	size_t used, size;
	size_t searched; /* bytes in which there is no newline */
};

/* What is there in place of a socket; connect(2) refuses it like a socket that nobody listens on. */
static const char *no_socket(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || S_ISSOCK(st.st_mode))
		return NULL;
	return S_ISDIR(st.st_mode) ? "that is a folder" : "that is no socket";
}

static enum tinectl_status unreachable(const char *path, int r, char *error)
{
	const char *what = r == -EAGAIN ? "it takes no connections" : strerror(-r);
	const char *hint = "", *other = r == -ECONNREFUSED ? no_socket(path) : NULL;

	if (other)
		hint = "; name the socket, the daemon's [tined] control";
	else if (r == -ENOENT || r == -ECONNREFUSED)
		hint = "; is it running, and is this its [tined] control?";
	else if (r == -EACCES)
		hint = "; root, its own user and members of its control_group may ask it";
	snprintf(error, ERROR_SIZE, "cannot reach tined at %s: %s%s", path, other ? other : what,
		hint);
	return r == -EACCES ? TINECTL_DENIED : r == -EAGAIN ? TINECTL_TIMEOUT : TINECTL_UNREACHABLE;
}

/* A daemon that stands still has a queue, which may be full: waits for room no longer than the timeout. */
static int connect_to(const struct client_options *o, int *ret_fd)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval tv = {
		(time_t)(o->timeout_us / US_PER_S), (suseconds_t)(o->timeout_us % US_PER_S)};
	CLEANUP(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(o->path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, o->path, strlen(o->path) + 1);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0 ||
		connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Waits for more bytes. Returns how many came, 0 at the end, -ETIMEDOUT, -EPIPE (nobody reads us), or another -errno. */
static ssize_t read_more(struct reader *rd)
{
	struct pollfd p[] = {
		{.fd = rd->fd, .events = POLLIN}, {.fd = rd->until_unread ? STDOUT_FILENO : -1}};
	uint64_t now = now_us();
	int ms = -1, r;
	ssize_t n;

	if (rd->size - rd->used < 4096) {
		char *grown = rd->size < LINE_LIMIT ? realloc(rd->data, rd->size * 2 + 8192) : NULL;

		if (!grown)
			return rd->size < LINE_LIMIT ? -ENOMEM : -EMSGSIZE;
		rd->data = grown;
		rd->size = rd->size * 2 + 8192;
	}
	if (rd->end_us)
		ms = now < rd->end_us ? (int)((rd->end_us - now) / US_PER_MS) + 1 : 0;
	r = poll(p, 2, ms);
	if (r == 0)
		return -ETIMEDOUT;
	if (r < 0)
		return -errno;
	if (p[1].revents & (POLLERR | POLLHUP))
		return -EPIPE;
	if (!p[0].revents)
		return -EINTR; /* a closed standard output, say */
	n = read(rd->fd, rd->data + rd->used, rd->size - rd->used);
	if (n > 0)
		rd->used += (size_t)n;
	return n < 0 ? -errno : n;
}

/* The next line, without its newline, to be freed. Returns 1, 0 at the end, or -errno. */
static int next_line(struct reader *rd, char **ret)
{
	char *newline = NULL;

	while (rd->used == rd->searched ||
		!(newline = memchr(rd->data + rd->searched, '\n', rd->used - rd->searched))) {
		ssize_t n;

		rd->searched = rd->used;
		n = read_more(rd);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return (int)n;
	}
	*newline++ = '\0';
	*ret = strdup(rd->data);
	rd->used -= (size_t)(newline - rd->data);
	rd->searched = 0;
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
	if (r == -EMSGSIZE) {
		snprintf(error, ERROR_SIZE,
			"the daemon's answer makes no sense: a line without an end");
		return TINECTL_FAILED;
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

		if (r == -EPIPE)
			return TINECTL_OK;
		if (r <= 0)
			return broken(r, error);
		o = json_loads(line, 0, NULL);
		if (!json_is_object(o)) {
			json_decref(o);
			return judge(NULL, error);
		}
		if (json_object_get(o, "ok")) {
			*ret_last = o;
			return judge(o, error);
		}
		if (on_record && !on_record(o, arg)) {
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
	struct reader rd = {.until_unread = o->until_unread,
		.end_us = o->timeout_us ? now_us() + o->timeout_us : 0};
	int r = connect_to(o, &fd), len;

	*ret_last = NULL;
	if (r < 0)
		return unreachable(o->path, r, error);
	len = asprintf(&line, "%s\n", command);
	if (len < 0)
		return broken(-ENOMEM, error);
	if (send(fd, line, (size_t)len, MSG_NOSIGNAL) != len && errno != EPIPE)
		return broken(-errno, error);
	rd.fd = fd;
	status = receive(&rd, on_record, arg, ret_last, error);
	free(rd.data);
	return status;
}

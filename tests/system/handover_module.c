/*
 * A service over plain TCP whose connections change hands, for the system tests. A client says lines:
 *
 * who          answers "PID CLIENT"
 * move WORDS   the connection, and what has come behind this line, goes to the other worker, which answers "moved PID WORDS"
 * lose         the same to a worker that is not there: it comes back, "moved PID back"
 * flood        writes more than the client takes, and moves when that is gone
 * own          adopts one end of a pair; answers the error's number
 * odd NAME     tries to adopt something that is no connection; answers the error's number
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <tine/bus.h>
#include <tine/stream.h>

#define FLOOD  (8u << 20)
#define NOBODY ((tine_peer)(1u << 30))

/* What goes along with a connection; behind it, what was read and not used. */
struct luggage {
	char client[64], words[64];
};

/* A connection on its way: ours until the other side has it. */
struct parcel {
	int fd;
	size_t len;
	struct luggage luggage;
	char unused[200];
};

static struct tine_worker *worker;

static void say(struct tine_stream *stream, const char *text)
{
	tine_stream_write(stream, text, strlen(text));
}

/* --- giving --- */

static tine_peer other_worker(void)
{
	struct tine_peer_info peers[16];
	size_t n = tine_bus_peers(worker, peers, 16);

	for (size_t i = 0; i < n && i < 16; i++) {
		if (peers[i].peer != tine_bus_self(worker))
			return peers[i].peer;
	}
	return NOBODY;
}

static int adopt_or_close(const struct tine_stream_arrival *a)
{
	int r = tine_stream_adopt(worker, a);

	if (r == -EINVAL || r == TINE_E_QUOTA)
		close(a->fd); /* it is ours still */
	return r;
}

/* Serves a connection from here on. */
static void adopt(int fd, const void *data, size_t len)
{
	const struct luggage *l = data;
	char first[256];
	struct tine_stream_arrival a = {
		.size = sizeof(a), .fd = fd, .client = l->client, .data = first};
	int n = snprintf(first, sizeof(first), "arrived %s\n", l->words);

	memcpy(first + n, l + 1, len - sizeof(*l));
	a.len = (size_t)n + len - sizeof(*l);
	adopt_or_close(&a);
}

/* The other side has it now; or it comes back. */
static void on_given(int status, void *arg)
{
	struct parcel *p = arg;

	if (status < 0)
		adopt(p->fd, &p->luggage, p->len);
	else
		close(p->fd);
	free(p);
}

/* line: bytes of what was not used that are done with. Returns whether it was possible: not while something is to be sent. */
static bool give(struct tine_stream *stream, const char *words, tine_peer to, size_t line)
{
	struct tine_text rest = tine_stream_unused(stream), client = tine_stream_client(stream);
	struct parcel *p = calloc(1, sizeof(*p));
	struct tine_send s = {.size = sizeof(s),
		.to = to,
		.data = &p->luggage,
		.fd = &p->fd,
		.on_done = on_given,
		.arg = p};
	int r = tine_stream_detach(stream, &p->fd);

	if (r < 0) {
		tine_log(TINE_LOG_INFO, "handover: cannot detach yet: %d", r);
		free(p);
		return false;
	}
	snprintf(
		p->luggage.client, sizeof(p->luggage.client), "%.*s", (int)client.len, client.data);
	snprintf(p->luggage.words, sizeof(p->luggage.words), "%s", words);
	memcpy(p->unused, rest.data + line, rest.len - line);
	s.len = p->len = sizeof(p->luggage) + rest.len - line;
	r = tine_bus_post(worker, &s);
	if (r < 0)
		on_given(r, p);
	return true;
}

/* --- serving --- */

/* A connection of the module's own making. */
static void adopt_own(struct tine_stream *stream)
{
	struct tine_stream_arrival a = {
		.size = sizeof(a), .client = "unix:", .data = "who\n", .len = 4};
	char text[32];
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return say(stream, "no pair\n");
	a.fd = fds[0];
	snprintf(text, sizeof(text), "%d\n", adopt_or_close(&a));
	close(fds[1]);
	say(stream, text);
}

static void adopt_odd(struct tine_stream *stream, const char *name)
{
	struct tine_stream_arrival a = {.size = sizeof(a), .fd = -1, .client = "10.0.0.1"};
	char text[32];

	if (strcmp(name, "file") == 0)
		a.fd = memfd_create("odd", MFD_CLOEXEC);
	else if (strcmp(name, "unconnected") == 0)
		a.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	else if (strcmp(name, "datagram") == 0)
		a.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	else if (strcmp(name, "client") == 0)
		tine_stream_detach(stream, &a.fd), a.client = "nobody knows";
	snprintf(text, sizeof(text), "%d\n", tine_stream_adopt(worker, &a));
	if (write(a.fd, "", 0) < 0 && errno == EBADF && a.fd >= 0)
		tine_log(TINE_LOG_ERROR, "handover: it was closed"); /* and it is ours still */
	if (strcmp(name, "client") == 0)
		send(a.fd, text, strlen(text), 0);
	else
		say(stream, text);
	if (a.fd >= 0)
		close(a.fd);
}

static bool flood(struct tine_stream *stream)
{
	static char much[1 << 20];

	memset(much, 'x', sizeof(much));
	for (size_t n = 0; !tine_stream_state(stream) && n < FLOOD; n += sizeof(much)) {
		if (tine_stream_write(stream, much, sizeof(much)) < 0)
			break;
	}
	tine_stream_set_state(stream, much); /* that was it */
	return give(stream, "late", other_worker(), strlen("flood\n"));
}

/* Returns whether the line is done with; it comes again if not, when all is sent. */
static bool obey(struct tine_stream *stream, const char *line)
{
	struct tine_text client = tine_stream_client(stream);
	char text[256];

	if (strncmp(line, "move ", 5) == 0)
		return give(stream, line + 5, other_worker(), strlen(line) + 1);
	if (strcmp(line, "lose") == 0)
		return give(stream, "back", NOBODY, strlen(line) + 1);
	if (strcmp(line, "flood") == 0)
		return flood(stream);
	if (strncmp(line, "odd ", 4) == 0) {
		adopt_odd(stream, line + 4);
		return true;
	}
	if (strcmp(line, "own") == 0) {
		adopt_own(stream);
		return true;
	}
	if (strcmp(line, "who") == 0)
		snprintf(text, sizeof(text), "%d %.*s\n", getpid(), (int)client.len, client.data);
	else if (strncmp(line, "arrived ", 8) == 0)
		snprintf(text, sizeof(text), "moved %d %s\n", getpid(), line + 8);
	else
		snprintf(text, sizeof(text), "%s?\n", line);
	say(stream, text);
	return true;
}

static size_t on_data(struct tine_stream *stream, const void *data, size_t len, void *arg)
{
	const char *end = memchr(data, '\n', len);
	char line[200] = "";

	if (!end)
		return 0;
	memcpy(line, data, (size_t)(end - (const char *)data));
	return obey(stream, line) ? (size_t)(end - (const char *)data) + 1 : 0;
}

static void on_close(struct tine_stream *stream, int error, void *arg)
{
	tine_log(TINE_LOG_INFO, "handover: closed: %d", error);
}

static void on_message(struct tine_message *m, void *arg)
{
	adopt(m->fd, m->data, m->len);
	m->fd = -1;
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct tine_stream_service service = {
		.size = sizeof(service), .on_data = on_data, .on_close = on_close};
	static const struct tine_bus_service bus = {.size = sizeof(bus), .on_message = on_message};
	int r = tine_stream_serve(w, &service);

	worker = w;
	return r < 0 ? r : tine_bus_open(w, &bus);
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "handover",
	.worker_start = start};

/*
 * Uses the functions of the headers as they are not meant to be used, or where they are at their limits. Each path below the mount point
 * is one such use; its answer is what became of it, a word each. With `stream` it serves plain TCP instead, and has a connection of its own
 * for each that ends.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <tine/bus.h>
#include <tine/loop.h>
#include <tine/stream.h>

#include "../module.h"

static struct tine_worker *worker;

/* --- what is said, in the answer to the request that is under way --- */

static struct tine_request *asked;
static char said[4096];

static void say(const char *fmt, ...)
{
	size_t n = strlen(said);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(said + n, sizeof(said) - n, fmt, ap);
	va_end(ap);
}

static void finish(void)
{
	answer(asked, said);
	asked = NULL;
}

static void begin(struct tine_request *request)
{
	asked = request;
	said[0] = '\0';
}

/* --- bus --- */

/* There is no room for more, and something that will never have any. */
static void on_too_large(struct tine_request *request, void *arg)
{
	static const char data[1024];
	const int fd = 0;
	struct tine_send s = {.size = sizeof(s), .to = TINE_PEER_ALL, .data = data};
	int r;

	begin(request);
	do {
		r = tine_bus_send(worker, TINE_PEER_ALL, data, sizeof(data));
	} while (r == 0);
	say("%s", status_name(r));
	s.len = (size_t)1 << 40;
	say(" %s", status_name(tine_bus_post(worker, &s)));
	s.len = 65537;
	s.fd = &fd;
	say(" %s", status_name(tine_bus_post(worker, &s)));
	finish();
}

/* The lane of the bus: of the sockets without a name the one with the largest buffer. */
static int lane(void)
{
	int best = -1, largest = 0;

	for (int fd = 3; fd < 64; fd++) {
		struct sockaddr_un a;
		socklen_t len = sizeof(a), size_len = sizeof(int);
		int size;

		if (getsockname(fd, (struct sockaddr *)&a, &len) < 0 || a.sun_family != AF_UNIX ||
			len > sizeof(sa_family_t) ||
			getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &size_len) < 0 ||
			size <= largest)
			continue;
		best = fd;
		largest = size;
	}
	return best;
}

static bool stopped;

static void on_late(int status, void *arg)
{
	if (stopped)
		tine_log(TINE_LOG_ERROR, "called after worker_stop: %s", status_name(status));
}

static void on_late_answer(int status, struct tine_message *m, void *arg)
{
	on_late(status, arg);
}

/* Sends over a lane that is broken when it is to be written. */
static void send_too_late(void)
{
	struct tine_send s = {.size = sizeof(s),
		.to = TINE_PEER_ALL,
		.on_done = on_late,
		.on_answer = on_late_answer};
	int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC), r = tine_bus_post(worker, &s);

	dup2(nowhere, lane());
	tine_log(TINE_LOG_INFO, "sent in worker_stop: %s", status_name(r));
	stopped = true;
}

/* --- the loop --- */

/* Sizes that no structure has, and one of a later header. */
static void on_figures(struct tine_request *request, void *arg)
{
	static const size_t sizes[] = {0, 8, 4097, SIZE_MAX, 4096};
	union {
		struct tine_loop_figures figures;
		char space[4096];
	} u;

	begin(request);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		u.figures.size = sizes[i];
		say("%s ", status_name(tine_loop_figures(worker, &u.figures)));
	}
	say("%s", u.figures.size == sizeof(u.figures) ? "known" : "unknown");
	finish();
}

/* --- streams --- */

static unsigned n_open, n_closed;

static void adopt_one(const char *when)
{
	struct tine_stream_arrival a = {.size = sizeof(a), .client = "unix:"};
	int fds[2], r;

	if (n_open > 10 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return;
	a.fd = fds[0];
	r = tine_stream_adopt(worker, &a);
	tine_log(TINE_LOG_INFO, "adopted %s: %s", when, status_name(r));
	if (r < 0)
		close(fds[0]);
	else
		(void)fds[1]; /* it is its client */
}

static void on_open(struct tine_stream *stream, void *arg)
{
	n_open++;
}

static size_t on_data(struct tine_stream *stream, const void *data, size_t len, void *arg)
{
	tine_stream_write(stream, data, len);
	return len;
}

static void on_close(struct tine_stream *stream, int error, void *arg)
{
	n_closed++;
	adopt_one("in on_close");
}

static void on_drain(struct tine_stream *stream, void *arg)
{
}

static int start_stream(struct tine_worker *w)
{
	const struct tine_stream_service service = {.size = sizeof(service),
		.on_open = on_open,
		.on_data = on_data,
		.on_drain = on_drain,
		.on_close = on_close};

	return tine_stream_serve(w, &service);
}

/* --- the module --- */

static bool streams;

static const struct handler handlers[] = {
	{"/too-large", on_too_large}, {"/figures", on_figures}, {NULL, NULL}};

static int start(struct tine_worker *w, void **ret_state)
{
	const struct tine_bus_service service = {.size = sizeof(service)};

	worker = w;
	streams = tine_config_number(tine_worker_config(w), "stream");
	if (streams)
		return start_stream(w);
	if (tine_bus_open(w, &service) < 0)
		return tine_worker_error(w, "no bus");
	return add_handlers(w, handlers);
}

static void stop(void *state)
{
	if (!streams)
		return send_too_late();
	adopt_one("in worker_stop");
	tine_log(TINE_LOG_INFO, "%u opened, %u closed", n_open, n_closed);
}

static const struct tine_option options[] = {
	{.name = "stream", .type = TINE_OPTION_BOOL, .def = "off", .doc = "Serves plain TCP."},
	{0}};

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "misuse",
	.options = options,
	.worker_start = start,
	.worker_stop = stop};

/* Plain services for the system tests; the option `serve` says which. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tine/stream.h>

static const struct tine_option options[] = {
	{.name = "serve", .def = "lines", .doc = "echo, lines, sum, silent, http, twice or none."},
	{.name = "idle",
		.type = TINE_OPTION_DURATION,
		.def = "0",
		.doc = "Time-out of a stream; 0: tined's own."},
	{.name = "max_input", .type = TINE_OPTION_SIZE, .def = "0", .doc = "Longest line."},
	{.name = NULL},
};

/* Of one stream. */
struct talk {
	uint64_t taken; /* bytes that came */
	uint64_t left;  /* bytes it was asked for and has not been given */
	uint64_t given;
	int leaving; /* it ends when these are given */
};

static void on_open(struct tine_stream *stream, void *arg)
{
	tine_stream_set_state(stream, calloc(1, sizeof(struct talk)));
}

static void on_close(struct tine_stream *stream, int error, void *arg)
{
	tine_log(TINE_LOG_INFO, "stream: closed: %s", error ? strerror(error) : "well");
	free(tine_stream_state(stream));
}

/* --- echo, sum --- */

static size_t on_echo(struct tine_stream *stream, const void *data, size_t len, void *arg)
{
	return tine_stream_write(stream, data, len) == 0 ? len : 0;
}

static size_t on_sum(struct tine_stream *stream, const void *data, size_t len, void *arg)
{
	struct talk *talk = tine_stream_state(stream);

	talk->taken += len;
	return len;
}

static void on_sum_eof(struct tine_stream *stream, void *arg)
{
	const struct talk *talk = tine_stream_state(stream);
	char text[64];
	int n = snprintf(text, sizeof(text), "%llu bytes\n", (unsigned long long)talk->taken);

	tine_stream_write(stream, text, (size_t)n);
	tine_stream_close(stream);
}

/* --- lines --- */

/* Gives as much as there is room for: the letters of the alphabet, in turn. */
static void give(struct tine_stream *stream, struct talk *talk)
{
	char piece[26 * 1000];

	for (size_t i = 0; i < sizeof(piece); i++)
		piece[i] = (char)('a' + (talk->given + i) % 26);
	while (talk->left > 0) {
		size_t n = talk->left < sizeof(piece) ? talk->left : sizeof(piece);

		if (tine_stream_write(stream, piece, n) < 0)
			return;
		talk->given += n;
		talk->left -= n;
	}
	if (talk->leaving)
		tine_stream_close(stream);
}

static void on_room(struct tine_stream *stream, void *arg)
{
	give(stream, tine_stream_state(stream));
}

static void obey(struct tine_stream *stream, const char *line)
{
	struct talk *talk = tine_stream_state(stream);
	struct tine_text client = tine_stream_client(stream);
	char text[256];
	int n = 0;

	if (strcmp(line, "client") == 0)
		n = snprintf(text, sizeof(text), "%.*s\n", (int)client.len, client.data);
	else if (strcmp(line, "pid") == 0)
		n = snprintf(text, sizeof(text), "%d\n", getpid());
	else if (strcmp(line, "quit") == 0)
		tine_stream_close(stream);
	else if (strcmp(line, "abort") == 0)
		tine_stream_abort(stream);
	else if (sscanf(line, "give %llu", (unsigned long long *)&talk->left) == 1)
		give(stream, talk);
	else
		n = snprintf(text, sizeof(text), "%s?\n", line);
	if (n > 0)
		tine_stream_write(stream, text, (size_t)n);
}

static size_t on_lines(struct tine_stream *stream, const void *data, size_t len, void *arg)
{
	const char *end = memchr(data, '\n', len);
	char line[200] = "";
	size_t n;

	if (!end)
		return 0;
	n = (size_t)(end - (const char *)data);
	memcpy(line, data, n < sizeof(line) ? n : sizeof(line) - 1);
	obey(stream, line);
	return n + 1;
}

static void on_lines_eof(struct tine_stream *stream, void *arg)
{
	struct talk *talk = tine_stream_state(stream);

	talk->leaving = 1;
	give(stream, talk);
}

static void on_lines_drain(struct tine_stream *stream, void *arg)
{
	struct talk *talk = tine_stream_state(stream);

	if (talk->left == 0)
		tine_stream_write(stream, "bye\n", 4);
	on_lines_eof(stream, arg);
}

/* --- start --- */

static void on_request(struct tine_request *request, void *arg)
{
	tine_respond(request, 200, NULL, NULL, 0);
}

static const struct {
	const char *name;
	struct tine_stream_service service;
} services[] = {
	{"echo", {.on_data = on_echo}},
	{"sum", {.on_data = on_sum, .on_eof = on_sum_eof}},
	{"silent", {.on_data = on_sum}},
	{"twice", {.on_data = on_echo}},
	{"lines",
		{.on_data = on_lines,
			.on_room = on_room,
			.on_eof = on_lines_eof,
			.on_drain = on_lines_drain}},
};

static int start(struct tine_worker *worker, void **ret_state)
{
	const struct tine_config *config = tine_worker_config(worker);
	const char *what = tine_config_string(config, "serve");
	int r = 0;

	if (strcmp(what, "http") == 0)
		return tine_http_route(worker, TINE_GET, "/", on_request, NULL);
	for (size_t i = 0; i < sizeof(services) / sizeof(*services); i++) {
		struct tine_stream_service s = services[i].service;

		if (strcmp(what, services[i].name) != 0)
			continue;
		s.size = sizeof(s);
		s.on_open = on_open;
		s.on_close = on_close;
		s.idle_us = (uint64_t)tine_config_number(config, "idle");
		s.max_input = (size_t)tine_config_number(config, "max_input");
		r = tine_stream_serve(worker, &s);
		if (r == 0 && strcmp(what, "twice") == 0)
			r = tine_stream_serve(worker, &s);
	}
	return r;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "stream-tests",
	.options = options,
	.worker_start = start,
};

/* The module of the system tests: handlers that do what handlers should not. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <tine/http.h>

static const struct tine_option options[] = {
	{.name = "fail", .doc = "Where to fail; empty: nowhere."},
	{.name = "fail_file",
		.doc = "A file that says where to fail, as long as it exists; `wait` waits for its "
		       "end."},
	{.name = "text", .def = "module", .doc = "What / answers."},
	{.name = "delay",
		.type = TINE_OPTION_DURATION,
		.def = "500ms",
		.min = "1ms",
		.max = "1h",
		.doc = "How long /sleep and /spin take."},
	{.name = NULL},
};

struct state {
	const char *text;
	int64_t delay_us;
};

static void on_text(struct tine_request *request, void *arg)
{
	const struct state *s = arg;

	tine_respond(request, 200, "text/plain", s->text, strlen(s->text));
}

/* Blocks the worker's loop without using its CPU. */
static void on_sleep(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct timespec left = {s->delay_us / 1000000, s->delay_us % 1000000 * 1000};

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
	tine_respond(request, 200, "text/plain", "slept", 5);
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void on_spin(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	int64_t end = now_us() + s->delay_us;

	while (now_us() < end)
		;
	tine_respond(request, 200, "text/plain", "spun", 4);
}

static void on_abort(struct tine_request *request, void *arg)
{
	abort();
}

static void on_exit_status(struct tine_request *request, void *arg)
{
	_exit(7);
}

static void on_silent(struct tine_request *request, void *arg)
{
}

/* As many bytes as the query says, 'x' each. */
static void on_big(struct tine_request *request, void *arg)
{
	struct tine_text query = tine_request_query(request);
	char digits[16] = "";
	size_t len;
	char *body;

	memcpy(digits, query.data, query.len < sizeof(digits) ? query.len : sizeof(digits) - 1);
	len = strtoul(digits, NULL, 10);
	body = malloc(len + 1);
	memset(body, 'x', len);
	tine_respond(request, 200, "text/plain", body, len);
	free(body);
}

/* Has as many bytes more as the query says, and keeps them. */
static void on_grow(struct tine_request *request, void *arg)
{
	static char *volatile kept[64]; /* volatile: or the compiler saves itself the trouble */
	static size_t n_kept;
	struct tine_text query = tine_request_query(request);
	char digits[16] = "";
	size_t len;

	memcpy(digits, query.data, query.len < sizeof(digits) ? query.len : sizeof(digits) - 1);
	len = strtoul(digits, NULL, 10);
	kept[n_kept % 64] = malloc(len + 1);
	memset(kept[n_kept % 64], 'x', len);
	n_kept++;
	tine_respond(request, 200, "text/plain", "grown", 5);
}

static int configure(const struct tine_config *config)
{
	if (strcmp(tine_config_string(config, "fail"), "configure") == 0)
		return tine_config_error(config, "fail", "told to fail in configure");
	return 0;
}

static int fail_as_told(struct tine_worker *worker, const char *how)
{
	if (strcmp(how, "first") == 0) /* the first at once, the others not at all */
		how = tine_worker_slot(worker) == 0 ? "start" : "hang";
	if (strcmp(how, "start") == 0)
		return tine_worker_error(worker, "told to fail in worker_start");
	if (strcmp(how, "exit") == 0)
		_exit(3);
	if (strcmp(how, "abort") == 0)
		abort();
	while (strcmp(how, "hang") == 0)
		pause();
	if (strcmp(how, "leave") == 0)
		raise(SIGTERM);
	return 0;
}

static int fail_as_the_file_says(struct tine_worker *worker, const char *path)
{
	char how[16] = "";
	FILE *f = *path ? fopen(path, "r") : NULL;

	if (!f)
		return 0;
	if (fscanf(f, "%15s", how) != 1)
		*how = '\0';
	fclose(f);
	while (strcmp(how, "wait") == 0 && access(path, F_OK) == 0)
		usleep(5000);
	return fail_as_told(worker, how);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	static const struct {
		const char *path;
		tine_http_fn fn;
	} routes[] = {{"/", on_text}, {"/sleep", on_sleep}, {"/spin", on_spin},
		{"/abort", on_abort}, {"/exit", on_exit_status}, {"/silent", on_silent},
		{"/big", on_big}, {"/grow", on_grow}};
	const struct tine_config *config = tine_worker_config(worker);
	struct state *s;
	int r = fail_as_told(worker, tine_config_string(config, "fail"));

	if (r == 0)
		r = fail_as_the_file_says(worker, tine_config_string(config, "fail_file"));
	if (r < 0)
		return r;
	*ret_state = s = calloc(1, sizeof(*s));
	s->text = tine_config_string(config, "text");
	s->delay_us = tine_config_number(config, "delay");
	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++) {
		r = tine_http_route(worker, TINE_GET, routes[i].path, routes[i].fn, s);
		if (r < 0)
			return tine_worker_error(worker, "%s: %s", routes[i].path, strerror(-r));
	}
	return 0;
}

static void drain(void *state)
{
	tine_log(TINE_LOG_INFO, "module: drain");
}

static void stop(void *state)
{
	tine_log(TINE_LOG_INFO, "module: stop");
	free(state);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "system-tests",
	.options = options,
	.configure = configure,
	.worker_start = start,
	.worker_drain = drain,
	.worker_stop = stop,
};

/*
 * What spawn.py asks of tined's workers, through tine/child.h alone: below /spawn_module,
 *
 * rate?seconds=&flight=&pipes=&mib=   starts the option `program` again and again, `flight` at a time, each one after the
 *                                     on_close of another; with pipes for its standard streams or without; in a process that
 *                                     has written to that much memory. Answers "CHILDREN SECONDS".
 */
#include <tine/child.h>

#include "load.h"

static const struct tine_option option_rows[] = {{.name = "program",
							 .type = TINE_OPTION_PATH,
							 .def = "/bin/true",
							 .doc = "What is started."},
	{.name = NULL}};

static struct tine_worker *worker;
static const char *program;

static struct load {
	struct tine_request *request;
	int pipes;
	unsigned long n_done, n_running, n_bad;
	double begun, end;
	char *memory;
} load;

static void finish(void)
{
	struct load *l = &load;
	char text[96];

	snprintf(text, sizeof(text), "%s%lu %.6f", l->n_bad ? "error: " : "", l->n_done,
		now() - l->begun);
	answer(l->request, text);
	free(l->memory);
}

static void start_one(void);

static void on_exit_of_child(struct tine_child *c, const struct tine_child_exit *how, void *arg)
{
	load.n_bad += how->status != 0;
}

static void on_error(struct tine_child *c, int error, void *arg)
{
	load.n_bad++;
}

static void on_close(struct tine_child *c, void *arg)
{
	struct load *l = &load;

	l->n_done++;
	l->n_running--;
	if (now() < l->end)
		start_one();
	else if (l->n_running == 0)
		finish();
}

static void start_one(void)
{
	enum tine_child_stdio_kind kind = load.pipes ? TINE_CHILD_PIPE : TINE_CHILD_IGNORE;
	struct tine_child_options o = {.size = sizeof(o),
		.program = program,
		.stdio = {{.kind = kind}, {.kind = kind}, {.kind = kind}},
		.on_exit = on_exit_of_child,
		.on_error = on_error,
		.on_close = on_close};

	load.n_running++;
	if (tine_child_spawn(worker, &o, NULL) < 0)
		abort();
}

static void on_rate(struct tine_request *request, void *arg)
{
	struct load *l = &load;
	size_t size = number(request, "mib") << 20;

	*l = (struct load){.request = request, .pipes = number(request, "pipes") != 0};
	tine_defer(request);
	if (size > 0) {
		l->memory = malloc(size);
		memset(l->memory, 1, size);
	}
	l->begun = now();
	l->end = l->begun + (double)number(request, "seconds");
	for (unsigned long i = number(request, "flight"); i > 0; i--)
		start_one();
}

static int start(struct tine_worker *w, void **ret_state)
{
	worker = w;
	program = tine_config_string(tine_worker_config(w), "program");
	return tine_http_route(w, TINE_GET, "/rate", on_rate, NULL);
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "spawn_module",
	.options = option_rows,
	.worker_start = start};

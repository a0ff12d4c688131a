/*
 * What scripts/bench farm asks of tined, through tine/farm.h alone. In a worker, below /farm_module:
 *
 * rate?seconds=   submits tasks for so long, and waits for all; answers "DONE CRASHED WRONG SECONDS"
 * rate?n=         the same for so many
 *   function=     which one: empty, or another one below; size=: of the result of `large`, in bytes; flight=: so many at a time
 * busy?n=&seconds= begins so many tasks that do nothing but compute for so long; answers when all have ended
 *
 * In a task process: empty; crash (each hundredth task kills its process); crash_once (the first time only); large; busy.
 */
#include <signal.h>

#include <tine/farm.h>

#include "load.h"

#define TASKS_MAX (1u << 26) /* of one load */

static struct tine_worker *worker;

/* --- the worker's side --- */

/* The argument of a task. */
struct order {
	uint64_t number, size;
};

static struct load {
	struct tine_request *request;
	char function[32];
	uint64_t n_max, submitted, ended, crashed, wrong, size, in_flight;
	double begun, end, seconds;
	unsigned char *seen; /* how often each task has ended */
} load;

static void on_done(const struct tine_farm_result *r, void *arg);

static bool is_over(const struct load *l)
{
	if (l->n_max > 0)
		return l->submitted == l->n_max;
	return l->submitted == TASKS_MAX || (l->submitted % CHECK_EVERY == 0 && now() >= l->end);
}

static void submit_more(void *arg)
{
	struct load *l = &load;

	while (l->request && l->submitted - l->ended < l->in_flight && !is_over(l)) {
		struct order order = {l->submitted, l->size};
		struct tine_farm_task t = {.size = sizeof(t),
			.farm = "bench",
			.function = l->function,
			.data = &order,
			.len = sizeof(order),
			.on_done = on_done,
			.arg = (void *)(uintptr_t)l->submitted};

		if (tine_farm_submit(worker, &t, NULL) < 0)
			return;
		l->submitted++;
	}
}

static void finish(struct load *l)
{
	char text[128];

	for (uint64_t i = 0; i < l->submitted; i++)
		l->wrong += l->seen[i] != 1; /* lost, or done twice */
	free(l->seen);
	snprintf(text, sizeof(text), "%lu %lu %lu %.6f", (unsigned long)l->ended,
		(unsigned long)l->crashed, (unsigned long)l->wrong, now() - l->begun);
	answer(l->request, text);
	l->request = NULL;
}

/* What a task answers is its number, and behind that bytes of no interest. */
static bool is_right(const struct load *l, const struct tine_farm_result *r, uint64_t number)
{
	uint64_t answered;

	if (r->status < 0 || r->len < sizeof(answered))
		return false;
	memcpy(&answered, r->data, sizeof(answered));
	return answered == number && (l->size == 0 || r->len == l->size);
}

static void on_done(const struct tine_farm_result *r, void *arg)
{
	struct load *l = &load;
	uint64_t i = (uintptr_t)arg;

	l->seen[i]++;
	l->ended++;
	if (r->status == TINE_E_CRASHED)
		l->crashed++;
	else if (!is_right(l, r, i))
		l->wrong++;
	submit_more(NULL);
	if (l->ended == l->submitted)
		finish(l);
}

static void begin(struct tine_request *request)
{
	struct load *l = &load;

	memset(l, 0, sizeof(*l));
	if (!*value(request, "function", l->function, sizeof(l->function)))
		strcpy(l->function, "empty");
	l->n_max = number(request, "n");
	l->size = number(request, "size");
	l->in_flight = number_or(request, "flight", 64);
	l->seen = calloc(TASKS_MAX, 1);
	l->request = request;
	tine_defer(request);
	l->begun = now();
	l->end = l->begun + (double)number_or(request, "seconds", 1);
}

static void on_rate(struct tine_request *request, void *arg)
{
	begin(request);
	submit_more(NULL);
}

static void on_busy_done(const struct tine_farm_result *r, void *arg)
{
	struct load *l = &load;

	l->wrong += r->status < 0;
	if (++l->ended == l->submitted)
		tine_respond(
			l->request, l->wrong ? 500 : 200, "text/plain", r->error, strlen(r->error));
}

static void on_busy(struct tine_request *request, void *arg)
{
	struct order order = {0, number_or(request, "seconds", 1) * 1000};
	uint64_t n = number_or(request, "n", 2);

	memset(&load, 0, sizeof(load));
	load.request = request;
	tine_defer(request);
	for (load.submitted = 0; load.submitted < n; load.submitted++) {
		struct tine_farm_task t = {.size = sizeof(t),
			.farm = "bench",
			.function = "busy",
			.data = &order,
			.len = sizeof(order),
			.on_done = on_busy_done};

		if (tine_farm_submit(worker, &t, NULL) < 0)
			abort();
	}
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct handler handlers[] = {{"/rate", on_rate}, {"/busy", on_busy}, {0}};

	worker = w;
	tine_farm_on_writable(w, submit_more, NULL);
	return add_handlers(w, handlers);
}

/* --- the task's side --- */

static const struct order *order_of(const struct tine_task *task)
{
	size_t len;

	return tine_task_data(task, &len);
}

static int run_empty(struct tine_task *task, void *state)
{
	return tine_task_answer(task, &order_of(task)->number, sizeof(uint64_t));
}

static int run_crash(struct tine_task *task, void *state)
{
	if (order_of(task)->number % 100 == 99)
		raise(SIGKILL);
	return run_empty(task, state);
}

static int run_crash_once(struct tine_task *task, void *state)
{
	return tine_task_tries(task) == 0 ? run_crash(task, state) : run_empty(task, state);
}

static int run_large(struct tine_task *task, void *state)
{
	static char *data;
	static size_t size;
	const struct order *o = order_of(task);

	if (size < o->size) {
		free(data);
		data = malloc(size = o->size);
		memset(data, 'x', size);
	}
	memcpy(data, &o->number, sizeof(o->number));
	return tine_task_answer(task, data, o->size);
}

static int run_busy(struct tine_task *task, void *state)
{
	double end = now() + (double)order_of(task)->size / 1000;
	volatile unsigned n = 0;

	while (now() < end)
		for (unsigned i = 0; i < 100000; i++)
			n++;
	return 0;
}

static const struct tine_task_function tasks[] = {
	{"empty", run_empty},
	{"crash", run_crash},
	{"crash_once", run_crash_once},
	{"large", run_large},
	{"busy", run_busy},
	{NULL, NULL},
};

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "farm_module",
	.worker_start = start,
	.tasks = tasks};

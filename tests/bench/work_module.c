/*
 * What scripts/bench work asks of a tined worker, through tine/work.h alone. Below /work_module:
 *
 * tasks?flight=&seconds=   empty tasks on the thread pool, so many at a time, each submitted anew from its callback;
 *                          answers "TASKS SECONDS"
 * busy?n=                  has so many threads of the pool compute
 * calm                     answers when they have stopped
 */
#include <tine/work.h>

#include "load.h"

#define BUSY_MAX 16

static struct tine_worker *worker;

static struct load {
	struct tine_request *request;
	unsigned long n_flight, n_done;
	double begun, end;
	int over;
} load;

static void run_nothing(struct tine_work *work, void *arg)
{
	(void)work;
	(void)arg;
}

static void on_done(int status, void *arg);

static void submit(void)
{
	const struct tine_work_options o = {
		.size = sizeof(o), .run = run_nothing, .done = on_done, .arg = &load};

	if (tine_work_submit(worker, &o, NULL) < 0)
		abort();
}

static void on_done(int status, void *arg)
{
	struct load *l = arg;

	(void)status;
	l->n_done++;
	if (!l->over && l->n_done % CHECK_EVERY == 0 && now() >= l->end)
		l->over = 1;
	if (!l->over) {
		submit();
		return;
	}
	if (--l->n_flight == 0)
		answer_rate(l->request, l->n_done, l->begun);
}

static void on_tasks(struct tine_request *request, void *arg)
{
	struct load *l = &load;

	(void)arg;
	memset(l, 0, sizeof(*l));
	l->request = request;
	l->n_flight = number_or(request, "flight", 1);
	tine_defer(request);
	l->begun = now();
	l->end = l->begun + (double)number_or(request, "seconds", 1);
	for (unsigned long i = 0; i < l->n_flight; i++)
		submit();
}

/* --- threads that compute --- */

static struct tine_work *busy[BUSY_MAX];
static unsigned n_busy, n_calm;
static struct tine_request *calming;

static void compute(struct tine_work *work, void *arg)
{
	(void)arg;
	while (tine_work_stopped(work) == 0)
		;
}

static void on_calm_thread(int status, void *arg)
{
	(void)status;
	(void)arg;
	if (++n_calm < n_busy)
		return;
	n_busy = n_calm = 0;
	answer(calming, "calm");
}

static void on_busy(struct tine_request *request, void *arg)
{
	const struct tine_work_options o = {
		.size = sizeof(o), .run = compute, .done = on_calm_thread};

	(void)arg;
	for (unsigned long n = number_or(request, "n", 2); n > 0 && n_busy < BUSY_MAX; n--) {
		if (tine_work_submit(worker, &o, &busy[n_busy]) < 0)
			abort();
		n_busy++;
	}
	answer(request, "busy");
}

static void on_calm(struct tine_request *request, void *arg)
{
	(void)arg;
	calming = request;
	tine_defer(request);
	for (unsigned i = 0; i < n_busy; i++)
		tine_work_cancel(busy[i]);
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct handler handlers[] = {
		{"/tasks", on_tasks}, {"/busy", on_busy}, {"/calm", on_calm}, {0}};

	(void)ret_state;
	worker = w;
	return add_handlers(w, handlers);
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "work_module",
	.worker_start = start};

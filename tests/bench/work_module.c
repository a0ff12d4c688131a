/*
 * What scripts/bench work asks of a tined worker, through tine/work.h alone. Below /work_module:
 *
 * tasks?flight=&seconds=   empty tasks on the thread pool, so many at a time, each submitted anew from its callback;
 *                          answers "TASKS SECONDS"
 * busy?n=&seconds=         answers at once, and has n threads of the pool compute for so long
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tine/http.h>
#include <tine/work.h>

#define CHECK_EVERY 64 /* tasks between two looks at the clock */

static struct tine_worker *worker;

static struct load {
	struct tine_request *request;
	unsigned long n_flight, n_done;
	double begun, end;
	int over;
} load;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The number behind "KEY=" in the query, or the default. */
static unsigned long number(struct tine_request *request, const char *key, unsigned long def)
{
	struct tine_text q = tine_request_query(request);
	char text[256], *p;

	if (q.len == 0 || q.len >= sizeof(text))
		return def;
	memcpy(text, q.data, q.len);
	text[q.len] = '\0';
	p = strstr(text, key);
	return p ? strtoul(p + strlen(key), NULL, 10) : def;
}

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
	char text[64];

	(void)status;
	l->n_done++;
	if (!l->over && l->n_done % CHECK_EVERY == 0 && now() >= l->end)
		l->over = 1;
	if (!l->over) {
		submit();
		return;
	}
	if (--l->n_flight > 0)
		return;
	snprintf(text, sizeof(text), "%lu %.6f", l->n_done, now() - l->begun);
	tine_respond(l->request, 200, "text/plain", text, strlen(text));
}

static void on_tasks(struct tine_request *request, void *arg)
{
	struct load *l = &load;

	(void)arg;
	memset(l, 0, sizeof(*l));
	l->request = request;
	l->n_flight = number(request, "flight=", 1);
	tine_defer(request);
	l->begun = now();
	l->end = l->begun + (double)number(request, "seconds=", 1);
	for (unsigned long i = 0; i < l->n_flight; i++)
		submit();
}

static void compute(struct tine_work *work, void *arg)
{
	double end = now() + (double)(unsigned long)arg;

	while (now() < end && tine_work_stopped(work) == 0)
		;
}

static void on_busy(struct tine_request *request, void *arg)
{
	unsigned long seconds = number(request, "seconds=", 1);
	const struct tine_work_options o = {
		.size = sizeof(o), .run = compute, .arg = (void *)seconds};

	(void)arg;
	for (unsigned long i = number(request, "n=", 2); i > 0; i--) {
		if (tine_work_submit(worker, &o, NULL) < 0)
			abort();
	}
	tine_respond(request, 200, "text/plain", "busy", 4);
}

static int start(struct tine_worker *w, void **ret_state)
{
	int r;

	(void)ret_state;
	worker = w;
	r = tine_http_route(w, TINE_GET, "/tasks", on_tasks, NULL);
	return r == 0 ? tine_http_route(w, TINE_GET, "/busy", on_busy, NULL) : r;
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "work_module",
	.worker_start = start};

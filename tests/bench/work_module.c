/*
 * What scripts/bench work asks of a tined worker, through tine/work.h alone. Below /work_module:
 *
 * tasks?flight=&seconds=   empty tasks on the thread pool, so many at a time, each submitted anew from its callback;
 *                          answers "TASKS SECONDS"
 * busy?n=                  has so many threads of the pool compute
 * calm                     answers when they have stopped
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tine/http.h>
#include <tine/work.h>

#define CHECK_EVERY 64 /* tasks between two looks at the clock */
#define BUSY_MAX    16

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
	tine_respond(calming, 200, "text/plain", "calm", 4);
}

static void on_busy(struct tine_request *request, void *arg)
{
	const struct tine_work_options o = {
		.size = sizeof(o), .run = compute, .done = on_calm_thread};

	(void)arg;
	for (unsigned long n = number(request, "n=", 2); n > 0 && n_busy < BUSY_MAX; n--) {
		if (tine_work_submit(worker, &o, &busy[n_busy]) < 0)
			abort();
		n_busy++;
	}
	tine_respond(request, 200, "text/plain", "busy", 4);
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
	int r;

	(void)ret_state;
	worker = w;
	r = tine_http_route(w, TINE_GET, "/tasks", on_tasks, NULL);
	if (r == 0)
		r = tine_http_route(w, TINE_GET, "/busy", on_busy, NULL);
	return r == 0 ? tine_http_route(w, TINE_GET, "/calm", on_calm, NULL) : r;
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "work_module",
	.worker_start = start};

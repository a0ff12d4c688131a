/*
 * Work on the thread pool and calls at the end of the turn, asked for over HTTP; what is called at the end is said in the log. Below
 * its mount point:
 *   /work     answers with the status of work that ran on a thread
 *   /late     work that runs until it is told to stop, at its deadline
 *   /cancel   the same without one, cancelled by a request for /cancel/now
 *   /hold     such work without a deadline: it runs when the worker ends; answers at once
 *   /again    calls that call themselves anew turn after turn, from now on
 *   /soon     answers in a call at the end of the turn
 *   /slices   answers when a long walk is over: elements walked over, and turns
 *   /figures  of the loop
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tine/http.h>
#include <tine/loop.h>
#include <tine/work.h>

static struct tine_worker *worker;
static pthread_t loop_thread;
static struct tine_work *to_cancel;

struct job {
	struct tine_request *request;
	int on_loop; /* run was called there */
};

static void answer(struct tine_request *request, const char *text)
{
	tine_respond(request, 200, "text/plain", text, strlen(text));
}

static void run_at_once(struct tine_work *work, void *arg)
{
	((struct job *)arg)->on_loop = pthread_equal(pthread_self(), loop_thread);
}

static void run_until_stopped(struct tine_work *work, void *arg)
{
	while (tine_work_stopped(work) == 0)
		;
}

static void on_done(int status, void *arg)
{
	struct job *j = arg;
	char text[64];

	snprintf(text, sizeof(text), "%d %d %d", status, j->on_loop,
		!pthread_equal(pthread_self(), loop_thread));
	answer(j->request, text);
	free(j);
}

static int submit(struct tine_request *request, void (*run)(struct tine_work *, void *),
	uint64_t timeout_us, struct tine_work **ret)
{
	struct job *j = calloc(1, sizeof(*j));
	const struct tine_work_options o = {.size = sizeof(o),
		.lane = TINE_LANE_IO,
		.run = run,
		.done = on_done,
		.arg = j,
		.timeout_us = timeout_us};

	j->request = request;
	tine_defer(request);
	return tine_work_submit(worker, &o, ret);
}

static void on_work(struct tine_request *request, void *arg)
{
	submit(request, run_at_once, 0, NULL);
}

static void on_late(struct tine_request *request, void *arg)
{
	submit(request, run_until_stopped, 20000, NULL);
}

static void on_cancel(struct tine_request *request, void *arg)
{
	submit(request, run_until_stopped, 0, &to_cancel);
}

static void on_cancel_now(struct tine_request *request, void *arg)
{
	tine_work_cancel(to_cancel);
	answer(request, "cancelled");
}

/* --- at the end of the worker --- */

static void on_held_done(int status, void *arg)
{
	tine_log(TINE_LOG_INFO, "held: %d", status);
}

static void on_hold(struct tine_request *request, void *arg)
{
	static const struct tine_work_options o = {
		.size = sizeof(o), .run = run_until_stopped, .done = on_held_done};

	for (int i = 0; i < 6; i++) { /* more than there are threads */
		if (tine_work_submit(worker, &o, NULL) < 0)
			abort();
	}
	answer(request, "held");
}

/* --- turns --- */

static unsigned n_turns;

static void call_again(void *arg)
{
	n_turns++;
	if (tine_loop_soon(worker, call_again, arg) == TINE_E_CLOSED)
		tine_log(TINE_LOG_INFO, "again: closed");
}

static void on_again(struct tine_request *request, void *arg)
{
	tine_loop_soon(worker, call_again, NULL);
	answer(request, "again");
}

static void answer_soon(void *arg)
{
	answer(arg, "soon");
}

static void on_soon(struct tine_request *request, void *arg)
{
	tine_defer(request);
	tine_loop_soon(worker, answer_soon, request);
}

static struct walk {
	struct tine_request *request;
	size_t n;
	unsigned first_turn;
} walk;

static int on_step(size_t begin, size_t end, void *arg)
{
	walk.n += begin == walk.n ? end - begin : 0;
	return 0;
}

static void on_walked(int status, void *arg)
{
	char text[64];

	snprintf(text, sizeof(text), "%d %zu %u", status, walk.n, n_turns - walk.first_turn);
	answer(walk.request, text);
}

static void on_slices(struct tine_request *request, void *arg)
{
	const struct tine_slices_options o = {
		.size = sizeof(o), .n = 100000, .count = 100, .step = on_step, .done = on_walked};

	walk = (struct walk){.request = request, .first_turn = n_turns};
	tine_defer(request);
	tine_loop_slices(worker, &o, NULL);
}

static void on_figures(struct tine_request *request, void *arg)
{
	struct tine_loop_figures f = {.size = sizeof(f)};
	char text[256];

	if (tine_loop_figures(worker, &f) < 0)
		abort();
	snprintf(text, sizeof(text),
		"{\"interval\":%" PRIu64 ",\"turns\":%" PRIu64 ",\"busy\":%" PRIu64
		",\"p50\":%" PRIu64 ",\"max\":%" PRIu64 "}",
		f.interval_us, f.turns, f.busy_us, f.lag_p50_us, f.lag_max_us);
	tine_respond(request, 200, "application/json", text, strlen(text));
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct {
		const char *path;
		void (*fn)(struct tine_request *request, void *arg);
	} routes[] = {{"/work", on_work}, {"/late", on_late}, {"/cancel", on_cancel},
		{"/cancel/now", on_cancel_now}, {"/hold", on_hold}, {"/again", on_again},
		{"/soon", on_soon}, {"/slices", on_slices}, {"/figures", on_figures}};
	int r = 0;

	worker = w;
	loop_thread = pthread_self();
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]) && r == 0; i++)
		r = tine_http_route(w, TINE_GET, routes[i].path, routes[i].fn, NULL);
	return r;
}

static void stop(void *state)
{
	static const struct tine_work_options o = {.size = sizeof(o), .run = run_at_once};

	tine_log(TINE_LOG_INFO, "stop: %d", tine_work_submit(worker, &o, NULL));
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "work",
	.worker_start = start,
	.worker_stop = stop};

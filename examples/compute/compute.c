/*
 * compute: the same heavy computation in six places, to see what it does to small requests beside it. The page is compute.html
 * of the bundled site.
 *
 *	cc -shared -fPIC -Iinclude -o examples/compute/compute.so examples/compute/compute.c
 *	build/tined -c examples/compute/compute.ini
 *
 *	curl 'http://127.0.0.1:8080/compute/run?how=pool'
 *
 * how=inline	in the handler: the loop does nothing else meanwhile
 *     slices	in the handler's process, some milliseconds a turn (tine/loop.h)
 *     pool	on a thread of the worker's pool (tine/work.h)
 *     thread	on a thread of our own, which gets and answers messages (tine/thread.h)
 *     farm	in a process that other requests use, too (tine/farm.h): this file is also the farm's module
 *     child	in a process of its own (tine/child.h)
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tine/channel.h>
#include <tine/child.h>
#include <tine/farm.h>
#include <tine/http.h>
#include <tine/loop.h>
#include <tine/thread.h>
#include <tine/work.h>

#define N_THREADS 2
#define SLICE_US  2000

static const struct tine_option options[] = {
	{.name = "numbers",
		.type = TINE_OPTION_INT,
		.def = "400000",
		.min = "1",
		.max = "100000000",
		.doc = "How much is computed for each request: the steps of so many numbers."},
	{.name = "farm",
		.type = TINE_OPTION_STRING,
		.def = "",
		.doc = "NAME of a section [farm:NAME] with this module; empty: there is none."},
	{.name = NULL},
};

struct state {
	struct tine_worker *worker;
	struct tine_thread_pool *threads;
	uint64_t numbers;
	const char *farm;
};

/* One computation for one request. */
struct job {
	struct state *state;
	struct tine_request *request;
	const char *how;
	double begun;
	uint64_t numbers, sum;
	int error;
};

/* --- what is computed: how many steps the numbers from begin to end - 1 take to 1, halved when even, else times 3 plus 1 --- */

static uint64_t count_steps(uint64_t begin, uint64_t end)
{
	uint64_t steps = 0;

	for (uint64_t i = begin; i < end; i++) {
		for (uint64_t n = i + 1; n != 1; steps++)
			n = n % 2 == 0 ? n / 2 : 3 * n + 1;
	}
	return steps;
}

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* --- answering --- */

/* The last call for a job. */
static void finish(struct job *job, int status)
{
	char text[160];

	if (status == 0) {
		snprintf(text, sizeof(text),
			"{\"how\":\"%s\",\"steps\":%" PRIu64 ",\"ms\":%.1f,\"worker\":%u}\n",
			job->how, job->sum, now_ms() - job->begun,
			tine_worker_slot(job->state->worker));
		tine_respond(job->request, 200, "application/json", text, strlen(text));
	} else {
		snprintf(text, sizeof(text), "%s: %s\n", job->how, strerror(-status));
		tine_respond(job->request, status == TINE_E_FULL ? 503 : 500, "text/plain", text,
			strlen(text));
	}
	free(job);
}

/* --- the six ways; each returns 0, or a negative errno and finish() was not called --- */

static int compute_inline(struct job *job)
{
	job->sum = count_steps(0, job->numbers);
	finish(job, 0);
	return 0;
}

static int slice_step(size_t begin, size_t end, void *arg)
{
	struct job *job = arg;

	job->sum += count_steps(begin, end);
	return 0;
}

static void on_done(int status, void *arg)
{
	finish(arg, status);
}

static int compute_in_slices(struct job *job)
{
	struct tine_slices_options o = {.size = sizeof(o),
		.n = job->numbers,
		.budget_us = SLICE_US,
		.step = slice_step,
		.done = on_done,
		.arg = job};

	return tine_loop_slices(job->state->worker, &o, NULL);
}

/* On a thread of the pool; job is not touched by the loop meanwhile. */
static void pool_run(struct tine_work *work, void *arg)
{
	struct job *job = arg;

	job->sum = count_steps(0, job->numbers);
}

static int compute_on_pool(struct job *job)
{
	struct tine_work_options o = {.size = sizeof(o),
		.lane = TINE_LANE_CPU,
		.run = pool_run,
		.done = on_done,
		.arg = job};

	return tine_work_submit(job->state->worker, &o, NULL);
}

/* On a thread of our own: its tasks are how many numbers, its answers the sums. */
static void thread_on_message(
	struct tine_thread_self *self, struct tine_thread_message *message, void *arg)
{
	uint64_t sum = count_steps(0, *(const uint64_t *)message->data);
	struct tine_thread_send answer = {.size = sizeof(answer), .data = &sum, .len = sizeof(sum)};

	tine_parent_answer(self, message->task, 0, &answer);
}

static int thread_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_message = thread_on_message};

	return tine_thread_listen(self, &h);
}

static void on_thread_result(int status, struct tine_thread_message *result, void *arg)
{
	struct job *job = arg;

	if (status == 0)
		job->sum = *(const uint64_t *)result->data;
	finish(job, status);
}

static int compute_on_thread(struct job *job)
{
	struct tine_thread_send task = {
		.size = sizeof(task), .data = &job->numbers, .len = sizeof(job->numbers)};

	return tine_thread_pool_submit(job->state->threads, &task, on_thread_result, job);
}

/* In a task process. */
static int task_steps(struct tine_task *task, void *state)
{
	uint64_t numbers, sum;
	size_t len;
	const void *data = tine_task_data(task, &len);

	if (len != sizeof(numbers))
		return tine_task_fail(task, "the argument has %zu bytes, not 8", len);
	memcpy(&numbers, data, sizeof(numbers));
	sum = count_steps(0, numbers);
	return tine_task_answer(task, &sum, sizeof(sum));
}

static void on_farm_result(const struct tine_farm_result *result, void *arg)
{
	struct job *job = arg;

	if (result->status == 0 && result->len == sizeof(job->sum))
		memcpy(&job->sum, result->data, sizeof(job->sum));
	finish(job, result->status);
}

static int compute_in_farm(struct job *job)
{
	struct tine_farm_task task = {.size = sizeof(task),
		.farm = job->state->farm,
		.function = "steps",
		.data = &job->numbers,
		.len = sizeof(job->numbers),
		.on_done = on_farm_result,
		.arg = job};

	return tine_farm_submit(job->state->worker, &task, NULL);
}

/* In a forked process, which knows what the worker knew. */
static int child_main(int channel, void *arg)
{
	const struct job *job = arg;
	uint64_t sum = count_steps(0, job->numbers);

	return tine_channel_send(channel, &sum, sizeof(sum)) < 0;
}

static void on_child_message(struct tine_child *child, const void *data, size_t len, void *arg)
{
	struct job *job = arg;

	if (len == sizeof(job->sum))
		memcpy(&job->sum, data, sizeof(job->sum));
}

static void on_child_error(struct tine_child *child, int error, void *arg)
{
	struct job *job = arg;

	job->error = error;
}

static void on_child_exit(struct tine_child *child, const struct tine_child_exit *how, void *arg)
{
	struct job *job = arg;

	if (how->status != 0)
		job->error = TINE_E_CRASHED;
}

static void on_child_close(struct tine_child *child, void *arg)
{
	struct job *job = arg;

	finish(job, job->error);
}

static int compute_in_child(struct job *job)
{
	struct tine_child_options o = {.size = sizeof(o),
		.function = child_main,
		.on_message = on_child_message,
		.on_error = on_child_error,
		.on_exit = on_child_exit,
		.on_close = on_child_close,
		.arg = job};

	return tine_child_fork(job->state->worker, &o, NULL);
}

static const struct way {
	const char *name;
	int (*compute)(struct job *job);
} ways[] = {
	{"inline", compute_inline},
	{"slices", compute_in_slices},
	{"pool", compute_on_pool},
	{"thread", compute_on_thread},
	{"farm", compute_in_farm},
	{"child", compute_in_child},
};

#define N_WAYS (sizeof(ways) / sizeof(*ways))

static int is_there(const struct state *s, const struct way *way)
{
	return way->compute != compute_in_farm || *s->farm;
}

/* --- requests --- */

/* The way that ?how= names, or NULL. */
static const struct way *find_way(const struct state *s, struct tine_text query)
{
	for (size_t i = 0; i < N_WAYS; i++) {
		size_t len = strlen(ways[i].name);

		if (query.len == 4 + len && memcmp(query.data, "how=", 4) == 0 &&
			memcmp(query.data + 4, ways[i].name, len) == 0 && is_there(s, &ways[i]))
			return &ways[i];
	}
	return NULL;
}

static void on_run(struct tine_request *request, void *arg)
{
	static const char usage[] = "write ?how= and one of /compute/ways\n";
	struct state *s = arg;
	const struct way *way = find_way(s, tine_request_query(request));
	struct job *job;
	int r;

	if (!way) {
		tine_respond(request, 400, "text/plain", usage, sizeof(usage) - 1);
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		tine_respond(request, 500, "text/plain", "", 0);
		return;
	}
	*job = (struct job){.state = s,
		.request = request,
		.how = way->name,
		.begun = now_ms(),
		.numbers = s->numbers};
	tine_defer(request);
	r = way->compute(job);
	if (r < 0)
		finish(job, r);
}

static void on_tiny(struct tine_request *request, void *arg)
{
	tine_respond(request, 200, "text/plain", "ok\n", 3);
}

static void on_ways(struct tine_request *request, void *arg)
{
	char text[128] = "[";
	size_t n = 1;

	for (size_t i = 0; i < N_WAYS; i++) {
		if (is_there(arg, &ways[i]))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\"%s\"",
				n > 1 ? "," : "", ways[i].name);
	}
	n += (size_t)snprintf(text + n, sizeof(text) - n, "]\n");
	tine_respond(request, 200, "application/json", text, n);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	static struct state s;
	struct tine_thread_pool_options threads = {.size = sizeof(threads),
		.name = "compute",
		.n_threads = N_THREADS,
		.main = thread_main};
	int r;

	s.worker = worker;
	s.numbers = (uint64_t)tine_config_number(tine_worker_config(worker), "numbers");
	s.farm = tine_config_string(tine_worker_config(worker), "farm");
	r = tine_thread_pool_start(worker, &threads, &s.threads);
	if (r == 0)
		r = tine_http_route(worker, TINE_GET, "/run", on_run, &s);
	if (r == 0)
		r = tine_http_route(worker, TINE_GET, "/ways", on_ways, &s);
	return r == 0 ? tine_http_route(worker, TINE_GET, "/tiny", on_tiny, &s) : r;
}

static const struct tine_task_function tasks[] = {{"steps", task_steps}, {NULL, NULL}};

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "compute",
	.options = options,
	.worker_start = start,
	.tasks = tasks};

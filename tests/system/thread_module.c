/* Handlers that use worker threads: well, badly, and until they crash. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tine/child.h>
#include <tine/loop.h>
#include <tine/thread.h>

#include "../module.h"

/* Names in backtraces are those of functions that stay as they are. */
#define OWN __attribute__((noinline, noclone))

#define N_EARLY 3 /* threads from the start on */

static struct tine_worker *worker;
static struct tine_thread *early[N_EARLY];
static struct tine_thread_pool *pool;
static unsigned n_online, n_exits, n_pool_errors, n_pool_stopped;
static volatile int turns = 1;
static atomic_uint n_stuck; /* threads that have begun it: a thread told to end first never would */

/* What is behind the "?". */
static void query(struct tine_request *request, char ret[64])
{
	struct tine_text q = tine_request_query(request);
	size_t n = q.len < 63 ? q.len : 63;

	if (n > 0)
		memcpy(ret, q.data, n);
	ret[n] = '\0';
}

/* --- on threads --- */

OWN static void dies_by_null_on_thread(void)
{
	*(volatile int *)NULL = turns;
}

OWN static int overflows_on_thread(int depth)
{
	volatile char space[4096];

	space[0] = (char)depth;
	if (!turns)
		return depth;
	return overflows_on_thread(depth + 1) + space[0];
}

/* On the loop. */
static void start_a_child(void *arg)
{
	static const struct tine_child_options o = {.size = sizeof(o), .program = "/no/such"};

	tine_child_spawn(worker, &o, NULL);
}

static void posts_on_when_told_to_end(struct tine_thread_self *self)
{
	const struct timespec a_moment = {.tv_nsec = 10000};

	if (tine_thread_stopping(self))
		tine_loop_post(worker, start_a_child, NULL);
	nanosleep(&a_moment, NULL);
}

/* Echoes, with the request that it is for in front. */
static void on_text(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
	const char *text = (char *)m->data + sizeof(struct tine_request *);

	if (strcmp(text, "crash") == 0)
		dies_by_null_on_thread();
	if (strcmp(text, "overflow") == 0)
		turns += overflows_on_thread(1);
	if (strcmp(text, "stuck") == 0 || strcmp(text, "loud") == 0)
		atomic_fetch_add(&n_stuck, 1);
	while (strcmp(text, "stuck") == 0)
		turns++;
	while (strcmp(text, "loud") == 0)
		posts_on_when_told_to_end(self);
	tine_parent_post(self, m->data, m->len);
}

static int echo_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_message = on_text};

	return tine_thread_listen(self, &h);
}

static int broken_main(struct tine_thread_self *self, void *data, size_t len)
{
	tine_thread_fail(self, -EIO, "no %.*s today", (int)len, (char *)data);
	return 0;
}

static void on_task(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
	struct tine_thread_send s = {.size = sizeof(s), .data = m->data, .len = m->len};

	if (m->len == 4 && memcmp(m->data, "fail", 4) == 0)
		tine_thread_fail(self, -EDOM, "as it was told to");
	else
		tine_parent_answer(self, m->task, 0, &s);
}

static int pool_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_message = on_task};

	return tine_thread_listen(self, &h);
}

/* --- on the loop --- */

static void on_online(struct tine_thread *thread, void *arg)
{
	n_online++;
}

static void on_echo(struct tine_thread *thread, struct tine_thread_message *m, void *arg)
{
	struct tine_request *request = *(struct tine_request **)m->data;

	answer(request, (char *)m->data + sizeof(request));
}

static void on_exit_of(struct tine_thread *thread, int code, void *arg)
{
	n_exits++;
}

/* The first thread gets the text; another one what it gets stuck with. */
static void on_text_request(struct tine_request *request, void *arg)
{
	struct {
		struct tine_request *request;
		char text[64];
	} m = {.request = request};
	int stuck;

	query(request, m.text);
	stuck = strcmp(m.text, "stuck") == 0 || strcmp(m.text, "loud") == 0;
	if (tine_thread_post(early[stuck ? 1 : 0], &m, sizeof(m)) < 0)
		answer(request, "error");
	else if (stuck)
		answer(request, "it is told");
	else
		tine_defer(request);
}

static void on_broken(struct tine_thread *thread, int error, const char *text, void *arg)
{
	char line[300];

	snprintf(line, sizeof(line), "%d %s", error, text);
	answer(arg, line);
}

static void on_fail_request(struct tine_request *request, void *arg)
{
	struct tine_thread_options o = {.size = sizeof(o),
		.data = "disk",
		.len = 4,
		.main = broken_main,
		.on_error = on_broken,
		.arg = request};
	struct tine_thread *thread;

	if (tine_thread_start(worker, &o, &thread) < 0)
		answer(request, "error");
	else
		tine_defer(request);
}

static void on_result(int status, struct tine_thread_message *m, void *arg)
{
	char text[64];

	snprintf(text, sizeof(text), "%d %u %.*s", status, n_pool_errors, m ? (int)m->len : 0,
		m ? (char *)m->data : "");
	answer(arg, text);
}

static void on_task_request(struct tine_request *request, void *arg)
{
	char text[64];
	struct tine_thread_send s = {.size = sizeof(s), .data = text};

	query(request, text);
	s.len = strlen(text);
	if (tine_thread_pool_submit(pool, &s, on_result, request) < 0)
		answer(request, "error");
	else
		tine_defer(request);
}

/* As many threads as there may be, and one more. */
static void on_many_request(struct tine_request *request, void *arg)
{
	struct tine_thread_options o = {
		.size = sizeof(o), .main = echo_main, .on_exit = on_exit_of};
	struct tine_thread *threads[TINE_THREADS_MAX];
	char text[64];
	unsigned n = 0;
	int r;

	while (n < TINE_THREADS_MAX && (r = tine_thread_start(worker, &o, &threads[n])) == 0)
		n++;
	for (unsigned i = 0; i < n; i++)
		tine_thread_terminate(threads[i], 0);
	snprintf(text, sizeof(text), "%u %d", n, r);
	answer(request, text);
}

static void on_stuck_request(struct tine_request *request, void *arg)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", atomic_load(&n_stuck));
	answer(request, text);
}

static void on_pool_error(struct tine_thread_pool *p, int error, const char *text, void *arg)
{
	n_pool_errors++;
}

static void on_pool_stopped(struct tine_thread_pool *p, void *arg)
{
	n_pool_stopped++;
}

static int start(struct tine_worker *w, void **ret_state)
{
	struct tine_thread_options o = {.size = sizeof(o),
		.name = "test-echo",
		.main = echo_main,
		.on_online = on_online,
		.on_message = on_echo,
		.on_exit = on_exit_of};
	struct tine_thread_pool_options p = {.size = sizeof(p),
		.name = "test-pool",
		.n_threads = 2,
		.main = pool_main,
		.on_error = on_pool_error,
		.on_stopped = on_pool_stopped};
	static const struct handler handlers[] = {{"/text", on_text_request},
		{"/fail", on_fail_request}, {"/many", on_many_request},
		{"/stuck", on_stuck_request}, {"/task", on_task_request}, {0}};
	int r = 0;

	worker = w;
	for (int i = 0; i < N_EARLY && r == 0; i++)
		r = tine_thread_start(w, &o, &early[i]);
	if (r == 0)
		r = tine_thread_pool_start(w, &p, &pool);
	return r == 0 ? add_handlers(w, handlers) : r;
}

static void stop(void *state)
{
	tine_log(TINE_LOG_INFO, "thread module: stopped; %u online, %u exits, %u pools", n_online,
		n_exits, n_pool_stopped);
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "threads",
	.worker_start = start,
	.worker_stop = stop};

/*
 * Both sides of a farm. In a worker it is driven by HTTP, below /farm:
 *
 * submit      ?farm=, function=, tag=, priority=, timeout_ms=, size=; the body is the argument, or so many bytes; answers with what
 *             tine_farm_submit() returned
 * many        the same ?n= times, with the number instead of the argument, and as fast as they go; answers when all are done: JSON
 * run         ?farm=, function=: answers with the task's result
 * results     those since the last time, in the order in which they came: JSON
 * cancel      ?tag=: answers with what tine_farm_cancel() returned
 * self        its pid
 *
 * In a task process its functions do what they are called; their argument is text.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <tine/farm.h>

#include "../module.h"

#define RESULTS_MAX 4096
#define SHOWN_MAX   256 /* bytes of a result */

/* --- the worker's side --- */

struct result {
	char tag[32];
	tine_task_id id;
	int status;
	unsigned tries;
	size_t len;
	unsigned sum, calls;
	char data[SHOWN_MAX + 1], error[1100];
	size_t order;
};

static struct tine_worker *worker;
static struct result results[RESULTS_MAX];
static size_t n_results, n_ended, n_told;

static unsigned sum_of(const void *data, size_t len)
{
	const unsigned char *p = data;
	unsigned sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = sum * 31 + p[i];
	return sum;
}

static void on_done(const struct tine_farm_result *r, void *arg)
{
	struct result *to = arg;

	to->status = r->status;
	to->tries = r->tries;
	to->len = r->len;
	to->sum = sum_of(r->data, r->len);
	to->calls++;
	to->order = n_ended++;
	snprintf(to->data, sizeof(to->data), "%.*s", (int)(r->len < SHOWN_MAX ? r->len : SHOWN_MAX),
		r->data ? (const char *)r->data : "");
	snprintf(to->error, sizeof(to->error), "%s", r->error);
}

/* Bytes that can be told from one another. */
static char *pattern(size_t len)
{
	char *data = malloc(len + 1);

	for (size_t i = 0; data && i < len; i++)
		data[i] = (char)('a' + i % 23);
	return data;
}

static void on_submit(struct tine_request *request, void *arg)
{
	static char farm[128], function[128];
	struct tine_text body = tine_request_body(request);
	struct result *to = &results[n_results];
	char priority[16], *made = NULL;
	struct tine_farm_task t = {.size = sizeof(t),
		.farm = value(request, "farm", farm, sizeof(farm)),
		.function = value(request, "function", function, sizeof(function)),
		.data = body.data,
		.len = body.len,
		.timeout_us = number(request, "timeout_ms") * 1000,
		.on_done = on_done,
		.arg = to};
	int r;

	value(request, "priority", priority, sizeof(priority));
	t.priority = *priority == 'h' ? TINE_FARM_HIGH
		: *priority == 'l'    ? TINE_FARM_LOW
				      : TINE_FARM_NORMAL;
	if (number(request, "size") > 0) {
		t.len = number(request, "size");
		t.data = made = pattern(t.len);
	}
	memset(to, 0, sizeof(*to));
	value(request, "tag", to->tag, sizeof(to->tag));
	r = n_results < RESULTS_MAX - 1 ? tine_farm_submit(worker, &t, &to->id) : -ENOMEM;
	n_results += r == 0;
	free(made);
	answer(request, status_name(r));
}

static void on_cancel(struct tine_request *request, void *arg)
{
	char tag[32];

	value(request, "tag", tag, sizeof(tag));
	for (size_t i = 0; i < n_results; i++) {
		if (strcmp(results[i].tag, tag) == 0) {
			answer(request, status_name(tine_farm_cancel(worker, results[i].id)));
			return;
		}
	}
	answer(request, status_name(tine_farm_cancel(worker, number(request, "id"))));
}

/* Texts that need no escapes, as far as these tests go. */
static void on_results(struct tine_request *request, void *arg)
{
	static char text[1u << 20];
	size_t n = 1;

	text[0] = '[';
	for (; n_told < n_ended && n < sizeof(text) - 2048; n_told++) {
		size_t i = 0;

		while (results[i].calls == 0 || results[i].order != n_told)
			i++;
		n += (size_t)snprintf(text + n, sizeof(text) - n,
			"%s{\"tag\":\"%s\",\"status\":\"%s\",\"tries\":%u,\"len\":%zu,\"sum\":%u,"
			"\"calls\":%u,\"data\":\"%s\",\"error\":\"%s\"}",
			n > 1 ? "," : "", results[i].tag, status_name(results[i].status),
			results[i].tries, results[i].len, results[i].sum, results[i].calls,
			results[i].data, results[i].error);
	}
	text[n++] = ']';
	tine_respond(request, 200, "application/json", text, n);
}

/* --- many --- */

static struct {
	struct tine_request *request;
	char farm[128], function[128];
	unsigned long n, submitted, done, lost, ok, crashed, other;
	unsigned char *calls;
} load;

static void on_one_done(const struct tine_farm_result *r, void *arg);

static void submit_more(void *arg)
{
	while (load.request && load.submitted < load.n && load.submitted - load.done < 64) {
		unsigned long i = load.submitted;
		char text[32];
		struct tine_farm_task t = {.size = sizeof(t),
			.farm = load.farm,
			.function = load.function,
			.data = text,
			.len = (size_t)snprintf(text, sizeof(text), "%lu", i),
			.on_done = on_one_done,
			.arg = (void *)(uintptr_t)i};

		if (tine_farm_submit(worker, &t, NULL) < 0)
			return;
		load.submitted++;
	}
}

static void on_one_done(const struct tine_farm_result *r, void *arg)
{
	unsigned long i = (uintptr_t)arg;
	char text[256];

	load.calls[i]++;
	load.done++;
	if (r->status == TINE_E_CRASHED)
		load.crashed++;
	else if (r->status == 0 && r->len > 0 && strtoul(r->data, NULL, 10) == i)
		load.ok++;
	else
		load.other++;
	submit_more(NULL);
	if (load.done < load.n)
		return;
	for (i = 0; i < load.n; i++)
		load.lost += load.calls[i] != 1;
	snprintf(text, sizeof(text), "{\"ok\":%lu,\"crashed\":%lu,\"other\":%lu,\"not_once\":%lu}",
		load.ok, load.crashed, load.other, load.lost);
	answer(load.request, text);
	load.request = NULL;
	free(load.calls);
}

static void on_many(struct tine_request *request, void *arg)
{
	memset(&load, 0, sizeof(load));
	value(request, "farm", load.farm, sizeof(load.farm));
	value(request, "function", load.function, sizeof(load.function));
	load.n = number(request, "n");
	load.calls = calloc(load.n, 1);
	load.request = request;
	tine_defer(request);
	submit_more(NULL);
}

/* --- one, with its request --- */

static void on_run_done(const struct tine_farm_result *r, void *arg)
{
	tine_respond(arg, 200, "text/plain", r->data, r->len);
}

static void on_run(struct tine_request *request, void *arg)
{
	char farm[128], function[128];
	struct tine_farm_task t = {.size = sizeof(t),
		.farm = value(request, "farm", farm, sizeof(farm)),
		.function = value(request, "function", function, sizeof(function)),
		.on_done = on_run_done,
		.arg = request};

	tine_defer(request);
	if (tine_farm_submit(worker, &t, NULL) < 0)
		tine_respond(request, 500, "text/plain", "", 0);
}

static void on_self(struct tine_request *request, void *arg)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", getpid());
	answer(request, text);
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct handler handlers[] = {{"/submit", on_submit}, {"/cancel", on_cancel},
		{"/many", on_many}, {"/results", on_results}, {"/run", on_run}, {"/self", on_self},
		{0}};
	struct tine_farm_task first = {.size = sizeof(first),
		.farm = "f",
		.function = tine_config_string(tine_worker_config(w), "first")};
	int r = *first.function ? tine_farm_submit(w, &first, NULL) : 0;

	worker = w;
	tine_farm_on_writable(w, submit_more, NULL);
	return r == 0 ? add_handlers(w, handlers) : r;
}

/* --- the task's side --- */

static unsigned n_run;

/* The argument as text. */
static const char *text_of(struct tine_task *task)
{
	static char text[4096];
	size_t len;
	const char *data = tine_task_data(task, &len);

	snprintf(text, sizeof(text), "%.*s", (int)len, data);
	return text;
}

static unsigned long number_of(struct tine_task *task)
{
	return strtoul(text_of(task), NULL, 10);
}

static int say(struct tine_task *task, const char *text)
{
	return tine_task_answer(task, text, strlen(text));
}

static int say_number(struct tine_task *task, unsigned long n)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", n);
	return say(task, text);
}

static int run_echo(struct tine_task *task, void *state)
{
	size_t len;
	const void *data = tine_task_data(task, &len);

	n_run++;
	return tine_task_answer(task, data, len);
}

/* "LENGTH SUM" of the argument. */
static int run_measure(struct tine_task *task, void *state)
{
	size_t len;
	const void *data = tine_task_data(task, &len);
	char text[64];

	snprintf(text, sizeof(text), "%zu %u", len, sum_of(data, len));
	return (uintptr_t)data % 8 == 0 ? say(task, text) : tine_task_fail(task, "not aligned");
}

static int run_large(struct tine_task *task, void *state)
{
	size_t len = number_of(task);
	char *data = pattern(len);
	int r = tine_task_answer(task, data, len);

	free(data);
	return r;
}

/* Until there is a file of this name. What it writes before: its pid, to a file of that name with ".pid". */
static int run_wait(struct tine_task *task, void *state)
{
	const struct timespec pause = {.tv_nsec = 5000000};
	const char *path = text_of(task);
	char pid_path[4200];
	FILE *f;

	snprintf(pid_path, sizeof(pid_path), "%s.pid", path);
	f = fopen(pid_path, "w");
	if (!f)
		return tine_task_fail(task, "cannot write %s", pid_path);
	fprintf(f, "%d\n", getpid());
	fclose(f);
	while (access(path, F_OK) < 0)
		nanosleep(&pause, NULL);
	return say(task, "waited");
}

static int run_spin(struct tine_task *task, void *state)
{
	for (volatile unsigned i = 0;; i++)
		;
	return 0;
}

static int run_spin_blocked(struct tine_task *task, void *state)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	return run_spin(task, state);
}

static int run_spin_stopped(struct tine_task *task, void *state)
{
	raise(SIGSTOP);
	return run_spin(task, state);
}

static int run_signal(struct tine_task *task, void *state)
{
	kill(getpid(), (int)number_of(task));
	return say(task, "survived");
}

static int run_segv(struct tine_task *task, void *state)
{
	volatile int *nowhere = (volatile int *)8;

	return *nowhere;
}

static int run_abort(struct tine_task *task, void *state)
{
	abort();
}

static int run_exit(struct tine_task *task, void *state)
{
	_exit((int)number_of(task));
}

static int run_crash_first(struct tine_task *task, void *state)
{
	if (tine_task_tries(task) == 0)
		kill(getpid(), SIGKILL);
	return run_echo(task, state);
}

/* One in a hundred crashes, always or the first time. */
static int run_crash_some(struct tine_task *task, void *state)
{
	if (number_of(task) % 100 == 7)
		kill(getpid(), SIGKILL);
	return run_echo(task, state);
}

static int run_crash_some_once(struct tine_task *task, void *state)
{
	if (number_of(task) % 100 == 7 && tine_task_tries(task) == 0)
		kill(getpid(), SIGKILL);
	return run_echo(task, state);
}

static int run_fail(struct tine_task *task, void *state)
{
	return tine_task_fail(task, "%s", text_of(task));
}

static int run_errno(struct tine_task *task, void *state)
{
	return -(int)number_of(task);
}

static int run_positive(struct tine_task *task, void *state)
{
	return 7;
}

static int run_twice(struct tine_task *task, void *state)
{
	return say(task, "first") == 0 && say(task, "second") == -EALREADY ? 0 : -EIO;
}

/* An answer before a failure is none. */
static int run_answer_and_fail(struct tine_task *task, void *state)
{
	char *data = pattern(100000);

	tine_task_answer(task, data, 100000);
	free(data);
	return -EPERM;
}

/* A result that is too large fails the task, also when the function does not mind. */
static int run_careless(struct tine_task *task, void *state)
{
	run_large(task, state);
	return 0;
}

static int run_pid(struct tine_task *task, void *state)
{
	return say_number(task, (unsigned long)getpid());
}

static int run_count(struct tine_task *task, void *state)
{
	return say_number(task, ++*(unsigned *)state);
}

static int run_option(struct tine_task *task, void *state)
{
	return say(task, tine_config_string(tine_task_config(task), "greeting"));
}

static int run_print(struct tine_task *task, void *state)
{
	printf("printed by a task\n");
	fflush(stdout);
	tine_log(TINE_LOG_WARNING, "logged by a task");
	return 0;
}

/* How many descriptors it has, and how many of them listen: "N LISTENING". */
static int run_descriptors(struct tine_task *task, void *state)
{
	unsigned n = 0, listening = 0;
	char text[64];

	for (int fd = 0; fd < 1024; fd++) {
		int yes = 0;
		socklen_t len = sizeof(yes);

		if (fcntl(fd, F_GETFD) < 0)
			continue;
		n++;
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes)
			listening++;
	}
	snprintf(text, sizeof(text), "%u %u", n, listening);
	return say(task, text);
}

/* A large answer without a descriptor for it. */
static int run_no_descriptor(struct tine_task *task, void *state)
{
	struct rlimit was, none = {0};
	char *data = pattern(100000);
	int r;

	getrlimit(RLIMIT_NOFILE, &was);
	none.rlim_max = was.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	r = tine_task_answer(task, data, 100000);
	setrlimit(RLIMIT_NOFILE, &was);
	free(data);
	return r;
}

static const struct tine_task_function tasks[] = {
	{"echo", run_echo},
	{"measure", run_measure},
	{"large", run_large},
	{"wait", run_wait},
	{"spin", run_spin},
	{"spin_blocked", run_spin_blocked},
	{"spin_stopped", run_spin_stopped},
	{"signal", run_signal},
	{"segv", run_segv},
	{"abort", run_abort},
	{"exit", run_exit},
	{"crash_first", run_crash_first},
	{"crash_some", run_crash_some},
	{"crash_some_once", run_crash_some_once},
	{"fail", run_fail},
	{"errno", run_errno},
	{"positive", run_positive},
	{"twice", run_twice},
	{"answer_and_fail", run_answer_and_fail},
	{"careless", run_careless},
	{"pid", run_pid},
	{"count", run_count},
	{"option", run_option},
	{"print", run_print},
	{"descriptors", run_descriptors},
	{"no_descriptor", run_no_descriptor},
	{NULL, NULL},
};

static const struct tine_option options[] = {
	{"greeting", TINE_OPTION_STRING, "hello", NULL, NULL, "What the task `option` answers."},
	{"start", TINE_OPTION_STRING, "", NULL, NULL,
		"What task_start does: fail, crash, or nothing; a PATH: only the first to make it "
		"goes on before there is PATH.go."},
	{"first", TINE_OPTION_STRING, "", NULL, NULL, "A task that a worker submits as it starts."},
	{NULL},
};

static void wait_unless_first(const char *path)
{
	const struct timespec soon = {.tv_nsec = 5000000};
	int fd = open(path, O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	char go[4096];

	snprintf(go, sizeof(go), "%s.go", path);
	while (fd < 0 && access(go, F_OK) < 0)
		nanosleep(&soon, NULL);
	close(fd);
}

static int task_start(const struct tine_config *config, void **ret_state)
{
	static unsigned count;
	const char *how = tine_config_string(config, "start");

	if (strcmp(how, "crash") == 0)
		abort();
	if (strcmp(how, "fail") == 0)
		return tine_config_error(config, "start", "fails as it was told to");
	if (*how == '/')
		wait_unless_first(how);
	*ret_state = &count;
	return 0;
}

static void task_stop(void *state)
{
	tine_log(TINE_LOG_INFO, "task_stop after %u", *(unsigned *)state);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "farm_module",
	.options = options,
	.worker_start = start,
	.tasks = tasks,
	.task_start = task_start,
	.task_stop = task_stop,
};

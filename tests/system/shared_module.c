/* Handlers that share memory with the other workers; some do with it what nobody should. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tine/http.h>
#include <tine/shared.h>

#define LOCK_US   100000
#define N_THREADS 4
#define N_ADDS    10000

static const struct tine_option options[] = {
	{.name = "size", .type = TINE_OPTION_SIZE, .def = "4K", .doc = "Bytes of the area."},
	{.name = "amount", .type = TINE_OPTION_INT, .def = "10", .doc = "Per key and hour."},
	{.name = "late",
		.type = TINE_OPTION_BOOL,
		.def = "off",
		.doc = "Start with nothing shared."},
	{.name = NULL},
};

/* What is in the area: both numbers are the same, except while somebody changes them. */
struct pair {
	volatile uint64_t a, b;
};

struct state {
	struct tine_worker *worker;
	struct tine_shared *area;
	struct tine_counter *counter;
	struct tine_gauge *gauge;
	struct tine_limit *limit;
};

static __attribute__((format(printf, 2, 3))) void answer(
	struct tine_request *request, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	tine_respond(request, 200, "application/json", text, strlen(text));
}

static void on_count(struct tine_request *request, void *arg)
{
	const struct state *s = arg;

	answer(request, "{\"count\":%" PRId64 ",\"pid\":%d}", tine_counter_add(s->counter, 1),
		(int)getpid());
}

static void on_gauge(struct tine_request *request, void *arg)
{
	const struct state *s = arg;

	tine_gauge_add(s->gauge, 1);
	answer(request, "{\"sum\":%" PRId64 ",\"pid\":%d}", tine_gauge_get(s->gauge),
		(int)getpid());
}

/* Changes both numbers under the lock, and says what it found; puts right what a dead one left. */
static void on_step(struct tine_request *request, void *arg)
{
	struct state *s = arg;
	struct pair *p = tine_shared_data(s->area);
	int r = tine_shared_lock(s->area, LOCK_US);
	uint64_t a = p->a, b = p->b;

	if (r >= 0) {
		p->a = p->b = a + 1;
		if (tine_shared_unlock(s->area) < 0)
			abort();
	}
	answer(request, "{\"lock\":%d,\"a\":%" PRIu64 ",\"b\":%" PRIu64 ",\"pid\":%d}", r, a, b,
		(int)getpid());
}

static void on_die(struct tine_request *request, void *arg)
{
	struct state *s = arg;
	struct pair *p = tine_shared_data(s->area);

	if (tine_shared_lock(s->area, LOCK_US) < 0)
		abort();
	p->a++;
	raise(SIGKILL);
}

static void on_hold(struct tine_request *request, void *arg)
{
	struct state *s = arg;

	answer(request, "{\"lock\":%d,\"pid\":%d}", tine_shared_lock(s->area, LOCK_US),
		(int)getpid());
}

static void on_give(struct tine_request *request, void *arg)
{
	struct state *s = arg;

	answer(request, "{\"lock\":%d}", tine_shared_unlock(s->area));
}

static void on_limit(struct tine_request *request, void *arg)
{
	struct state *s = arg;
	struct tine_text key = tine_request_param(request, "key");
	struct tine_limit_answer a;
	int r = tine_limit_take(s->limit, key.data, key.len, 1, &a);

	answer(request, "{\"result\":%d,\"left\":%" PRIu64 ",\"retry_us\":%" PRIu64 "}", r, a.left,
		a.retry_us);
}

/* Threads that count, and that step under the lock. */
static void *work(void *arg)
{
	struct state *s = arg;
	struct pair *p = tine_shared_data(s->area);

	for (int i = 0; i < N_ADDS; i++) {
		tine_counter_add(s->counter, 1);
		if (tine_shared_lock(s->area, 10000000) != 0)
			abort();
		p->a++;
		p->b++;
		tine_shared_unlock(s->area);
	}
	return NULL;
}

static void on_threads(struct tine_request *request, void *arg)
{
	pthread_t threads[N_THREADS];

	for (int i = 0; i < N_THREADS; i++)
		pthread_create(&threads[i], NULL, work, arg);
	for (int i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	answer(request, "{\"done\":%d}", N_THREADS * N_ADDS);
}

/* Fills what is shared with garbage: all of it, or all but the first page. */
static void on_scribble(struct tine_request *request, void *arg)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	uintptr_t from, to;
	int n = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (strstr(line, "tined-shared") &&
			sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2) {
			memset((void *)from, 0xa5, to - from);
			n++;
		}
	}
	if (f)
		fclose(f);
	answer(request, "{\"scribbled\":%d}", n);
}

static int open_all(struct state *s)
{
	const struct tine_config *config = tine_worker_config(s->worker);
	struct tine_limit_options o = {.size = sizeof(o),
		.kind = TINE_LIMIT_BUCKET,
		.amount = (uint64_t)tine_config_number(config, "amount"),
		.period_us = UINT64_C(3600000000),
		.keys = 1000};
	int r = tine_shared_area(
		s->worker, "test:area", (size_t)tine_config_number(config, "size"), &s->area);

	if (r == 0)
		r = tine_shared_counter(s->worker, "test:counter", &s->counter);
	if (r == 0)
		r = tine_shared_gauge(s->worker, "test:gauge", &s->gauge);
	if (r == 0)
		r = tine_shared_limit(s->worker, "test:limit", &o, &s->limit);
	return r;
}

static void on_open(struct tine_request *request, void *arg)
{
	int r = open_all(arg);

	answer(request, "{\"error\":\"%s\",\"pid\":%d}", r < 0 ? strerrorname_np(-r) : "",
		(int)getpid());
}

static int start(struct tine_worker *worker, void **ret_state)
{
	static const struct {
		const char *path;
		tine_http_fn fn;
	} routes[] = {{"/count", on_count}, {"/gauge", on_gauge}, {"/step", on_step},
		{"/die", on_die}, {"/hold", on_hold}, {"/give", on_give},
		{"/limit/{key}", on_limit}, {"/threads", on_threads}, {"/scribble", on_scribble},
		{"/open", on_open}};
	struct state *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;

	if (r == 0) {
		s->worker = worker;
		if (!tine_config_number(tine_worker_config(worker), "late"))
			r = open_all(s);
	}
	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes) && r == 0; i++)
		r = tine_http_route(worker, TINE_GET, routes[i].path, routes[i].fn, s);
	if (r < 0)
		free(s);
	else
		*ret_state = s;
	return r;
}

static void stop(void *state)
{
	free(state);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "shared",
	.options = options,
	.worker_start = start,
	.worker_stop = stop,
};

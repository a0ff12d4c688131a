/*
 * What scripts/bench bridge asks of the workers of two daemons that NATS joins, through tine/bus.h alone. Below /bridge_module:
 *
 * publish?n=&size=   publishes so many, as fast as they go; answers "MESSAGES SECONDS" when all are sent
 * wait?n=            answers "MESSAGES SECONDS DISORDERED" when so many have come, counted from the first one
 * trip?n=            requests, one at a time; answers "P50 P99" in microseconds
 * listen             subscribes to both
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tine/bus.h>

#define SUBJECT  "bench.bridge"
#define TRIP     "bench.trip"
#define TRIP_MAX 100000

static struct tine_worker *worker;

static struct load {
	struct tine_request *request;
	char *data;
	uint64_t n, next;
	size_t size;
	double began;
} load;

static struct {
	struct tine_request *request;
	uint64_t n, got, expected, disordered;
	double first, last;
} arrivals;

static struct {
	struct tine_request *request;
	unsigned n, done;
	double began, *took;
} trips;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static unsigned long number(struct tine_request *request, const char *key)
{
	struct tine_text q = tine_request_query(request);
	char text[256] = "", *p;

	if (q.len > 0 && q.len < sizeof(text))
		memcpy(text, q.data, q.len);
	p = strstr(text, key);
	return p ? strtoul(p + strlen(key), NULL, 10) : 0;
}

static void answer(struct tine_request *request, const char *text)
{
	tine_respond(request, 200, "text/plain", text, strlen(text));
}

/* --- publishing --- */

static void publish_on(void)
{
	char text[64];

	while (load.request && load.next < load.n) {
		memcpy(load.data, &load.next, sizeof(load.next));
		if (tine_bus_publish(worker, SUBJECT, load.data, load.size) < 0)
			return; /* on_writable goes on */
		load.next++;
	}
	if (!load.request)
		return;
	snprintf(text, sizeof(text), "%lu %.6f", (unsigned long)load.n, now() - load.began);
	answer(load.request, text);
	load.request = NULL;
	free(load.data);
}

static void on_writable(void *arg)
{
	publish_on();
}

static void on_publish(struct tine_request *request, void *arg)
{
	load = (struct load){.request = request,
		.n = number(request, "n="),
		.size = number(request, "size="),
		.began = now()};
	load.size = load.size < sizeof(load.next) ? sizeof(load.next) : load.size;
	load.data = calloc(1, load.size);
	tine_defer(request);
	publish_on();
}

/* --- arriving --- */

static void look_whether_all_came(void)
{
	char text[96];

	if (!arrivals.request || arrivals.got < arrivals.n)
		return;
	snprintf(text, sizeof(text), "%lu %.6f %lu", (unsigned long)arrivals.got,
		arrivals.last - arrivals.first, (unsigned long)arrivals.disordered);
	answer(arrivals.request, text);
	memset(&arrivals, 0, sizeof(arrivals));
}

static void on_arrival(struct tine_message *m, void *arg)
{
	if (arrivals.got++ == 0)
		arrivals.first = now();
	arrivals.disordered += *(const uint64_t *)m->data != arrivals.expected++;
	if (!arrivals.request || arrivals.got < arrivals.n)
		return;
	arrivals.last = now();
	look_whether_all_came();
}

static void on_wait(struct tine_request *request, void *arg)
{
	arrivals.request = request;
	arrivals.n = number(request, "n=");
	tine_defer(request);
	arrivals.last = now();
	look_whether_all_came();
}

/* --- there and back --- */

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void ask(void);

static void on_answer(int status, struct tine_message *m, void *arg)
{
	char text[64];

	if (status < 0) {
		answer(trips.request, "error: no answer");
		return;
	}
	trips.took[trips.done++] = now() - trips.began;
	if (trips.done < trips.n) {
		ask();
		return;
	}
	qsort(trips.took, trips.n, sizeof(*trips.took), compare);
	snprintf(text, sizeof(text), "%.2f %.2f", trips.took[trips.n / 2] * 1e6,
		trips.took[trips.n * 99 / 100] * 1e6);
	answer(trips.request, text);
	free(trips.took);
}

static void ask(void)
{
	struct tine_send s = {
		.size = sizeof(s), .subject = TRIP, .data = "x", .len = 1, .on_answer = on_answer};

	trips.began = now();
	if (tine_bus_post(worker, &s) < 0)
		answer(trips.request, "error: cannot ask");
}

static void on_trip(struct tine_request *request, void *arg)
{
	trips.request = request;
	trips.n = (unsigned)number(request, "n=");
	trips.n = trips.n == 0 || trips.n > TRIP_MAX ? 1 : trips.n;
	trips.done = 0;
	trips.took = calloc(trips.n, sizeof(*trips.took));
	tine_defer(request);
	ask();
}

static void on_question(struct tine_message *m, void *arg)
{
	tine_bus_answer(worker, m->from, m->request, 0, m->data, m->len);
}

static void on_listen(struct tine_request *request, void *arg)
{
	struct tine_subscribe s = {.size = sizeof(s), .pattern = SUBJECT, .on_message = on_arrival};
	struct tine_subscription *ignored;
	int r = tine_bus_subscribe(worker, &s, &ignored);

	s.pattern = TRIP;
	s.on_message = on_question;
	if (r == 0)
		r = tine_bus_subscribe(worker, &s, &ignored);
	answer(request, r == 0 ? "ok" : "error: cannot subscribe");
}

/* --- */

static int worker_start(struct tine_worker *w, void **ret_state)
{
	static const struct tine_bus_service service = {
		.size = sizeof(service), .on_writable = on_writable};
	static const struct {
		const char *path;
		void (*fn)(struct tine_request *request, void *arg);
	} routes[] = {{"/publish", on_publish}, {"/wait", on_wait}, {"/trip", on_trip},
		{"/listen", on_listen}};
	int r = tine_bus_open(w, &service);

	worker = w;
	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes) && r == 0; i++)
		r = tine_http_route(w, TINE_GET, routes[i].path, routes[i].fn, NULL);
	return r;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "bridge_module",
	.worker_start = worker_start,
};

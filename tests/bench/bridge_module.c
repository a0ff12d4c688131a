/*
 * What scripts/bench bridge asks of the workers of two daemons that NATS joins, through tine/bus.h alone. Below /bridge_module:
 *
 * publish?n=&size=   publishes so many, as fast as they go; answers "MESSAGES SECONDS" when all are sent
 * wait?n=            answers "MESSAGES SECONDS DISORDERED" when so many have come, counted from the first one
 * trip?n=            requests, one at a time; answers "P50 P99" in microseconds
 * listen             subscribes to both
 */
#include <tine/bus.h>

#include "load.h"

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

static struct tine_request *asking; /* for round trips */
static struct trips trips;

/* --- publishing --- */

static void publish_on(void)
{
	while (load.request && load.next < load.n) {
		memcpy(load.data, &load.next, sizeof(load.next));
		if (tine_bus_publish(worker, SUBJECT, load.data, load.size) < 0)
			return; /* on_writable goes on */
		load.next++;
	}
	if (!load.request)
		return;
	answer_rate(load.request, load.n, load.began);
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
		.n = number(request, "n"),
		.size = number(request, "size"),
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
	arrivals.n = number(request, "n");
	tine_defer(request);
	arrivals.last = now();
	look_whether_all_came();
}

/* --- there and back --- */

static void ask(void);

static void on_answer(int status, struct tine_message *m, void *arg)
{
	if (status < 0)
		answer(asking, "error: no answer");
	else if (trips_note(&trips))
		ask();
	else
		answer(asking, trips_end(&trips));
}

static void ask(void)
{
	struct tine_send s = {
		.size = sizeof(s), .subject = TRIP, .data = "x", .len = 1, .on_answer = on_answer};

	trips_ask(&trips);
	if (tine_bus_post(worker, &s) < 0)
		answer(asking, "error: cannot ask");
}

static void on_trip(struct tine_request *request, void *arg)
{
	unsigned long n = number(request, "n");

	asking = request;
	trips_begin(&trips, n == 0 || n > TRIP_MAX ? 1 : n);
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
	static const struct handler handlers[] = {{"/publish", on_publish}, {"/wait", on_wait},
		{"/trip", on_trip}, {"/listen", on_listen}, {0}};
	int r = tine_bus_open(w, &service);

	worker = w;
	return r == 0 ? add_handlers(w, handlers) : r;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "bridge_module",
	.worker_start = worker_start,
};

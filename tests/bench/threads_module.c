/*
 * What scripts/bench work asks of worker threads, through tine/thread.h alone. Below /threads_module:
 *
 * trip?n=         64 bytes to a thread and back, one at a time; answers "P50 P99" in microseconds
 * down?seconds=   64 bytes each to a thread, as fast as it takes them; answers "MESSAGES SECONDS"
 * up?seconds=     the same from a thread to the loop
 * pool?n=         an empty piece of work on the thread pool, one at a time, as trip; where there is tine/work.h
 *
 * Each message has a callback, and its number in it, which is checked.
 */
#include <tine/thread.h>
#include <tine/work.h>

#include "load.h"

#define SIZE 64
#define END  UINT64_MAX

static struct tine_worker *worker;

/* One request at a time. */
static struct load {
	struct tine_request *request;
	struct tine_thread *thread;
	uint64_t sent, received, disordered;
	double begun, end;
	struct trips trips;
} load;

static void finish(const char *text)
{
	struct load *l = &load;

	answer(l->request, text);
	free(l->trips.times);
	tine_thread_terminate(l->thread, 0);
	memset(l, 0, sizeof(*l));
}

static void on_error(struct tine_thread *thread, int error, const char *text, void *arg)
{
	char line[300];

	snprintf(line, sizeof(line), "error: %s", text);
	if (load.request)
		finish(line);
}

static void begin(struct tine_request *request)
{
	memset(&load, 0, sizeof(load));
	load.request = request;
	tine_defer(request);
	trips_begin(&load.trips, number_or(request, "n", 20000));
	load.begun = now();
	load.end = load.begun + (double)number_or(request, "seconds", 1);
}

static void begin_thread(struct tine_request *request, struct tine_thread_options *o)
{
	char text[64];
	int r;

	if (load.request) {
		answer(request, "error: busy");
		return;
	}
	begin(request);
	o->size = sizeof(*o);
	o->data = &load.end;
	o->len = sizeof(load.end);
	o->on_error = on_error;
	r = tine_thread_start(worker, o, &load.thread);
	if (r < 0)
		finish((snprintf(text, sizeof(text), "error: %s", strerror(-r)), text));
}

static void respond_rate(uint64_t n)
{
	char text[64];

	snprintf(text, sizeof(text), "%lu %.6f", (unsigned long)n, now() - load.begun);
	finish(load.disordered ? "error: disordered" : text);
}

/* --- round trips --- */

/* Returns whether there is another one. */
static bool note_trip(void)
{
	if (trips_note(&load.trips))
		return true;
	finish(trips_end(&load.trips));
	return false;
}

static void trip(void)
{
	static char data[SIZE];

	trips_ask(&load.trips);
	if (tine_thread_post(load.thread, data, sizeof(data)) < 0)
		finish("error: not posted");
}

static void on_trip(struct tine_thread *thread, struct tine_thread_message *m, void *arg)
{
	if (note_trip())
		trip();
}

static void on_trip_online(struct tine_thread *thread, void *arg)
{
	trip();
}

static void echo(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
	tine_parent_post(self, m->data, m->len);
}

static int echo_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_message = echo};

	return tine_thread_listen(self, &h);
}

static void on_trips(struct tine_request *request, void *arg)
{
	struct tine_thread_options o = {
		.main = echo_main, .on_online = on_trip_online, .on_message = on_trip};

	begin_thread(request, &o);
}

/* --- down --- */

struct count {
	uint64_t n, disordered;
};

static void count_down(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
	struct count *c = arg;
	uint64_t n = *(uint64_t *)m->data;

	if (n == END) {
		tine_parent_post(self, c, sizeof(*c));
		return;
	}
	c->disordered += n != c->n;
	c->n++;
}

static int count_main(struct tine_thread_self *self, void *data, size_t len)
{
	static struct count count;
	struct tine_thread_handlers h = {
		.size = sizeof(h), .on_message = count_down, .arg = &count};

	memset(&count, 0, sizeof(count));
	return tine_thread_listen(self, &h);
}

static void pour(struct tine_thread *thread, void *arg)
{
	struct load *l = &load;
	uint64_t data[SIZE / 8] = {0};

	while (l->sent != END) {
		data[0] = l->sent % CHECK_EVERY == 0 && now() >= l->end ? END : l->sent;
		if (tine_thread_post(thread, data, sizeof(data)) == TINE_E_FULL)
			return;
		l->sent = data[0] == END ? END : l->sent + 1;
	}
}

static void on_counted(struct tine_thread *thread, struct tine_thread_message *m, void *arg)
{
	const struct count *c = m->data;

	load.disordered = c->disordered;
	respond_rate(c->n);
}

static void on_down(struct tine_request *request, void *arg)
{
	struct tine_thread_options o = {.main = count_main,
		.on_online = pour,
		.on_writable = pour,
		.on_message = on_counted};

	begin_thread(request, &o);
}

/* --- up --- */

struct source {
	double end;
	uint64_t sent;
};

static void gush(struct tine_thread_self *self, void *arg)
{
	struct source *s = arg;
	uint64_t data[SIZE / 8] = {0};

	while (s->sent != END && !tine_thread_stopping(self)) {
		data[0] = s->sent % CHECK_EVERY == 0 && now() >= s->end ? END : s->sent;
		if (tine_parent_post(self, data, sizeof(data)) == TINE_E_FULL)
			return;
		s->sent = data[0] == END ? END : s->sent + 1;
	}
}

static int gush_main(struct tine_thread_self *self, void *data, size_t len)
{
	static struct source source;
	struct tine_thread_handlers h = {.size = sizeof(h), .on_writable = gush, .arg = &source};

	source = (struct source){.end = *(double *)data};
	tine_thread_listen(self, &h);
	gush(self, &source);
	return 0;
}

static void on_gush(struct tine_thread *thread, struct tine_thread_message *m, void *arg)
{
	uint64_t n = *(uint64_t *)m->data;

	if (n == END) {
		respond_rate(load.received);
		return;
	}
	load.disordered += n != load.received;
	load.received++;
}

static void on_up(struct tine_request *request, void *arg)
{
	struct tine_thread_options o = {.main = gush_main, .on_message = on_gush};

	begin_thread(request, &o);
}

/* --- the pool --- */

static void on_work(struct tine_work *work, void *arg)
{
}

static void submit(void);

static void on_done(int status, void *arg)
{
	if (note_trip())
		submit();
}

static void submit(void)
{
	struct tine_work_options o = {.size = sizeof(o), .run = on_work, .done = on_done};

	trips_ask(&load.trips);
	if (tine_work_submit(worker, &o, NULL) < 0)
		finish("error: not submitted");
}

static void on_pool(struct tine_request *request, void *arg)
{
	begin(request);
	submit();
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct handler handlers[] = {
		{"/trip", on_trips}, {"/down", on_down}, {"/up", on_up}, {"/pool", on_pool}, {0}};

	worker = w;
	return add_handlers(w, handlers);
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "threads_module",
	.worker_start = start};

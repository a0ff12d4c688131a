/*
 * Once a second: rates from counters, a ring of them for the plots, and news for the pages that are open.
 */
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tine/http.h>

#include "admin/admin.h"
#include "base/clock.h"
#include "base/fd.h"
#include "ipc/msg.h"
#include "shared/child.h"
#include "shared/history.h"
#include "shared/report.h"
#include "shared/scoreboard.h"

#define SKIPPED_MAX    10 /* seconds in a row that a page may not take its news */
#define SUBJECTS_SHOWN 10
#define PIECE          128 /* processes in one event: below 256 KiB, which is what it may hold */
#define REAL(x)        ((double)(x))

static const struct timeval second = {1, 0};

/* --- rates --- */

static int grow(struct admin *a, size_t n)
{
	struct admin_slot *slots;

	if (n <= a->n_slots)
		return 0;
	slots = realloc(a->slots, n * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	memset(slots + a->n_slots, 0, (n - a->n_slots) * sizeof(*slots));
	a->slots = slots;
	a->n_slots = n;
	return 0;
}

static double per_second(uint64_t now, uint64_t before, double seconds)
{
	return now > before && seconds > 0 ? REAL(now - before) / seconds : 0;
}

/* One process with what it did in the last second; the share of it that its loop was busy. */
static json_t *describe(struct admin *a, size_t slot, double seconds, double *ret_busy)
{
	const struct sb_slot *s = &a->child->scoreboard->slots[slot];
	json_t *o = report_process(a->child->scoreboard, slot);
	struct admin_slot *before = &a->slots[slot];
	uint64_t requests = sb_get(s->requests), busy_us = sb_get(s->busy_us);
	struct histogram lag;
	double busy;

	if (!o)
		return NULL;
	if (before->pid != sb_get(s->pid))
		*before = (struct admin_slot){.pid = sb_get(s->pid)};
	memcpy((void *)&lag, (const void *)&s->loop_lag, sizeof(lag));
	histogram_subtract(&lag, &before->loop_lag);
	busy = per_second(busy_us, before->busy_us, seconds) / US_PER_S;
	*ret_busy = busy < 1 ? busy : 1;
	json_object_set_new(
		o, "requests_per_s", json_real(per_second(requests, before->requests, seconds)));
	json_object_set_new(o, "busy", json_real(*ret_busy));
	json_object_set_new(
		o, "lag_p99_us", json_integer((json_int_t)histogram_percentile_us(&lag, 99)));
	before->requests = requests;
	before->busy_us = busy_us;
	histogram_merge(&before->loop_lag, &lag);
	return o;
}

/* Describes all; returns the mean share of the workers' time that was busy. */
static double describe_all(struct admin *a, double seconds)
{
	const struct scoreboard *sb = a->child->scoreboard;
	size_t n = sb_get(*sb->n_used), n_workers = 0;
	double sum = 0;

	n = n < sb->n_slots ? n : sb->n_slots;
	json_decref(a->processes);
	a->processes = json_array();
	if (grow(a, n) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		double busy = 0;
		json_t *o = describe(a, i, seconds, &busy);

		if (!o)
			continue;
		json_array_append_new(a->processes, o);
		if (sb_get(sb->slots[i].role) == ROLE_WORKER) {
			sum += busy;
			n_workers++;
		}
	}
	return n_workers > 0 ? sum / REAL(n_workers) : 0;
}

static uint64_t count_connections(const struct scoreboard *sb)
{
	size_t n = sb_get(*sb->n_used);
	uint64_t sum = 0;

	for (size_t i = 0; i < n && i < sb->n_slots; i++) {
		if (sb_get(sb->slots[i].role) == ROLE_WORKER)
			sum += sb_get(sb->slots[i].connections);
	}
	return sum;
}

static uint64_t take(uint64_t now, uint64_t *before)
{
	uint64_t delta = now > *before ? now - *before : 0;

	*before = now;
	return delta;
}

static void fill_in(struct admin *a, struct admin_sample *s, double seconds)
{
	const struct history *h = a->child->history;
	static struct history_totals t; /* large */
	struct timespec ts;
	struct histogram latency;

	report_totals(a->child->scoreboard, h, &t);
	clock_gettime(CLOCK_REALTIME, &ts);
	latency = t.latency;
	histogram_subtract(&latency, &a->total_latency);
	a->total_latency = t.latency;
	*s = (struct admin_sample){
		.realtime_ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000,
		.requests = REAL(take(sb_get(t.requests), &a->total_requests)) / seconds,
		.errors = REAL(take(sb_get(t.server_errors), &a->total_errors)) / seconds,
		.p50_us = histogram_percentile_us(&latency, 50),
		.p99_us = histogram_percentile_us(&latency, 99),
		.connections = count_connections(a->child->scoreboard),
		.restarts = take(sb_get(h->restarts), &a->total_restarts),
		.crashes = take(sb_get(h->crashes), &a->total_crashes),
		.busy = describe_all(a, seconds)};
}

static json_t *sample_json(const struct admin_sample *s)
{
	return json_pack("{s:I,s:f,s:f,s:I,s:I,s:I,s:I,s:I,s:f}", "t", (json_int_t)s->realtime_ms,
		"requests", s->requests, "errors", s->errors, "p50_us", (json_int_t)s->p50_us,
		"p99_us", (json_int_t)s->p99_us, "connections", (json_int_t)s->connections,
		"restarts", (json_int_t)s->restarts, "crashes", (json_int_t)s->crashes, "busy",
		s->busy);
}

static struct admin_sample *next_sample(struct admin *a)
{
	size_t at = (a->first_sample + a->n_samples) % ADMIN_HISTORY;

	if (a->n_samples < ADMIN_HISTORY)
		a->n_samples++;
	else
		a->first_sample = (a->first_sample + 1) % ADMIN_HISTORY;
	return &a->samples[at];
}

/* --- the pages that are open --- */

static void stream_free(struct admin *a, struct admin_stream *s)
{
	LIST_REMOVE(s, link);
	a->n_streams--;
	free(s);
}

static void on_page_gone(struct tine_request *request, void *arg)
{
	struct admin_stream *s = arg;

	tine_respond_abort(request);
	s->request = NULL; /* the next second takes it off the list */
}

static int send_text(struct admin_stream *s, const char *event, const char *text)
{
	return s->request ? tine_sse_send(s->request, event, NULL, text, strlen(text)) : -ECANCELED;
}

/* Returns 0 or what tine_sse_send() said. Takes the reference. */
static int send_json(struct admin_stream *s, const char *event, json_t *o)
{
	CLEANUP(freep) char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	return text ? send_text(s, event, text) : -ENOMEM;
}

/* Everything up to now: for a page that has just been opened. */
static int send_past(struct admin *a, struct admin_stream *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < a->n_samples; i++)
		json_array_append_new(
			list, sample_json(&a->samples[(a->first_sample + i) % ADMIN_HISTORY]));
	return send_json(
		s, "past", json_pack("{s:o,s:b}", "samples", list, "actions", *a->token != '\0'));
}

/* How the whole is, and the newest second. */
static int tell_now(struct admin *a, struct admin_stream *s)
{
	json_t *o = json_pack("{s:O}", "status", a->status);
	size_t newest = (a->first_sample + a->n_samples - 1) % ADMIN_HISTORY;

	if (a->n_samples > 0)
		json_object_set_new(o, "sample", sample_json(&a->samples[newest]));
	return send_json(s, "now", o);
}

static json_int_t slot_of(const struct admin *a, size_t i)
{
	return json_integer_value(json_object_get(json_array_get(a->processes, i), "slot"));
}

/* Those of the slots from s->from on, in pieces: the page replaces what it has from slot to slot. */
static int tell_processes(struct admin *a, struct admin_stream *s)
{
	size_t n = json_array_size(a->processes), at = 0;
	json_t *list = json_array();
	json_int_t to;
	int r;

	while (at < n && slot_of(a, at) < s->from)
		at++;
	for (; at < n && json_array_size(list) < PIECE; at++)
		json_array_append(list, json_array_get(a->processes, at));
	to = at < n ? slot_of(a, at) : INT_MAX;
	r = send_json(s, "processes",
		json_pack("{s:I,s:I,s:o}", "from", s->from, "to", to, "processes", list));
	if (r == 0)
		s->from = at < n ? to : 0;
	return r;
}

static int tell_events(struct admin *a, struct admin_stream *s)
{
	uint64_t n_events = sb_get(a->child->history->n_events);
	int r = 0;

	if (s->n_events != n_events)
		r = send_json(s, "events",
			json_pack(
				"{s:o}", "events", report_events(a->child->history, s->n_events)));
	if (r == 0)
		s->n_events = n_events;
	return r;
}

static int tell_crashes(struct admin *a, struct admin_stream *s)
{
	int r = 0;

	if (s->crash_version != a->crash_version && a->crashes)
		r = send_text(s, "crashes", a->crashes);
	if (r == 0)
		s->crash_version = a->crash_version;
	return r;
}

static int (*const steps[])(struct admin *a, struct admin_stream *s) = {
	tell_now, tell_processes, tell_events, tell_crashes};

#define N_STEPS (sizeof(steps) / sizeof(*steps))

/* The news of a second, as far as there is room: on_room() goes on. */
static void tell(struct admin *a, struct admin_stream *s)
{
	while (s->step < N_STEPS) {
		int r = steps[s->step](a, s);

		if (r == -EAGAIN || r == -ECANCELED)
			return;
		if (r < 0)
			s->from = 0; /* without this, then */
		s->step += s->from == 0;
	}
}

static void on_room(struct tine_request *request, void *arg)
{
	struct admin_stream *s = arg;

	tell(s->admin, s);
}

/* The list is long, and seldom another one: it is made when there were events, of which a crash, or the backtrace of one, is one. */
static void look_at_crashes(struct admin *a)
{
	uint64_t n_events = sb_get(a->child->history->n_events);
	json_t *o;
	char *text;

	if (a->crashes && n_events == a->crash_events)
		return;
	o = json_pack("{s:o}", "crashes", report_crashes(a->child->history));
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	if (text && (!a->crashes || strcmp(text, a->crashes) != 0)) {
		free(a->crashes);
		a->crashes = text;
		a->crash_version++;
		text = NULL;
	}
	free(text);
	a->crash_events = n_events;
}

/* For all pages of a second. */
static void look(struct admin *a)
{
	json_decref(a->status);
	a->status = report_status(a->child->scoreboard, a->child->history);
	json_object_set_new(a->status, "bus", report_subjects(a->child->history, SUBJECTS_SHOWN));
	json_object_set_new(a->status, "farms", report_farms(a->child->history));
	look_at_crashes(a);
}

static void tell_pages(struct admin *a)
{
	struct admin_stream *s, *next;

	for (s = LIST_FIRST(&a->streams); s; s = next) {
		next = LIST_NEXT(s, link);
		if (!s->request) {
			stream_free(a, s);
		} else if (s->step == N_STEPS) {
			s->step = 0;
			s->n_skipped = 0;
			tell(a, s);
		} else if (++s->n_skipped > SKIPPED_MAX) {
			tine_respond_abort(s->request);
			stream_free(a, s);
		}
	}
}

static void serve_stream(struct tine_request *request, void *arg)
{
	struct admin *a = arg;
	struct admin_stream *s;

	if (tine_request_method(request) == TINE_HEAD) { /* it would wait for nothing */
		tine_respond(request, 200, "text/event-stream", NULL, 0);
		return;
	}
	s = a->n_streams < ADMIN_STREAMS ? calloc(1, sizeof(*s)) : NULL;
	if (!s || a->draining) {
		free(s);
		tine_respond_header(request, "Retry-After", "10");
		tine_respond_status(request, 503);
		return;
	}
	if (tine_sse_start(request) < 0) {
		free(s);
		tine_respond_abort(request);
		return;
	}
	s->admin = a;
	s->request = request;
	LIST_INSERT_HEAD(&a->streams, s, link);
	a->n_streams++;
	tine_on_gone(request, on_page_gone, s);
	tine_respond_on_room(request, on_room, s);
	look(a);
	if (send_past(a, s) == 0)
		tell(a, s);
}

/* --- the second --- */

static void on_second(evutil_socket_t fd, short what, void *arg)
{
	struct admin *a = arg;
	uint64_t now = now_us();
	double seconds = REAL(now - a->sampled_us) / US_PER_S;

	a->sampled_us = now;
	fill_in(a, next_sample(a), seconds > 0 ? seconds : 1);
	if (a->n_streams > 0)
		admin_note_look(a);
	look(a);
	tell_pages(a);
	admin_resume_accepting(a); /* descriptors or memory may have been short */
}

int samples_routes(struct admin *a)
{
	return admin_route(a, TINE_GET, "/stream", serve_stream);
}

int samples_start(struct admin *a)
{
	struct admin_sample ignored;

	LIST_INIT(&a->streams);
	a->sampled_us = now_us();
	fill_in(a, &ignored, 1); /* what was before is not of this second */
	event_assign(&a->ev_second, a->base, -1, EV_PERSIST, on_second, a);
	return event_add(&a->ev_second, &second) < 0 ? -ENOMEM : 0;
}

/* The process drains: pages are told by the end of their streams, and connect again. */
void samples_stop(struct admin *a)
{
	struct admin_stream *s;

	event_del(&a->ev_second);
	while ((s = LIST_FIRST(&a->streams))) {
		if (s->request)
			tine_respond_end(s->request);
		stream_free(a, s);
	}
}

/*
 * /metrics: Prometheus' text format, version 0.0.4. Counters go on over restarts of workers; a restart of the primary begins
 * them anew, as Prometheus expects.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <tine/http.h>

#include "admin/admin.h"
#include "base/clock.h"
#include "base/fd.h"
#include "ipc/msg.h"
#include "shared/arena.h"
#include "shared/child.h"
#include "shared/gauge.h"
#include "shared/history.h"
#include "shared/report.h"
#include "shared/scoreboard.h"

/* clang-format off */
/* Of the whole service: name, where it is, what it says. */
#define TOTALS(X)                                                                               \
	X("connections_accepted", accepted,      "Connections taken.")                          \
	X("requests",             requests,      "Requests answered.")                          \
	X("received_bytes",       bytes_in,      "Bytes read from clients.")                    \
	X("sent_bytes",           bytes_out,     "Bytes written to clients.")                   \
	X("client_errors",        client_errors, "Answers with a status of 4xx.")               \
	X("server_errors",        server_errors, "Answers with a status of 5xx.")               \
	X("accepts_left",         stepped_back,  "Connections left to a less loaded worker.")
#define PRIMARY_COUNTERS(X)                                                                     \
	X("reloads",          reloads,          "Reloads, those that failed included.")         \
	X("reload_failures",  reload_failures,  "Reloads after which the old generation served on.") \
	X("upgrades",         upgrades,         "Upgrades of the binary.")                      \
	X("upgrade_failures", upgrade_failures, "Upgrades after which the old binary served on.") \
	X("crashes",          crashes,          "Children that ended without being asked to.")  \
	X("hangs",            hangs,            "Children killed because their loop stood still.") \
	X("recycled",         recycled,         "Workers replaced for their age, requests or memory.") \
	X("restarts",         restarts,         "Children started in place of others.")
/* Of each process: name, where it is, what it says. */
#define SLOT_GAUGES(X)                                                                          \
	X("generation",   generation,   "Which generation it belongs to.")                      \
	X("connections",  connections,  "Connections that are open.")                           \
	X("memory_bytes", rss,          "Resident memory.")                                     \
	X("bus_queued_bytes", bus_queued, "Bytes of messages that wait for it.")                \
	X("bus_subscriptions", subscriptions, "Its subscriptions.")
/* The same, found by a function. */
#define SLOT_DIFFERENCES(X)                                                                     \
	X("pool_queued",  scoreboard_pool_queued,  "Jobs that wait for a thread of the pool.")  \
	X("pool_running", scoreboard_pool_running, "Jobs that threads of the pool work at.")
/* The same, counters that begin anew with each process. */
#define SLOT_COUNTERS(X)                                                                        \
	X("bus_sent",     bus_sent,     "Messages it has sent; begins anew with each process.") \
	X("bus_received", bus_received, "Messages it has received; begins anew with each process.") \
	X("bus_failed",   bus_failed,   "Messages it has sent that were refused, or for nobody; begins anew with each process.") \
	X("bus_dropped",  bus_dropped,  "Messages for it that were dropped, by its policies; begins anew with each process.")
/* Of each of the patterns with the most messages. */
#define SUBJECTS(X)                                                                             \
	X("messages",  messages,  "Messages published that fit.")                               \
	X("delivered", delivered, "Messages put into queues of subscribers.")                   \
	X("dropped",   dropped,   "Messages dropped, by policies of subscribers.")              \
	X("refused",   refused,   "Messages of which the sender was told that a subscriber has no room.")
/* Of each farm, now. */
#define FARM_GAUGES(X)                                                                          \
	X("processes",    processes,     "Its processes.")                                      \
	X("busy",         busy,          "Processes that run a task.")                          \
	X("failed",       not_startable, "Processes that were given up: they do not start.")    \
	X("queued",       queued,        "Tasks that wait.")                                    \
	X("queued_bytes", queued_bytes,  "Bytes of them.")
/* clang-format on */

static void head(FILE *f, const char *name, const char *suffix, const char *type, const char *help)
{
	fprintf(f, "# HELP tined_%s%s %s\n# TYPE tined_%s%s %s\n", name, suffix, help, name, suffix,
		type);
}

static void counter(FILE *f, const char *name, uint64_t value, const char *help)
{
	head(f, name, "_total", "counter", help);
	fprintf(f, "tined_%s_total %" PRIu64 "\n", name, value);
}

static void gauge(FILE *f, const char *name, double value, const char *help)
{
	head(f, name, "", "gauge", help);
	fprintf(f, "tined_%s %.15g\n", name, value);
}

/* Every fourth limit: the powers of two from 1 us on. */
static void histogram(FILE *f, const char *name, const struct histogram *h, const char *help)
{
	uint64_t seen = 0, total = histogram_count(h);

	head(f, name, "_seconds", "histogram", help);
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS - 1; b++) {
		seen += sb_get(h->counts[b]);
		if (b % 4 == 3)
			fprintf(f, "tined_%s_seconds_bucket{le=\"%.6f\"} %" PRIu64 "\n", name,
				(double)(histogram_limit_us(b) + 1) / US_PER_S, seen);
	}
	fprintf(f, "tined_%s_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, total);
	fprintf(f, "tined_%s_seconds_sum %.6f\n", name, (double)sb_get(h->sum_us) / US_PER_S);
	fprintf(f, "tined_%s_seconds_count %" PRIu64 "\n", name, total);
}

static const struct sb_slot *used_slot(const struct scoreboard *sb, size_t i)
{
	return sb_get(sb->slots[i].role) != 0 ? &sb->slots[i] : NULL;
}

static void slots(FILE *f, const struct scoreboard *sb)
{
	size_t n = sb_get(*sb->n_used);
	const struct sb_slot *s;

	n = n < sb->n_slots ? n : sb->n_slots;
#define X(name, field, help)                                                                       \
	head(f, "process_" name, "", "gauge", help);                                               \
	for (size_t i = 0; i < n; i++) {                                                           \
		if ((s = used_slot(sb, i)))                                                        \
			fprintf(f,                                                                 \
				"tined_process_" name "{slot=\"%zu\",role=\"%s\"} %" PRIu64 "\n",  \
				i, report_role_name(sb_get(s->role)), (uint64_t)sb_get(s->field)); \
	}
	SLOT_GAUGES(X)
#undef X
#define X(name, fn, help)                                                                         \
	head(f, "process_" name, "", "gauge", help);                                              \
	for (size_t i = 0; i < n; i++) {                                                          \
		if ((s = used_slot(sb, i)))                                                       \
			fprintf(f,                                                                \
				"tined_process_" name "{slot=\"%zu\",role=\"%s\"} %" PRIu64 "\n", \
				i, report_role_name(sb_get(s->role)), fn(s));                     \
	}
	SLOT_DIFFERENCES(X)
#undef X
#define X(name, field, help)                                                                       \
	head(f, "process_" name, "_total", "counter", help);                                       \
	for (size_t i = 0; i < n; i++) {                                                           \
		if ((s = used_slot(sb, i)))                                                        \
			fprintf(f,                                                                 \
				"tined_process_" name "_total{slot=\"%zu\",role=\"%s\"} %" PRIu64  \
				"\n",                                                              \
				i, report_role_name(sb_get(s->role)), (uint64_t)sb_get(s->field)); \
	}
	SLOT_COUNTERS(X)
#undef X
	head(f, "process_state", "", "gauge", "1 for the state a process is in.");
	for (size_t i = 0; i < n; i++) {
		if ((s = used_slot(sb, i)))
			fprintf(f, "tined_process_state{slot=\"%zu\",role=\"%s\",state=\"%s\"} 1\n",
				i, report_role_name(sb_get(s->role)),
				scoreboard_state_name(sb_get(s->state)));
	}
	head(f, "process_busy_seconds", "_total", "counter",
		"Time a loop did not wait for events; begins anew with each process.");
	for (size_t i = 0; i < n; i++) {
		if ((s = used_slot(sb, i)))
			fprintf(f,
				"tined_process_busy_seconds_total{slot=\"%zu\",role=\"%s\"} %.6f\n",
				i, report_role_name(sb_get(s->role)),
				(double)sb_get(s->busy_us) / US_PER_S);
	}
}

static unsigned n_failed(const struct scoreboard *sb)
{
	size_t n = sb_get(*sb->n_used);
	unsigned found = 0;

	for (size_t i = 0; i < n && i < sb->n_slots; i++)
		found += sb_get(sb->slots[i].role) == ROLE_WORKER &&
			sb_get(sb->slots[i].state) == PROC_FAILED;
	return found;
}

/* Looked at once, so that it does not change with what the clocks' readings are apart: a change means a restart. */
static double start_time(const struct history *h)
{
	static double at;
	struct timespec real, monotonic;

	if (at > 0)
		return at;
	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	clock_gettime(CLOCK_REALTIME, &real);
	at = (double)(real.tv_sec - monotonic.tv_sec) +
		(double)(real.tv_nsec - monotonic.tv_nsec) / 1e9 +
		(double)sb_get(h->started_us) / US_PER_S;
	return at;
}

static void primary(FILE *f, const struct scoreboard *sb, const struct history *h)
{
	uint64_t heartbeat = sb_get(h->heartbeat_us),
		 now = now_us(); /* in this order: never negative */

	head(f, "build_info", "", "gauge", "1, labelled with the version.");
	fprintf(f, "tined_build_info{version=\"%s\"} 1\n", tine_version());
	gauge(f, "start_time_seconds", start_time(h),
		"When the primary was started, in seconds since 1970.");
	gauge(f, "heartbeat_age_seconds", (double)(now - heartbeat) / US_PER_S,
		"How long ago the primary's last heartbeat was.");
	gauge(f, "generation", (double)sb_get(h->generation), "The generation that serves.");
	gauge(f, "workers_wanted", sb_get(h->target), "Workers there are to be.");
	gauge(f, "workers_ready", report_workers_ready(sb, h),
		"Workers of the generation that serves which are ready.");
	gauge(f, "workers_failed", n_failed(sb),
		"Workers that were given up after too many crashes.");
	gauge(f, "reloading", sb_get(h->reloading), "1 while a reload is under way.");
#define X(name, field, help) counter(f, name, sb_get(h->field), help);
	PRIMARY_COUNTERS(X)
#undef X
}

/* Each of a kind, by name; what it says is what a module wrote, or garbage. */
static void shared_numbers(FILE *f, const struct admin *a, enum arena_kind kind, const char *name,
	const char *type, const char *help)
{
	struct arena_listing l = {0};
	bool first = true;

	while (arena_list(a->arena, a->arena_size, &l)) {
		int64_t n = 0;

		if (l.kind != kind)
			continue;
		if (first)
			head(f, name, "", type, help);
		first = false;
		if (kind == ARENA_GAUGE)
			n = gauge_sum(a->child->arena_fd, l.data, l.size);
		else if (l.size >= sizeof(n)) /* they begin with it */
			n = atomic_load_explicit(
				(const _Atomic int64_t *)l.data, memory_order_relaxed);
		fprintf(f, "tined_%s{name=\"%s\"} %" PRId64 "\n", name, l.name, n);
	}
}

/* Of the memory that workers share. */
static void shared_memory(FILE *f, const struct admin *a)
{
	struct arena_figures figures;

	arena_look(a->arena, a->arena_size, &figures);
	gauge(f, "shared_memory_bytes", (double)figures.size,
		"Memory that modules of all workers may share.");
	gauge(f, "shared_memory_used_bytes", (double)figures.used,
		"How much of it has a name, or is the directory of names.");
	gauge(f, "shared_memory_names", figures.n_areas, "Areas, counters, gauges and limits.");
	gauge(f, "shared_memory_damaged", figures.damaged,
		"1 when somebody has written over its directory; only a restart helps.");
	shared_numbers(f, a, ARENA_COUNTER, "shared_counter", "gauge",
		"What modules of all workers count.");
	shared_numbers(f, a, ARENA_GAUGE, "shared_gauge", "gauge",
		"The sum of what each living worker says.");
	shared_numbers(f, a, ARENA_LIMIT, "shared_limit_forgotten_total", "counter",
		"Keys that a limit has forgotten because there was no room for more.");
}

/* A pattern is printable ASCII. */
static void label(FILE *f, const char *pattern)
{
	for (; *pattern; pattern++)
		fprintf(f, *pattern == '"' || *pattern == '\\' ? "\\%c" : "%c", *pattern);
}

static void subjects(FILE *f, const struct history *h)
{
	static struct history_bus bus; /* large */

	if (!history_read_bus(h, &bus))
		return;
	gauge(f, "bus_patterns", (double)bus.n_patterns,
		"Different patterns that are subscribed to.");
#define X(name, field, help)                                              \
	head(f, "bus_subject_" name, "_total", "counter", help);          \
	for (size_t i = 0; i < bus.n_rows && i < HISTORY_SUBJECTS; i++) { \
		fputs("tined_bus_subject_" name "_total{pattern=\"", f);  \
		label(f, bus.rows[i].pattern);                            \
		fprintf(f, "\"} %" PRIu64 "\n", bus.rows[i].field);       \
	}
	SUBJECTS(X)
#undef X
}

static void farms(FILE *f, const struct history *h)
{
	const struct history_farm *farm;
	size_t at = 0;

	if (!report_next_farm(h, &at))
		return;
#define ROWS(metric, field)                                                                \
	at = 0;                                                                            \
	while ((farm = report_next_farm(h, &at)))                                          \
		fprintf(f, "tined_farm_" metric "{farm=\"%s\"} %" PRIu64 "\n", farm->name, \
			(uint64_t)sb_get(farm->field));
#define X(name, field, help)                      \
	head(f, "farm_" name, "", "gauge", help); \
	ROWS(name, field)
	FARM_GAUGES(X)
#undef X
#define X(name, field, help)                              \
	head(f, "farm_" name, "_total", "counter", help); \
	ROWS(name "_total", field)
	REPORT_FARM_COUNTERS(X)
#undef X
#undef ROWS
}

static void nats(FILE *f, const struct scoreboard *sb, const struct history *h,
	const struct history_totals *t)
{
	if (!sb_get(h->nats.configured))
		return;
	gauge(f, "nats_connected", report_nats_connected(sb), "1 while the bus is joined to NATS.");
	counter(f, "nats_received", sb_get(t->nats.in), "Messages that came from NATS.");
	counter(f, "nats_sent", sb_get(t->nats.out), "Messages handed to NATS.");
	counter(f, "nats_reconnects", sb_get(t->nats.reconnects),
		"Connections to NATS after the first one.");
	counter(f, "nats_unconfirmed", sb_get(t->nats.unconfirmed),
		"Messages sent shortly before a connection to NATS broke, which may not have "
		"arrived.");
	head(f, "nats_dropped", "_total", "counter",
		"Messages to and from NATS that were lost, by reason.");
#define X(name, value, help) \
	fprintf(f, "tined_nats_dropped_total{reason=\"" name "\"} %" PRIu64 "\n", sb_get(value));
	REPORT_NATS_LOSSES(X, h, t)
#undef X
}

static void serve_metrics(struct tine_request *request, void *arg)
{
	const struct admin *a = arg;
	static struct history_totals t; /* large */
	CLEANUP(freep) char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	if (!f) {
		tine_respond_status(request, 503);
		return;
	}
	report_totals(a->child->scoreboard, a->child->history, &t);
	primary(f, a->child->scoreboard, a->child->history);
#define X(name, field, help) counter(f, name, sb_get(t.field), help);
	TOTALS(X)
#undef X
	histogram(f, "request_duration", &t.latency,
		"From the arrival of a request to its answer being handed to the kernel.");
	histogram(f, "loop_lag", &t.loop_lag,
		"How long the turns of the workers' loops took, which others had to wait for.");
	histogram(f, "pool_wait", &t.pool_wait,
		"How long jobs waited for a thread of the pool; of many at a time, samples.");
	histogram(f, "pool_run", &t.pool_run,
		"How long threads of the pool worked at jobs; of many at a time, samples.");
	slots(f, a->child->scoreboard);
	shared_memory(f, a);
	admin_note_look(a);
	subjects(f, a->child->history);
	farms(f, a->child->history);
	nats(f, a->child->scoreboard, a->child->history, &t);
	if (fclose(f) == 0)
		tine_respond(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, size);
	else
		tine_respond_status(request, 503);
}

int metrics_routes(struct admin *a)
{
	return admin_route(a, TINE_GET, "/metrics", serve_metrics);
}

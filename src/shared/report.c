/*
 * Reports. Pure reading of shared memory.
 */
#include "shared/report.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "ipc/msg.h"
#include "shared/history.h"
#include "shared/scoreboard.h"

#define INT(a)    ((json_int_t)(a))
#define TRIES_MAX 200 /* each gives the CPU to whoever wants it */

static const char *const phases[] = {"starting", "serving", "stopping"};

const char *report_role_name(uint32_t role)
{
	static const struct {
		uint32_t role;
		const char *name;
	} names[] = {{ROLE_WORKER, "worker"}, {ROLE_ADMIN, "admin"}, {ROLE_BRIDGE, "bridge"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (names[i].role == role)
			return names[i].name;
	}
	return "task";
}

/* Text that a child wrote, which may be torn, unterminated and anything: printable ASCII of it. */
static json_t *child_text(const char *text, size_t size)
{
	char safe[4096];
	size_t n = 0;

	for (; n < size && n < sizeof(safe) && text[n]; n++)
		safe[n] = text[n] >= 0x20 && text[n] <= 0x7e ? text[n] : '?';
	return json_stringn(safe, n);
}

/* Text of ours, which may quote what is no UTF-8, such as the name of a file. Never NULL but for want of memory. */
static json_t *text_of(const char *text, size_t size)
{
	size_t len = strnlen(text, size);
	json_t *o = json_stringn(text, len);

	return o ? o : child_text(text, len);
}

/* RFC 3339, UTC, to the millisecond. */
json_t *report_when(uint64_t realtime_us)
{
	time_t seconds = (time_t)(realtime_us / US_PER_S);
	char text[40];
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof(text) - n, ".%03uZ",
		(unsigned)(realtime_us % US_PER_S / US_PER_MS));
	return json_string(text);
}

static json_t *durations(const struct histogram *h)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I}", "count", INT(histogram_count(h)), "p50_us",
		INT(histogram_percentile_us(h, 50)), "p90_us", INT(histogram_percentile_us(h, 90)),
		"p99_us", INT(histogram_percentile_us(h, 99)), "max_us",
		INT(histogram_percentile_us(h, 100)));
}

static uint64_t age_ms(uint64_t since_us, uint64_t now)
{
	return since_us > 0 && since_us < now ? (now - since_us) / US_PER_MS : 0;
}

static size_t n_slots(const struct scoreboard *sb)
{
	size_t n = sb_get(*sb->n_used);

	return n < sb->n_slots ? n : sb->n_slots;
}

static void add_up(const struct scoreboard *sb, const struct history *h, struct history_totals *ret)
{
	memcpy((void *)ret, (const void *)&h->totals, sizeof(*ret));
	for (size_t i = 0; i < n_slots(sb); i++)
		history_add_slot(ret, &sb->slots[i]);
}

/*
 * Counters of all children, gone and living. Never smaller than before, but for what a restart of the primary takes: a slot
 * that is being moved from the living to the gone (history_bury_slot()) is waited for, as long as the primary does turn.
 */
void report_totals(const struct scoreboard *sb, const struct history *h, struct history_totals *ret)
{
	for (int i = 0; i < TRIES_MAX; i++) {
		uint64_t version = atomic_load_explicit(&h->totals_version, memory_order_acquire);

		add_up(sb, h, ret);
		atomic_thread_fence(memory_order_acquire);
		if (version % 2 == 0 && sb_get(h->totals_version) == version)
			return;
		sched_yield();
	}
}

static uint64_t connections(const struct scoreboard *sb)
{
	uint64_t n = 0;

	for (size_t i = 0; i < n_slots(sb); i++) {
		if (sb_get(sb->slots[i].role) == ROLE_WORKER)
			n += sb_get(sb->slots[i].connections);
	}
	return n;
}

/* Workers of the generation that serves which are ready and stay. */
unsigned report_workers_ready(const struct scoreboard *sb, const struct history *h)
{
	uint64_t generation = sb_get(h->generation);
	unsigned n = 0;

	for (size_t i = 0; i < n_slots(sb); i++) {
		const struct sb_slot *s = &sb->slots[i];

		n += sb_get(s->role) == ROLE_WORKER && sb_get(s->state) == PROC_READY &&
			sb_get(s->generation) == generation && !sb_get(s->leaving);
	}
	return n;
}

static json_t *counters(const struct scoreboard *sb, const struct history_totals *t)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "connections", INT(connections(sb)),
		"accepted", INT(sb_get(t->accepted)), "requests", INT(sb_get(t->requests)),
		"bytes_in", INT(sb_get(t->bytes_in)), "bytes_out", INT(sb_get(t->bytes_out)),
		"client_errors", INT(sb_get(t->client_errors)), "server_errors",
		INT(sb_get(t->server_errors)));
}

/* Whether a bridge is connected. */
bool report_nats_connected(const struct scoreboard *sb)
{
	for (size_t i = 0; i < n_slots(sb); i++) {
		const struct sb_slot *s = &sb->slots[i];

		if (sb_get(s->role) == ROLE_BRIDGE && !sb_get(s->on_trial) &&
			sb_get(s->nats_connected))
			return true;
	}
	return false;
}

/* NULL where there is no bridge. */
static json_t *nats(
	const struct scoreboard *sb, const struct history *h, const struct history_totals *t)
{
	json_t *o, *lost;

	if (!sb_get(h->nats.configured))
		return json_null();
	o = json_pack("{s:b,s:I,s:I,s:I,s:I}", "connected", (int)report_nats_connected(sb),
		"received", INT(sb_get(t->nats.in)), "sent", INT(sb_get(t->nats.out)), "reconnects",
		INT(sb_get(t->nats.reconnects)), "unconfirmed", INT(sb_get(t->nats.unconfirmed)));
	lost = json_object();
#define X(name, value, help) json_object_set_new(lost, name, json_integer(INT(sb_get(value))));
	REPORT_NATS_LOSSES(X, h, t)
#undef X
	json_object_set_new(o, "dropped", lost);
	return o;
}

json_t *report_status(const struct scoreboard *sb, const struct history *h)
{
	struct history_totals t;
	uint64_t now = now_us();
	uint32_t phase = sb_get(h->phase);

	report_totals(sb, h, &t);
	return json_pack("{s:s,s:s,s:I,s:s,s:o,s:I,s:I,s:I,s:I,s:I,s:b,s:b,s:o,"
			 "s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:o}",
		"type", "status", "version", TINED_VERSION, "pid", INT(sb_get(h->pid)), "phase",
		phase < sizeof(phases) / sizeof(*phases) ? phases[phase] : "unknown", "config",
		text_of(h->config_path, sizeof(h->config_path)), "uptime_ms",
		INT(age_ms(sb_get(h->started_us), now)), "heartbeat_age_ms",
		INT(age_ms(sb_get(h->heartbeat_us), now)), "generation", INT(sb_get(h->generation)),
		"workers_wanted", INT(sb_get(h->target)), "workers_ready",
		INT(report_workers_ready(sb, h)), "reloading", (int)sb_get(h->reloading),
		"upgrading", (int)sb_get(h->upgrading), "last_reload",
		*h->last_reload ? child_text(h->last_reload, sizeof(h->last_reload)) : json_null(),
		"reloads", INT(sb_get(h->reloads)), "reload_failures",
		INT(sb_get(h->reload_failures)), "upgrades", INT(sb_get(h->upgrades)),
		"upgrade_failures", INT(sb_get(h->upgrade_failures)), "crashes",
		INT(sb_get(h->crashes)), "hangs", INT(sb_get(h->hangs)), "recycled",
		INT(sb_get(h->recycled)), "restarts", INT(sb_get(h->restarts)), "totals",
		counters(sb, &t), "latency", durations(&t.latency), "loop_lag",
		durations(&t.loop_lag), "pool_wait", durations(&t.pool_wait), "pool_run",
		durations(&t.pool_run), "nats", nats(sb, h, &t));
}

/* NULL also when the slot is free. */
json_t *report_process(const struct scoreboard *sb, size_t slot)
{
	const struct sb_slot *s = &sb->slots[slot];
	uint64_t now = now_us();

	if (slot >= n_slots(sb) || sb_get(s->role) == 0)
		return NULL;
	return json_pack(
		"{s:s,s:I,s:s,s:I,s:I,s:s,s:I,s:I,s:b,s:b,s:I,s:I,"
		"s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:{s:I,s:I,s:I,s:o,s:o},s:o,s:o,s:o}",
		"type", "process", "slot", INT(slot), "role", report_role_name(sb_get(s->role)),
		"index", INT(sb_get(s->index)), "pid", INT(sb_get(s->pid)), "state",
		scoreboard_state_name(sb_get(s->state)), "generation", INT(sb_get(s->generation)),
		"age_ms", INT(age_ms(sb_get(s->started_us), now)), "on_trial",
		(int)sb_get(s->on_trial), "leaving", (int)sb_get(s->leaving), "failures",
		INT(sb_get(s->failures)), "memory", INT(sb_get(s->rss)), "connections",
		INT(sb_get(s->connections)), "accepted", INT(sb_get(s->accepted)), "requests",
		INT(sb_get(s->requests)), "bytes_in", INT(sb_get(s->bytes_in)), "bytes_out",
		INT(sb_get(s->bytes_out)), "client_errors", INT(sb_get(s->client_errors)),
		"server_errors", INT(sb_get(s->server_errors)), "stepped_back",
		INT(sb_get(s->stepped_back)), "busy_us", INT(sb_get(s->busy_us)), "last_turn_ms",
		INT(age_ms(sb_get(s->tick_us), now)), "pool", "queued",
		INT(scoreboard_pool_queued(s)), "running", INT(scoreboard_pool_running(s)), "done",
		INT(sb_get(s->pool_jobs)), "wait", durations(&s->pool_wait), "run",
		durations(&s->pool_run), "latency", durations(&s->latency), "loop_lag",
		durations(&s->loop_lag), "request_line",
		child_text(s->request_line, sizeof(s->request_line)));
}

json_t *report_processes(const struct scoreboard *sb)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n_slots(sb); i++) {
		json_t *o = report_process(sb, i);

		if (o)
			json_array_append_new(list, o);
	}
	return list;
}

json_t *report_crash(const struct history_crash *c)
{
	return json_pack("{s:s,s:I,s:o,s:s,s:s*,s:I,s:I,s:I,s:i,s:i,s:b,s:b,s:I,s:I,s:I,s:I,s:I,s:"
			 "o,s:o,s:o}",
		"type", "crash", "number", INT(sb_get(c->number)), "time",
		report_when(c->realtime_us), "role", report_role_name(c->role), "farm",
		*c->farm ? c->farm : NULL, "slot", INT(c->slot), "pid", INT(c->pid), "generation",
		INT(c->generation), "signal", c->signal, "status", c->status, "core", (int)c->core,
		"hung", (int)c->hung, "age_ms", INT(c->age_us / US_PER_MS), "user_ms",
		INT(c->user_us / US_PER_MS), "system_ms", INT(c->system_us / US_PER_MS),
		"max_memory", INT(c->max_rss), "requests", INT(c->requests), "how",
		text_of(c->how, sizeof(c->how)), "request_line",
		child_text(c->request_line, sizeof(c->request_line)), "backtrace",
		text_of(c->backtrace, sizeof(c->backtrace)));
}

json_t *report_event(const struct history_event *e)
{
	static const char *const levels[] = {"error", "warning", "info", "debug"};
	json_t *o = json_pack("{s:s,s:I,s:o,s:s,s:s,s:o}", "type", "event", "number",
		INT(sb_get(e->number)), "time", report_when(e->realtime_us), "event",
		history_event_name(e->kind), "level", levels[e->level & 3], "text",
		text_of(e->text, sizeof(e->text)));

	if (o && e->slot >= 0) {
		json_object_set_new(o, "slot", json_integer(e->slot));
		json_object_set_new(o, "generation", json_integer(INT(e->generation)));
	}
	return o;
}

/* The oldest first. */
json_t *report_crashes(const struct history *h)
{
	uint64_t last = sb_get(h->n_crashes);
	uint64_t first = last > HISTORY_CRASHES ? last - HISTORY_CRASHES + 1 : 1;
	json_t *list = json_array();
	struct history_crash c;

	for (uint64_t n = first; n <= last; n++) {
		if (history_read_crash(h, n, &c))
			json_array_append_new(list, report_crash(&c));
	}
	return list;
}

/* Those with a higher number than `after`, the oldest first. */
json_t *report_events(const struct history *h, uint64_t after)
{
	uint64_t last = sb_get(h->n_events);
	uint64_t first = last > HISTORY_EVENTS ? last - HISTORY_EVENTS + 1 : 1;
	json_t *list = json_array();
	struct history_event e;

	for (uint64_t n = first > after ? first : after + 1; n <= last; n++) {
		if (history_read_event(h, n, &e))
			json_array_append_new(list, report_event(&e));
	}
	return list;
}

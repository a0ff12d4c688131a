/*
 * /status.json, /livez, /readyz.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <tine/http.h>

#include "admin/admin.h"
#include "base/clock.h"
#include "ipc/msg.h"
#include "shared/arena.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/history.h"
#include "shared/report.h"
#include "shared/scoreboard.h"

#define HEARTBEATS_MISSED 3
#define MARGIN_US         (1 * US_PER_S)
#define REASON_MAX        160

/* The memory that workers share. */
static json_t *describe_shared(const struct admin *a)
{
	struct arena_figures f;

	arena_look(a->arena, a->arena_size, &f);
	return json_pack("{s:I,s:I,s:I,s:b}", "bytes", (json_int_t)f.size, "used",
		(json_int_t)f.used, "names", (json_int_t)f.n_areas, "damaged", (int)f.damaged);
}

static void serve_status(struct tine_request *request, void *arg)
{
	const struct admin *a = arg;
	json_t *o = report_status(a->child->scoreboard, a->child->history);

	json_object_set_new(o, "processes", report_processes(a->child->scoreboard));
	json_object_set_new(o, "shared_memory", describe_shared(a));
	admin_note_look(a);
	json_object_set_new(o, "bus", report_bus(a->child->scoreboard, a->child->history));
	json_object_set_new(o, "farms", report_farms(a->child->history));
	json_object_set_new(o, "crash_list", report_crashes(a->child->history));
	admin_answer_json(request, 200, o);
}

/* Whether the primary's loop turns. */
static bool is_primary_alive(const struct admin *a, char why[REASON_MAX])
{
	const struct history *h = a->child->history;
	uint64_t now = now_us(), last = sb_get(h->heartbeat_us);
	uint64_t interval = sb_get(h->heartbeat_interval_us);

	if (now <= last + HEARTBEATS_MISSED * interval + MARGIN_US)
		return true;
	snprintf(why, REASON_MAX, "the primary has been silent for %" PRIu64 " ms\n",
		(now - last) / US_PER_MS);
	return false;
}

/* The primary's PINGs make every loop turn several times within hang_timeout, whether clients come or not. */
static bool does_turn(const struct admin *a, const struct sb_slot *s)
{
	uint64_t now = now_us(), tick = sb_get(s->tick_us);
	uint64_t limit = a->child->config->workers.hang_timeout_us / 2;

	return now < tick + limit + sb_get(a->child->history->heartbeat_interval_us);
}

/* The primary's word for it: what workers say themselves has gaps, while one generation follows another. */
static bool does_serve(const struct sb_slot *s)
{
	return sb_get(s->role) == ROLE_WORKER && sb_get(s->state) == PROC_READY &&
		!sb_get(s->on_trial) && !sb_get(s->leaving);
}

/* Whether somebody takes connections. */
static bool is_service_ready(const struct admin *a, char why[REASON_MAX])
{
	const struct scoreboard *sb = a->child->scoreboard;
	size_t n = sb_get(*sb->n_used), n_ready = 0;

	for (size_t i = 0; i < n && i < sb->n_slots; i++) {
		const struct sb_slot *s = &sb->slots[i];

		if (!does_serve(s))
			continue;
		n_ready++;
		if (does_turn(a, s))
			return true;
	}
	if (n_ready > 0)
		snprintf(why, REASON_MAX, "the loops of all %zu workers stand still\n", n_ready);
	else
		snprintf(why, REASON_MAX, "no worker is ready\n");
	return false;
}

static void answer_check(struct tine_request *request, bool good, const char *why)
{
	const char *text = good ? "ok\n" : why;

	tine_respond(request, good ? 200 : 503, "text/plain", text, strlen(text));
}

static void serve_live(struct tine_request *request, void *arg)
{
	char why[REASON_MAX];

	answer_check(request, is_primary_alive(arg, why), why);
}

static void serve_ready(struct tine_request *request, void *arg)
{
	char why[REASON_MAX];

	answer_check(request, is_service_ready(arg, why), why);
}

int status_routes(struct admin *a)
{
	int r = admin_route(a, TINE_GET, "/status.json", serve_status);

	if (r == 0)
		r = admin_route(a, TINE_GET, "/livez", serve_live);
	if (r == 0)
		r = admin_route(a, TINE_GET, "/readyz", serve_ready);
	return r;
}

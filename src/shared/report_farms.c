/*
 * The farms as JSON. Pure reading of shared memory.
 */
#include "base/clock.h"
#include "shared/history.h"
#include "shared/report.h"

#define INT(a) ((json_int_t)(a))

static json_t *describe(const struct history_farm *f, uint64_t now)
{
	uint64_t oldest = sb_get(f->oldest_us);
	json_t *o = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "type", "farm", "name",
		f->name, "processes", INT(sb_get(f->processes)), "busy", INT(sb_get(f->busy)),
		"idle", INT(sb_get(f->idle)), "starting", INT(sb_get(f->starting)), "failed",
		INT(sb_get(f->not_startable)), "queued", INT(sb_get(f->queued)), "queued_bytes",
		INT(sb_get(f->queued_bytes)), "oldest_ms",
		INT(oldest > 0 && oldest < now ? (now - oldest) / US_PER_MS : 0));

	if (!o)
		return NULL;
#define X(name, field, help) json_object_set_new(o, name, json_integer(INT(sb_get(f->field))));
	REPORT_FARM_COUNTERS(X)
#undef X
	return o;
}

static json_t *describe_quarantined(const struct history_quarantined *q)
{
	return json_pack("{s:s,s:I,s:o,s:s,s:s,s:I,s:I,s:I,s:s}", "type", "quarantined", "number",
		INT(sb_get(q->number)), "time", report_when(q->realtime_us), "farm", q->farm,
		"function", q->function, "bytes", INT(q->bytes), "tries", INT(q->tries), "pid",
		INT(q->pid), "how", q->how);
}

/* The latest tasks that were given up, the oldest of them first. */
static void add_quarantined(json_t *list, const struct history *h)
{
	uint64_t last = sb_get(h->n_quarantined);
	uint64_t first = last > HISTORY_QUARANTINE ? last - HISTORY_QUARANTINE + 1 : 1;
	struct history_quarantined q;

	for (uint64_t number = first; number <= last; number++) {
		if (history_read_quarantined(h, number, &q))
			json_array_append_new(list, describe_quarantined(&q));
	}
}

/* The next farm that there is, from the row *at on; NULL: there are no more. */
const struct history_farm *report_next_farm(const struct history *h, size_t *at)
{
	for (; *at < HISTORY_FARMS; ++*at) {
		const struct history_farm *f = &h->farms[*at];

		if (!atomic_load_explicit(&f->used, memory_order_acquire))
			return NULL;
		++*at;
		return f;
	}
	return NULL;
}

/* Records: the farms, then the latest tasks that were given up because their processes died. */
json_t *report_farms(const struct history *h)
{
	json_t *list = json_array();
	const struct history_farm *f;
	uint64_t now = now_us();
	size_t at = 0;

	while ((f = report_next_farm(h, &at)))
		json_array_append_new(list, describe(f, now));
	add_quarantined(list, h);
	return list;
}

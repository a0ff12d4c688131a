/*
 * The bus as JSON. Pure reading of shared memory.
 */
#include <string.h>

#include "ipc/msg.h"
#include "shared/history.h"
#include "shared/report.h"
#include "shared/scoreboard.h"

#define INT(a) ((json_int_t)(a))

static json_t *describe_process(const struct sb_slot *s, size_t slot)
{
	return json_pack("{s:s,s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "type", "bus_process", "slot",
		INT(slot), "role", report_role_name(sb_get(s->role)), "pid", INT(sb_get(s->pid)),
		"sent", INT(sb_get(s->bus_sent)), "received", INT(sb_get(s->bus_received)),
		"failed", INT(sb_get(s->bus_failed)), "dropped", INT(sb_get(s->bus_dropped)),
		"queued", INT(sb_get(s->bus_queued)), "subscriptions",
		INT(sb_get(s->subscriptions)));
}

static void add_processes(json_t *list, const struct scoreboard *sb)
{
	size_t n = sb_get(*sb->n_used);

	for (size_t i = 0; i < n && i < sb->n_slots; i++) {
		uint32_t role = sb_get(sb->slots[i].role);

		if ((role == ROLE_WORKER || role == ROLE_BRIDGE) && sb_get(sb->slots[i].pid) > 0)
			json_array_append_new(list, describe_process(&sb->slots[i], i));
	}
}

static void add_subjects(json_t *list, const struct history *h, size_t max)
{
	static struct history_bus bus; /* large */

	if (!history_read_bus(h, &bus))
		return;
	for (size_t i = 0; i < bus.n_rows && i < max; i++) {
		const struct history_subject *row = &bus.rows[i];

		json_array_append_new(list,
			json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I}", "type", "bus_subject", "pattern",
				row->pattern, "subscriptions", INT(row->subscriptions), "messages",
				INT(row->messages), "delivered", INT(row->delivered), "dropped",
				INT(row->dropped), "refused", INT(row->refused)));
	}
	json_array_append_new(list,
		json_pack("{s:s,s:I,s:I}", "type", "bus", "patterns", INT(bus.n_patterns), "shown",
			INT(bus.n_rows)));
}

/* Records: the processes, then the subjects with the most messages, then one of how many there are. */
json_t *report_bus(const struct scoreboard *sb, const struct history *h)
{
	json_t *list = json_array();

	add_processes(list, sb);
	add_subjects(list, h, HISTORY_SUBJECTS);
	return list;
}

/* Of the subjects those alone, at most so many. */
json_t *report_subjects(const struct history *h, size_t max)
{
	json_t *list = json_array();

	add_subjects(list, h, max < HISTORY_SUBJECTS ? max : HISTORY_SUBJECTS);
	return list;
}

/*
 * The farms, for people.
 */
#include <string.h>

#include "tinectl/show.h"

#define CELL_MAX 96

static void put_farm(const json_t *f, FILE *out)
{
	char a[CELL_MAX], b[CELL_MAX], c[CELL_MAX], d[CELL_MAX];

	show_line(out, "%s", show_text(f, "name"));
	show_line(out, "  processes  %.0f: %.0f busy, %.0f idle, %.0f starting, %.0f failed",
		show_number(f, "processes"), show_number(f, "busy"), show_number(f, "idle"),
		show_number(f, "starting"), show_number(f, "failed"));
	show_line(out, "  waiting    %s tasks, %s, the oldest for %s",
		show_count(show_number(f, "queued"), a, sizeof(a)),
		show_bytes(show_number(f, "queued_bytes"), b, sizeof(b)),
		show_age(show_number(f, "oldest_ms"), c, sizeof(c)));
	show_line(out, "  tasks      %s submitted: %s done, %s failed, %s refused",
		show_count(show_number(f, "submitted"), a, sizeof(a)),
		show_count(show_number(f, "done"), b, sizeof(b)),
		show_count(show_number(f, "failed_tasks"), c, sizeof(c)),
		show_count(show_number(f, "refused"), d, sizeof(d)));
	show_line(out, "             %s timed out, %s canceled, %s whose worker had gone",
		show_count(show_number(f, "timed_out"), a, sizeof(a)),
		show_count(show_number(f, "canceled"), b, sizeof(b)),
		show_count(show_number(f, "dropped"), c, sizeof(c)));
	show_line(out, "  crashes    %s: %s tasks tried again, %s given up",
		show_count(show_number(f, "crashed"), a, sizeof(a)),
		show_count(show_number(f, "retried"), b, sizeof(b)),
		show_count(show_number(f, "quarantined"), c, sizeof(c)));
}

static void put_quarantined(const json_t *q, FILE *out)
{
	char a[CELL_MAX];

	show_line(out, "  %s  %s: %s, an argument of %s, tried %.0f times; at last pid %.0f: %s",
		show_text(q, "time"), show_text(q, "farm"), show_text(q, "function"),
		show_bytes(show_number(q, "bytes"), a, sizeof(a)), show_number(q, "tries"),
		show_number(q, "pid"), show_text(q, "how"));
}

void show_farms(const json_t *list, FILE *out)
{
	bool headed = false;
	const json_t *o;
	size_t i;

	if (json_array_size(list) == 0)
		show_line(out, "no section [farm:NAME]");
	json_array_foreach(list, i, o)
	{
		if (strcmp(show_text(o, "type"), "farm") == 0)
			put_farm(o, out);
		if (strcmp(show_text(o, "type"), "quarantined") != 0)
			continue;
		if (!headed)
			show_line(out, "given up, for their processes died:");
		headed = true;
		put_quarantined(o, out);
	}
}

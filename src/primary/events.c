/*
 * Events. Runs in the primary.
 */
#include "primary/events.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "primary/primary.h"
#include "primary/proctab.h"

static uint64_t realtime_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* The text may quote what a child said. */
static void keep_printable(char *text)
{
	for (; *text; text++) {
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
	}
}

static void log_with_fields(enum log_level level, const char *fields, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void log_with_fields(enum log_level level, const char *fields, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vline(level, fields, fmt, ap);
	va_end(ap);
}

static void log_event(
	enum log_level level, const char *kind, const struct proc *pr, const char *text)
{
	char fields[160];

	if (level > log_max_level)
		return;
	if (!pr) {
		snprintf(fields, sizeof(fields), "TINE_EVENT=%s\n", kind);
		log_with_fields(level, fields, "%s", text);
		return;
	}
	snprintf(fields, sizeof(fields),
		"TINE_EVENT=%s\nTINE_SLOT=%u\nTINE_GENERATION=%" PRIu64 "\nTINE_PID=%d\n", kind,
		pr->slot, pr->gen->number, (int)pr->pid);
	log_with_fields(level, fields, "%s[%u]: %s", proc_role_name(pr), pr->slot, text);
}

/* pr: the child it is about, or NULL. */
void event_note(struct primary *p, enum log_level level, enum history_event_kind kind,
	const struct proc *pr, const char *fmt, ...)
{
	char text[1024];
	struct history_event *e;
	uint64_t number;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_event(level, history_event_name(kind), pr, text);
	if (!p->history)
		return;
	e = history_begin_event(p->history);
	e->realtime_us = realtime_us();
	e->kind = kind;
	e->level = level;
	e->slot = pr ? (int)pr->slot : -1;
	e->generation = pr ? pr->gen->number : 0;
	snprintf(e->text, sizeof(e->text), "%.*s", (int)sizeof(e->text) - 1, text);
	keep_printable(e->text);
	number = history_end_event(p->history, e);
	if (p->on_event)
		p->on_event(p, number);
}

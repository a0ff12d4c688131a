/*
 * What shared memory says about the daemon, as JSON: tinectl and the dashboard show the same. Any process that has the
 * scoreboard and the history mapped. What children wrote is shown and nothing else: numbers, and text made printable.
 * Every function returns a new reference (jansson), NULL when there is no memory.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct history;
struct history_crash;
struct history_event;
struct history_totals;
struct scoreboard;

json_t *report_status(const struct scoreboard *sb, const struct history *h);
json_t *report_process(const struct scoreboard *sb, size_t slot);
json_t *report_processes(const struct scoreboard *sb);
json_t *report_crash(const struct history_crash *c);
json_t *report_crashes(const struct history *h);
json_t *report_event(const struct history_event *e);
json_t *report_events(const struct history *h, uint64_t after);
void report_totals(
	const struct scoreboard *sb, const struct history *h, struct history_totals *ret);
unsigned report_workers_ready(const struct scoreboard *sb, const struct history *h);
const char *report_role_name(uint32_t role);

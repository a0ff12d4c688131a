/*
 * What shared memory says about the daemon, as JSON: tinectl and the dashboard show the same. Any process that has the
 * scoreboard and the history mapped. What children wrote is shown and nothing else: numbers, and text made printable.
 * Every function returns a new reference (jansson), NULL when there is no memory.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct history;
struct history_crash;
struct history_event;
struct history_farm;
struct history_totals;
struct scoreboard;

/* clang-format off */
/* Messages that were to go to other machines, or came from them, and went no further: why, how many, what it means. */
#define REPORT_NATS_LOSSES(X, h, t)                                                                                          \
	X("no_bridge",   (h)->nats.missed,         "Published while there was no bridge.")                                   \
	X("queue",       (h)->nats.no_room,        "The bridge's queue had no room.")                                        \
	X("bridge",      (h)->nats.perished,       "The bridge had not passed them on when it ended.")                       \
	X("malformed",   (t)->nats.unsent,         "Too many queue groups, or no memory.")                                   \
	X("away",        (t)->nats.dropped_out,    "NATS was away and nats_buffer full, or it did not take them.")           \
	X("too_large",   (t)->nats.too_large,      "Larger than the server takes (max_payload), with our header.")           \
	X("incoming",    (t)->nats.dropped_in,     "They came faster than the bus took them, and nats_buffer was full.")  \
	X("overrun",     (t)->nats.overrun,        "They came faster than the bridge took them from the library.")
/* Of each farm: name, where it is, what it says. */
#define REPORT_FARM_COUNTERS(X)                                                                                              \
	X("submitted",    submitted,   "Tasks submitted.")                                                                   \
	X("done",         done,        "Tasks that have ended well.")                                                        \
	X("failed_tasks", failed,      "Tasks that have failed, as they said themselves or for the size of their result.")  \
	X("refused",      refused,     "Tasks that were not begun, for want of room or of processes.")                      \
	X("crashed",      crashed,     "Deaths of a process in the middle of a task.")                                       \
	X("retried",      retried,     "Tasks begun again after that.")                                                      \
	X("quarantined",  quarantined, "Tasks given up after that.")                                                         \
	X("timed_out",    timed_out,   "Tasks stopped because they took too long.")                                          \
	X("canceled",     canceled,    "Tasks canceled by their worker.")                                                    \
	X("dropped",      dropped,     "Tasks whose worker had gone.")
/* clang-format on */

const struct history_farm *report_next_farm(const struct history *h, size_t *at);
json_t *report_farms(const struct history *h);
json_t *report_when(uint64_t realtime_us);
json_t *report_subjects(const struct history *h, size_t max);
json_t *report_bus(const struct scoreboard *sb, const struct history *h);
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
bool report_nats_connected(const struct scoreboard *sb);
const char *report_role_name(uint32_t role);

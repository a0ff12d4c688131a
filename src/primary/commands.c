/*
 * What each command does. Runs in the primary, on its loop; nothing here waits.
 */
#include "primary/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/url.h"
#include "ipc/lane.h"
#include "primary/bus_commands.h"
#include "primary/events.h"
#include "primary/farm_pool.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/reload.h"
#include "primary/replace.h"
#include "primary/scale.h"
#include "primary/upgrade.h"
#include "shared/report.h"

/* --- answers --- */

void command_answer_ok(struct command_request *r, const char *text)
{
	r->reply(r, json_pack("{s:b,s:s}", "ok", 1, "text", text), true);
}

void command_answer_error(struct command_request *r, const char *code, const char *text)
{
	r->reply(r, json_pack("{s:b,s:s,s:s}", "ok", 0, "code", code, "error", text), true);
}

void command_answer_list(struct command_request *r, json_t *list)
{
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o) r->reply(r, json_incref(o), false);
	json_decref(list);
	command_answer_ok(r, "");
}

static void on_done(struct waiter *w, bool ok, const char *text)
{
	struct command_request *r =
		(struct command_request *)((char *)w - offsetof(struct command_request, waiter));

	if (ok)
		command_answer_ok(r, text);
	else
		command_answer_error(r, "failed", text);
}

/* What a function that takes a waiter returned: if it did not begin, nobody will tell. */
static void answer_later(struct command_request *r, int result, const char *error)
{
	if (result < 0)
		command_answer_error(r,
			result == -EBUSY            ? "busy"
				: result == -EINVAL ? "usage"
						    : "failed",
			error);
}

/* --- what can be asked --- */

static void do_status(struct command_request *r, const char *argument)
{
	r->reply(r, report_status(&r->primary->scoreboard, r->primary->history), false);
	command_answer_ok(r, "");
}

static void do_workers(struct command_request *r, const char *argument)
{
	command_answer_list(r, report_processes(&r->primary->scoreboard));
}

static void do_crashes(struct command_request *r, const char *argument)
{
	command_answer_list(r, report_crashes(r->primary->history));
}

static void do_farms(struct command_request *r, const char *argument)
{
	farm_pool_refresh(r->primary);
	command_answer_list(r, report_farms(r->primary->history));
}

/* Says so if not. */
bool command_may_follow(struct command_request *r)
{
	if (r->may_follow && r->may_follow(r))
		return true;
	command_answer_error(r, "busy", "too many who follow at a time");
	return false;
}

static void do_events(struct command_request *r, const char *argument)
{
	json_t *list, *o;
	size_t i;

	if (strcmp(argument, "--follow") != 0) {
		command_answer_list(r, report_events(r->primary->history, 0));
		return;
	}
	if (!command_may_follow(r))
		return;
	list = report_events(r->primary->history, 0);
	json_array_foreach(list, i, o) r->reply(r, json_incref(o), false);
	json_decref(list);
	r->follows = true;
}

/* In effect, without passwords: what this prints is passed on to others. */
static int print_config(const struct config *config, FILE *out)
{
	struct config shown = *config;
	CLEANUP(freep) char *nats = shown.bus.nats ? strdup(shown.bus.nats) : NULL;

	if (shown.bus.nats && !nats)
		return -ENOMEM;
	if (nats)
		url_cut_users(nats);
	shown.bus.nats = nats;
	return config_print(&shown, out);
}

static void do_config(struct command_request *r, const char *argument)
{
	CLEANUP(freep) char *text = NULL;
	size_t size = 0;
	FILE *f;

	if (!r->primary->current) {
		command_answer_error(r, "busy", "nothing serves yet");
		return;
	}
	f = open_memstream(&text, &size);
	if (!f || print_config(r->primary->current->config, f) < 0 || fclose(f) != 0) {
		command_answer_error(r, "failed", "out of memory");
		return;
	}
	r->reply(r, json_pack("{s:s,s:s}", "type", "config", "text", text), false);
	command_answer_ok(r, "");
}

/* --- what can be done --- */

static void do_reload(struct command_request *r, const char *argument)
{
	rollout_reload(r->primary, &r->waiter);
}

/* Returns false, having answered, when it is no number of a slot. */
static bool read_slot(struct command_request *r, const char *argument, unsigned *ret)
{
	uint64_t n;
	char text[160];

	if (parse_u64(argument, &n) == 0 && n < r->primary->n_slots) {
		*ret = (unsigned)n;
		return true;
	}
	snprintf(
		text, sizeof(text), "\"%s\" is no slot; \"workers\" shows their numbers", argument);
	command_answer_error(r, "usage", text);
	return false;
}

static void do_restart(struct command_request *r, const char *argument)
{
	char error[256];
	unsigned slot = 0;
	bool all = strcmp(argument, "all") == 0;

	if (all || read_slot(r, argument, &slot))
		answer_later(r,
			replace_restart(
				r->primary, all ? -1 : (int)slot, &r->waiter, error, sizeof(error)),
			error);
}

static void do_drain(struct command_request *r, const char *argument)
{
	char error[256];
	unsigned slot;

	if (read_slot(r, argument, &slot))
		answer_later(r, replace_drain(r->primary, slot, &r->waiter, error, sizeof(error)),
			error);
}

static void do_scale(struct command_request *r, const char *argument)
{
	bool relative = *argument == '+' || *argument == '-';
	char error[256];
	uint64_t n;

	if (parse_u64(argument + relative, &n) < 0 || n > SCALE_MAX) {
		snprintf(error, sizeof(error),
			"\"%s\" is no number of workers; write N, +N or -N, from 1 to %d", argument,
			SCALE_MAX);
		command_answer_error(r, "usage", error);
		return;
	}
	answer_later(r,
		relative ? scale_by(r->primary, *argument == '-' ? -(int)n : (int)n, &r->waiter,
				   error, sizeof(error))
			 : scale_to(r->primary, (unsigned)n, &r->waiter, error, sizeof(error)),
		error);
}

static void do_upgrade(struct command_request *r, const char *argument)
{
	char error[512];

	answer_later(r, upgrade_begin(r->primary, &r->waiter, error, sizeof(error)), error);
}

static void do_stop(struct command_request *r, const char *argument)
{
	command_answer_ok(r, "stopping");
	primary_stop(r->primary, EXIT_SUCCESS);
}

static void do_log_level(struct command_request *r, const char *argument)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	char text[128];

	for (uint32_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const struct msg_log_level m = {.level = i};

		if (strcmp(argument, names[i]) != 0)
			continue;
		log_set_level((enum log_level)i);
		proctab_foreach (r->primary, pr) {
			if (pr->control)
				lane_send(pr->control, MSG_LOG_LEVEL, 0, &m, sizeof(m));
		}
		snprintf(text, sizeof(text), "logging %s and what is more important", names[i]);
		command_answer_ok(r, text);
		return;
	}
	snprintf(text, sizeof(text), "\"%.40s\" is no level; write error, warning, info or debug",
		argument);
	command_answer_error(r, "usage", text);
}

static const struct {
	const char *name;
	void (*run)(struct command_request *r, const char *argument);
} handlers[] = {
	{"status", do_status},
	{"workers", do_workers},
	{"crashes", do_crashes},
	{"events", do_events},
	{"config", do_config},
	{"reload", do_reload},
	{"restart", do_restart},
	{"drain", do_drain},
	{"scale", do_scale},
	{"upgrade", do_upgrade},
	{"bus", bus_do_show},
	{"farms", do_farms},
	{"pub", bus_do_publish},
	{"sub", bus_do_follow},
	{"stop", do_stop},
	{"log-level", do_log_level},
};

/* --- from the line to its handler --- */

static bool is_permitted(const struct command_request *r, const struct command_info *c)
{
	return r->permission == COMMAND_MAY_ACT ||
		(c->right == COMMAND_READ && r->permission == COMMAND_MAY_READ);
}

/* Runs a line, without its newline; splits it in place. The answer may come now or later, through r->reply. */
void command_run(struct command_request *r, char *line)
{
	const struct command_info *c;
	const char *argument;
	char error[256];

	r->waiter.done = on_done;
	if (command_parse(line, &c, &argument, error, sizeof(error)) < 0) {
		command_answer_error(r, "usage", error);
		return;
	}
	if (!is_permitted(r, c)) {
		snprintf(error, sizeof(error),
			"%s may not; root, the daemon's own user and members of control_group may",
			r->who);
		command_answer_error(r, "denied", error);
		return;
	}
	if (c->right == COMMAND_ACT)
		event_note(r->primary, LOG_LVL_INFO, EVENT_COMMAND, NULL, "%s: %s%s%s", r->who,
			c->name, *argument ? " " : "", argument);
	for (size_t i = 0; i < sizeof(handlers) / sizeof(*handlers); i++) {
		if (strcmp(handlers[i].name, c->name) == 0)
			handlers[i].run(r, argument);
	}
}

/* Whoever asked is gone; what was begun goes on. */
void command_cancel(struct command_request *r)
{
	waiter_cancel(&r->waiter);
	r->follows = false;
	r->bus = bus_follower_free(r->bus);
}

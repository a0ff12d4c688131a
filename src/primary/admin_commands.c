/*
 * Commands of the dashboard. The admin process has checked the token; that there is one, and what may be asked, is checked
 * here: a process that serves HTTP is not trusted with more.
 */
#include "primary/admin_commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/fd.h"
#include "ipc/lane.h"
#include "primary/commands.h"
#include "primary/primary.h"
#include "primary/proctab.h"

#define UNDER_WAY_MAX 8

struct admin_command {
	LIST_ENTRY(admin_command) link;
	struct command_request request;
	struct proc *proc; /* whose lane the answer goes to */
	uint64_t id;
};

static LIST_HEAD(, admin_command) under_way = LIST_HEAD_INITIALIZER(under_way);

static void answer(struct proc *pr, uint64_t id, const json_t *object)
{
	static const char too_long[] = "{\"ok\":false,\"code\":\"failed\",\"error\":\"the answer "
				       "is too long; ask tinectl\"}";
	CLEANUP(freep) char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
	size_t len = text ? strlen(text) : 0;
	bool fits = text && len <= MSG_REPLY_MAX;

	lane_send(pr->control, MSG_REPLY, id, fits ? text : too_long,
		fits ? len : sizeof(too_long) - 1);
}

/* Only the last object counts: these commands have no records. */
static void reply(struct command_request *r, json_t *object, bool last)
{
	struct admin_command *c =
		(struct admin_command *)((char *)r - offsetof(struct admin_command, request));

	if (last) {
		answer(c->proc, c->id, object);
		LIST_REMOVE(c, link);
		free(c);
	}
	json_decref(object);
}

static bool is_permitted(const struct proc *pr, const char *line)
{
	static const char *const permitted[] = {"reload", "restart ", "drain ", "scale "};
	const char *file = pr->gen->config->admin.token_file;

	for (size_t i = 0; i < sizeof(permitted) / sizeof(*permitted); i++) {
		if (strncmp(line, permitted[i], strlen(permitted[i])) == 0)
			return file && *file;
	}
	return false;
}

static unsigned n_under_way(void)
{
	const struct admin_command *c;
	unsigned n = 0;

	LIST_FOREACH (c, &under_way, link)
		n++;
	return n;
}

static void refuse(struct proc *pr, uint64_t id, const char *code, const char *error)
{
	json_t *o = json_pack("{s:b,s:s,s:s}", "ok", 0, "code", code, "error", error);

	answer(pr, id, o);
	json_decref(o);
}

void admin_command_run(struct proc *pr, const struct frame *f, const void *payload)
{
	char line[MSG_COMMAND_MAX + 1];
	struct admin_command *c;

	memcpy(line, payload, f->length);
	line[f->length] = '\0';
	if (!is_permitted(pr, line)) {
		refuse(pr, f->id, "denied", "the dashboard may not do that");
		return;
	}
	c = n_under_way() < UNDER_WAY_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		refuse(pr, f->id, "busy", "too much is under way; try again later");
		return;
	}
	c->proc = pr;
	c->id = f->id;
	c->request = (struct command_request){.primary = pr->primary,
		.permission = COMMAND_MAY_ACT,
		.who = "dashboard",
		.reply = reply};
	LIST_INSERT_HEAD(&under_way, c, link);
	command_run(&c->request, line);
}

/* The admin process is gone; what it had begun goes on. */
void admin_commands_cancel(const struct proc *pr)
{
	struct admin_command *c, *next;

	for (c = LIST_FIRST(&under_way); c; c = next) {
		next = LIST_NEXT(c, link);
		if (c->proc != pr)
			continue;
		command_cancel(&c->request);
		LIST_REMOVE(c, link);
		free(c);
	}
}

/*
 * Commands to the daemon, from the control socket or passed on by the admin process: one line in, objects of JSON out
 * (ipc/commands.h). Runs in the primary.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "ipc/commands.h"
#include "primary/waiters.h"

struct bus_follower;
struct primary;

enum command_permission { COMMAND_MAY_NOTHING, COMMAND_MAY_READ, COMMAND_MAY_ACT };

/* One command under way; embedded in whoever gave it. */
struct command_request {
	struct primary *primary;
	struct waiter waiter; /* of what takes a while */
	enum command_permission permission;
	const char *who;          /* for the log: "uid 0, pid 42" */
	bool follows;             /* it gets every event as it happens */
	struct bus_follower *bus; /* it gets what is published; NULL: it does not */

	/* One object; takes the reference. last: nothing comes after it. Called once or more, also from within command_run(). */
	void (*reply)(struct command_request *r, json_t *object, bool last);
	/* Whether what is left unread is little enough for more. NULL: there are no records. */
	bool (*has_room)(const struct command_request *r);
	/* Whether one more may stay for what happens, instead of an answer. NULL: nobody may. */
	bool (*may_follow)(const struct command_request *r);
};

void command_answer_ok(struct command_request *r, const char *text);
void command_answer_error(struct command_request *r, const char *code, const char *text);
void command_answer_list(struct command_request *r, json_t *list);
bool command_may_follow(struct command_request *r);

void command_run(struct command_request *r, char *line);
void command_cancel(struct command_request *r);

/*
 * The commands of the control socket, declared once: the primary's dispatcher, tinectl, its manual page and its completion
 * come from this table.
 *
 * The protocol, on a stream socket of the Unix family: the client sends one line, a command's name and its arguments
 * with one blank between them, "restart 3\n", COMMAND_MAX bytes at most. It is answered by lines of JSON, each an object:
 * any number of records, and at last {"ok": true, "text": "..."} or {"ok": false, "error": "...", "code": "..."}, after which
 * the primary closes. A command that takes a while (reload) is answered when it is over. `code`
 * says of which kind the error is: usage, denied, busy, failed, gone; tinectl's exit status follows from it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define COMMAND_MAX 8192 /* bytes of a request, its newline included */

enum command_right { COMMAND_READ, COMMAND_ACT };

/* clang-format off */
/*   name        arguments    right         what it does */
#define COMMAND_TABLE(X)                                                                                    \
	X(status,    "",          COMMAND_READ, "Shows how the daemon is, in a few lines.")                 \
	X(workers,   "",          COMMAND_READ, "Shows a line for each process.")                           \
	X(crashes,   "",          COMMAND_READ, "Shows the last 64 crashes, with what is known of each.")   \
	X(events,    "[--follow]", COMMAND_READ, "Shows what happened lately; --follow goes on with what happens.") \
	X(config,    "",          COMMAND_ACT,  "Shows the configuration in force, defaults included.")     \
	X(reload,    "",          COMMAND_ACT,  "Brings up a new generation; returns with its verdict.")    \
	X(restart,   "SLOT|all",  COMMAND_ACT,  "Replaces a worker, or all, one after the other; the replacement is ready first.") \
	X(drain,     "SLOT",      COMMAND_ACT,  "Takes a worker out of service; it is not replaced.")       \
	X(scale,     "N|+N|-N",   COMMAND_ACT,  "Sets how many workers there are.")                         \
	X(upgrade,   "",          COMMAND_ACT,  "Replaces the running binary by the one on the disk; returns with the verdict.") \
	X(bus,       "",          COMMAND_READ, "Shows the messages between processes: how many, what was dropped, what waits, by process and by subject.") \
	X(farms,     "",          COMMAND_READ, "Shows the farms: processes, what waits, what became of tasks, and the last 32 tasks that were given up.") \
	X(pub,       "SUBJECT DATA", COMMAND_ACT, "Publishes a message on the bus.")                       \
	X(sub,       "PATTERN",   COMMAND_ACT,  "Follows what is published, until it is interrupted.")      \
	X(stop,      "",          COMMAND_ACT,  "Stops the daemon gracefully; returns when it is gone.")    \
	X(log-level, "LEVEL",     COMMAND_ACT,  "Sets the least important lines logged: error, warning, info, debug; until the next reload.")
/* clang-format on */

struct command_info {
	const char *name, *arguments;
	enum command_right right;
	const char *doc; /* one sentence */
};

/* In the order of the table; the last one has no name. */
extern const struct command_info command_table[];

const struct command_info *command_find(const char *name);
int command_parse(char *line, const struct command_info **ret_command, const char **ret_arguments,
	char *error, size_t size);

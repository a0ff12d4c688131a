/*
 * The command table at run time.
 */
#include "ipc/commands.h"

#include <string.h>

const struct command_info command_table[] = {
#define X(name, arguments, right, doc) {#name, arguments, right, doc},
	COMMAND_TABLE(X)
#undef X
		{NULL, NULL, COMMAND_READ, NULL},
};

/* NULL: there is none of that name. */
const struct command_info *command_find(const char *name)
{
	for (const struct command_info *c = command_table; c->name; c++) {
		if (strcmp(c->name, name) == 0)
			return c;
	}
	return NULL;
}

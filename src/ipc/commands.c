/*
 * The command table at run time, and the parser of a command. Pure functions, any process, any thread.
 */
#include "ipc/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/suggest.h"

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

static bool is_printable(const char *line)
{
	for (; *line; line++) {
		if (*line < 0x20 || *line > 0x7e)
			return false;
	}
	return true;
}

static bool arguments_fit(const struct command_info *c, const char *arguments)
{
	if (*c->arguments == '\0')
		return *arguments == '\0';
	if (*c->arguments == '[') /* one word that may be left out */
		return *arguments == '\0' ||
			(strncmp(arguments, c->arguments + 1, strlen(arguments)) == 0 &&
				strcmp(c->arguments + 1 + strlen(arguments), "]") == 0);
	if (strchr(c->arguments, ' ')) /* a word, and the rest of the line */
		return *arguments != ' ' && strchr(arguments, ' ');
	return *arguments != '\0' && !strchr(arguments, ' ');
}

static int refuse_unknown(const char *name, char *error, size_t size)
{
	const char *names[sizeof(command_table) / sizeof(*command_table)], *near;
	size_t n = 0;

	for (const struct command_info *c = command_table; c->name; c++)
		names[n++] = c->name;
	near = suggest_word(name, names, n);
	snprintf(error, size, "\"%.64s\" is no command%s%s%s", name, near ? "; did you mean " : "",
		near ? near : "", near ? "?" : "");
	return -EINVAL;
}

/*
 * Reads a line without its newline, and splits it in place. Returns 0, with the command and its arguments ("" when there
 * are none), which lie in the line; or -EINVAL and what is wrong with it.
 */
int command_parse(char *line, const struct command_info **ret_command, const char **ret_arguments,
	char *error, size_t size)
{
	char *blank = strchr(line, ' ');
	const struct command_info *c;

	if (!is_printable(line)) {
		snprintf(error, size, "a command is one line of printable ASCII");
		return -EINVAL;
	}
	if (blank)
		*blank = '\0';
	c = command_find(line);
	if (!c)
		return refuse_unknown(line, error, size);
	*ret_command = c;
	*ret_arguments = blank ? blank + 1 : "";
	if (arguments_fit(c, *ret_arguments))
		return 0;
	snprintf(error, size, "write \"%s%s%s\"", c->name, *c->arguments ? " " : "", c->arguments);
	return -EINVAL;
}

/*
 * Fuzz target: any line as a command of the control socket. What is taken is in the table, and lies in the line, printable and with
 * as many words as the command takes; what is not taken leaves an error in words.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/commands.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_taken(
	const struct command_info *c, const char *arguments, const char *line, size_t size)
{
	bool inside = arguments > line && arguments <= line + size;

	require(command_find(c->name) == c && strcmp(line, c->name) == 0);
	require(inside || *arguments == '\0');
	require(*c->arguments != '\0' || *arguments == '\0');
	require(strchr(c->arguments, ' ') || !strchr(arguments, ' '));
	require(strlen(line) + strlen(arguments) <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct command_info *command = NULL;
	const char *arguments = NULL;
	char error[256] = "", *line;

	if (size >= COMMAND_MAX || memchr(data, '\0', size))
		return 0; /* control.c lets neither through */
	line = malloc(size + 1);
	if (!line)
		return 0;
	if (size > 0)
		memcpy(line, data, size);
	line[size] = '\0';
	if (command_parse(line, &command, &arguments, error, sizeof(error)) == 0)
		check_taken(command, arguments, line, size);
	else
		require(*error != '\0' && strlen(error) < sizeof(error));
	free(line);
	return 0;
}

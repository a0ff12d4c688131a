/*
 * What a child could not be started for, in words: execve(2) says no more than "no such file" of a program, of the interpreter of
 * a script, and chdir(2) of a directory. On the loop's thread.
 */
#include "runtime/subprocess_error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

/* The interpreter that a script names in its first line; "" when it is no script. */
static void read_interpreter(int dir, const char *path, char *ret, size_t size)
{
	CLEANUP(closep) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char line[256] = "";
	const char *at;

	*ret = '\0';
	if (fd < 0 || read(fd, line, sizeof(line) - 1) < 2 || strncmp(line, "#!", 2) != 0)
		return;
	at = line + 2 + strspn(line + 2, " \t");
	snprintf(ret, size, "%.*s ", (int)strcspn(at, " \t\n"), at);
}

/* The file is there, so it is its interpreter, or its dynamic loader, that is not. Returns whether there is such a file. */
static bool explain_interpreter(const struct launch *l, char *ret, size_t size)
{
	CLEANUP(closep)
	int dir = l->directory ? open(l->directory, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	int at = l->directory ? dir : AT_FDCWD;
	char interpreter[100];

	for (char **path = l->paths; *path; path++) {
		if (faccessat(at, *path, F_OK, 0) < 0)
			continue;
		read_interpreter(at, *path, interpreter, sizeof(interpreter));
		snprintf(ret, size, "interpreter %sof %.100s", interpreter, *path);
		return true;
	}
	return false;
}

static void explain_program(
	const struct launch *l, const char *program, int error, char *ret, size_t size)
{
	if (error != -ENOENT || !explain_interpreter(l, ret, size))
		snprintf(ret, size, "program %.200s", program);
}

static void explain_stream(const struct launch *l, char *ret, size_t size)
{
	int i = 0;

	while (i < l->n_fds - 1 && fcntl(l->fds[i], F_GETFD) >= 0)
		i++;
	snprintf(ret, size, "stream %d, descriptor %d", i, l->fds[i]);
}

static void explain_user(const struct launch *l, char *ret, size_t size)
{
	int n = snprintf(ret, size, "user");

	if (l->uid)
		n += snprintf(ret + n, size - (size_t)n, " %u", *l->uid);
	if (l->gid)
		snprintf(ret + n, size - (size_t)n, "%s group %u", l->uid ? "," : "", *l->gid);
}

/* What step failed at, and the reason. program: as it was asked for. */
void launch_explain(const struct launch *l, const char *program, enum launch_step step, int error,
	char *ret, size_t size)
{
	char what[256] = "process";

	if (step == LAUNCH_STREAMS && error == -EBADF)
		explain_stream(l, what, sizeof(what));
	else if (step == LAUNCH_STREAMS)
		snprintf(what, sizeof(what), "stream");
	else if (step == LAUNCH_USER)
		explain_user(l, what, sizeof(what));
	else if (step == LAUNCH_DIRECTORY)
		snprintf(what, sizeof(what), "directory %.200s", l->directory);
	else if (step == LAUNCH_PROGRAM)
		explain_program(l, program, error, what, sizeof(what));
	snprintf(ret, size, "%.250s: %s", what, strerror(-error));
}

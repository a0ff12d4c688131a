/*
 * Which files may be meant by a program's name, and the environment it gets: what a child cannot find out by itself, for it
 * may allocate nothing. On the loop's thread.
 */
#include "runtime/subprocess_program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

static const char *variable(char *const *environment, const char *name)
{
	size_t len = strlen(name);

	for (; *environment; environment++) {
		if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=')
			return *environment + len + 1;
	}
	return NULL;
}

static size_t count_parts(const char *path)
{
	size_t n = 1;

	for (; *path; path++)
		n += *path == ':';
	return n;
}

/* PART/NAME; an empty part is the present folder. Returns where it ends. */
static char *join(char *to, const char *part, size_t part_len, const char *name)
{
	to = mempcpy(to, part, part_len);
	if (part_len > 0)
		*to++ = '/';
	return stpcpy(to, name) + 1;
}

/*
 * The files to be tried in turn for a program: itself, if there is a slash in its name, else one for each part of PATH. One block of memory
 * for the caller to free, which ends with NULL. Returns 0 or -ENOMEM.
 */
int program_find(const char *name, char *const *environment, char ***ret_paths)
{
	const char *path = variable(environment, "PATH");
	bool as_it_is = strchr(name, '/') != NULL;
	size_t n, bytes;
	char **paths, *text;

	if (as_it_is || !path)
		path = as_it_is ? "" : DEFAULT_PATH;
	n = count_parts(path);
	bytes = strlen(path) + n * (strlen(name) + 2);
	paths = malloc((n + 1) * sizeof(*paths) + bytes);
	if (!paths)
		return -ENOMEM;
	text = (char *)(paths + n + 1);
	for (size_t i = 0; i < n; i++) {
		size_t len = strcspn(path, ":");

		paths[i] = text;
		text = join(text, path, len, name);
		path += len + 1;
	}
	paths[n] = NULL;
	*ret_paths = paths;
	return 0;
}

/*
 * An environment with one variable more, "NAME=value", in the place of any "NAME=" there is. NULL: our own. A new array of the same
 * strings, for the caller to free. Returns 0 or -ENOMEM.
 */
int program_environment(
	const char *const *given, const char *add, const char *instead_of, char ***ret)
{
	const char *const *from = given ? given : (const char *const *)environ;
	size_t n = 0, kept = 0;
	char **to;

	while (from[n])
		n++;
	to = malloc((n + 2) * sizeof(*to));
	if (!to)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (strncmp(from[i], instead_of, strlen(instead_of)) != 0)
			to[kept++] = (char *)from[i];
	}
	to[kept++] = (char *)add;
	to[kept] = NULL;
	*ret = to;
	return 0;
}

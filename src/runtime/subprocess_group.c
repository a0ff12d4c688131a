/* Who is left of a process group. The kernel counts the dead that nobody has reaped as members; /proc says who lives. */
#include "runtime/subprocess_group.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

/* "NUMBER (NAME) STATE ...", and a name may hold anything. */
static bool is_alive(pid_t pid)
{
	char path[64], text[512];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_text(path, text, sizeof(text)) < 0)
		return false;
	at = strrchr(text, ')');
	return at && strncmp(at, ") Z", 3) != 0 && strncmp(at, ") X", 3) != 0;
}

/* Returns whether anybody in it is alive; true when that cannot be known. Looks at every process there is. */
bool group_is_alive(pid_t group)
{
	DIR *dir = opendir("/proc");
	bool alive = !dir;
	struct dirent *d;

	while (!alive && (d = readdir(dir))) {
		pid_t pid = atoi(d->d_name);

		alive = pid > 0 && getpgid(pid) == group && is_alive(pid);
	}
	if (dir)
		closedir(dir);
	return alive;
}

/*
 * CPUs: the affinity mask bounds them, and so does the quota of every cgroup v2 above us
 * (cgroup-v2.rst, "cpu.max"); the smallest wins.
 */
#include "base/cpu.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* CPUs one cpu.max file grants, rounded up; UINT_MAX when it sets no limit or is not there. */
static unsigned quota_of(const char *cgroup_root, const char *path)
{
	char file[PATH_MAX], text[64];
	unsigned long long quota, period;

	if (snprintf(file, sizeof(file), "%s%s/cpu.max", cgroup_root, path) >= (int)sizeof(file))
		return UINT_MAX;
	if (fd_read_text(file, text, sizeof(text)) < 0)
		return UINT_MAX;
	if (sscanf(text, "%llu %llu", &quota, &period) != 2 || period == 0)
		return UINT_MAX; /* "max 100000" */
	quota = (quota + period - 1) / period;
	return quota > UINT_MAX ? UINT_MAX : (unsigned)quota;
}

/*
 * The smallest quota of the cgroup at path ("/a/b") and all above it, in CPUs; UINT_MAX: none.
 * cgroup_root: where cgroup v2 is mounted.
 */
unsigned cpu_from_quota(const char *cgroup_root, const char *path)
{
	char p[PATH_MAX];
	unsigned least = UINT_MAX;
	char *slash;

	if (snprintf(p, sizeof(p), "%s", strcmp(path, "/") ? path : "") >= (int)sizeof(p))
		return UINT_MAX;
	for (;;) {
		unsigned q = quota_of(cgroup_root, p);

		if (q < least)
			least = q;
		slash = strrchr(p, '/');
		if (!slash)
			return least;
		*slash = '\0';
	}
}

/* Our place in the unified hierarchy: the line "0::/path" of /proc/self/cgroup (cgroups(7)). */
static bool own_cgroup(char *ret, size_t size)
{
	char text[8192];
	char *line, *save = NULL;

	if (fd_read_text("/proc/self/cgroup", text, sizeof(text)) < 0)
		return false;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, "0::/", 4) == 0)
			return snprintf(ret, size, "%s", line + 3) < (int)size;
	}
	return false;
}

static int affinity(cpu_set_t *set)
{
	CPU_ZERO(set);
	return sched_getaffinity(0, sizeof(*set), set) < 0 ? -errno : 0;
}

/* At least 1. */
unsigned cpu_available(void)
{
	char path[PATH_MAX];
	cpu_set_t set;
	unsigned n, quota;

	if (affinity(&set) == 0)
		n = (unsigned)CPU_COUNT(&set);
	else
		n = (unsigned)sysconf(_SC_NPROCESSORS_ONLN); /* more than 1024 CPUs */
	if (own_cgroup(path, sizeof(path))) {
		quota = cpu_from_quota(CGROUP_ROOT, path);
		if (quota < n)
			n = quota;
	}
	return n > 0 ? n : 1;
}

/* Binds the calling process to the index-th CPU of its mask, counted round. Returns 0 or -errno. */
int cpu_pin(unsigned index)
{
	cpu_set_t set, one;
	int r = affinity(&set);

	if (r < 0)
		return r;
	index %= (unsigned)CPU_COUNT(&set);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &set) || index-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		return sched_setaffinity(0, sizeof(one), &one) < 0 ? -errno : 0;
	}
	return -ENOENT;
}

#include "base/beside.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The path of a file of ours: beside the binary, where a build leaves it, else where it was installed. Returns 0 or -errno. */
int beside_path(const char *file, char *ret, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", ret, size);
	char *slash = n > 0 ? memrchr(ret, '/', (size_t)n) : NULL;
	size_t folder = slash ? (size_t)(slash + 1 - ret) : 0;

	if (slash && (size_t)snprintf(slash + 1, size - folder, "%s", file) < size - folder &&
		access(ret, R_OK) == 0)
		return 0;
	if ((size_t)snprintf(ret, size, "%s/%s", TINED_LIBDIR, file) >= size)
		return -ENAMETOOLONG;
	return access(ret, R_OK) < 0 ? -errno : 0;
}

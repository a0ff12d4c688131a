/* Structures of modules that were built against another version of the headers. Any process, any thread. */
#include "base/sized.h"

#include <errno.h>
#include <stdbool.h>

static bool is_zero(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] != 0)
			return false;
	}
	return true;
}

/* See SIZED_TAKE(). size: of ours; first: of the first version. */
int sized_fit(void *ret, size_t size, size_t first, const void *given)
{
	size_t n;

	if (!given)
		return -EINVAL;
	memcpy(&n, given, sizeof(n));
	if (n < first || n > SIZED_MAX)
		return -EINVAL;
	if (n > size && !is_zero((const char *)given + size, n - size))
		return -ENOTSUP;
	memset(ret, 0, size);
	memcpy(ret, given, n < size ? n : size);
	return 0;
}

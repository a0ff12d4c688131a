/*
 * Structures that modules hand in. They begin with `size`, what sizeof said when the module was built, and grow at their end; here
 * they become today's. tine/module.h says what modules may rely on.
 */
#pragma once

#include <stddef.h>
#include <string.h>

#define SIZED_MAX 4096 /* no size is larger, but garbage is */

/* Bytes of a structure whose last field this one is. */
#define SIZED_TO(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))

int sized_fit(void *ret, size_t size, size_t first, const void *given);

static inline int sized_copy(void *ret, size_t size, size_t first, const void *given)
{
	size_t n = 0;

	if (given)
		memcpy(&n, given, sizeof(n));
	if (n != size)
		return sized_fit(ret, size, first, given);
	memcpy(ret, given, size);
	return 0;
}

/*
 * Takes what `given` points to into *ret, of the same type. last: the last field of the type's first version, which stays the same
 * when it grows. Returns 0; -EINVAL for NULL or a size that never was; -ENOTSUP when a field is set that we do not know.
 */
#define SIZED_TAKE(ret, given, last) \
	sized_copy((ret), sizeof(*(ret)), SIZED_TO(__typeof__(*(ret)), last), 1 ? (given) : (ret))

/*
 * The mark that bridges write on what they publish, a header of NATS: "MACHINE ERROR GROUP GROUP...". The machine's number, in
 * hexadecimal, so that it does not take back what came from it by another connection; the error of an answer that says why
 * there is none, 0 otherwise; the queue groups that have had the message there already. Pure functions.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/bridge.h"

/* Whether a group's name may stand in a mark, and in what is said to NATS. */
bool mark_may_name(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (name[i] <= ' ' || name[i] > '~')
			return false;
	}
	return len > 0;
}

/* groups: each ends with a NUL, `len` bytes in all. Returns 0, or -EMSGSIZE: too many groups. */
int mark_write(char ret[MARK_MAX], uint64_t machine, int error, const char *groups, size_t len)
{
	size_t used = (size_t)snprintf(ret, MARK_MAX, "%016" PRIx64 " %d", machine, error);

	for (size_t at = 0, n; at < len; at += n + 1) {
		n = strnlen(groups + at, len - at);
		if (!mark_may_name(groups + at, n))
			continue; /* it is known to this machine alone */
		if (used + n + 2 > MARK_MAX)
			return -EMSGSIZE;
		ret[used++] = ' ';
		memcpy(ret + used, groups + at, n);
		used += n;
		ret[used] = '\0';
	}
	return 0;
}

bool mark_is_of(const char *mark, uint64_t machine)
{
	char *end;
	uint64_t n = mark ? strtoull(mark, &end, 16) : 0;

	return mark && end != mark && *end == ' ' && n == machine;
}

int mark_error(const char *mark)
{
	const char *blank = mark ? strchr(mark, ' ') : NULL;
	long n = blank ? strtol(blank, NULL, 10) : 0;

	return n < 0 && n > -4096 ? (int)n : 0;
}

bool mark_has_group(const char *mark, const char *group)
{
	size_t len = strlen(group);
	const char *at = mark ? strchr(mark, ' ') : NULL;

	at = at ? strchr(at + 1, ' ') : NULL; /* behind the error */
	while (at) {
		const char *name = at + 1;

		at = strchr(name, ' ');
		if ((at ? (size_t)(at - name) : strlen(name)) == len &&
			memcmp(name, group, len) == 0)
			return true;
	}
	return false;
}

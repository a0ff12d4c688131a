/*
 * The process title: the memory that held the arguments, which ps(1) reads, written anew. Only as long as they
 * were, for what follows them is the environment and in use. Main thread.
 */
#include "base/title.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char *area;
static size_t area_size;

/* argv as main() got it; what it points to is not to be read once a title is set. */
void title_init(int argc, char **argv)
{
	if (argc < 1)
		return;
	area = argv[0];
	area_size = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0]);
}

void title_set(const char *fmt, ...)
{
	va_list ap;
	int n;

	if (!area)
		return;
	va_start(ap, fmt);
	n = vsnprintf(area, area_size, fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < area_size)
		memset(area + n, 0, area_size - (size_t)n);
}

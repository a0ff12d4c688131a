/* How a worker divides the descriptors it may have: the worker does so, the primary warns when it is tight. */
#pragma once

#define LIMITS_SPARE_FDS 64 /* lanes, listeners, log, loop, modules' own */
#define LIMITS_FILES_MAX 1024

/* Kept open for files that may be asked for again. */
static inline unsigned limits_files(unsigned fds)
{
	unsigned share = fds > LIMITS_SPARE_FDS ? (fds - LIMITS_SPARE_FDS) / 8 : 0;

	return share < LIMITS_FILES_MAX ? share : LIMITS_FILES_MAX;
}

/* Left for connections; at least one. */
static inline unsigned limits_connections(unsigned fds)
{
	unsigned taken = LIMITS_SPARE_FDS + limits_files(fds);

	return fds > taken ? fds - taken : 1;
}

/*
 * Such memory. It is made by the primary, which writes anywhere in it; a child gives up its right to, after the fork.
 */
#include "shared/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"

static int open_file(const char *name, size_t size)
{
	CLEANUP(closep) int fd = fd_memory(name);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	return take_fd(&fd);
}

/*
 * The same file for reading alone: what is mapped through it mprotect(2) does not make writable. (A seal against writing would do
 * as well, but for clients_clear(), which gives pages back.)
 */
static int open_for_reading(int fd)
{
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = open(path, O_RDONLY | O_CLOEXEC);
	return r < 0 ? -errno : r;
}

/*
 * Maps cleared memory, for every child forked later. Pages that nobody writes to cost nothing. name: for /proc/PID/maps.
 * Returns 0 with *ret for segment_free(), or -errno.
 */
int segment_new(const char *name, size_t size, struct segment *ret)
{
	CLEANUP(closep) int fd = open_file(name, size);
	CLEANUP(closep) int reading = fd < 0 ? fd : open_for_reading(fd);
	void *memory;

	if (reading < 0)
		return reading;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	*ret = (struct segment){.memory = memory, .size = size, .fd = take_fd(&reading)};
	return 0;
}

/* In this process; in others the memory stays as long as they do. */
void segment_free(struct segment *s)
{
	if (!s->memory)
		return;
	munmap(s->memory, s->size);
	close(s->fd);
	s->memory = NULL;
}

static int map_for_reading(const struct segment *s, size_t begin, size_t end)
{
	void *where = (char *)s->memory + begin;

	if (begin >= end)
		return 0;
	return mmap(where, end - begin, PROT_READ, MAP_SHARED | MAP_FIXED, s->fd, (off_t)begin) ==
			MAP_FAILED
		? -errno
		: 0;
}

/*
 * In a child, before it closes the descriptor: only `len` bytes from `own` on stay writable, and what lies on the same pages; none
 * where len is 0. Returns 0, or -errno and then it may not go on.
 */
int segment_confine(const struct segment *s, const void *own, size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t begin, end;
	int r;

	if (!s->memory)
		return 0;
	begin = len > 0 ? (size_t)((const char *)own - (const char *)s->memory) : 0;
	end = begin + len + page - 1;
	begin -= begin % page;
	end -= end % page;
	r = map_for_reading(s, 0, begin);
	return r < 0 ? r : map_for_reading(s, end, s->size);
}

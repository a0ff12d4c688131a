/* Descriptors and clean-up attributes. Any process, any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

/* Hands a descriptor out of a CLEANUP(closep) variable. */
static inline int take_fd(int *fd)
{
	int r = *fd;

	*fd = -1;
	return r;
}

/* Hands a pointer out of a CLEANUP(freep) variable. */
#define take_ptr(p)                         \
	({                                  \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;                 \
		taken_;                     \
	})

int fd_close_except(int *keep, size_t n_keep);
int fd_set_cloexec(int fd, bool on);
int fd_set_nonblock(int fd);
int fd_read_text(const char *path, char *buf, size_t size);
int fd_memory(const char *name);
int fd_raise_limit(unsigned *ret_limit);

/*
 * The operator's own pages for errors: 400.html to 599.html of one folder, read once, when the worker starts, so that
 * answering an error never touches the disk. Worker and admin.
 */
#include "http/error_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"

#define FIRST    400
#define N_STATUS 200
#define PAGE_MAX (64u << 10)

struct error_pages {
	struct tine_text pages[N_STATUS]; /* data is NULL where there is none */
};

/* Returns 0 (also when there is no such file) or a negative errno. */
static int page_read(int folder, unsigned status, struct tine_text *ret)
{
	char name[16];
	CLEANUP(closep) int fd = -1;
	CLEANUP(freep) char *data = NULL;
	struct stat st;
	ssize_t n;

	snprintf(name, sizeof(name), "%u.html", status);
	fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uint64_t)st.st_size > PAGE_MAX)
		return -EFBIG;
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		return -ENOMEM;
	n = read(fd, data, (size_t)st.st_size);
	if (n < 0)
		return -errno;
	*ret = (struct tine_text){take_ptr(data), (size_t)n};
	return 0;
}

/* Returns 0 with *ret for error_pages_free(), or a negative errno and what is wrong in error. */
int error_pages_load(const char *folder, struct error_pages **ret, char error[512])
{
	CLEANUP(closep) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct error_pages *p;
	int r = 0;

	if (fd < 0) {
		r = -errno;
		snprintf(error, 512, "http.error_pages: %s: %s", folder, strerror(-r));
		return r;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	for (unsigned i = 0; i < N_STATUS && r == 0; i++) {
		r = page_read(fd, FIRST + i, &p->pages[i]);
		if (r < 0)
			snprintf(error, 512, "http.error_pages: %s/%u.html: %s", folder, FIRST + i,
				r == -EFBIG ? "is larger than 64K" : strerror(-r));
	}
	if (r < 0) {
		error_pages_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

struct error_pages *error_pages_free(struct error_pages *p)
{
	if (!p)
		return NULL;
	for (unsigned i = 0; i < N_STATUS; i++)
		free((void *)(uintptr_t)p->pages[i].data);
	free(p);
	return NULL;
}

/* The page for a status; data is NULL when there is none. */
struct tine_text error_pages_find(const struct error_pages *p, unsigned status)
{
	if (!p || status < FIRST || status >= FIRST + N_STATUS)
		return (struct tine_text){NULL, 0};
	return p->pages[status - FIRST];
}

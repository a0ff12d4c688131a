/* gzip of whole files and texts. Any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Answer of compress_file: it would not have become smaller by much. */
#define COMPRESS_IN_VAIN 1

struct compress_source {
	const char *data; /* `size` bytes in memory; or NULL: */
	int fd;           /* a file of so many */
	uint64_t size;
};

int compress_gzip(const struct compress_source *src, int level, char **ret_data, size_t *ret_len);

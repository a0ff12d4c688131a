/* gzip of whole files. Any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Answer of compress_file: it would not have become smaller by much. */
#define COMPRESS_IN_VAIN 1

int compress_file(int fd, uint64_t size, int level, char **ret_data, size_t *ret_len);

/* Whether reading a file would wait for the disk. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

bool residency_is_cached(int fd, int64_t off, size_t len);
ssize_t residency_read(int fd, void *buf, size_t len, int64_t off);

/*
 * Payloads too large for a frame: a memfd that nobody can change any more, mapped by each receiver. Any process.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

int blob_new(const void *data, size_t len, int *ret_fd);
int blob_check(int fd, uint64_t *ret_size);
int blob_map(int fd, size_t size, const void **ret);
void blob_unmap(const void *data, size_t size);

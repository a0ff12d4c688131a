/* Where the other files of this program lie. Any process, any thread. */
#pragma once

#include <stddef.h>

int beside_path(const char *file, char *ret, size_t size) __attribute__((nonnull));

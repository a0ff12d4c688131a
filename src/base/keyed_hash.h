/*
 * A hash for tables in memory, with a secret of the process's own: for keys that strangers choose. Before <uthash.h>:
 *	#define HASH_FUNCTION(key, len, ret) (ret) = (unsigned)keyed_hash(0, key, len)
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t keyed_hash(uint64_t context, const void *data, size_t len);

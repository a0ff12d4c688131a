/* SipHash-2-4 (Aumasson, Bernstein): a hash with a secret in it, so that nobody outside can look for keys that collide. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t siphash(const uint64_t key[2], const void *data, size_t len);

/*
 * Writing text into memory that is known to have room, where snprintf(3) would be felt: each returns where the next byte
 * goes. Any process, any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline char *put(char *p, const void *data, size_t len)
{
	memcpy(p, data, len);
	return p + len;
}

#define PUT(p, literal) put((p), (literal), sizeof(literal) - 1)

static inline char *put_u64(char *p, uint64_t n)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	return put(p, digits + at, sizeof(digits) - at);
}

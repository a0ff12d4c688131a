/* Whether bytes are UTF-8 (RFC 3629), also when they come piece by piece. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Within a character; all zero between two. */
struct utf8 {
	uint8_t left;      /* bytes to come */
	uint8_t low, high; /* what the next one may be */
};

bool utf8_feed(struct utf8 *u, const void *data, size_t len);
bool utf8_is_valid(const void *data, size_t len);

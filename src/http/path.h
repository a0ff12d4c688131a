/* Paths of request targets: percent-decoding, dot segments, and the way back. Pure functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <tine/http.h>

bool path_is_plain(struct tine_text raw);
int path_normalise(struct tine_text raw, char *buf, struct tine_text *ret);
size_t path_encode(struct tine_text path, char *buf, size_t size);

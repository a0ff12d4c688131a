/* The field Accept-Encoding (RFC 9110 section 12.5.3). Pure functions. */
#pragma once

#include <stdbool.h>

#include <tine/http.h>

/* Content codings we know, the one we like best first; bits, so that a set is an unsigned. */
enum encoding {
	ENCODING_BR = 1 << 0,
	ENCODING_GZIP = 1 << 1,
	ENCODING_IDENTITY = 1 << 2,
};

#define ENCODING_COUNT 3

struct http_head;

bool encoding_pays(struct tine_text type);
unsigned encoding_choose(const struct http_head *h, unsigned available);

/* The field Range (RFC 9110 section 14). Pure functions. */
#pragma once

#include <stdint.h>

#include <tine/http.h>

#define RANGES_MAX 16 /* more of them are asked for by nobody who means well */

/* Answers of range_parse, but for 0: the whole is to be sent. */
#define RANGE_PARTIAL       206
#define RANGE_UNSATISFIABLE 416

struct range {
	uint64_t first, len; /* len > 0 */
};

struct range_set {
	unsigned n;
	struct range ranges[RANGES_MAX]; /* in the order they were asked for */
};

int range_parse(struct tine_text value, uint64_t size, struct range_set *ret);

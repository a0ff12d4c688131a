/*
 * Text to values, strictly: the whole string must fit or it is an error. Pure functions.
 * Each returns 0, -EINVAL (not of that form) or -ERANGE (of that form, but it does not fit the type).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rate {
	uint32_t count;
	uint64_t window_us;
};

int parse_u64(const char *s, uint64_t *ret);
int parse_bool(const char *s, bool *ret);            /* on off yes no true false */
int parse_duration(const char *s, uint64_t *ret_us); /* 250us 250ms 10s 5m 2h 1d, or 0 */
int parse_size(const char *s, uint64_t *ret_bytes);  /* 512 64K 1M 2G, binary multiples */
int parse_rate(const char *s, struct rate *ret);     /* 10/60s */

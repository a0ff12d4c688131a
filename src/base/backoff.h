/*
 * When to start again what keeps failing: exponential delays with jitter, and a budget of failures in a
 * sliding window. Pure: time and chance are parameters, so tests never sleep.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/parse.h"

struct backoff_limits {
	uint64_t min_us, max_us;
	struct rate budget; /* count 0: without limit */
};

struct backoff {
	unsigned streak;          /* failures in a row */
	uint64_t window_us;       /* start of the present window */
	uint32_t n_now, n_before; /* failures in it and in the one before */
};

/* backoff_failed()'s answer when the budget is spent. */
#define BACKOFF_SPENT UINT64_MAX

uint64_t backoff_failed(struct backoff *b, const struct backoff_limits *l, bool was_healthy,
	uint64_t now_us, uint32_t chance);
void backoff_reset(struct backoff *b);

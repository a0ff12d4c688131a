/*
 * Limits per key over all workers: a table in shared memory (shared/arena.h) that holds one number for each key.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <tine/shared.h>

#include "shared/arena.h"

/* tine/shared.h: a limit, as one process sees it; never changes, for all of its threads. */
struct tine_limit;

int limiter_find(struct arena *a, const char *name, const struct tine_limit_options *given,
	struct tine_limit **ret, char why[ARENA_WHY_MAX]);
int limiter_take(struct tine_limit *l, const void *key, size_t len, uint64_t cost, uint64_t now_ns,
	struct tine_limit_answer *ret);
uint64_t limiter_forgotten(const struct tine_limit *l);

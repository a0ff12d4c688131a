/*
 * Numbers that are the sum of what each living worker says: what a dead one said counts no more. In shared memory
 * (shared/arena.h).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shared/arena.h"

/* tine/shared.h: a gauge, as one process sees it; for all of its threads. */
struct tine_gauge;

int gauge_find(struct arena *a, const char *name, struct tine_gauge **ret, char why[ARENA_WHY_MAX]);
void gauge_add(struct tine_gauge *g, int64_t n);
void gauge_set(struct tine_gauge *g, int64_t value);
int64_t gauge_get(const struct tine_gauge *g);

/* For those who only look: `data` is the area. */
int64_t gauge_sum(int fd, const void *data, size_t size);

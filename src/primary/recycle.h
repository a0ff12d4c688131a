/*
 * When a worker has served enough: requests, age, memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct primary;
struct proc;

enum recycle_reason { RECYCLE_NOT, RECYCLE_REQUESTS, RECYCLE_AGE, RECYCLE_MEMORY };

void recycle_draw_limits(struct proc *pr);
enum recycle_reason recycle_reason(const struct proc *pr, uint64_t now, char *why, size_t size);
void recycle_sample_memory(struct primary *p, uint64_t now);

/* for tests */
uint64_t recycle_jittered(uint64_t n, uint32_t chance);

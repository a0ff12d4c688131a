/*
 * How many connections each client address holds, over all workers of a generation: shared memory
 * with a table per slot, written by its owner alone and read by all.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/peer.h"
#include "shared/segment.h"

struct clients_bucket;

struct clients {
	struct segment segment;
	struct clients_bucket *buckets; /* NULL: nothing is counted */
	size_t n_slots, n_buckets;      /* n_buckets: of each slot, a power of two */
	uint64_t seed[2];
};

int clients_new(size_t n_slots, uint64_t max_connections, struct clients *ret);
void clients_free(struct clients *c);
int clients_confine(const struct clients *c, size_t slot);
void clients_clear(struct clients *c, size_t slot);
uint64_t clients_key(const struct clients *c, const struct peer *p);
bool clients_add(struct clients *c, size_t slot, uint64_t key);
void clients_remove(struct clients *c, size_t slot, uint64_t key);
uint64_t clients_count(const struct clients *c, uint64_t key, size_t n_slots);

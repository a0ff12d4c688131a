/*
 * A histogram of durations for shared memory: one writer with relaxed atomics, any readers. Logarithmic with four steps
 * to each doubling, so a value read from it is at most a quarter too high. From 1 us to 67 s.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 104

struct histogram {
	_Atomic uint64_t sum_us;
	_Atomic uint64_t counts[HISTOGRAM_BUCKETS];
};

/* Which bucket a duration belongs to. Bucket b holds the values up to histogram_limit_us(b), and above that of b - 1. */
static inline unsigned histogram_bucket(uint64_t us)
{
	unsigned octave, bucket;

	if (us < 4)
		return (unsigned)us;
	octave = 63 - (unsigned)__builtin_clzll(us);
	bucket = (octave - 1) * 4 + (unsigned)(us >> (octave - 2) & 3);
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* Adds n values of the same size. For the owner alone. */
static inline void histogram_add(struct histogram *h, uint64_t us, uint64_t n)
{
	_Atomic uint64_t *count = &h->counts[histogram_bucket(us)];

	atomic_store_explicit(
		count, atomic_load_explicit(count, memory_order_relaxed) + n, memory_order_relaxed);
	atomic_store_explicit(&h->sum_us,
		atomic_load_explicit(&h->sum_us, memory_order_relaxed) + us * n,
		memory_order_relaxed);
}

uint64_t histogram_limit_us(unsigned bucket);
uint64_t histogram_count(const struct histogram *h);
void histogram_merge(struct histogram *into, const struct histogram *from);
void histogram_subtract(struct histogram *from, const struct histogram *earlier);
uint64_t histogram_percentile_us(const struct histogram *h, double percentile);

/*
 * Reading histograms. Any process; pure functions.
 */
#include "shared/histogram.h"

#define relaxed_get(a)    atomic_load_explicit(&(a), memory_order_relaxed)
#define relaxed_set(a, v) atomic_store_explicit(&(a), (v), memory_order_relaxed)

/* The largest duration that belongs to a bucket; the last one has no limit and says UINT64_MAX. */
uint64_t histogram_limit_us(unsigned bucket)
{
	unsigned octave = bucket / 4 + 1;

	if (bucket < 4)
		return bucket;
	if (bucket >= HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	return ((uint64_t)(bucket % 4 + 5) << (octave - 2)) - 1;
}

uint64_t histogram_count(const struct histogram *h)
{
	uint64_t n = 0;

	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		n += relaxed_get(h->counts[b]);
	return n;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	relaxed_set(into->sum_us, relaxed_get(into->sum_us) + relaxed_get(from->sum_us));
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		relaxed_set(into->counts[b],
			relaxed_get(into->counts[b]) + relaxed_get(from->counts[b]));
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* What was added since an earlier copy was made. Never below zero: a slot may have begun anew in between. */
void histogram_subtract(struct histogram *from, const struct histogram *earlier)
{
	relaxed_set(from->sum_us, less(relaxed_get(from->sum_us), relaxed_get(earlier->sum_us)));
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		relaxed_set(from->counts[b],
			less(relaxed_get(from->counts[b]), relaxed_get(earlier->counts[b])));
}

/* The duration that `percentile` (0 to 100) of the values do not exceed, as the limit of its bucket; 0: no values. */
uint64_t histogram_percentile_us(const struct histogram *h, double percentile)
{
	uint64_t total = histogram_count(h), seen = 0;
	double wanted = (double)total * percentile / 100;

	for (unsigned b = 0; b < HISTOGRAM_BUCKETS && total > 0; b++) {
		seen += relaxed_get(h->counts[b]);
		if ((double)seen >= wanted && seen > 0)
			return histogram_limit_us(
				b < HISTOGRAM_BUCKETS - 1 ? b : HISTOGRAM_BUCKETS - 2);
	}
	return 0;
}

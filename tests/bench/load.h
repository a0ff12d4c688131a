/* What modules of the benchmarks have in common: the clock, and the figures of round trips. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../module.h"

#define CHECK_EVERY 64 /* messages, or tasks, between two looks at the clock */

/* In seconds. */
static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* "N SECONDS" */
static inline void answer_rate(struct tine_request *request, unsigned long n, double begun)
{
	char text[64];

	snprintf(text, sizeof(text), "%lu %.6f", n, now() - begun);
	answer(request, text);
}

/* --- round trips, one at a time --- */

struct trips {
	unsigned long n, n_done;
	double asked;
	double *times; /* microseconds */
};

static inline void trips_begin(struct trips *t, unsigned long n)
{
	*t = (struct trips){.n = n, .times = calloc(n, sizeof(double))};
}

static inline void trips_ask(struct trips *t)
{
	t->asked = now();
}

/* Returns whether there is another one to come. */
static inline bool trips_note(struct trips *t)
{
	t->times[t->n_done++] = (now() - t->asked) * 1e6;
	return t->n_done < t->n;
}

static inline int trips_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* "P50 P99", valid until the next call; they are over. */
static inline const char *trips_end(struct trips *t)
{
	static char text[64];

	qsort(t->times, t->n, sizeof(double), trips_compare);
	snprintf(text, sizeof(text), "%.2f %.2f", t->times[t->n / 2], t->times[t->n * 99 / 100]);
	free(t->times);
	t->times = NULL;
	return text;
}

/* Monotonic time, in microseconds and milliseconds since an arbitrary start. */
#pragma once

#include <stdint.h>
#include <sys/time.h>
#include <time.h>

#define US_PER_MS UINT64_C(1000)
#define US_PER_S  UINT64_C(1000000)

static inline uint64_t clock_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * US_PER_S + (uint64_t)ts.tv_nsec / 1000;
}

static inline uint64_t now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* For libevent's timers. */
static inline struct timeval timeval_from_us(uint64_t us)
{
	return (struct timeval){(time_t)(us / US_PER_S), (suseconds_t)(us % US_PER_S)};
}

/* Good to a few milliseconds and several times cheaper: for time-outs on the serving path. */
static inline uint64_t now_coarse_ms(void)
{
	return clock_us(CLOCK_MONOTONIC_COARSE) / US_PER_MS;
}

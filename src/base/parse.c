/*
 * Numbers, switches, durations, sizes and rates from text. Pure functions, any process, any thread.
 *
 * Stricter than strtoull(3) on purpose: no blanks, no sign, no fraction, no trailing bytes, and an
 * overflow is an error of its own, so that a typing mistake never becomes another value.
 */
#include "base/parse.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"

#define US_PER_MIN  (60 * US_PER_S)
#define US_PER_HOUR (60 * US_PER_MIN)
#define US_PER_DAY  (24 * US_PER_HOUR)

/* A suffix and what a number before it is multiplied with. A list ends with a NULL suffix. */
struct unit {
	const char *suffix;
	uint64_t factor;
};

static const struct unit duration_units[] = {
	{"us", 1},
	{"ms", US_PER_MS},
	{"s", US_PER_S},
	{"m", US_PER_MIN},
	{"h", US_PER_HOUR},
	{"d", US_PER_DAY},
	{NULL, 0},
};

static const struct unit size_units[] = {
	{"", 1},
	{"K", 1ull << 10},
	{"M", 1ull << 20},
	{"G", 1ull << 30},
	{NULL, 0},
};

/*
 * Reads the decimal digits `s` begins with; *ret_end is the first byte after them, even when the
 * number does not fit. Returns 0, -EINVAL (no digit) or -ERANGE.
 */
static int parse_digits(const char *s, uint64_t *ret, const char **ret_end)
{
	uint64_t value = 0;
	bool overflow = false;
	const char *p = s;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
			overflow = true;
	*ret_end = p;
	if (p == s)
		return -EINVAL;
	if (overflow)
		return -ERANGE;
	*ret = value;
	return 0;
}

/* A number and exactly one of the suffixes of `units`. */
static int parse_unit(const char *s, const struct unit *units, uint64_t *ret)
{
	const char *end;
	uint64_t value;
	int r = parse_digits(s, &value, &end);

	if (r == -EINVAL)
		return r;
	/* The suffix is looked at first: "99999999999999999999x" is not a number at all. */
	for (; units->suffix; units++)
		if (strcmp(end, units->suffix) == 0)
			break;
	if (!units->suffix)
		return -EINVAL;
	if (r < 0)
		return r;
	return __builtin_mul_overflow(value, units->factor, ret) ? -ERANGE : 0;
}

/*
 * A whole number, 0 or more, in decimal. Returns 0, -EINVAL or -ERANGE; *ret is set on success
 * only.
 */
int parse_u64(const char *s, uint64_t *ret)
{
	static const struct unit none[] = {{"", 1}, {NULL, 0}};
	uint64_t value;
	int r = parse_unit(s, none, &value);

	if (r < 0)
		return r;
	*ret = value;
	return 0;
}

/*
 * on, yes, true or off, no, false, in any case. Returns 0 or -EINVAL; *ret is set on success only.
 */
int parse_bool(const char *s, bool *ret)
{
	static const char *const words[] = {"off", "on", "no", "yes", "false", "true"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcasecmp(s, words[i]) != 0)
			continue;
		*ret = i % 2;
		return 0;
	}
	return -EINVAL;
}

/*
 * A number with us, ms, s, m, h or d, into microseconds. Only 0 may go without a unit: what 10
 * means is anybody's guess. Returns 0, -EINVAL or -ERANGE; *ret_us is set on success only.
 */
int parse_duration(const char *s, uint64_t *ret_us)
{
	uint64_t value;
	int r;

	if (strcmp(s, "0") == 0) {
		*ret_us = 0;
		return 0;
	}
	r = parse_unit(s, duration_units, &value);
	if (r < 0)
		return r;
	*ret_us = value;
	return 0;
}

/*
 * A number, with K, M or G for multiples of 1024, into bytes. Returns 0, -EINVAL or -ERANGE;
 * *ret_bytes is set on success only.
 */
int parse_size(const char *s, uint64_t *ret_bytes)
{
	uint64_t value;
	int r = parse_unit(s, size_units, &value);

	if (r < 0)
		return r;
	*ret_bytes = value;
	return 0;
}

/*
 * COUNT/DURATION, so many in so much time; neither may be 0. Returns 0, -EINVAL or -ERANGE; *ret is
 * set on success only.
 */
int parse_rate(const char *s, struct rate *ret)
{
	uint64_t count = 0, window_us = 0;
	const char *end;
	int r = parse_digits(s, &count, &end), r_window;

	if (r == -EINVAL || *end != '/')
		return -EINVAL;
	r_window = parse_duration(end + 1, &window_us);
	if (r_window < 0)
		return r_window;
	if (r < 0 || count > UINT32_MAX)
		return -ERANGE;
	if (count == 0 || window_us == 0)
		return -EINVAL;
	*ret = (struct rate){.count = (uint32_t)count, .window_us = window_us};
	return 0;
}

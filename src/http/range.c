/*
 * The field Range: which bytes of a representation are asked for (RFC 9110 section 14). Pure functions.
 *
 * A client may ask for the same bytes many times in one request, so that the answer is many times the file.
 * Who names more than RANGES_MAX ranges, or ranges that are longer together than the whole, gets the whole,
 * which the standard allows at any time (section 14.2).
 */
#include "http/range.h"

#include <stdbool.h>

#include "http/parser.h"

/* Takes digits off the front; a number too large is UINT64_MAX. Returns whether there was one. */
static bool take_number(struct tine_text *t, uint64_t *ret)
{
	uint64_t value = 0;
	size_t n = 0;

	for (; n < t->len && t->data[n] >= '0' && t->data[n] <= '9'; n++) {
		unsigned digit = (unsigned)(t->data[n] - '0');

		value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
	}
	*ret = value;
	t->data += n;
	t->len -= n;
	return n > 0;
}

static bool take_dash(struct tine_text *t)
{
	if (t->len == 0 || t->data[0] != '-')
		return false;
	t->data++;
	t->len--;
	return true;
}

/*
 * "first-last", "first-" or "-suffix" of `size` bytes. Returns whether it is one of these; of what cannot be
 * had, ret->len is 0.
 */
static bool parse_spec(struct tine_text t, uint64_t size, struct range *ret)
{
	uint64_t first, last;
	bool has_first = take_number(&t, &first), has_last;

	if (!take_dash(&t))
		return false;
	has_last = take_number(&t, &last);
	if (t.len > 0 || (!has_first && !has_last))
		return false;
	if (!has_first) {
		ret->len = last < size ? last : size;
		ret->first = size - ret->len;
		return true;
	}
	if (!has_last)
		last = UINT64_MAX;
	if (last < first)
		return false;
	ret->first = first;
	ret->len = first >= size ? 0 : (last < size ? last + 1 : size) - first;
	return true;
}

/* Whether it is in bytes; then the list that follows is left. */
static bool take_unit(struct tine_text *t)
{
	static const char unit[] = "bytes=";
	size_t len = sizeof(unit) - 1;

	if (t->len < len || !http_text_is((struct tine_text){t->data, len}, unit, len))
		return false;
	t->data += len;
	t->len -= len;
	return true;
}

/*
 * Reads the value of a field Range for a representation of `size` bytes. Returns RANGE_PARTIAL and *ret (one
 * range or more, each within it); RANGE_UNSATISFIABLE when none of them can be had; or 0 when the field is
 * to be ignored: another unit, not of that form, more than is reasonable (see above), or nothing to take
 * a part of.
 */
int range_parse(struct tine_text value, uint64_t size, struct range_set *ret)
{
	struct tine_text spec;
	struct range range;
	uint64_t total = 0;
	unsigned n_specs = 0;
	bool is_suffix;

	ret->n = 0;
	if (!take_unit(&value))
		return 0;
	for (; http_list_next(&value, &spec); n_specs++) {
		is_suffix = spec.data[0] == '-';
		if (n_specs == RANGES_MAX || !parse_spec(spec, size, &range))
			return 0;
		if (size == 0 && is_suffix)
			return 0; /* may be had, and is not a range */
		if (range.len == 0)
			continue;
		if (range.len > size - total)
			return 0;
		total += range.len;
		ret->ranges[ret->n++] = range;
	}
	if (n_specs == 0)
		return 0;
	return ret->n > 0 ? RANGE_PARTIAL : RANGE_UNSATISFIABLE;
}

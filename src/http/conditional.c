/*
 * Conditional requests, evaluated in the order of RFC 9110 section 13.2.2, for GET and HEAD. Pure
 * functions.
 */
#include "http/conditional.h"

#include <string.h>

#include "http/date.h"
#include "http/parser.h"

#define FIELD(h, name) http_head_field((h), (name), sizeof(name) - 1)
#define LIST(h, name, ...) \
	fields_name((h), (struct tine_text){(name), sizeof(name) - 1}, __VA_ARGS__)

enum list { LIST_NONE, LIST_MISSES, LIST_NAMES };

/*
 * Takes one entity tag off the list; commas may stand within its quotes. Returns false when there
 * is none.
 */
static bool next_etag(struct tine_text *list, struct tine_text *ret, bool *ret_weak)
{
	const char *p = list->data, *end = list->data + list->len, *quote;

	while (p < end && (*p == ' ' || *p == '\t' || *p == ','))
		p++;
	*ret_weak = end - p >= 2 && p[0] == 'W' && p[1] == '/';
	if (*ret_weak)
		p += 2;
	if (p == end || *p != '"')
		return false;
	quote = memchr(p + 1, '"', (size_t)(end - p - 1));
	if (!quote)
		return false;
	*ret = (struct tine_text){p, (size_t)(quote + 1 - p)};
	*list = (struct tine_text){quote + 1, (size_t)(end - quote - 1)};
	return true;
}

/*
 * Whether the list of a field names the strong tag `etag` (with its quotes) or is "*". weak: weak
 * ones count as well. What does not read as a list of tags ends it.
 */
bool conditional_etag_in(struct tine_text list, struct tine_text etag, bool weak)
{
	struct tine_text tag;
	bool is_weak;

	if (list.len == 1 && list.data[0] == '*')
		return true;
	while (next_etag(&list, &tag, &is_weak))
		if ((weak || !is_weak) && tag.len == etag.len &&
			memcmp(tag.data, etag.data, tag.len) == 0)
			return true;
	return false;
}

/*
 * The same for all fields of that name (in lower case), which are one list (RFC 9110 section 5.3).
 * LIST_NONE: there is none.
 */
static enum list fields_name(
	const struct http_head *h, struct tine_text name, struct tine_text etag, bool weak)
{
	enum list found = LIST_NONE;

	for (unsigned i = 0; i < h->n_fields && found != LIST_NAMES; i++) {
		const struct http_field *f = &h->fields[i];

		if (http_text_is(f->name, name.data, name.len))
			found = conditional_etag_in(f->value, etag, weak) ? LIST_NAMES
									  : LIST_MISSES;
	}
	return found;
}

/*
 * Decides for a representation that exists, with its strong entity tag and its time of
 * modification. Returns 0 (go on), CONDITIONAL_UNCHANGED or CONDITIONAL_FAILED. A date that is none
 * is ignored, as the standard asks.
 */
int conditional_check(const struct http_head *h, struct tine_text etag, time_t modified)
{
	enum list match = LIST(h, "if-match", etag, false);
	enum list none_match = LIST(h, "if-none-match", etag, true);
	struct tine_text date;
	time_t since;

	if (match == LIST_MISSES)
		return CONDITIONAL_FAILED;
	if (match == LIST_NONE) {
		date = FIELD(h, "if-unmodified-since");
		if (date.data && http_date_parse(date, &since) == 0 && modified > since)
			return CONDITIONAL_FAILED;
	}
	if (none_match != LIST_NONE)
		return none_match == LIST_NAMES ? CONDITIONAL_UNCHANGED : 0;
	date = FIELD(h, "if-modified-since");
	if (date.data && http_date_parse(date, &since) == 0 && modified <= since)
		return CONDITIONAL_UNCHANGED;
	return 0;
}

/* If-Range: a strong tag, or the very date we told. */
static bool is_same(struct tine_text value, struct tine_text etag, time_t modified)
{
	time_t date;

	if (value.len > 0 && value.data[0] == '"')
		return value.len == etag.len && memcmp(value.data, etag.data, etag.len) == 0;
	return http_date_parse(value, &date) == 0 && date == modified;
}

/*
 * Which ranges are asked for: the value of the field Range, whose data is NULL when the whole is to be sent:
 * there is none, or more than one, the method is not GET, or If-Range says that the client has part of
 * something else (RFC 9110 section 13.1.5).
 */
struct tine_text conditional_range(
	const struct http_head *h, struct tine_text etag, time_t modified)
{
	struct tine_text range = {NULL, 0};

	if (h->method != METHOD_GET)
		return range;
	for (unsigned i = 0; i < h->n_fields; i++) {
		const struct http_field *f = &h->fields[i];

		if (http_text_is(f->name, "range", 5)) {
			if (range.data)
				return (struct tine_text){NULL, 0};
			range = f->value;
		} else if (http_text_is(f->name, "if-range", 8) &&
			!is_same(f->value, etag, modified)) {
			return (struct tine_text){NULL, 0};
		}
	}
	return range;
}

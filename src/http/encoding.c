/*
 * Which content coding a client gets (RFC 9110 section 12.5.3). Pure functions.
 *
 * The one of highest weight that we have; of equal ones the smaller. A client that wants none of what we have
 * gets the plain text all the same: it can do more with that than with a 406.
 */
#include "http/encoding.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "http/parser.h"

#define WEIGHT_FULL    1000 /* q=1 */
#define WEIGHT_UNKNOWN -1   /* not named */

#define TEXT_IS(t, literal) http_text_is((t), (literal), sizeof(literal) - 1)

struct weights {
	int of[ENCODING_COUNT];
	int others; /* "*" */
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

/* "0", "1", "0.5", "1.000": up to three digits. Returns thousandths, or -1. */
static int parse_weight(struct tine_text t)
{
	int value, unit = WEIGHT_FULL;

	if (t.len == 0 || t.len > 5 || (t.data[0] != '0' && t.data[0] != '1') ||
		(t.len > 1 && t.data[1] != '.'))
		return -1;
	value = (t.data[0] - '0') * unit;
	for (size_t i = 2; i < t.len; i++) {
		if (t.data[i] < '0' || t.data[i] > '9')
			return -1;
		unit /= 10;
		value += (t.data[i] - '0') * unit;
	}
	return value <= WEIGHT_FULL ? value : -1;
}

/* What follows the name of a coding: nothing, or OWS ";" OWS "q=" weight. Returns the weight, or -1. */
static int parse_parameter(const char *p, const char *end)
{
	while (p < end && is_space(*p))
		p++;
	if (p == end)
		return WEIGHT_FULL;
	if (*p++ != ';')
		return -1;
	while (p < end && is_space(*p))
		p++;
	if (end - p < 2 || (p[0] != 'q' && p[0] != 'Q') || p[1] != '=')
		return -1;
	p += 2;
	return parse_weight((struct tine_text){p, (size_t)(end - p)});
}

static int *weight_of(struct weights *w, struct tine_text name)
{
	if (TEXT_IS(name, "br"))
		return &w->of[__builtin_ctz(ENCODING_BR)];
	if (TEXT_IS(name, "gzip") || TEXT_IS(name, "x-gzip"))
		return &w->of[__builtin_ctz(ENCODING_GZIP)];
	if (TEXT_IS(name, "identity"))
		return &w->of[__builtin_ctz(ENCODING_IDENTITY)];
	return TEXT_IS(name, "*") ? &w->others : NULL;
}

/* One value of the field. What is not of the form counts as not there; the first mention of a coding counts. */
static void note_codings(struct weights *w, struct tine_text list)
{
	struct tine_text item;

	while (http_list_next(&list, &item)) {
		size_t n = 0;
		int *known, weight;

		while (n < item.len && item.data[n] != ';' && !is_space(item.data[n]))
			n++;
		known = weight_of(w, (struct tine_text){item.data, n});
		weight = parse_parameter(item.data + n, item.data + item.len);
		if (known && *known == WEIGHT_UNKNOWN && weight >= 0)
			*known = weight;
	}
}

/* Plain text that is not named is wanted least of what is wanted, unless "*" says no to it. */
static int weight_get(const struct weights *w, unsigned i)
{
	if (w->of[i] != WEIGHT_UNKNOWN)
		return w->of[i];
	if (1u << i == ENCODING_IDENTITY)
		return w->others == 0 ? 0 : 1;
	return w->others == WEIGHT_UNKNOWN ? 0 : w->others;
}

static bool ends_with(struct tine_text t, const char *end)
{
	size_t len = strlen(end);

	return t.len >= len &&
		http_text_is((struct tine_text){t.data + t.len - len, len}, end, len);
}

/* Whether content of that type becomes smaller by compressing it: text, not what is compressed by itself. */
bool encoding_pays(struct tine_text type)
{
	static const char *const types[] = {"application/javascript", "application/json",
		"application/manifest+json", "application/wasm", "application/xml",
		"application/x-javascript", "application/vnd.ms-fontobject", "font/ttf", "font/otf",
		"image/bmp", "image/x-icon", "image/vnd.microsoft.icon"};
	const char *end = memchr(type.data, ';', type.len);

	if (end)
		type.len = (size_t)(end - type.data);
	while (type.len > 0 && is_space(type.data[type.len - 1]))
		type.len--;
	if (type.len > 5 && http_text_is((struct tine_text){type.data, 5}, "text/", 5))
		return true;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (http_text_is(type, types[i], strlen(types[i])))
			return true;
	return ends_with(type, "+xml") || ends_with(type, "+json");
}

/*
 * Chooses among `available` (bits of enum encoding; identity always is). Returns the bit of the coding the
 * answer is to have.
 */
unsigned encoding_choose(const struct http_head *h, unsigned available)
{
	struct weights w = {{WEIGHT_UNKNOWN, WEIGHT_UNKNOWN, WEIGHT_UNKNOWN}, WEIGHT_UNKNOWN};
	unsigned best = ENCODING_IDENTITY;
	int best_weight = 0;

	for (unsigned i = 0; i < h->n_fields; i++)
		if (TEXT_IS(h->fields[i].name, "accept-encoding"))
			note_codings(&w, h->fields[i].value);
	available |= ENCODING_IDENTITY;
	for (unsigned i = 0; i < ENCODING_COUNT; i++) {
		if ((available & 1u << i) && weight_get(&w, i) > best_weight) {
			best = 1u << i;
			best_weight = weight_get(&w, i);
		}
	}
	return best;
}

/*
 * Subjects and patterns as text.
 */
#include "ipc/subject.h"

#include <errno.h>
#include <string.h>

#include "ipc/msg.h"

static bool is_wildcard(const char *token, size_t n)
{
	return n == 1 && (token[0] == '*' || token[0] == '>');
}

/* What is wrong with one token, or NULL. */
static const char *check_token(const char *t, size_t n, bool last, enum subject_kind kind)
{
	if (n == 0)
		return "an empty token";
	if (is_wildcard(t, n)) {
		if (kind == SUBJECT_PLAIN)
			return "a wildcard where only a subject may be";
		return t[0] == '>' && !last ? "`>` before the end" : NULL;
	}
	for (size_t i = 0; i < n; i++) {
		if (t[i] <= ' ' || t[i] > '~')
			return "a byte that is not printable ASCII";
		if (t[i] == '*' || t[i] == '>')
			return "a wildcard that is not a token of its own";
	}
	return NULL;
}

/* Returns 0, or -EINVAL and what is wrong in static text. */
int subject_check(const char *s, size_t len, enum subject_kind kind, const char **ret_why)
{
	size_t at = 0, n_tokens = 0, n_wildcards = 0;

	*ret_why = len == 0 ? "it is empty" : len > SUBJECT_MAX ? "longer than 255 bytes" : NULL;
	while (!*ret_why && at <= len) {
		size_t n = subject_token(s + at, len - at);

		*ret_why = check_token(s + at, n, at + n == len, kind);
		if (++n_tokens > SUBJECT_TOKENS)
			*ret_why = "more than 16 tokens";
		n_wildcards += n == 1 && s[at] == '*';
		if (n_wildcards > SUBJECT_WILDCARDS && !*ret_why)
			*ret_why = "more than 4 wildcards `*`";
		at += n + 1;
	}
	return *ret_why ? -EINVAL : 0;
}

/* Whether a subject is one that the pattern stands for. Both are valid. */
bool subject_matches(const char *pattern, size_t pattern_len, const char *subject, size_t len)
{
	size_t p = 0, s = 0;

	if (subject_is_reserved(subject, len) &&
		is_wildcard(pattern, subject_token(pattern, pattern_len)))
		return false;
	while (p <= pattern_len && s <= len) {
		size_t np = subject_token(pattern + p, pattern_len - p);
		size_t ns = subject_token(subject + s, len - s);

		if (np == 1 && pattern[p] == '>')
			return true;
		if (!(np == 1 && pattern[p] == '*') &&
			(np != ns || memcmp(pattern + p, subject + s, np) != 0))
			return false;
		p += np + 1;
		s += ns + 1;
	}
	return p > pattern_len && s > len;
}

/* The token at `*at`, and on to the next. */
static const char *next_token(const char *s, size_t len, size_t *at, size_t *ret_len)
{
	const char *t = s + *at;

	*ret_len = subject_token(t, len - *at);
	*at += *ret_len + 1;
	return t;
}

static bool append(char *ret, size_t *used, const char *text, size_t len)
{
	size_t dot = *used > 0;

	if (*used + dot + len > SUBJECT_MAX)
		return false;
	if (dot)
		ret[(*used)++] = '.';
	memcpy(ret + *used, text, len);
	*used += len;
	ret[*used] = '\0';
	return true;
}

/*
 * The pattern of what fits two patterns, both valid: there is always a single one. Returns false when nothing fits both. What
 * tined has for its own fits no pattern that begins with a wildcard.
 */
bool subject_intersect(
	const char *a, size_t a_len, const char *b, size_t b_len, char ret[SUBJECT_MAX + 1])
{
	size_t at_a = 0, at_b = 0, used = 0;

	if (subject_is_reserved(a, a_len) != subject_is_reserved(b, b_len))
		return false;
	while (at_a <= a_len && at_b <= b_len) {
		size_t start_a = at_a, start_b = at_b, na, nb;
		const char *ta = next_token(a, a_len, &at_a, &na);
		const char *tb = next_token(b, b_len, &at_b, &nb);

		if (na == 1 && *ta == '>')
			return append(ret, &used, tb, b_len - start_b);
		if (nb == 1 && *tb == '>')
			return append(ret, &used, ta, a_len - start_a);
		if (na == 1 && *ta == '*') {
			ta = tb;
			na = nb;
		} else if (!(nb == 1 && *tb == '*') && (na != nb || memcmp(ta, tb, na) != 0)) {
			return false;
		}
		if (!append(ret, &used, ta, na))
			return false;
	}
	return at_a > a_len && at_b > b_len;
}

/* A number that stands for a subject (FNV-1a); never below 2^63, so that it is no address. */
uint64_t subject_key(const char *s, size_t len)
{
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)s[i]) * 1099511628211u;
	return h | 1ull << 63;
}

/*
 * Fuzz target: lines of text as patterns, the last one as the subject. What is valid must be so by the rules' own words, and
 * the tree of subscriptions must find what comparing one by one finds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/msg.h"
#include "ipc/subject.h"
#include "primary/subjects.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PATTERNS_MAX 16

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What a valid text cannot have. */
static void check_valid(const char *s, size_t len, bool pattern)
{
	size_t dots = 0;

	require(len > 0 && len <= SUBJECT_MAX && s[0] != '.' && s[len - 1] != '.');
	for (size_t i = 0; i < len; i++) {
		bool wild = s[i] == '*' || s[i] == '>';

		require(s[i] > ' ' && s[i] <= '~' && (pattern || !wild));
		require(!(s[i] == '.' && s[i + 1] == '.'));
		require(s[i] != '>' || i == len - 1);
		require(!wild ||
			((i == 0 || s[i - 1] == '.') && (i + 1 == len || s[i + 1] == '.')));
		dots += s[i] == '.';
	}
	require(dots < SUBJECT_TOKENS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct subscription subs[PATTERNS_MAX] = {0};
	struct {
		const char *s;
		size_t len;
	} patterns[PATTERNS_MAX];
	struct subjects *tree = subjects_new();
	const struct subject_match *m;
	const char *text = (const char *)data, *why;
	size_t n = 0, n_fit = 0;

	for (const char *lf; n < PATTERNS_MAX && size > 0 && (lf = memchr(text, '\n', size));
		text = lf + 1) {
		size_t len = (size_t)(lf - text);

		size -= len + 1;
		if (subject_check(text, len, SUBJECT_PATTERN, &why) < 0) {
			require(why != NULL);
			continue;
		}
		check_valid(text, len, true);
		patterns[n].s = text;
		patterns[n].len = len;
		require(subjects_add(tree, text, len, n % 3 ? "" : "g", n % 3 ? 0 : 1, &subs[n]) ==
			0);
		n++;
	}
	if (subject_check(text, size, SUBJECT_PLAIN, &why) == 0) {
		check_valid(text, size, false);
		for (size_t i = 0; i < n; i++)
			n_fit += subject_matches(patterns[i].s, patterns[i].len, text, size);
		require(subjects_match(tree, text, size, &m) == 0 && m->n == n_fit);
	}
	for (size_t i = 0; i < n; i++)
		subjects_remove(tree, &subs[i]);
	subjects_free(tree);
	return 0;
}

/*
 * "Did you mean": the known word nearest to a mistyped one, by edit distance (a byte put in, left
 * out, changed, or two neighbours swapped). Pure functions, any process, any thread; no memory is
 * allocated.
 */
#include "base/suggest.h"

#include <string.h>
#include <strings.h>

#define SUGGEST_WORD_MAX 48 /* longer words are never suggested, nor corrected */

static size_t min2(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The optimal string alignment distance, with three rows of the matrix kept. */
static size_t suggest_distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
	size_t rows[3][SUGGEST_WORD_MAX + 1];
	size_t *older = rows[0], *last = rows[1], *now = rows[2], *spare;

	memset(rows, 0, sizeof(rows));
	for (size_t j = 0; j <= n_b; j++)
		last[j] = j;
	for (size_t i = 1; i <= n_a; i++) {
		now[0] = i;
		for (size_t j = 1; j <= n_b; j++) {
			now[j] = min2(min2(last[j], now[j - 1]) + 1,
				last[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = min2(now[j], older[j - 2] + 1);
		}
		spare = older;
		older = last;
		last = now;
		now = spare;
	}
	return last[n_b];
}

/*
 * The word of `words` that `wrong` was probably meant to be, or NULL when none is near: at most a
 * third of its bytes may differ, and never more than three. Returns one of `words`.
 */
const char *suggest_word(const char *wrong, const char *const *words, size_t n_words)
{
	size_t n_wrong = strlen(wrong), best = 4;
	const char *found = NULL;

	if (n_wrong > SUGGEST_WORD_MAX)
		return NULL;
	for (size_t i = 0; i < n_words; i++) {
		size_t n = strlen(words[i]), d;

		if (n > SUGGEST_WORD_MAX)
			continue;
		if (strcasecmp(wrong, words[i]) == 0)
			return words[i];
		d = suggest_distance(wrong, n_wrong, words[i], n);
		if (d < best && d * 3 <= n) {
			best = d;
			found = words[i];
		}
	}
	return found;
}

/* The tree of subscriptions finds what a walk over all patterns finds, whatever comes and goes. */
#include <stdio.h>
#include <string.h>

#include "ipc/subject.h"
#include "primary/subjects.h"
#include "run.h"

static struct subjects *s;

static void add_to(const char *pattern, const char *group, struct subscription *sub)
{
	ck_assert_int_eq(
		subjects_add(s, pattern, strlen(pattern), group, group ? strlen(group) : 0, sub),
		0);
}

static const struct subject_match *match(const char *subject)
{
	const struct subject_match *m;

	ck_assert_int_eq(subjects_match(s, subject, strlen(subject), &m), 0);
	return m;
}

static void count_patterns(
	const char *pattern, size_t len, size_t n, const struct subject_figures *figures, void *arg)
{
	size_t *total = arg;

	ck_assert(len > 0 && len <= SUBJECT_MAX);
	*total += n;
}

/* Patterns and subjects made of three tokens of a small alphabet: they meet often. */
static void make(char *ret, unsigned seed, bool pattern)
{
	static const char *const tokens[] = {"a", "b", "$c", "*", ">"};
	unsigned n = 1 + seed % 3;

	ret[0] = '\0';
	for (unsigned i = 0; i < n; i++) {
		unsigned t = (seed >> (4 + 4 * i)) % (pattern ? 5 : 3);

		if (t == 4 && i + 1 < n)
			t = 3;
		strcat(ret, i ? "." : "");
		strcat(ret, tokens[t]);
	}
}

#define N 200

START_TEST(test_tree_and_walk_agree)
{
	static struct subscription subs[N];
	static char patterns[N][16];
	static bool there[N];
	unsigned random = 12345;
	size_t n_there = 0, total = 0;

	s = subjects_new();
	for (unsigned step = 0; step < 20000; step++) {
		unsigned i, n = 0;
		char subject[16];

		random = random * 1103515245 + 12345;
		i = (random >> 8) % N;
		if (there[i]) {
			subjects_remove(s, &subs[i]);
		} else {
			make(patterns[i], random >> 16, true);
			add_to(patterns[i], i % 5 ? NULL : "g", &subs[i]);
		}
		there[i] = !there[i];
		make(subject, random >> 12, false);
		for (unsigned j = 0; j < N; j++)
			n += there[j] &&
				subject_matches(
					patterns[j], strlen(patterns[j]), subject, strlen(subject));
		ck_assert_uint_eq(match(subject)->n, n);
		ck_assert_uint_eq(match(subject)->cost, 0); /* it was remembered */
	}
	for (unsigned j = 0; j < N; j++)
		n_there += there[j];
	subjects_foreach(s, count_patterns, &total);
	ck_assert_uint_eq(total, n_there);
	for (unsigned j = 0; j < N; j++)
		subjects_remove(s, &subs[j]);
	total = 0;
	subjects_foreach(s, count_patterns, &total);
	ck_assert_uint_eq(total, 0);
	s = subjects_free(s);
}
END_TEST

START_TEST(test_groups_lie_together)
{
	struct subscription subs[6] = {0};
	const struct subject_match *m;

	s = subjects_new();
	add_to("a.*", "x", &subs[0]);
	add_to("a.b", "y", &subs[1]);
	add_to("a.b", NULL, &subs[2]);
	add_to("a.>", "x", &subs[3]);
	add_to(">", NULL, &subs[4]);
	add_to("a.b", "y", &subs[5]);
	m = match("a.b");
	ck_assert_uint_eq(m->n, 6);
	ck_assert_uint_eq(m->n_alone, 2);
	ck_assert(!m->subs[0]->group && !m->subs[1]->group);
	ck_assert(m->subs[2]->group == m->subs[3]->group && m->subs[4]->group == m->subs[5]->group);
	ck_assert_ptr_ne(m->subs[3]->group, m->subs[4]->group);
	ck_assert_uint_eq(subject_group_turn(subs[0].group) + 1, subject_group_turn(subs[3].group));
	for (size_t i = 0; i < 6; i++)
		subjects_remove(s, &subs[i]);
	s = subjects_free(s);
}
END_TEST

START_TEST(test_more_than_can_be_remembered)
{
	static struct subscription subs[3000];

	s = subjects_new();
	for (size_t i = 0; i < 3000; i++)
		add_to("many", NULL, &subs[i]);
	ck_assert_uint_eq(match("many")->n, 3000);
	ck_assert_uint_eq(match("none")->n, 0);
	ck_assert_uint_eq(match("many")->n, 3000);
	for (size_t i = 0; i < 3000; i++)
		subjects_remove(s, &subs[i]);
	ck_assert_uint_eq(match("many")->n, 0);
	s = subjects_free(s);
}
END_TEST

/* More nodes than the table has room for at first, several below each other. */
START_TEST(test_many_nodes)
{
	static struct subscription subs[3000];
	char pattern[64];
	size_t total = 0;

	s = subjects_new();
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(pattern, sizeof(pattern), "%u.%u.%u.*", i % 10, i, i);
		add_to(pattern, NULL, &subs[i]);
	}
	subjects_foreach(s, count_patterns, &total);
	ck_assert_uint_eq(total, 3000);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(pattern, sizeof(pattern), "%u.%u.%u.x", i % 10, i, i);
		ck_assert_uint_eq(match(pattern)->n, 1);
		ck_assert_ptr_eq(match(pattern)->subs[0], &subs[i]);
		snprintf(pattern, sizeof(pattern), "%u.%u.%u.x", i % 10, i, i + 1);
		ck_assert_uint_eq(match(pattern)->n, 0);
	}
	for (unsigned i = 0; i < 3000; i++) {
		subjects_remove(s, &subs[i]);
		snprintf(pattern, sizeof(pattern), "%u.%u.%u.x", i % 10, i, i);
		ck_assert_uint_eq(match(pattern)->n, 0);
	}
	total = 0;
	subjects_foreach(s, count_patterns, &total);
	ck_assert_uint_eq(total, 0);
	s = subjects_free(s);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_tree_and_walk_agree);
	tcase_add_test(tc, test_groups_lie_together);
	tcase_add_test(tc, test_more_than_can_be_remembered);
	tcase_add_test(tc, test_many_nodes);
}

int main(void)
{
	return run_tests("relay_subjects", add);
}

/*
 * The tree of subscriptions. Runs in the primary. A pattern's tokens are the way from the root to its node; wildcards are
 * tokens like others. A node lives as long as there is a subscription at or below it. One table has all nodes, by parent and
 * token: most have one child or none, and a process may have us make 16 for each of its subscriptions.
 * What was found for a subject is remembered until the next subscription comes or goes.
 */
#include "primary/subjects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM            1 /* what could not be added has no table */
#define HASH_FUNCTION(key, len, ret) (ret) = (unsigned)keyed_hash(0, key, len)
#include <uthash.h>

#include "base/keyed_hash.h"
#include "ipc/subject.h"

#define REMEMBERED     256  /* subjects; a power of two */
#define REMEMBERED_MAX 1024 /* subscriptions of one that is remembered */
#define BUCKETS        1024 /* at first; a power of two */

struct subject_node {
	struct subject_node *next; /* in its bucket */
	struct subject_node *parent;
	uint64_t hash;
	LIST_HEAD(, subscription) subs;
	struct subject_figures *figures; /* NULL: nobody has subscribed to just this yet */
	uint32_t n_subs, n_children;
	uint8_t len;
	char token[];
};

struct subject_group {
	UT_hash_handle hh;
	size_t n_members, turn;
	size_t len;
	char name[];
};

struct remembered {
	struct subject_match match;
	uint64_t version; /* of the tree; 0: nothing */
	size_t size, len;
	char subject[SUBJECT_MAX];
};

struct subjects {
	struct subject_node *root; /* in no bucket */
	struct subject_node **buckets;
	size_t n_buckets, n_nodes;
	struct subject_group *groups;
	uint64_t version;
	struct remembered remembered[REMEMBERED];
	struct remembered large; /* what is not worth remembering */
};

/* --- the table of nodes --- */

static struct subject_node **bucket_of(const struct subjects *s, uint64_t hash)
{
	return &s->buckets[hash & (s->n_buckets - 1)];
}

static uint64_t hash_of(const struct subject_node *parent, const char *token, size_t len)
{
	return keyed_hash((uintptr_t)parent, token, len);
}

/* NULL: there is none. */
static struct subject_node *child_of(
	const struct subjects *s, const struct subject_node *n, const char *token, size_t len)
{
	struct subject_node *child;
	uint64_t hash;

	if (n->n_children == 0)
		return NULL;
	hash = hash_of(n, token, len);
	for (child = *bucket_of(s, hash); child; child = child->next) {
		if (child->hash == hash && child->parent == n && child->len == len &&
			memcmp(child->token, token, len) == 0)
			return child;
	}
	return NULL;
}

static void table_put(struct subjects *s, struct subject_node *n)
{
	struct subject_node **b = bucket_of(s, n->hash);

	n->next = *b;
	*b = n;
}

/* Makes the table twice as large. If there is no memory for that, buckets get longer. */
static void table_grow(struct subjects *s)
{
	struct subject_node **old = s->buckets, *n, *next;
	struct subject_node **grown = calloc(2 * s->n_buckets, sizeof(*grown));
	size_t n_old = s->n_buckets;

	if (!grown)
		return;
	s->buckets = grown;
	s->n_buckets *= 2;
	for (size_t i = 0; i < n_old; i++) {
		for (n = old[i]; n; n = next) {
			next = n->next;
			table_put(s, n);
		}
	}
	free(old);
}

static void table_take(struct subjects *s, const struct subject_node *n)
{
	struct subject_node **at = bucket_of(s, n->hash);

	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	s->n_nodes--;
}

/* --- nodes --- */

/* parent NULL: the root. NULL: out of memory. */
static struct subject_node *node_new(
	struct subjects *s, struct subject_node *parent, const char *token, size_t len)
{
	struct subject_node *n = calloc(1, sizeof(*n) + len);

	if (!n)
		return NULL;
	n->parent = parent;
	n->len = (uint8_t)len; /* of a valid pattern: at most 255 */
	memcpy(n->token, token, len);
	LIST_INIT(&n->subs);
	if (!parent)
		return n;
	if (s->n_nodes >= s->n_buckets)
		table_grow(s);
	n->hash = hash_of(parent, token, len);
	table_put(s, n);
	s->n_nodes++;
	parent->n_children++;
	return n;
}

static void node_free(struct subject_node *n)
{
	if (!n)
		return;
	free(n->figures);
	free(n);
}

/* Frees a node that is of no use any more, and its parents. */
static void node_prune(struct subjects *s, struct subject_node *n)
{
	while (n->parent && n->n_subs == 0 && n->n_children == 0) {
		struct subject_node *parent = n->parent;

		table_take(s, n);
		parent->n_children--;
		node_free(n);
		n = parent;
	}
}

static void free_all_nodes(struct subjects *s)
{
	struct subject_node *n, *next;

	for (size_t i = 0; i < s->n_buckets; i++) {
		for (n = s->buckets[i]; n; n = next) {
			next = n->next;
			node_free(n);
		}
	}
	node_free(s->root);
	free(s->buckets);
}

struct subjects *subjects_new(void)
{
	struct subjects *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->version = 1;
	s->buckets = calloc(BUCKETS, sizeof(struct subject_node *));
	s->n_buckets = s->buckets ? BUCKETS : 0;
	s->root = node_new(s, NULL, "", 0);
	return s->buckets && s->root ? s : subjects_free(s);
}

/* Subscriptions that are still in it are not touched. */
struct subjects *subjects_free(struct subjects *s)
{
	struct subject_group *g, *next;

	if (!s)
		return NULL;
	free_all_nodes(s);
	HASH_ITER(hh, s->groups, g, next)
	{
		HASH_DEL(s->groups, g);
		free(g);
	}
	for (size_t i = 0; i < REMEMBERED; i++)
		free(s->remembered[i].match.subs);
	free(s->large.match.subs);
	free(s);
	return NULL;
}

/* The node of a pattern, made when it is not there. NULL: out of memory. */
static struct subject_node *node_for(struct subjects *s, const char *pattern, size_t len)
{
	struct subject_node *n = s->root, *child;

	for (size_t at = 0, size; at <= len; at += size + 1) {
		size = subject_token(pattern + at, len - at);
		child = child_of(s, n, pattern + at, size);
		if (!child)
			child = node_new(s, n, pattern + at, size);
		if (!child)
			break;
		n = child;
		if (at + size == len && !n->figures)
			n->figures = calloc(1, sizeof(*n->figures));
		if (at + size == len && n->figures)
			return n;
	}
	node_prune(s, n);
	return NULL;
}

static struct subject_group *group_for(struct subjects *s, const char *name, size_t len)
{
	struct subject_group *g;

	HASH_FIND(hh, s->groups, name, len, g);
	if (g)
		return g;
	g = calloc(1, sizeof(*g) + len);
	if (!g)
		return NULL;
	g->len = len;
	memcpy(g->name, name, len);
	HASH_ADD_KEYPTR(hh, s->groups, g->name, g->len, g);
	if (g->hh.tbl)
		return g;
	free(g);
	return NULL;
}

static void group_leave(struct subjects *s, struct subject_group *g)
{
	if (!g || --g->n_members > 0)
		return;
	HASH_DEL(s->groups, g);
	free(g);
}

/* The pattern is valid. group_len 0: no queue group. Returns 0 or -ENOMEM. */
int subjects_add(struct subjects *s, const char *pattern, size_t len, const char *group,
	size_t group_len, struct subscription *sub)
{
	struct subject_group *g = group_len > 0 ? group_for(s, group, group_len) : NULL;
	struct subject_node *n;

	if (group_len > 0 && !g)
		return -ENOMEM;
	if (g)
		g->n_members++;
	n = node_for(s, pattern, len);
	if (!n) {
		group_leave(s, g);
		return -ENOMEM;
	}
	LIST_INSERT_HEAD(&n->subs, sub, link);
	n->n_subs++;
	sub->node = n;
	sub->group = g;
	s->version++;
	return 0;
}

void subjects_remove(struct subjects *s, struct subscription *sub)
{
	if (!sub->node)
		return;
	LIST_REMOVE(sub, link);
	sub->node->n_subs--;
	node_prune(s, sub->node);
	group_leave(s, sub->group);
	sub->node = NULL;
	sub->group = NULL;
	s->version++;
}

/* --- finding --- */

static int take_all(struct remembered *m, const struct subject_node *n)
{
	struct subscription *sub;

	if (m->match.n + n->n_subs > m->size) {
		size_t size = 2 * (m->match.n + n->n_subs);
		struct subscription **grown = realloc(m->match.subs, size * sizeof(sub));

		if (!grown)
			return -ENOMEM;
		m->match.subs = grown;
		m->size = size;
	}
	LIST_FOREACH (sub, &n->subs, link)
		m->match.subs[m->match.n++] = sub;
	m->match.cost += n->n_subs;
	return 0;
}

static int walk(
	const struct subjects *s, struct remembered *m, const struct subject_node *n, size_t at);

/* Goes on below a child, if there is one of that name. */
static int walk_child(const struct subjects *s, struct remembered *m, const struct subject_node *n,
	const char *token, size_t len, size_t next)
{
	struct subject_node *child = child_of(s, n, token, len);

	return child ? walk(s, m, child, next) : 0;
}

/* Takes all that fits the subject from `at` on. As deep as a subject has tokens. */
static int walk(
	const struct subjects *s, struct remembered *m, const struct subject_node *n, size_t at)
{
	size_t len;
	int r = 0;

	m->match.cost++;
	if (at > m->len)
		return take_all(m, n);
	len = subject_token(m->subject + at, m->len - at);
	if (at > 0 || !subject_is_reserved(m->subject, m->len)) {
		r = walk_child(s, m, n, ">", 1, m->len + 1);
		if (r == 0)
			r = walk_child(s, m, n, "*", 1, at + len + 1);
	}
	return r < 0 ? r : walk_child(s, m, n, m->subject + at, len, at + len + 1);
}

/* Those in no group first. */
static int compare_groups(const void *a, const void *b)
{
	const struct subject_group *x = (*(struct subscription *const *)a)->group;
	const struct subject_group *y = (*(struct subscription *const *)b)->group;

	return x == y ? 0 : (uintptr_t)x < (uintptr_t)y ? -1 : 1;
}

static int find(struct subjects *s, struct remembered *m, const char *subject, size_t len)
{
	int r;

	m->version = 0;
	m->match.n = m->match.n_alone = m->match.cost = 0;
	m->len = len;
	memcpy(m->subject, subject, len);
	r = walk(s, m, s->root, 0);
	if (r < 0)
		return r;
	if (s->groups && m->match.n > 1)
		qsort(m->match.subs, m->match.n, sizeof(*m->match.subs), compare_groups);
	while (m->match.n_alone < m->match.n && !m->match.subs[m->match.n_alone]->group)
		m->match.n_alone++;
	return 0;
}

/*
 * Finds the subscriptions that a valid subject fits. The answer holds until the next call, or until a subscription comes or
 * goes. Returns 0 or -ENOMEM.
 */
int subjects_match(
	struct subjects *s, const char *subject, size_t len, const struct subject_match **ret)
{
	struct remembered *m = &s->remembered[subject_key(subject, len) % REMEMBERED];
	int r;

	if (m->version == s->version && m->len == len && memcmp(m->subject, subject, len) == 0) {
		m->match.cost = 0;
		*ret = &m->match;
		return 0;
	}
	r = find(s, m, subject, len);
	if (r < 0)
		return r;
	m->version = s->version;
	*ret = &m->match;
	if (m->match.n > REMEMBERED_MAX) { /* handed out once, from a place of its own */
		struct remembered old = s->large;

		s->large = *m;
		*m = old;
		m->version = 0;
		*ret = &s->large.match;
	}
	return 0;
}

/* Whose turn it is: counts on and on. */
size_t subject_group_turn(struct subject_group *g)
{
	return g->turn++;
}

const char *subject_group_name(const struct subject_group *g, size_t *ret_len)
{
	*ret_len = g->len;
	return g->name;
}

/* --- figures --- */

struct subject_figures *subject_node_figures(struct subject_node *n)
{
	return n->figures;
}

/* The pattern that leads to a node. Returns its length. */
static size_t pattern_of(const struct subject_node *n, char ret[SUBJECT_MAX])
{
	size_t at = SUBJECT_MAX, len;

	for (; n->parent; n = n->parent) { /* from the end */
		if (at < SUBJECT_MAX)
			ret[--at] = '.';
		at -= n->len;
		memcpy(ret + at, n->token, n->len);
	}
	len = SUBJECT_MAX - at;
	memmove(ret, ret + at, len);
	return len;
}

/* Every pattern, its subscriptions and figures, in no order; fn changes nothing. */
void subjects_foreach(const struct subjects *s, subjects_fn fn, void *arg)
{
	char text[SUBJECT_MAX];

	for (size_t i = 0; i < s->n_buckets; i++) {
		for (const struct subject_node *n = s->buckets[i]; n; n = n->next) {
			if (n->n_subs > 0)
				fn(text, pattern_of(n, text), n->n_subs, n->figures, arg);
		}
	}
}

/*
 * Limits per key. Workers, and their threads; no locks.
 *
 * The table is a hash table of buckets with room for WAYS keys each. An entry is two words: the hash of the key, and a number that
 * says all about it. Both kinds of limit have a number that, as time goes by, comes to mean "as if it had never been here":
 *
 *   window  the number of the window and what was taken in it; means nothing once another window has begun
 *   bucket  the time at which the bucket will be full again (the "theoretical arrival time" of GCRA, ITU-T I.371);
 *           means nothing once that has passed
 *
 * So an entry that means nothing is free for another key, whose hash is put there with one compare-and-swap and for
 * which the old number is as good as none. Taking is a compare-and-swap of the number. A worker can die anywhere in this.
 * When all entries of a bucket mean something, the one that means least gives way. A number that nobody can have
 * written by the rules is taken for the highest that somebody can: what garbage does is over in one period.
 */
#include "shared/limiter.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/siphash.h"
#include "base/sized.h"

#define WAYS          16
#define LOAD          8 /* keys in a bucket on average, at most */
#define AMOUNT_MAX    UINT64_C(1000000000)
#define KEYS_MAX      (UINT64_C(1) << 24)
#define PERIOD_MIN_US UINT64_C(1000)
#define PERIOD_MAX_US (UINT64_C(366) * 24 * 3600 * 1000000)
#define SLACK_NS      UINT64_C(1000000000) /* for those who have read the clock a while ago */
#define CLAIMS_MAX    8                    /* attempts to get an entry that others want, too */

struct limiter_entry {
	_Atomic uint64_t key; /* 0: never used */
	_Atomic uint64_t number;
};

struct limiter_bucket {
	_Alignas(64) struct limiter_entry entries[WAYS];
};

/* What is in the area. */
struct limiter_table {
	_Alignas(64) _Atomic uint64_t n_forgotten;
	struct limiter_bucket buckets[];
};

/* What became of a number. */
struct step {
	bool allowed;
	uint64_t next; /* the number to be */
	uint64_t left;
	uint64_t wait_ns; /* if not allowed */
};

struct tine_limit {
	const struct limiter_rules *rules;
	struct limiter_table *table;
	uint64_t mask; /* of the hash, for the bucket */
	uint64_t seed[2];
	uint64_t max; /* that may be taken at once */
	uint64_t period_ns;
	uint64_t interval_ns; /* bucket: from one unit to the next */
	uint64_t full_ns;     /* bucket: from empty to full */
};

struct limiter_rules {
	char letter; /* in the name of the area */
	struct step (*step)(
		const struct tine_limit *l, uint64_t number, uint64_t cost, uint64_t now_ns);
	/* How much a number still means; 0: nothing. */
	uint64_t (*weight)(const struct tine_limit *l, uint64_t number, uint64_t now_ns);
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* --- windows: its number in the upper half, what was taken in the lower --- */

/* The one that counts: the next one for who has read the clock before the border and comes after those behind it. */
static uint64_t window_at(const struct tine_limit *l, uint64_t number, uint64_t now_ns)
{
	uint64_t window = now_ns / l->period_ns, next = window + 1;

	return number >> 32 == (uint32_t)next && next * l->period_ns - now_ns <= SLACK_NS ? next
											  : window;
}

static uint64_t window_weight(const struct tine_limit *l, uint64_t number, uint64_t now_ns)
{
	if (number >> 32 != (uint32_t)window_at(l, number, now_ns))
		return 0;
	return least((uint32_t)number, l->max);
}

static struct step window_step(
	const struct tine_limit *l, uint64_t number, uint64_t cost, uint64_t now_ns)
{
	uint64_t window = window_at(l, number, now_ns);
	uint64_t taken = window_weight(l, number, now_ns);

	if (cost > l->max - taken)
		return (struct step){.next = number,
			.left = l->max - taken,
			.wait_ns = (window + 1) * l->period_ns - now_ns};
	return (struct step){.allowed = true,
		.next = cost > 0 ? window << 32 | (taken + cost) : number,
		.left = l->max - taken - cost};
}

/* --- buckets: when it will be full again --- */

static uint64_t bucket_weight(const struct tine_limit *l, uint64_t number, uint64_t now_ns)
{
	return number > now_ns ? least(number - now_ns, l->full_ns) : 0;
}

static struct step bucket_step(
	const struct tine_limit *l, uint64_t number, uint64_t cost, uint64_t now_ns)
{
	uint64_t missing_ns = bucket_weight(l, number, now_ns);
	uint64_t wanted_ns = missing_ns + cost * l->interval_ns;

	/* garbage, or of a larger burst: it is empty, but from now on */
	if (number > now_ns + l->full_ns + SLACK_NS)
		number = now_ns + l->full_ns;
	if (wanted_ns > l->full_ns)
		return (struct step){.next = number,
			.left = (l->full_ns - missing_ns) / l->interval_ns,
			.wait_ns = wanted_ns - l->full_ns};
	return (struct step){.allowed = true,
		.next = cost > 0 ? now_ns + wanted_ns : number,
		.left = (l->full_ns - wanted_ns) / l->interval_ns};
}

static const struct limiter_rules rules[] = {
	[TINE_LIMIT_BUCKET] = {'b', bucket_step, bucket_weight},
	[TINE_LIMIT_WINDOW] = {'w', window_step, window_weight},
};

/* --- the table --- */

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static bool swap(_Atomic uint64_t *word, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong_explicit(
		word, &from, to, memory_order_relaxed, memory_order_relaxed);
}

/*
 * The i-th entry in which a key is looked for. Each key begins somewhere else (with other bits of the hash than those that chose the
 * bucket): it is mostly found at once, and two new ones seldom want the same place.
 */
static struct limiter_entry *entry_of(struct limiter_bucket *b, uint64_t key, unsigned i)
{
	return &b->entries[((key >> 60) + i) % WAYS];
}

static struct limiter_entry *find_key(struct limiter_bucket *b, uint64_t key)
{
	for (unsigned i = 0; i < WAYS; i++) {
		struct limiter_entry *e = entry_of(b, key, i);

		if (load(&e->key) == key)
			return e;
	}
	return NULL;
}

/* The entry that means least, the first of several; *ret_weight says how much. */
static struct limiter_entry *find_lightest(const struct tine_limit *l, struct limiter_bucket *b,
	uint64_t key, uint64_t now_ns, uint64_t *ret_weight)
{
	struct limiter_entry *found = NULL;
	uint64_t least_yet = UINT64_MAX;

	for (unsigned i = 0; i < WAYS; i++) {
		struct limiter_entry *e = entry_of(b, key, i);
		uint64_t weight = l->rules->weight(l, load(&e->number), now_ns);

		if (weight < least_yet) {
			found = e;
			least_yet = weight;
		}
		if (weight == 0)
			break;
	}
	*ret_weight = least_yet;
	return found;
}

/* Gets an entry for a key that has none. Returns NULL when others were always faster. */
static struct limiter_entry *claim(
	struct tine_limit *l, struct limiter_bucket *b, uint64_t key, uint64_t now_ns)
{
	for (unsigned i = 0; i < CLAIMS_MAX; i++) {
		uint64_t weight;
		struct limiter_entry *e = find_lightest(l, b, key, now_ns, &weight);
		uint64_t old = load(&e->key), number = load(&e->number);

		if (weight > 0 && !swap(&e->number, number, 0))
			continue;
		if (swap(&e->key, old, key)) {
			if (weight > 0)
				atomic_fetch_add_explicit(
					&l->table->n_forgotten, 1, memory_order_relaxed);
			return e;
		}
		e = find_key(b, key); /* another worker may have been asked about the same one */
		if (e)
			return e;
	}
	return NULL;
}

/* --- what others may call --- */

static int answer(const struct step *s, struct tine_limit_answer *ret)
{
	if (ret)
		*ret = (struct tine_limit_answer){
			.left = s->left, .retry_us = s->allowed ? 0 : (s->wait_ns + 999) / 1000};
	return s->allowed ? 0 : TINE_LIMITED;
}

/*
 * Takes `cost` of what a key may do. now_ns: CLOCK_MONOTONIC. ret may be NULL. Returns 0, TINE_LIMITED, or -E2BIG. Any thread.
 */
int limiter_take(struct tine_limit *l, const void *key, size_t len, uint64_t cost, uint64_t now_ns,
	struct tine_limit_answer *ret)
{
	uint64_t hash = siphash(l->seed, key, len);
	struct limiter_bucket *b = &l->table->buckets[hash & l->mask];
	struct limiter_entry *e;
	struct step s;
	uint64_t number;

	if (cost > l->max)
		return -E2BIG;
	hash = hash ? hash : 1;
	e = find_key(b, hash);
	if (!e && cost > 0)
		e = claim(l, b, hash, now_ns);
	do {
		number = e ? load(&e->number) : 0;
		s = l->rules->step(l, number, cost, now_ns);
	} while (e && s.next != number && !swap(&e->number, number, s.next));
	return answer(&s, ret);
}

uint64_t limiter_forgotten(const struct tine_limit *l)
{
	return load(&l->table->n_forgotten);
}

static __attribute__((format(printf, 3, 4))) int refuse(
	char why[ARENA_WHY_MAX], const char *name, const char *fmt, ...)
{
	int n = snprintf(why, ARENA_WHY_MAX, "limit \"%.63s\": ", name);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why + n, ARENA_WHY_MAX - (size_t)n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int take_options(const char *name, const struct tine_limit_options *given,
	struct tine_limit_options *o, char why[ARENA_WHY_MAX])
{
	int r = SIZED_TAKE(o, given, keys);

	if (r < 0) {
		refuse(why, name, "its options have %zu bytes, not %zu; build the module anew",
			given->size, sizeof(*o));
		return r;
	}
	if (o->kind != TINE_LIMIT_BUCKET && o->kind != TINE_LIMIT_WINDOW)
		return refuse(why, name, "there is no kind %d", (int)o->kind);
	if (o->amount < 1 || o->amount > AMOUNT_MAX || o->burst > AMOUNT_MAX)
		return refuse(why, name, "amount and burst must be 1 to %" PRIu64, AMOUNT_MAX);
	if (o->period_us < PERIOD_MIN_US || o->period_us > PERIOD_MAX_US)
		return refuse(why, name, "the period must be 1ms to 366d");
	if (o->keys < 1 || o->keys > KEYS_MAX)
		return refuse(why, name, "keys must be 1 to %" PRIu64, KEYS_MAX);
	if (o->kind == TINE_LIMIT_WINDOW && o->burst > 0)
		return refuse(why, name, "a window has no burst");
	if (o->kind == TINE_LIMIT_BUCKET && o->amount > o->period_us)
		return refuse(why, name, "more than one every microsecond is not possible");
	return 0;
}

/* Fills in what follows from the options. */
static int set_rules(struct tine_limit *l, const char *name, const struct tine_limit_options *o,
	char why[ARENA_WHY_MAX])
{
	l->rules = &rules[o->kind];
	l->max = o->burst ? o->burst : o->amount;
	l->period_ns = o->period_us * 1000;
	l->interval_ns = (l->period_ns + o->amount / 2) / o->amount;
	if (__builtin_mul_overflow(l->max, l->interval_ns, &l->full_ns) ||
		l->full_ns > PERIOD_MAX_US * 1000 * 4)
		return refuse(why, name,
			"it would take more than four years until the burst is "
			"full again; lower it");
	return 0;
}

/*
 * Finds the table of a limit, or makes it. One thread at a time. Returns 0 with *ret, which lives until
 * arena_detach(), or -errno and why.
 */
int limiter_find(struct arena *a, const char *name, const struct tine_limit_options *given,
	struct tine_limit **ret, char why[ARENA_WHY_MAX])
{
	struct tine_limit l = {0};
	struct arena_request q = {.name = name, .kind = ARENA_LIMIT};
	struct tine_shared *area;
	struct tine_limit_options o;
	uint64_t n_buckets = 1;
	char suffix[24];
	int r = take_options(name, given, &o, why);

	if (r < 0)
		return r;
	r = set_rules(&l, name, &o, why);
	if (r < 0)
		return r;
	while (n_buckets * LOAD < o.keys)
		n_buckets *= 2;
	q.size = sizeof(struct limiter_table) + n_buckets * sizeof(struct limiter_bucket);
	snprintf(suffix, sizeof(suffix), "#%c%" PRIu64, l.rules->letter, n_buckets);
	q.suffix = suffix;
	r = arena_find(a, &q, &area, why);
	if (r < 0)
		return r;
	l.table = area->data;
	l.mask = n_buckets - 1;
	memcpy(l.seed, arena_seed(a), sizeof(l.seed));
	*ret = arena_alloc(a, sizeof(l));
	if (!*ret)
		return -ENOMEM;
	**ret = l;
	return 0;
}

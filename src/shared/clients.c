/*
 * Connections per client address. Mapped by the primary for a generation with max_per_client,
 * written by its workers. An address is known by a hash with a secret in it, so that nobody can look
 * for addresses that share one.
 *
 * A hash belongs to one bucket, which is a cache line of eight words, each a hash and its count: they
 * are read and written together, so a reader never sees one without the other, and a look at another
 * worker costs one cache miss. A hash that finds its bucket full is not counted; the table is large
 * enough for that to be rare even if each connection comes from somewhere else.
 */
#include "shared/clients.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define BUCKET_WORDS 8
#define COUNT_BITS   16
#define COUNT_MAX    ((UINT64_C(1) << COUNT_BITS) - 1)

struct clients_bucket {
	_Alignas(64) _Atomic uint64_t words[BUCKET_WORDS]; /* hash << COUNT_BITS | count; 0: free */
};

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void store(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static size_t slot_size(const struct clients *c)
{
	return c->n_buckets * sizeof(struct clients_bucket);
}

static struct clients_bucket *find_bucket(const struct clients *c, size_t slot, uint64_t key)
{
	assert(slot < c->n_slots);
	return &c->buckets[slot * c->n_buckets + ((key >> COUNT_BITS) & (c->n_buckets - 1))];
}

/* The word of a key in its bucket, or NULL. */
static _Atomic uint64_t *find_word(struct clients_bucket *b, uint64_t key)
{
	for (int i = 0; i < BUCKET_WORDS; i++)
		if ((load(&b->words[i]) & ~COUNT_MAX) == key)
			return &b->words[i];
	return NULL;
}

/*
 * Maps tables for n_slots children of max_connections each, all empty. Memory is used only for what
 * is written to. Returns 0 with *ret for clients_free(), or -errno.
 */
int clients_new(size_t n_slots, uint64_t max_connections, struct clients *ret)
{
	struct clients c = {.n_slots = n_slots, .n_buckets = 64}; /* 64 of them: a page, or more */
	int r;

	while (c.n_buckets < max_connections / 4)
		c.n_buckets *= 2;
	if (getrandom(c.seed, sizeof(c.seed), 0) != (ssize_t)sizeof(c.seed))
		return -errno;
	r = segment_new("tined-clients", n_slots * slot_size(&c), &c.segment);
	c.buckets = c.segment.memory;
	*ret = c;
	return r;
}

/* In this process; in others the memory stays as long as they do. */
void clients_free(struct clients *c)
{
	segment_free(&c->segment);
	c->buckets = NULL;
}

/* In a child: from here on it can write to its own table alone. Returns 0 or -errno. */
int clients_confine(const struct clients *c, size_t slot)
{
	return c->buckets
		? segment_confine(&c->segment, c->buckets + slot * c->n_buckets, slot_size(c))
		: 0;
}

/* For a new child, and when one has ended: gives the slot's memory back, and so sets it to zero. */
void clients_clear(struct clients *c, size_t slot)
{
	struct clients_bucket *b = c->buckets + slot * c->n_buckets;

	if (c->buckets && madvise(b, slot_size(c), MADV_REMOVE) < 0)
		memset(b, 0, slot_size(c));
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
	x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
	return x ^ x >> 32;
}

/* What an address is counted under; 0: it is not (a Unix socket, or not known). IPv6 is counted by its /64. */
uint64_t clients_key(const struct clients *c, const struct peer *p)
{
	uint64_t x = 0, key;

	if (!c->buckets || (p->family != AF_INET && p->family != AF_INET6))
		return 0;
	memcpy(&x, p->addr, p->family == AF_INET ? 4 : 8);
	key = mix(mix(x ^ c->seed[0]) ^ c->seed[1] ^ p->family) & ~COUNT_MAX;
	return key ? key : COUNT_MAX + 1;
}

/* One more connection of our own. Returns false when it could not be counted: then nothing is to be removed. */
bool clients_add(struct clients *c, size_t slot, uint64_t key)
{
	struct clients_bucket *b;
	_Atomic uint64_t *word;

	if (key == 0)
		return false;
	b = find_bucket(c, slot, key);
	word = find_word(b, key);
	if (word) {
		if ((load(word) & COUNT_MAX) == COUNT_MAX)
			return false;
		store(word, load(word) + 1);
		return true;
	}
	word = find_word(b, 0);
	if (word)
		store(word, key + 1);
	return word != NULL;
}

/* One that clients_add() counted is gone. */
void clients_remove(struct clients *c, size_t slot, uint64_t key)
{
	_Atomic uint64_t *word = find_word(find_bucket(c, slot, key), key);
	uint64_t count = word ? load(word) & COUNT_MAX : 0;

	if (count > 0)
		store(word, count == 1 ? 0 : key + count - 1);
}

/* Connections under a key in the first n_slots slots; a hint, for others may be writing. */
uint64_t clients_count(const struct clients *c, uint64_t key, size_t n_slots)
{
	uint64_t n = 0;

	for (size_t i = 0; i < n_slots && key != 0; i++) {
		_Atomic uint64_t *word = find_word(find_bucket(c, i, key), key);

		n += word ? load(word) & COUNT_MAX : 0;
	}
	return n;
}

/*
 * What a worker may leave in the directory of the shared memory: any bytes at all. The first byte says which sums are put right
 * again, or nothing would ever get past them; the rest is the beginning of the memory. Whatever is found or listed must
 * lie within the memory, behind the directory, and beside all others.
 */
#include "shared/arena.c" /* for its sums */

#include <assert.h>

#include "shared/gauge.h"
#include "shared/limiter.h"

#define SIZE (UINT64_C(1) << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fd = -1;

static void prepare(struct directory *d, const uint8_t *data, size_t size)
{
	uint8_t flags = data[0];

	memset((void *)d, 0, 4096);
	memcpy((void *)d, data + 1, size - 1);
	d->lock = 0; /* it might name us, and have us wait */
	if (flags & 1)
		d->head = (struct head){.magic = MAGIC, .layout = ARENA_LAYOUT, .size = SIZE};
	if (flags & 1)
		d->head.sum = sum_head(&d->head);
	if (flags & 2)
		d->n_entries %= 4;
	for (unsigned i = 0; flags & 4 && i < 3; i++)
		d->entries[i].sum = sum_entry(&d->entries[i]);
}

static void check_place(const struct arena *a, const void *data, size_t size)
{
	const char *base = (const char *)a->directory, *p = data;

	assert(size > 0 && p >= base + first_offset() && p + size <= base + SIZE);
	assert((uintptr_t)p % ALIGN == 0);
}

static void list(const struct arena *a)
{
	struct arena_listing l = {0};
	const char *end = NULL;

	while (arena_list(a->directory, a->size, &l)) {
		check_place(a, l.data, l.size);
		assert(!end || (const char *)l.data >= end);
		assert(strspn(l.name, CLEAN_NAME) == strlen(l.name) && *l.name);
		end = (const char *)l.data + l.size;
		gauge_sum(fd, l.data, l.size);
	}
}

static void find(struct arena *a, const char *name, size_t size)
{
	struct arena_request q = {.name = name, .kind = ARENA_AREA, .size = size};
	struct tine_shared *s;
	char why[ARENA_WHY_MAX] = "";
	int r = arena_find(a, &q, &s, why);

	assert(r == 0 || *why);
	if (r < 0)
		return;
	assert(s->size == size);
	check_place(a, s->data, s->size);
	memset(s->data, 0xa5, s->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena_figures figures;
	struct arena *a;

	if (size < 1 || size > 4096)
		return 0;
	if (fd < 0 && arena_new(SIZE, &fd) < 0)
		abort();
	if (arena_attach(fd, &a) < 0)
		abort();
	prepare(a->directory, data, size);
	arena_look(a->directory, a->size, &figures);
	assert(figures.used <= SIZE && figures.n_areas <= ARENA_AREAS);
	list(a);
	find(a, "a", 64);
	find(a, "b", 5000);
	list(a);
	arena_detach(a);
	return 0;
}

/*
 * Shared memory with names. Made by the primary, used by workers, looked at by the admin process.
 *
 * The directory is only ever added to, and an entry counts from the moment its number does: a worker that dies in the middle of
 * adding one leaves nothing behind that anybody would have to repair. Areas lie one behind the other and are never given back,
 * so every byte of them is zero until somebody writes there.
 *
 * Any worker may have written anything anywhere. So whoever looks something up copies an entry before looking at it, and
 * believes the directory only if all of it is in order: each entry with the sum of its bytes, each area beginning where the
 * one before it ends, all of them within the size that the kernel (and a seal) says the file has. What was found once
 * is kept as pointers of the process's own.
 */
#include "shared/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define MAGIC        UINT64_C(0x7465726168736574)
#define ALIGN        64
#define PAGE         4096
#define ENTRY_NAME   88 /* name, suffix, and NUL */
#define DIRECTORY_US (1 * US_PER_S)
#define CLEAN_NAME   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-"

struct entry {
	char name[ENTRY_NAME];
	uint64_t offset, size;
	uint64_t sum; /* of all the above and of `kind` */
	uint32_t kind;
	_Atomic uint32_t lock; /* the area's */
	uint64_t unused;
};

_Static_assert(sizeof(struct entry) == 128, "entries fill cache lines");

/* Never changes. */
struct head {
	uint64_t magic, layout, size;
	uint64_t seed[2];
	uint64_t sum; /* of all the above */
};

struct directory {
	struct head head;
	_Alignas(ALIGN) _Atomic uint32_t lock;
	_Atomic uint32_t last_id;   /* shared/lock.h */
	_Atomic uint32_t n_entries; /* written last of all */
	_Alignas(128) struct entry entries[ARENA_AREAS];
};

/* What those who use an area know of it, behind this. */
struct kept {
	struct kept *next;
	max_align_t data[];
};

struct arena {
	struct directory *directory;
	uint64_t size;
	int fd;                  /* the caller's */
	struct lock_owner owner; /* its number is 0 until something is looked for */
	uint64_t seed[2];
	struct tine_shared *areas; /* that this process uses */
	struct kept *kept;         /* what goes with it */
};

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

static uint64_t first_offset(void)
{
	return round_up(sizeof(struct directory), PAGE);
}

/* --- is it in order? --- */

/* FNV-1a: against accidents, not against malice. */
static uint64_t sum_of(const void *data, size_t len, uint64_t sum)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
	return sum;
}

static uint64_t sum_entry(const struct entry *e)
{
	uint64_t sum = sum_of(e, offsetof(struct entry, sum), UINT64_C(0xcbf29ce484222325));

	return sum_of(&e->kind, sizeof(e->kind), sum);
}

static uint64_t sum_head(const struct head *h)
{
	return sum_of(h, offsetof(struct head, sum), UINT64_C(0xcbf29ce484222325));
}

static bool is_head_clean(const struct head *h, uint64_t size)
{
	return h->magic == MAGIC && h->layout == ARENA_LAYOUT && h->size == size &&
		h->sum == sum_head(h);
}

/*
 * Copies an entry, which others may be writing to, and checks the copy. *offset: where its area must begin; becomes where the
 * next one does. Returns whether it is in order.
 */
static bool read_entry(
	const struct directory *d, uint32_t i, uint64_t size, uint64_t *offset, struct entry *ret)
{
	memcpy((void *)ret, (const void *)&d->entries[i], sizeof(*ret));
	if (ret->sum != sum_entry(ret) || ret->offset != *offset || ret->size == 0 ||
		ret->size > size - *offset || ret->kind == 0 || ret->kind >= ARENA_KINDS ||
		!memchr(ret->name, '\0', sizeof(ret->name)))
		return false;
	*offset =
		round_up(*offset + ret->size, ALIGN); /* the size of the whole is a multiple, too */
	return true;
}

/* --- the primary --- */

/*
 * Makes an arena of `size` bytes (of 1M or more) that no process can make larger or smaller. Pages that are never written to use
 * no memory. Returns 0 with a descriptor to be closed, or -errno.
 */
int arena_new(uint64_t size, int *ret_fd)
{
	CLEANUP(closep) int fd = fd_memory("tined-shared");
	struct head h = {.magic = MAGIC, .layout = ARENA_LAYOUT, .size = round_up(size, PAGE)};

	if (size < first_offset() + PAGE || size > INT64_MAX / 2)
		return -EINVAL;
	if (fd < 0 || getrandom(h.seed, sizeof(h.seed), 0) != (ssize_t)sizeof(h.seed))
		return -errno;
	h.sum = sum_head(&h);
	if (ftruncate(fd, (off_t)h.size) < 0 ||
		pwrite(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

/*
 * Goes on with an arena that another process made by arena_new(), without a look into it. layout: that process's ARENA_LAYOUT.
 * Returns 0, and the descriptor is close-on-exec then; -EPROTO for another layout; -EFBIG for another size; or -errno.
 */
int arena_adopt(int fd, int layout, uint64_t size)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat st;
	int have = fcntl(fd, F_GET_SEALS);

	if (have < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (layout != ARENA_LAYOUT)
		return -EPROTO;
	if ((have & seals) != seals || (uint64_t)st.st_size != round_up(size, PAGE))
		return -EFBIG;
	return fd_set_cloexec(fd, true);
}

/* --- those who use it --- */

static int map(int fd, int protection, void **ret, uint64_t *ret_size)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < sizeof(struct directory))
		return -EINVAL;
	p = mmap(NULL, (size_t)st.st_size, protection, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

/*
 * Maps an arena, whatever state it is in. fd: from arena_new(), perhaps in another process; it stays the caller's and must stay
 * open. Returns 0 with *ret for arena_detach(), or -errno.
 */
int arena_attach(int fd, struct arena **ret)
{
	CLEANUP(freep) struct arena *a = calloc(1, sizeof(*a));
	void *base = NULL;
	int r = a ? map(fd, PROT_READ | PROT_WRITE, &base, &a->size) : -ENOMEM;

	if (r < 0)
		return r;
	a->directory = base;
	a->fd = fd;
	memcpy(a->seed, a->directory->head.seed, sizeof(a->seed));
	*ret = take_ptr(a);
	return 0;
}

/* Its areas are gone for this process with it. Returns NULL. */
struct arena *arena_detach(struct arena *a)
{
	struct tine_shared *next;
	struct kept *next_kept;

	if (!a)
		return NULL;
	for (struct tine_shared *s = a->areas; s; s = next) {
		next = s->next;
		free(s);
	}
	for (struct kept *k = a->kept; k; k = next_kept) {
		next_kept = k->next;
		free(k);
	}
	if (a->owner.id != 0)
		lock_leave(&a->owner);
	munmap(a->directory, a->size);
	free(a);
	return NULL;
}

/* Memory of this process, zeroed, for what it knows of an area: until arena_detach(). NULL: there is none. */
void *arena_alloc(struct arena *a, size_t size)
{
	struct kept *k = calloc(1, sizeof(*k) + size);

	if (!k)
		return NULL;
	k->next = a->kept;
	a->kept = k;
	return k->data;
}

/* A secret that all who use the arena share. */
const uint64_t *arena_seed(const struct arena *a)
{
	return a->seed;
}

static __attribute__((format(printf, 3, 4))) int complain(
	char why[ARENA_WHY_MAX], int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, ARENA_WHY_MAX, fmt, ap);
	va_end(ap);
	return r;
}

static const char *kind_name(uint32_t kind)
{
	static const char *const names[ARENA_KINDS] = {[ARENA_AREA] = "an area",
		[ARENA_COUNTER] = "a counter",
		[ARENA_LIMIT] = "a limit",
		[ARENA_GAUGE] = "a gauge"};

	return kind < ARENA_KINDS && names[kind] ? names[kind] : "something else";
}

static int check_request(const struct arena_request *q, char why[ARENA_WHY_MAX])
{
	size_t len = strlen(q->name);

	if (len == 0 || len > ARENA_NAME_MAX || strspn(q->name, CLEAN_NAME) != len)
		return complain(why, -EINVAL,
			"shared memory: \"%.64s\" is no name; write 1 to %d of A-Z a-z 0-9 _ . : / "
			"-",
			q->name, ARENA_NAME_MAX);
	if (q->size == 0)
		return complain(why, -EINVAL, "shared memory: \"%s\" has no size", q->name);
	return 0;
}

/* What the directory says, as far as it was read. */
struct place {
	struct entry entry; /* with the name, to be found or written */
	uint32_t n;         /* its index; that of a new one if there is none yet */
	uint64_t end;       /* of the areas there are */
	bool found;
};

/*
 * Looks for place->entry.name. Entries behind the last one that count are in order if their number was written over, or if
 * somebody died before he could write it: they are taken for what they are. Returns 0 or -EUCLEAN.
 */
static int search(const struct arena *a, struct place *p, char why[ARENA_WHY_MAX])
{
	const struct directory *d = a->directory;
	uint32_t n = atomic_load_explicit(&d->n_entries, memory_order_acquire), i;
	struct entry e;

	p->end = first_offset();
	if (!is_head_clean(&d->head, a->size) || n > ARENA_AREAS)
		return complain(why, -EUCLEAN,
			"shared memory: somebody has written over its directory; restart tined");
	for (i = 0; i < ARENA_AREAS && read_entry(d, i, a->size, &p->end, &e); i++) {
		if (!p->found && strcmp(e.name, p->entry.name) == 0) {
			p->found = true;
			p->entry = e;
			p->n = i;
		}
	}
	if (i < n)
		return complain(why, -EUCLEAN,
			"shared memory: somebody has written over entry %" PRIu32
			" of its directory; restart tined",
			i);
	if (!p->found)
		p->n = i;
	return 0;
}

static int check_found(
	const struct place *p, const struct arena_request *q, char why[ARENA_WHY_MAX])
{
	if (p->entry.kind != q->kind)
		return complain(why, -EEXIST,
			"shared memory: \"%s\" is %s already, not %s; choose another name", q->name,
			kind_name(p->entry.kind), kind_name(q->kind));
	if (p->entry.size != q->size)
		return complain(why, -EEXIST,
			"shared memory: \"%s\" has %" PRIu64
			" bytes already, not %zu; choose another name, or restart tined",
			q->name, p->entry.size, q->size);
	return 0;
}

/* Behind all others. What makes it count comes last, so that half an entry is none. */
static int add(
	struct arena *a, struct place *p, const struct arena_request *q, char why[ARENA_WHY_MAX])
{
	struct directory *d = a->directory;
	struct entry *e = &p->entry;

	if (p->n >= ARENA_AREAS)
		return complain(why, -ENOSPC,
			"shared memory: no room for the name \"%s\": there are %d already", q->name,
			ARENA_AREAS);
	if (q->size > a->size - p->end)
		return complain(why, -ENOSPC,
			"shared memory: no room for \"%s\" of %zu bytes: %" PRIu64 " of %" PRIu64
			" are in use; raise [workers] shared_memory and restart",
			q->name, q->size, p->end, a->size);
	e->kind = q->kind;
	e->offset = p->end;
	e->size = q->size;
	e->sum = sum_entry(e);
	memcpy((void *)&d->entries[p->n], (const void *)e, sizeof(*e));
	atomic_store_explicit(&d->n_entries, p->n + 1, memory_order_release);
	return 0;
}

/* The process's own view of an entry. One for all who ask. */
static int use(struct arena *a, const struct place *p, struct tine_shared **ret)
{
	char *data = (char *)a->directory + p->entry.offset;
	struct tine_shared *s;

	for (s = a->areas; s; s = s->next) {
		if (s->data == data) {
			*ret = s;
			return 0;
		}
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct tine_shared){.next = a->areas,
		.owner = &a->owner,
		.lock = &a->directory->entries[p->n].lock,
		.data = data,
		.size = p->entry.size};
	a->areas = *ret = s;
	return 0;
}

/* Not before it is needed: whoever uses no shared memory depends on nobody who does. */
static int join(struct arena *a, const struct arena_request *q, char why[ARENA_WHY_MAX])
{
	int r = a->owner.id != 0 ? 0 : lock_join(a->fd, &a->directory->last_id, &a->owner);

	return r == 0 ? 0
		      : complain(why, r, "shared memory: no lock for who looks for \"%s\": %s",
				q->name, strerror(-r));
}

/* Under the directory's lock. */
static int find_or_add(
	struct arena *a, struct place *p, const struct arena_request *q, char why[ARENA_WHY_MAX])
{
	/* that another one died holding it makes no difference */
	int r = lock_take(&a->owner, &a->directory->lock, DIRECTORY_US);

	if (r < 0)
		return complain(why, r,
			"shared memory: somebody keeps its directory locked; \"%s\" cannot be "
			"found",
			q->name);
	r = search(a, p, why);
	if (r == 0)
		r = p->found ? check_found(p, q, why) : add(a, p, q, why);
	lock_give(&a->owner, &a->directory->lock);
	return r;
}

/*
 * Finds an area, or makes it. One thread at a time. Returns 0 with *ret, which lives until arena_detach(), or -errno (as
 * tine/shared.h says) and why.
 */
int arena_find(struct arena *a, const struct arena_request *q, struct tine_shared **ret,
	char why[ARENA_WHY_MAX])
{
	struct place p = {0};
	int r = check_request(q, why);

	if (r == 0)
		r = join(a, q, why);
	if (r < 0)
		return r;
	snprintf(p.entry.name, sizeof(p.entry.name), "%s%s", q->name, q->suffix ? q->suffix : "");
	r = find_or_add(a, &p, q, why);
	return r < 0 ? r : use(a, &p, ret);
}

/* --- those who only look --- */

/* Maps it for arena_look(). Returns 0 or -errno. */
int arena_map(int fd, const void **ret_base, uint64_t *ret_size)
{
	void *p;
	int r = map(fd, PROT_READ, &p, ret_size);

	if (r == 0)
		*ret_base = p;
	return r;
}

/* Without the lock, which they could not take: a glance. */
void arena_look(const void *base, uint64_t size, struct arena_figures *ret)
{
	const struct directory *d = base;
	uint32_t n = atomic_load_explicit(&d->n_entries, memory_order_acquire);
	uint64_t end = first_offset();
	struct entry e;

	*ret = (struct arena_figures){.size = size, .used = end};
	ret->damaged = !is_head_clean(&d->head, size) || n > ARENA_AREAS;
	while (!ret->damaged && ret->n_areas < n) {
		ret->damaged = !read_entry(d, ret->n_areas, size, &end, &e);
		if (ret->damaged)
			return;
		ret->used = end;
		ret->n_areas++;
	}
}

/*
 * The next area, without the lock. Its name holds only what names may hold; what is in it may be anything. Returns false when there
 * is no other one, or it is not in order.
 */
bool arena_list(const void *base, uint64_t size, struct arena_listing *l)
{
	const struct directory *d = base;
	uint32_t n = atomic_load_explicit(&d->n_entries, memory_order_acquire);
	uint64_t start = l->offset ? l->offset : first_offset(), end = start;
	size_t len;
	struct entry e;

	if (!is_head_clean(&d->head, size) || n > ARENA_AREAS || l->index >= n ||
		!read_entry(d, l->index, size, &end, &e))
		return false;
	len = strspn(e.name, CLEAN_NAME);
	if (len == 0 || len > ARENA_NAME_MAX)
		return false;
	*l = (struct arena_listing){.index = l->index + 1,
		.offset = end,
		.kind = (enum arena_kind)e.kind,
		.data = (const char *)base + start,
		.size = e.size};
	memcpy(l->name, e.name, len);
	return true;
}

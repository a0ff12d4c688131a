/*
 * Snapshots of the files that are asked for most, in huge pages. Worker only, one thread.
 *
 * To send a file from the page cache costs a reference to each of its pages; memory that lies in
 * one piece goes into a packet as one. So a file that is hot is copied, once per change, into a
 * chunk of 2 MiB, from where splice.c sends it. Nothing is mapped before the first file is hot, and
 * where there are no huge pages nothing ever is.
 *
 * Always: what was sent once may be on its way for as long as a client likes, so nothing in a chunk
 * is written a second time. A file goes behind the last one, and room comes back by munmap(2) of a
 * whole chunk, when neither a file nor a transfer uses it; what the kernel has still in flight it
 * holds by references of its own.
 */
#include "http/hot_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"

#define HUGE_PAGES "/sys/kernel/mm/transparent_hugepage/enabled"
#define PAGE       4096u /* files begin at pages: one that is cut by a page's end needs one more */

struct hot_chunk {
	TAILQ_ENTRY(hot_chunk) link;
	struct hot_files *owner; /* NULL: gone */
	LIST_HEAD(, hot_file) files;
	char *data;
	size_t used;
	unsigned refs; /* of files and of transfers */
	bool dropped;  /* only transfers use it still */
};

void hot_files_init(struct hot_files *h)
{
	*h = (struct hot_files){.support = HOT_UNKNOWN};
	TAILQ_INIT(&h->chunks);
}

static bool huge_pages_are_on(void)
{
	CLEANUP(closep) int fd = open(HUGE_PAGES, O_RDONLY | O_CLOEXEC);
	char text[64];
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return !strstr(text, "[never]");
}

bool hot_files_possible(struct hot_files *h)
{
	if (h->support == HOT_UNKNOWN)
		h->support = huge_pages_are_on() ? HOT_POSSIBLE : HOT_REFUSED;
	return h->support == HOT_POSSIBLE;
}

/* Maps HOT_CHUNK bytes that begin where a huge page can. Returns NULL when that fails. */
static char *map_aligned(void)
{
	char *p = mmap(
		NULL, 2 * HOT_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before;

	if (p == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)p & (HOT_CHUNK - 1);
	if (before > 0)
		munmap(p, before);
	munmap(p + before + HOT_CHUNK, HOT_CHUNK - before);
	if (madvise(p + before, HOT_CHUNK, MADV_HUGEPAGE) < 0) {
		munmap(p + before, HOT_CHUNK);
		return NULL;
	}
	return p + before;
}

static struct hot_chunk *chunk_new(struct hot_files *h)
{
	struct hot_chunk *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->data = map_aligned();
	if (!c->data) {
		h->support = HOT_REFUSED;
		free(c);
		return NULL;
	}
	c->owner = h;
	LIST_INIT(&c->files);
	TAILQ_INSERT_TAIL(&h->chunks, c, link);
	h->n_chunks++;
	return c;
}

struct hot_chunk *hot_chunk_ref(struct hot_chunk *c)
{
	c->refs++;
	return c;
}

static void chunk_leave(struct hot_chunk *c)
{
	if (!c->owner)
		return;
	TAILQ_REMOVE(&c->owner->chunks, c, link);
	c->owner->n_chunks--;
	c->owner = NULL;
}

void hot_chunk_unref(void *chunk)
{
	struct hot_chunk *c = chunk;

	if (--c->refs > 0)
		return;
	chunk_leave(c);
	munmap(c->data, HOT_CHUNK);
	free(c);
}

/* Gives up a file's snapshot, if it has one. Transfers that use it go on. */
void hot_file_forget(struct hot_file *f)
{
	struct hot_chunk *c = f->chunk;

	if (!c)
		return;
	LIST_REMOVE(f, link);
	f->chunk = NULL;
	f->data = NULL;
	hot_chunk_unref(c);
}

static void chunk_drop(struct hot_chunk *c)
{
	hot_chunk_ref(c);
	c->dropped = true;
	while (!LIST_EMPTY(&c->files))
		hot_file_forget(LIST_FIRST(&c->files));
	hot_chunk_unref(c);
}

/* Forgets all snapshots. Chunks that transfers use live on until these end. */
void hot_files_clear(struct hot_files *h)
{
	struct hot_chunk *c;

	while ((c = TAILQ_FIRST(&h->chunks))) {
		chunk_leave(c);
		chunk_drop(c);
	}
}

/*
 * Gives up the oldest chunk, unless that was done just now or one given up before is still in use:
 * neither many hot files nor slow clients may drive all others out. Returns whether there is room.
 */
static bool drop_oldest(struct hot_files *h, uint64_t now_ms)
{
	struct hot_chunk *c;

	if (now_ms - h->dropped_ms < HOT_DROP_MS)
		return false;
	TAILQ_FOREACH (c, &h->chunks, link)
		if (c->dropped)
			return false;
	h->dropped_ms = now_ms;
	chunk_drop(TAILQ_FIRST(&h->chunks));
	return h->n_chunks < HOT_CHUNKS;
}

/* A chunk with room for size bytes, or NULL. */
static struct hot_chunk *chunk_with_room(struct hot_files *h, size_t size, uint64_t now_ms)
{
	struct hot_chunk *c = TAILQ_LAST(&h->chunks, hot_chunk_list);

	if (c && !c->dropped && HOT_CHUNK - c->used >= size)
		return c;
	if (h->n_chunks >= HOT_CHUNKS && !drop_oldest(h, now_ms))
		return NULL;
	return chunk_new(h);
}

/*
 * Copies a file, which must be in the page cache unless the caller has time. Returns 0; -ENOSPC when
 * all room is taken, -EIO when the file is shorter, -EFBIG, -ENOTSUP when there are no huge pages.
 */
int hot_files_take(struct hot_files *h, struct hot_file *f, int fd, size_t size, uint64_t now_ms)
{
	struct hot_chunk *c;
	char *p;

	if (size == 0 || size > HOT_FILE_MAX)
		return -EFBIG;
	if (!hot_files_possible(h))
		return -ENOTSUP;
	c = chunk_with_room(h, size, now_ms);
	if (!c)
		return -ENOSPC;
	hot_chunk_ref(c);
	p = c->data + c->used;
	if (pread(fd, p, size, 0) != (ssize_t)size) {
		hot_chunk_unref(c);
		return -EIO;
	}
	c->used += (size + PAGE - 1) & ~(size_t)(PAGE - 1);
	hot_file_forget(f);
	f->chunk = c; /* with the reference from above */
	f->data = p;
	LIST_INSERT_HEAD(&c->files, f, link);
	return 0;
}

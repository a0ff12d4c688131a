/*
 * Open files of one folder. Worker only, one thread.
 *
 * A file is opened with openat2(2) so that the kernel itself sees to it that no path leads out of
 * the folder, through symbolic links or a rename at the wrong moment either. Small files are kept
 * in memory, of others the descriptor; of those that are asked for a lot there is a snapshot besides
 * (hot_files.c). An entry is looked at anew when it has not been for a second, and let go of when it
 * has not been asked for in a minute; one that is being sent lives on until that is done.
 *
 * Always: every entry in the hash is on the LRU list and holds one reference of the cache's own. Of
 * those with a descriptor there are no more in all folders together than the budget, but for those in
 * use.
 */
#include "http/file_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "http/date.h"
#include "net/residency.h"

#define FRESH_S \
	2 /* file times are kept to some milliseconds, on some file systems to two seconds */

static int open_beneath(int root, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	/* EAGAIN: something was renamed meanwhile, so that the kernel cannot be sure */
	for (int i = 0; i < 8; i++) {
		fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return -errno;
}

/* Descriptors are the process's, so what is known of them is shared by all folders. */
static struct {
	LIST_HEAD(, file_cache) caches;
	struct file_list idle; /* the one used last in front */
	unsigned n_idle;
	unsigned n_fds; /* of cached entries, in use or not */
	unsigned budget;
	size_t n_gzip; /* bytes of compressed texts that entries hold */
	uint64_t swept_ms;
} pool = {
	.idle = TAILQ_HEAD_INITIALIZER(pool.idle),
	.budget = FILE_BUDGET,
};

/*
 * Opens the folder. Returns 0 or a negative errno: -ENOSYS when the kernel has no openat2 (before
 * Linux 5.6).
 */
int file_cache_init(struct file_cache *c, const char *root)
{
	int fd;

	memset(c, 0, sizeof(*c));
	TAILQ_INIT(&c->lru);
	hot_files_init(&c->hot);
	c->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->root < 0)
		return -errno;
	fd = open_beneath(c->root, ".", 0);
	if (fd < 0) {
		close(c->root);
		return fd;
	}
	close(fd);
	LIST_INSERT_HEAD(&pool.caches, c, link);
	return 0;
}

/* Whether nothing but the cache keeps its descriptor open. */
static bool is_idle(const struct file_entry *e)
{
	return e->cache && e->fd >= 0 && e->refs == 1;
}

static void idle_insert(struct file_entry *e)
{
	TAILQ_INSERT_HEAD(&pool.idle, e, idle);
	pool.n_idle++;
}

static void idle_remove(struct file_entry *e)
{
	TAILQ_REMOVE(&pool.idle, e, idle);
	pool.n_idle--;
}

struct file_entry *file_entry_ref(struct file_entry *e)
{
	if (is_idle(e))
		idle_remove(e);
	e->refs++;
	return e;
}

struct file_gzip *file_gzip_ref(struct file_gzip *g)
{
	g->refs++;
	return g;
}

void file_gzip_unref(void *gzip)
{
	struct file_gzip *g = gzip;

	if (--g->refs > 0)
		return;
	free(g->data);
	free(g);
}

static void entry_drop_gzip(struct file_entry *e)
{
	if (!e->gzip)
		return;
	pool.n_gzip -= e->gzip->len;
	file_gzip_unref(e->gzip);
	e->gzip = NULL;
	e->gzip_state = GZIP_UNKNOWN;
}

static void entry_free(struct file_entry *e)
{
	entry_drop_gzip(e);
	if (e->fd >= 0)
		close(e->fd);
	hot_file_forget(&e->hot);
	free(e->content);
	free(e);
}

/* The last one to use a file may be what brings it back under the budget, and to its end. */
void file_entry_unref(void *entry)
{
	struct file_entry *e = entry;

	if (--e->refs == 0)
		return entry_free(e);
	if (!is_idle(e))
		return;
	idle_insert(e);
	if (pool.n_fds > pool.budget)
		file_cache_release(pool.n_fds - pool.budget);
}

static void cache_drop(struct file_entry *e)
{
	struct file_cache *c = e->cache;

	if (is_idle(e))
		idle_remove(e);
	if (e->fd >= 0)
		pool.n_fds--;
	HASH_DELETE(hh, c->entries, e);
	TAILQ_REMOVE(&c->lru, e, lru);
	c->n_entries--;
	if (e->content)
		c->n_content -= e->size;
	e->cache = NULL;
	file_entry_unref(e);
}

void file_cache_clear(struct file_cache *c)
{
	while (!TAILQ_EMPTY(&c->lru))
		cache_drop(TAILQ_FIRST(&c->lru));
	LIST_REMOVE(c, link);
	hot_files_clear(&c->hot);
	close(c->root);
	c->root = -1;
}

/* Closes the n idle descriptors that were used longest ago. Returns how many there were. */
unsigned file_cache_release(unsigned n)
{
	unsigned done = 0;

	for (; done < n && !TAILQ_EMPTY(&pool.idle); done++)
		cache_drop(TAILQ_LAST(&pool.idle, file_list));
	return done;
}

/* Closes half of the idle descriptors. Returns whether there was one. */
bool file_cache_release_some(void)
{
	return file_cache_release((pool.n_idle + 1) / 2) > 0;
}

void file_cache_set_budget(unsigned n_fds)
{
	pool.budget = n_fds;
	if (pool.n_fds > n_fds)
		file_cache_release(pool.n_fds - n_fds);
}

/* How many descriptors are cached. */
unsigned file_cache_n_fds(void)
{
	return pool.n_fds;
}

static void cache_sweep(struct file_cache *c, uint64_t now_ms)
{
	struct file_entry *e;

	while ((e = TAILQ_LAST(&c->lru, file_list)) && now_ms >= e->checked_ms + FILE_IDLE_MS)
		cache_drop(e);
}

/*
 * Lets go of what has not been asked for in FILE_IDLE_MS, to within FILE_CHECK_MS: that often an
 * entry in use is looked at anew. Cheap to call more often than there is something to do.
 */
void file_cache_sweep(uint64_t now_ms)
{
	struct file_cache *c;

	if (now_ms - pool.swept_ms < FILE_CHECK_MS)
		return;
	pool.swept_ms = now_ms;
	LIST_FOREACH (c, &pool.caches, link)
		cache_sweep(c, now_ms);
}

/* open_beneath(), giving up cached descriptors when there are none left. */
static int cache_open(struct file_cache *c, const char *path, uint64_t flags)
{
	int fd = open_beneath(c->root, path, flags);

	for (int i = 0; i < 8 && (fd == -EMFILE || fd == -ENFILE) && file_cache_release(1) > 0; i++)
		fd = open_beneath(c->root, path, flags);
	return fd;
}

/* Returns a descriptor of the folder at `path` (as in file_cache_get()), or a negative errno. */
int file_cache_open_folder(struct file_cache *c, const char *path)
{
	return cache_open(c, path, O_DIRECTORY);
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_unchanged(const struct file_entry *e, const struct stat *st)
{
	return e->ino == st->st_ino && e->dev == st->st_dev && e->size == (uint64_t)st->st_size &&
		same_time(e->modified, st->st_mtim) && same_time(e->changed, st->st_ctim);
}

static void entry_stat(struct file_entry *e, const struct stat *st)
{
	e->dev = st->st_dev;
	e->ino = st->st_ino;
	e->size = (uint64_t)st->st_size;
	e->modified = st->st_mtim;
	e->changed = st->st_ctim;
	e->fresh = time(NULL) - st->st_ctim.tv_sec <= FRESH_S;
}

/* Last-Modified must not be in the future (RFC 9110 section 8.8.2.1): then it is now. */
static void entry_describe(struct file_entry *e)
{
	static const char accept_ranges[] = "Accept-Ranges: bytes\r\n";
	char date[HTTP_DATE_LEN];
	time_t now = time(NULL);
	int at, n;

	e->last_modified = e->modified.tv_sec < now ? e->modified.tv_sec : now;
	http_date_format(e->last_modified, date);
	at = snprintf(e->fields_buf, sizeof(e->fields_buf),
		"Last-Modified: %.*s\r\nETag: ", HTTP_DATE_LEN, date);
	n = snprintf(e->fields_buf + at, sizeof(e->fields_buf) - (size_t)at,
		"\"%llx%08lx-%llx\"\r\n%s", (long long)e->modified.tv_sec, e->modified.tv_nsec,
		(unsigned long long)e->size, accept_ranges);
	e->etag = (struct tine_text){e->fields_buf + at, (size_t)n - sizeof(accept_ranges) - 1};
	e->fields = (struct tine_text){e->fields_buf, (size_t)(at + n)};
}

/* pread(2), without waiting for the disk unless the file has just been read by others. */
static ssize_t entry_pread(const struct file_entry *e, char *buf, size_t len)
{
	ssize_t n = residency_read(e->fd, buf, len, 0);

	if (n >= 0 || errno != EOPNOTSUPP)
		return n;
	if (e->n_sent == 0 && e->size > 0 && !residency_is_cached(e->fd, 0, e->size))
		return -1;
	return pread(e->fd, buf, len, 0);
}

/*
 * Takes a small file into memory and closes it; leaves it as it is when it changes meanwhile, or has to be waited
 * for: then it is sent by other means (output.c), and tried again when it is looked at anew.
 */
static bool entry_read(struct file_cache *c, struct file_entry *e)
{
	CLEANUP(freep) char *content = NULL;
	struct stat st;

	if (e->size > FILE_CONTENT_MAX || c->n_content + e->size > FILE_CONTENT_TOTAL)
		return false;
	content = malloc(e->size + 1);
	if (!content || entry_pread(e, content, e->size + 1) != (ssize_t)e->size)
		return false;
	if (fstat(e->fd, &st) < 0 || !is_unchanged(e, &st))
		return false;
	e->content = take_ptr(content);
	return true;
}

/* The descriptor of a file whose content is there is nobody's any more, unless it is being sent from. */
static void entry_close(struct file_entry *e)
{
	close(e->fd);
	e->fd = -1;
}

static struct file_entry *entry_new(const char *path, size_t len, int fd, const struct stat *st)
{
	struct file_entry *e = calloc(1, sizeof(*e) + len + 1);

	if (!e)
		return NULL;
	e->refs = 1;
	e->fd = fd;
	memcpy(e->path, path, len);
	e->path_len = len;
	STAILQ_INIT(&e->waiters);
	entry_stat(e, st);
	e->type.data = e->type_buf;
	e->type.len = mime_type((struct tine_text){e->path, e->path_len}, e->type_buf);
	entry_describe(e);
	return e;
}

static int cache_add(struct file_cache *c, struct file_entry *e, uint64_t now_ms)
{
	if (c->n_entries >= FILE_CACHE_ENTRIES)
		cache_drop(TAILQ_LAST(&c->lru, file_list));
	if (e->fd >= 0 && pool.n_fds >= pool.budget)
		file_cache_release(pool.n_fds - pool.budget + 1);
	e->checked_ms = now_ms;
	HASH_ADD_KEYPTR(hh, c->entries, e->path, e->path_len, e);
	if (!e->hh.tbl)
		return -ENOMEM;
	TAILQ_INSERT_HEAD(&c->lru, e, lru);
	c->n_entries++;
	e->cache = c;
	if (e->content)
		c->n_content += e->size;
	if (e->fd >= 0) {
		pool.n_fds++;
		idle_insert(e);
	}
	return 0;
}

/* Opens and checks a path. Returns 0 and a descriptor of a regular file, or a negative errno. */
static int cache_open_regular(struct file_cache *c, const char *path, int *ret_fd, struct stat *st)
{
	CLEANUP(closep) int fd = cache_open(c, path, 0);

	if (fd < 0)
		return fd;
	if (fstat(fd, st) < 0)
		return -errno;
	if (S_ISDIR(st->st_mode))
		return -EISDIR;
	if (!S_ISREG(st->st_mode))
		return -EACCES;
	*ret_fd = take_fd(&fd);
	return 0;
}

/* A small file that could not be read without waiting, and that has been sent meanwhile, may be there now. */
static void entry_retry(struct file_cache *c, struct file_entry *e)
{
	if (e->content || !is_idle(e) || !entry_read(c, e))
		return;
	idle_remove(e);
	pool.n_fds--;
	c->n_content += e->size;
	entry_close(e);
}

/* It was looked at and is what it was. */
static void entry_renew(struct file_cache *c, struct file_entry *e, uint64_t now_ms)
{
	entry_retry(c, e);
	e->checked_ms = now_ms;
	e->n_sent = 0;
	e->cold = false;
	e->siblings_known = false;
	if (e->modified.tv_sec > e->last_modified)
		entry_describe(e);
	TAILQ_REMOVE(&c->lru, e, lru);
	TAILQ_INSERT_HEAD(&c->lru, e, lru);
	if (is_idle(e)) {
		idle_remove(e);
		idle_insert(e);
	}
}

/*
 * The file at `path` (relative, terminated by NUL after len bytes; "." is the folder itself).
 * Returns 0 and an entry, valid until the next call unless a reference is taken; -EISDIR for a
 * folder, or what openat2(2) says:
 * -EXDEV for a path that leads out. What is neither file nor folder is -EACCES.
 */
int file_cache_get(struct file_cache *c, const char *path, size_t len, uint64_t now_ms,
	struct file_entry **ret)
{
	CLEANUP(closep) int fd = -1;
	struct file_entry *e;
	struct stat st;
	int r;

	HASH_FIND(hh, c->entries, path, len, e);
	if (e && now_ms - e->checked_ms < FILE_CHECK_MS) {
		*ret = e;
		return 0;
	}
	file_cache_sweep(now_ms);
	r = cache_open_regular(c, path, &fd, &st);
	HASH_FIND(hh, c->entries, path, len, e); /* both may have evicted it */
	if (r == 0 && e && !e->fresh && is_unchanged(e, &st)) {
		entry_renew(c, e, now_ms);
		*ret = e;
		return 0;
	}
	if (e)
		cache_drop(e);
	if (r < 0)
		return r;
	e = entry_new(path, len, fd, &st);
	if (!e)
		return -ENOMEM;
	fd = -1; /* the entry's now */
	if (entry_read(c, e))
		entry_close(e);
	r = cache_add(c, e, now_ms);
	if (r < 0)
		file_entry_unref(e);
	else
		*ret = e;
	return r;
}

/* Whether what its descriptor or its content hold is still what the entry says. */
bool file_entry_is_current(const struct file_entry *e)
{
	struct stat st;

	return e->content || (fstat(e->fd, &st) == 0 && is_unchanged(e, &st));
}

/* Makes room for so many bytes of compressed texts, first of files that have not been asked for the longest. */
static bool gzip_make_room(size_t len)
{
	struct file_cache *c;
	struct file_entry *e;

	LIST_FOREACH (c, &pool.caches, link)
		TAILQ_FOREACH_REVERSE(e, &c->lru, file_list, lru)
		{
			if (pool.n_gzip + len <= FILE_GZIP_TOTAL)
				return true;
			entry_drop_gzip(e);
		}
	return pool.n_gzip + len <= FILE_GZIP_TOTAL;
}

/*
 * A thread has done with compressing the file: data, of len bytes, is the entry's from here on; NULL: in vain. An
 * entry that the cache has let go of keeps it for those who wait.
 */
void file_entry_set_gzip(struct file_entry *e, char *data, size_t len)
{
	struct file_gzip *g = data && gzip_make_room(len) ? calloc(1, sizeof(*g)) : NULL;

	e->gzip_state = GZIP_IN_VAIN;
	if (!g) {
		free(data);
		return;
	}
	*g = (struct file_gzip){.refs = 1, .data = data, .len = len};
	pool.n_gzip += len;
	e->gzip = g;
	e->gzip_state = GZIP_READY;
}

/*
 * Counts that the file is sent. Returns true when it has become hot with that: once in
 * FILE_CHECK_MS, so that what then fails is not tried all the time. A file that was being modified
 * never is hot; its entry does not last.
 */
bool file_entry_count(struct file_entry *e)
{
	return ++e->n_sent == FILE_HOT_AFTER && !e->hot.data && !e->fresh && e->fd >= 0 &&
		e->size > FILE_CONTENT_MAX && e->size <= HOT_FILE_MAX;
}

/* Takes a snapshot of a hot file, if there is room, and if it is still what it was. */
void file_cache_heat(struct file_cache *c, struct file_entry *e, uint64_t now_ms)
{
	struct stat st;

	if (hot_files_take(&c->hot, &e->hot, e->fd, e->size, now_ms) < 0)
		return;
	if (fstat(e->fd, &st) < 0 || !is_unchanged(e, &st))
		hot_file_forget(&e->hot);
}

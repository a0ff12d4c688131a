/* Open files of the folders that are served, ready to be sent. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/stat.h>
#define HASH_NONFATAL_OOM 1        /* an element that could not be added has no table */
#define HASH_FUNCTION     HASH_FNV /* keys are short, and names of files that exist */
#include <uthash.h>

#include <tine/http.h>

#include "http/hot_files.h"
#include "http/mime.h"

#define FILE_CACHE_ENTRIES 1024
#define FILE_CONTENT_MAX   (16u << 10) /* files up to here are kept in memory... */
#define FILE_CONTENT_TOTAL (4u << 20)  /* ...until they are so many bytes together */
#define FILE_CHECK_MS      1000        /* a file that is replaced is noticed so soon */
#define FILE_IDLE_MS       60000       /* a file not asked for in so long is let go of */
#define FILE_BUDGET        256         /* descriptors kept open, in all folders together */
#define FILE_GZIP_TOTAL    (16u << 20) /* compressed texts kept in memory, in all folders together */
#define FILE_HOT_AFTER     16          /* a file sent so often within that time is hot */

struct file_waiter;

/* A file's content compressed. Whoever holds a reference may use it; released with file_gzip_unref(). */
struct file_gzip {
	unsigned refs;
	char *data;
	size_t len;
};

enum file_gzip_state {
	GZIP_UNKNOWN,
	GZIP_WORKING, /* a thread is at it */
	GZIP_READY,
	GZIP_IN_VAIN, /* it does not become smaller, or could not be read */
};

/*
 * A regular file. Whoever holds a reference may use all of it, also when the cache has let go of
 * it.
 */
struct file_entry {
	UT_hash_handle hh;
	TAILQ_ENTRY(file_entry) lru;
	TAILQ_ENTRY(file_entry) idle; /* while only the cache holds it, if it has a descriptor */
	struct file_cache *cache;     /* NULL: in none (any more) */
	unsigned refs;
	int fd;        /* -1 when content is there */
	char *content; /* all `size` bytes, or NULL */
	uint64_t size;
	struct timespec modified, changed;
	time_t last_modified; /* as we say: never later than when it was looked at */
	dev_t dev;
	ino_t ino;
	uint64_t checked_ms;
	unsigned n_sent;     /* since then */
	struct hot_file hot; /* its content once more, when it is asked for a lot */
	struct file_gzip *gzip;
	uint8_t gzip_state;                 /* enum file_gzip_state */
	STAILQ_HEAD(, file_waiter) waiters; /* files.c: requests that wait for it */
	unsigned siblings; /* enum encoding: what there is beside it, compressed beforehand */
	bool siblings_known;
	bool cold;  /* part of it was not in memory when it was to be sent */
	bool fresh; /* was modified just before it was read: may change without showing */
	struct tine_text type;   /* into type_buf */
	struct tine_text etag;   /* into fields_buf, with its quotes */
	struct tine_text fields; /* into fields_buf: Last-Modified, ETag, Accept-Ranges */
	char type_buf[MIME_TYPE_MAX];
	char fields_buf[160];
	size_t path_len;
	char path[];
};

TAILQ_HEAD(file_list, file_entry);

struct file_cache {
	LIST_ENTRY(file_cache) link;
	int root;
	struct file_entry *entries; /* hash by path */
	struct file_list lru;       /* the one used last in front */
	unsigned n_entries;
	size_t n_content; /* bytes */
	struct hot_files hot;
};

int file_cache_init(struct file_cache *c, const char *root);
void file_cache_clear(struct file_cache *c);
int file_cache_get(struct file_cache *c, const char *path, size_t len, uint64_t now_ms,
	struct file_entry **ret);
int file_cache_open_folder(struct file_cache *c, const char *path);
bool file_entry_is_current(const struct file_entry *e);
void file_entry_set_gzip(struct file_entry *e, char *data, size_t len);
struct file_gzip *file_gzip_ref(struct file_gzip *g);
void file_gzip_unref(void *gzip);
bool file_entry_count(struct file_entry *e);
void file_cache_heat(struct file_cache *c, struct file_entry *e, uint64_t now_ms);
struct file_entry *file_entry_ref(struct file_entry *e);
void file_entry_unref(void *entry);

/* Of all folders together. */
void file_cache_set_budget(unsigned n_fds);
unsigned file_cache_n_fds(void);
unsigned file_cache_release(unsigned n);
bool file_cache_release_some(void);
void file_cache_sweep(uint64_t now_ms);

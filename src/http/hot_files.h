/* Snapshots of the files that are asked for most, in memory that can be sent without copying. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define HOT_CHUNK    (2u << 20) /* a huge page */
#define HOT_CHUNKS   8u         /* no more than so many are mapped for one folder */
#define HOT_FILE_MAX (1u << 20)
#define HOT_DROP_MS  1000 /* at most one chunk is given up in this time to make room */

struct hot_chunk;

/* The snapshot of one file; all zero: there is none. May lose it whenever another is taken. */
struct hot_file {
	LIST_ENTRY(hot_file) link;
	struct hot_chunk *chunk;
	const char *data;
};

TAILQ_HEAD(hot_chunk_list, hot_chunk);

enum hot_support { HOT_UNKNOWN, HOT_POSSIBLE, HOT_REFUSED };

struct hot_files {
	struct hot_chunk_list chunks; /* all that are mapped, the oldest in front */
	unsigned n_chunks;
	enum hot_support support;
	uint64_t dropped_ms; /* when one was given up last */
};

void hot_files_init(struct hot_files *h);
void hot_files_clear(struct hot_files *h);
bool hot_files_possible(struct hot_files *h);
int hot_files_take(struct hot_files *h, struct hot_file *f, int fd, size_t size, uint64_t now_ms);
void hot_file_forget(struct hot_file *f);
struct hot_chunk *hot_chunk_ref(struct hot_chunk *c);
void hot_chunk_unref(void *chunk);

/*
 * The memory that workers share with each other: a file in memory with a directory of names at its beginning. The primary makes
 * it and keeps the descriptor, so that every worker it forks can map it; it never maps it itself, so nothing in it can ever
 * harm it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/lock.h"

#define ARENA_NAME_MAX 63   /* bytes of a name that modules give */
#define ARENA_AREAS    1024 /* names there can be */
#define ARENA_WHY_MAX  256
#define ARENA_LAYOUT \
	1 /* of what is in it; grows with every change, for processes of several versions may share it */

enum arena_kind { ARENA_AREA = 1, ARENA_COUNTER, ARENA_LIMIT, ARENA_GAUGE, ARENA_KINDS };

struct arena; /* as one process sees it */

/* tine/shared.h: an area, as one process sees it; for all of its threads. */
struct tine_shared {
	struct tine_shared *next; /* of this process */
	const struct lock_owner *owner;
	_Atomic uint32_t *lock;
	void *data;
	size_t size;
};

/* What to find or to make. */
struct arena_request {
	const char *name;
	const char *
		suffix; /* NULL, or what tells apart several of a name; begins with a character names do not have */
	enum arena_kind kind;
	size_t size;
};

/* One area after the other: all zero at first. */
struct arena_listing {
	uint32_t index;                /* of the next one */
	uint64_t offset;               /* of the next one; 0: the first */
	char name[ARENA_NAME_MAX + 1]; /* as modules know it */
	enum arena_kind kind;
	const void *data;
	size_t size;
};

struct arena_figures {
	uint64_t size, used; /* bytes */
	uint32_t n_areas;
	bool damaged; /* `used` and `n_areas` cover only what is still in order */
};

/* The primary's side. */
int arena_new(uint64_t size, int *ret_fd);
int arena_adopt(int fd, int layout, uint64_t size);

/* For those who use it. */
int arena_attach(int fd, struct arena **ret);
struct arena *arena_detach(struct arena *a);
void *arena_alloc(struct arena *a, size_t size);
int arena_find(struct arena *a, const struct arena_request *request, struct tine_shared **ret,
	char why[ARENA_WHY_MAX]);
const uint64_t *arena_seed(const struct arena *a);

/* For those who only look at it. */
int arena_map(int fd, const void **ret_base, uint64_t *ret_size);
void arena_look(const void *base, uint64_t size, struct arena_figures *ret);
bool arena_list(const void *base, uint64_t size, struct arena_listing *l);

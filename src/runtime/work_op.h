/*
 * What ready-made work has in common: a kind, copies of its arguments, how it ended, and a text about that. Each operation has a
 * structure of its own with this at its beginning, and its result behind it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/work.h"

#define WORK_TEXT_MAX  256
#define WORK_THING_MAX 160 /* of it, for what the work is about: the reason always fits behind */
#define WORK_BYTES_MAX ((size_t)1 << 30) /* of one argument or result */
#define WORK_PIECE \
	((size_t)1 << 20) /* of what is done in pieces, so that it can be stopped between two */

struct work_op;
struct tine_worker;

struct work_op_kind {
	const char *name; /* what texts begin with */
	enum pool_lane lane;
	int (*run)(struct work_op
			*op); /* on a thread: 0 or a negative errno, whose text it may write */
	void (*deliver)(struct work_op *op); /* on the loop: calls the caller back */
	void (*drop)(struct work_op *op);    /* frees the result; more than once; may be NULL */
	/* Writes what it is about, for the text; NULL: nothing that has a name. */
	void (*describe)(const struct work_op *op, char *ret, size_t size);
};

struct work_op {
	struct tine_work work; /* first */
	const struct work_op_kind *kind;
	int status;               /* how it ended */
	char text[WORK_TEXT_MAX]; /* why; empty when all is well */
	bool dropped;             /* it was told to stop: the rest of what it left means nothing */
	bool secret;              /* what it was given is not to stay in memory */
	size_t size;              /* of all of it, with the copies */
	char *room;               /* for the next copy */
};

struct work_op *work_op_new(const struct work_op_kind *kind, size_t size, size_t n_copied);
void *work_op_copy(struct work_op *op, const void *data, size_t len);
size_t work_op_text_size(const char *text);
const char *work_op_copy_text(struct work_op *op, const char *text);
int work_op_submit(struct tine_worker *worker, struct work_op *op, uint64_t timeout_us,
	struct tine_work **ret);
int work_op_say(struct work_op *op, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static inline int work_op_stopped(struct work_op *op)
{
	return work_stopped(&op->work);
}

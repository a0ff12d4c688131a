/*
 * What ready-made work has in common. Always: the caller is called back once for each operation that was accepted, on the loop's
 * thread; a result that is not delivered, because the work was cancelled or came too late, is freed before that.
 */
#include "runtime/work_op.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/module.h"

static void op_drop(struct work_op *op)
{
	if (op->kind->drop)
		op->kind->drop(op);
}

static void op_free(struct work_op *op)
{
	if (op->secret)
		explicit_bzero(op, op->size);
	free(op);
}

static void on_run(struct tine_work *w)
{
	struct work_op *op = (struct work_op *)w;

	op->status = op->kind->run(op);
}

static void on_done(struct tine_work *w, int status)
{
	struct work_op *op = (struct work_op *)w;

	if (status < 0) {
		op->status = status;
		op->dropped = true;
		*op->text = '\0';
	}
	if (op->status < 0) {
		op_drop(op);
		if (!*op->text)
			work_op_say(op, 0, "%s",
				op->dropped ? work_why(op->status) : strerror(-op->status));
	}
	op->kind->deliver(op);
	op_drop(op);
	op_free(op);
}

/* size: of the structure that begins with the operation; n_copied: bytes of arguments to come. NULL: out of memory. */
struct work_op *work_op_new(const struct work_op_kind *kind, size_t size, size_t n_copied)
{
	struct work_op *op = calloc(1, size + n_copied);

	if (!op)
		return NULL;
	op->kind = kind;
	op->size = size + n_copied;
	op->room = (char *)op + size;
	op->work.job.lane = kind->lane;
	op->work.run = on_run;
	op->work.done = on_done;
	return op;
}

/* A copy that lives as long as the operation, unaligned; NULL of nothing. */
void *work_op_copy(struct work_op *op, const void *data, size_t len)
{
	char *copy = op->room;

	if (!data)
		return NULL;
	memcpy(copy, data, len);
	op->room += len;
	return copy;
}

/* Bytes of a copy; NULL needs none. */
size_t work_op_text_size(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

const char *work_op_copy_text(struct work_op *op, const char *text)
{
	return work_op_copy(op, text, work_op_text_size(text));
}

/*
 * Returns status, with a text: the operation, what it is about, and why. On the operation's thread, or on the loop's when there is
 * none.
 */
int work_op_say(struct work_op *op, int status, const char *fmt, ...)
{
	char thing[WORK_THING_MAX] = "";
	va_list ap;
	int n;

	if (op->kind->describe)
		op->kind->describe(op, thing, sizeof(thing));
	n = snprintf(
		op->text, sizeof(op->text), "%s: %s%s", op->kind->name, thing, *thing ? ": " : "");
	va_start(ap, fmt);
	vsnprintf(op->text + n, sizeof(op->text) - (size_t)n, fmt, ap);
	va_end(ap);
	return status;
}

/* Takes the operation, also when it is refused. ret: the handle, until the caller is called back; may be NULL. */
int work_op_submit(
	struct tine_worker *worker, struct work_op *op, uint64_t timeout_us, struct tine_work **ret)
{
	int r = work_submit(worker->pool, &op->work, timeout_us);

	if (r < 0) {
		op_free(op);
		return r;
	}
	if (ret)
		*ret = &op->work;
	return 0;
}

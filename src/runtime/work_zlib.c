/* Ready-made work: deflate and inflate all at once, with a bound for what comes out. */
#include "runtime/work_zlib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sized.h"
#include "runtime/module.h"
#include "runtime/work_op.h"

#define ROOM_FIRST ((size_t)16 << 10)

struct zlib_op {
	struct work_op op; /* first */
	struct tine_zlib given;
	struct zcoder coder;
	struct tine_zlib_result result;
	size_t room; /* of the result's data */
};

/* One byte more than may be tells what is too large from what just fits. Returns 0 or a negative errno. */
static int room_grow(struct zlib_op *o)
{
	size_t max = o->given.max + 1, want = o->room ? o->room * 2 : ROOM_FIRST;
	void *p;

	if (o->result.len > o->given.max)
		return work_op_say(
			&o->op, TINE_E_TOO_LARGE, "more than %zu bytes come out", o->given.max);
	o->room = want < max ? want : max;
	p = realloc(o->result.data, o->room);
	if (!p)
		return -ENOMEM;
	o->result.data = p;
	return 0;
}

/* One step of the coder: what there is room for. */
static int step(struct zlib_op *o, int flush)
{
	z_stream *z = &o->coder.z;
	int r = o->result.len == o->room ? room_grow(o) : 0;

	if (r < 0)
		return r;
	z->next_out = (unsigned char *)o->result.data + o->result.len;
	z->avail_out = (unsigned)(o->room - o->result.len);
	r = zcoder_run(&o->coder, flush);
	o->result.len = o->room - z->avail_out;
	return r;
}

/* The end is reached when a step of the last piece leaves room; what fills it exactly is seen in the next step. */
static int code(struct zlib_op *o)
{
	z_stream *z = &o->coder.z;
	size_t at = 0, n;
	bool last;
	int r;

	do {
		n = o->given.len - at < WORK_PIECE ? o->given.len - at : WORK_PIECE;
		z->next_in = (unsigned char *)(uintptr_t)o->given.data + at;
		z->avail_in = (unsigned)n;
		at += n;
		last = at == o->given.len;
		do {
			r = step(o, last ? Z_FINISH : Z_NO_FLUSH);
			if (r == 0)
				r = work_op_stopped(&o->op);
		} while (r == 0 && z->avail_out == 0);
	} while (r == 0 && !last);
	return r;
}

static int run(struct work_op *op, bool inflate)
{
	struct zlib_op *o = (struct zlib_op *)op;
	const char *why;
	int r = zcoder_open(&o->coder, inflate, o->given.format, o->given.level);

	if (r < 0)
		return r;
	r = code(o);
	if (r == 0 && o->result.len > o->given.max)
		r = room_grow(o); /* says that it is too large */
	why = zcoder_message(&o->coder, r);
	if (why)
		work_op_say(op, r, "%s", why);
	zcoder_close(&o->coder);
	return r;
}

static int run_deflate(struct work_op *op)
{
	return run(op, false);
}

static int run_inflate(struct work_op *op)
{
	return run(op, true);
}

static void drop(struct work_op *op)
{
	struct zlib_op *o = (struct zlib_op *)op;

	free(o->result.data);
	o->result.data = NULL;
	o->result.len = 0;
}

static void deliver(struct work_op *op)
{
	struct zlib_op *o = (struct zlib_op *)op;

	o->result.status = op->status;
	o->result.text = op->text;
	o->given.on_done(&o->result, o->given.arg);
}

static const struct work_op_kind deflate_kind = {
	"deflate", POOL_CPU, run_deflate, deliver, drop, NULL};
static const struct work_op_kind inflate_kind = {
	"inflate", POOL_CPU, run_inflate, deliver, drop, NULL};

static int submit(struct tine_worker *worker, const struct tine_zlib *given, bool inflate,
	struct tine_work **ret)
{
	struct tine_zlib g;
	struct zlib_op *o;
	int r = SIZED_TAKE(&g, given, arg);

	if (r < 0)
		return r;
	if (!worker || !worker->pool || !g.on_done || (!g.data && g.len > 0) ||
		g.len > TINE_ZLIB_BYTES_MAX || g.max > TINE_ZLIB_BYTES_MAX ||
		!zcoder_is_sound(inflate, g.format, g.level))
		return -EINVAL;
	o = (struct zlib_op *)work_op_new(
		inflate ? &inflate_kind : &deflate_kind, sizeof(*o), g.lent ? 0 : g.len);
	if (!o)
		return -ENOMEM;
	o->given = g;
	o->given.max = g.max ? g.max : TINE_ZLIB_MAX;
	if (!g.lent)
		o->given.data = work_op_copy(&o->op, g.data, g.len);
	return work_op_submit(worker, &o->op, g.timeout_us, ret);
}

int work_zlib_deflate(struct tine_worker *worker, const struct tine_zlib *z, struct tine_work **ret)
{
	return submit(worker, z, false, ret);
}

int work_zlib_inflate(struct tine_worker *worker, const struct tine_zlib *z, struct tine_work **ret)
{
	return submit(worker, z, true, ret);
}

/*
 * Fuzz target: any bytes as something compressed, its first byte choosing the format. What comes of it must not depend on how input and
 * output are split.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/work_zlib.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX  4096
#define OUTPUT_MAX (4u << 10) /* what makes more is left alone */

struct outcome {
	int status;
	size_t len;
	unsigned char data[OUTPUT_MAX];
};

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* All output of one piece of input, at most `room` bytes at a time. Returns whether to go on. */
static bool inflate_piece(struct zcoder *c, struct outcome *o, size_t room, int flush)
{
	do {
		if (room > OUTPUT_MAX - o->len)
			room = OUTPUT_MAX - o->len;
		c->z.next_out = o->data + o->len;
		c->z.avail_out = (unsigned)room;
		o->status = zcoder_run(c, flush);
		o->len += room - c->z.avail_out;
	} while (o->status == 0 && c->z.avail_out == 0 && o->len < OUTPUT_MAX);
	require(o->status == 0 || o->status == -EBADMSG);
	require((o->status == 0) == !zcoder_message(c, o->status));
	return o->status == 0 && o->len < OUTPUT_MAX;
}

static void inflate_all(struct outcome *o, enum tine_zlib_format format, const uint8_t *data,
	size_t size, size_t piece, size_t room)
{
	struct zcoder c;
	size_t at = 0, n;

	o->len = 0;
	require(zcoder_open(&c, true, format, 0) == 0);
	do {
		n = size - at < piece ? size - at : piece;
		c.z.next_in = (unsigned char *)(uintptr_t)data + at;
		c.z.avail_in = (unsigned)n;
		at += n;
	} while (inflate_piece(&c, o, room, at == size ? Z_FINISH : Z_NO_FLUSH) && at < size);
	zcoder_close(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct outcome whole, split;
	enum tine_zlib_format format;
	size_t piece, room;

	if (size < 2 || size > INPUT_MAX)
		return 0;
	format = (enum tine_zlib_format)(TINE_ZLIB_GZIP + data[0] % 4);
	piece = 1 + data[0] / 4 % 8;
	room = 1 + data[0] / 32;
	inflate_all(&whole, format, data + 1, size - 1, INPUT_MAX, OUTPUT_MAX);
	inflate_all(&split, format, data + 1, size - 1, piece, room);
	if (whole.len == OUTPUT_MAX || split.len == OUTPUT_MAX)
		return 0;
	require(whole.status == split.status);
	if (whole.status == 0) {
		require(whole.len == split.len);
		require(memcmp(whole.data, split.data, whole.len) == 0);
	}
	return 0;
}

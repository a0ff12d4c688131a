/*
 * A coder of zlib's, for either direction: formats, several members of a gzip file, and errors as errno values. Any thread, one at a
 * time.
 */
#include <errno.h>
#include <string.h>

#include "runtime/work_zlib.h"

#define MEMORY_LEVEL 8 /* zlib's default */

/* The bits of the window say which format it is: zlib.h, deflateInit2() and inflateInit2(). */
static const int window_bits[] = {
	[TINE_ZLIB_GZIP] = 15 + 16,
	[TINE_ZLIB_DEFLATE] = 15,
	[TINE_ZLIB_RAW] = -15,
	[TINE_ZLIB_ANY] = 15 + 32,
};

bool zcoder_is_sound(bool inflate, enum tine_zlib_format format, int level)
{
	return (unsigned)format >= TINE_ZLIB_GZIP && (unsigned)format <= TINE_ZLIB_ANY &&
		(inflate || format != TINE_ZLIB_ANY) && level >= 0 && level <= Z_BEST_COMPRESSION;
}

/* Returns 0 or -ENOMEM. */
int zcoder_open(struct zcoder *c, bool inflate, enum tine_zlib_format format, int level)
{
	int r;

	memset(c, 0, sizeof(*c));
	c->inflate = inflate;
	c->gzip = format == TINE_ZLIB_GZIP || format == TINE_ZLIB_ANY;
	if (inflate)
		r = inflateInit2(&c->z, window_bits[format]);
	else
		r = deflateInit2(&c->z, level ? level : Z_DEFAULT_COMPRESSION, Z_DEFLATED,
			window_bits[format], MEMORY_LEVEL, Z_DEFAULT_STRATEGY);
	c->open = r == Z_OK;
	return c->open ? 0 : -ENOMEM;
}

void zcoder_close(struct zcoder *c)
{
	if (!c->open)
		return;
	if (c->inflate)
		inflateEnd(&c->z);
	else
		deflateEnd(&c->z);
	c->open = false;
}

/* After the end of a gzip member the next one may follow; whatever else follows is not ours. */
static int inflate_on(struct zcoder *c)
{
	if (c->ended && c->z.avail_in > 0) {
		if (!c->gzip || *c->z.next_in != 0x1f || inflateReset(&c->z) != Z_OK)
			return -EBADMSG;
		c->ended = false;
	}
	return 0;
}

static int run_inflate(struct zcoder *c, int flush)
{
	int r;

	while (c->z.avail_out > 0) {
		if (inflate_on(c) < 0)
			return -EBADMSG;
		if (c->ended)
			return 0;
		r = inflate(&c->z, Z_NO_FLUSH);
		c->ended = r == Z_STREAM_END;
		if (r == Z_NEED_DICT)
			c->z.msg = (char *)(uintptr_t) "needs a dictionary";
		if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
			return r == Z_MEM_ERROR ? -ENOMEM : -EBADMSG;
		if (c->z.avail_in == 0)
			break;
	}
	/* With room left all input was read and all output written: then the end must have come. */
	return flush == Z_FINISH && c->z.avail_out > 0 && !c->ended ? -EBADMSG : 0;
}

/*
 * Goes on until the input or the room for output is used up. flush: zlib's, Z_FINISH when no more input will come. Returns 0 or a
 * negative errno: -EBADMSG, -ENOMEM.
 */
int zcoder_run(struct zcoder *c, int flush)
{
	if (c->inflate)
		return run_inflate(c, flush);
	return deflate(&c->z, flush) == Z_STREAM_ERROR ? -EIO : 0;
}

/* Why zcoder_run() has returned r; NULL: as strerror(3) has it. */
const char *zcoder_message(const struct zcoder *c, int r)
{
	if (r != -EBADMSG)
		return NULL;
	if (c->z.msg)
		return c->z.msg;
	return c->ended ? "something follows the end" : "cut off before the end";
}

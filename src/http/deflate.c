/*
 * permessage-deflate (RFC 7692 section 7.2) over zlib. Worker only, on the loop's thread.
 *
 * No context is taken over from one message to the next, in either direction: so a worker has one inflater and, for each
 * size of window that clients ask for, one deflater, and an idle connection has none.
 */
#include "http/deflate.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

#include "base/fd.h"

/* What ends each message and is not sent: that of an empty block. */
static const char tail[4] = {0, 0, '\xff', '\xff'};

#define MEMORY_LEVEL 6 /* of 9: what is cleared for each message is 16 KiB */

static int unpacker_ready(struct deflate *d)
{
	z_stream *z = d->unpacker;

	if (z)
		return inflateReset(z) == Z_OK ? 0 : -EINVAL;
	z = calloc(1, sizeof(*z));
	if (!z || inflateInit2(z, -MAX_WBITS) != Z_OK) {
		free(z);
		return -ENOMEM;
	}
	d->unpacker = z;
	return 0;
}

/* Twice the room, and never more than one byte beyond `max`, which tells that it is too long. */
static int grow(char **buf, size_t *cap, size_t max)
{
	size_t want = *cap > max / 2 ? max + 1 : 2 * *cap;
	char *p = realloc(*buf, want);

	if (!p)
		return -ENOMEM;
	*buf = p;
	*cap = want;
	return 0;
}

/* Feeds bytes; the output grows as they need. `used` bytes of it are there already. */
static int unpack_some(z_stream *z, const char *data, size_t len, size_t max, char **buf,
	size_t *cap, size_t *used)
{
	int r;

	z->next_in = (const Bytef *)data;
	z->avail_in = (uInt)len;
	for (;;) {
		if (*used == *cap && grow(buf, cap, max) < 0)
			return -ENOMEM;
		z->next_out = (Bytef *)*buf + *used;
		z->avail_out = (uInt)(*cap - *used);
		r = inflate(z, Z_SYNC_FLUSH);
		*used = *cap - z->avail_out;
		if (*used > max)
			return -EMSGSIZE;
		if (r ==
			Z_STREAM_END) /* whoever ends the stream begins another with the next byte */
			r = inflateReset(z);
		else if (r == Z_BUF_ERROR)
			r = Z_OK; /* no more can be done with what is there */
		if (r != Z_OK)
			return r == Z_MEM_ERROR ? -ENOMEM : -EBADMSG;
		if (z->avail_in == 0 && z->avail_out > 0)
			return 0;
	}
}

/*
 * Decompresses a message. Returns 0 and *ret, to be freed; -EMSGSIZE as soon as it is longer than max; -EBADMSG when it is
 * no such message; -ENOMEM.
 */
int deflate_unpack(
	struct deflate *d, struct tine_text packed, size_t max, char **ret, size_t *ret_len)
{
	CLEANUP(freep) char *buf = NULL;
	size_t cap, used = 0;
	int r = unpacker_ready(d);

	if (r < 0)
		return r;
	if (max >= UINT32_MAX || packed.len >= UINT32_MAX / 4)
		return -EMSGSIZE;
	cap = packed.len < max / 4 ? 4 * packed.len + 64 : max + 1;
	buf = malloc(cap);
	if (!buf)
		return -ENOMEM;
	r = unpack_some(d->unpacker, packed.data, packed.len, max, &buf, &cap, &used);
	if (r == 0)
		r = unpack_some(d->unpacker, tail, sizeof(tail), max, &buf, &cap, &used);
	if (r < 0)
		return r;
	if (!(d->unpacker->data_type & 128)) /* zlib: it is not between two blocks */
		return -EBADMSG;
	*ret = take_ptr(buf);
	*ret_len = used;
	return 0;
}

static int packer_ready(struct deflate *d, unsigned bits)
{
	z_stream *z = d->packers[bits];

	if (z)
		return deflateReset(z) == Z_OK ? 0 : -EINVAL;
	z = calloc(1, sizeof(*z));
	if (!z ||
		deflateInit2(z, Z_BEST_SPEED, Z_DEFLATED, -(int)bits, MEMORY_LEVEL,
			Z_DEFAULT_STRATEGY) != Z_OK) {
		free(z);
		return -ENOMEM;
	}
	d->packers[bits] = z;
	return 0;
}

/*
 * Compresses a message for a window of so many bits. Returns 0 and *ret, to be freed; DEFLATE_NO_GAIN when it is
 * better sent as it is; -EINVAL, -ENOMEM.
 */
int deflate_pack(
	struct deflate *d, unsigned bits, struct tine_text plain, char **ret, size_t *ret_len)
{
	CLEANUP(freep) char *buf = NULL;
	z_stream *z;
	int r;

	if (bits < DEFLATE_BITS_MIN || bits > DEFLATE_BITS_MAX || plain.len >= UINT32_MAX)
		return -EINVAL;
	if (plain.len <= sizeof(tail))
		return DEFLATE_NO_GAIN;
	r = packer_ready(d, bits);
	if (r < 0)
		return r;
	buf = malloc(plain.len);
	if (!buf)
		return -ENOMEM;
	z = d->packers[bits];
	z->next_in = (const Bytef *)plain.data;
	z->avail_in = (uInt)plain.len;
	z->next_out = (Bytef *)buf;
	z->avail_out = (uInt)plain.len;
	if (deflate(z, Z_SYNC_FLUSH) != Z_OK || z->avail_out == 0)
		return DEFLATE_NO_GAIN; /* it is not complete */
	*ret_len = plain.len - z->avail_out - sizeof(tail);
	*ret = take_ptr(buf);
	return 0;
}

/* Frees what was made. */
void deflate_release(struct deflate *d)
{
	if (d->unpacker)
		inflateEnd(d->unpacker);
	free(d->unpacker);
	d->unpacker = NULL;
	for (unsigned bits = 0; bits <= DEFLATE_BITS_MAX; bits++) {
		if (d->packers[bits])
			deflateEnd(d->packers[bits]);
		free(d->packers[bits]);
		d->packers[bits] = NULL;
	}
}

/*
 * gzip (RFC 1952) of a file, or of what of it is in memory already, into memory. It reads from the disk and takes its time, so it is made to run on a thread
 * of the pool: it uses nothing but its arguments. The result is the same for the same file, no name or time
 * being part of it.
 */
#include "http/compress.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include "base/fd.h"

#define COMPRESS_CHUNK (64u << 10)
#define WINDOW_GZIP    (15 + 16) /* zlib's way to ask for the gzip format, with the largest window */

static void deflatep(z_stream *z)
{
	deflateEnd(z);
}

/* pread(2) of len bytes. Returns 0 or a negative errno: -ESTALE when the file has become shorter. */
static int read_whole(int fd, unsigned char *buf, size_t len, uint64_t at)
{
	while (len > 0) {
		ssize_t n = pread(fd, buf, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? -ESTALE : -errno;
		buf += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

/* Returns 0, COMPRESS_IN_VAIN when the room is used up, or a negative errno. */
static int compress_into(z_stream *z, const struct compress_source *src, unsigned char *buf)
{
	uint64_t size = src->size, at = 0;
	int r = Z_OK;

	while (r != Z_STREAM_END) {
		size_t n = size - at < COMPRESS_CHUNK ? (size_t)(size - at) : COMPRESS_CHUNK;

		r = src->data ? 0 : read_whole(src->fd, buf, n, at);
		if (r < 0)
			return r;
		z->next_in = src->data ? (unsigned char *)(uintptr_t)(src->data + at) : buf;
		at += n;
		z->avail_in = (unsigned)n;
		r = deflate(z, at == size ? Z_FINISH : Z_NO_FLUSH);
		if (r == Z_STREAM_ERROR)
			return -EIO;
		if (z->avail_out == 0 && r != Z_STREAM_END)
			return COMPRESS_IN_VAIN;
	}
	return 0;
}

/*
 * Compresses what src says (below 2 GiB). level: 1 (fast) to 9. Returns 0 and memory the caller frees;
 * COMPRESS_IN_VAIN when less than an eighth would be saved; or a negative errno: -EFBIG, -ENOMEM, -ESTALE (the
 * file is shorter than that), what pread(2) says.
 */
int compress_gzip(const struct compress_source *src, int level, char **ret_data, size_t *ret_len)
{
	CLEANUP(freep) unsigned char *buf = NULL;
	CLEANUP(freep) unsigned char *out = NULL;
	CLEANUP(deflatep) z_stream z = {0};
	size_t room = (size_t)(src->size - src->size / 8);
	void *fit;
	int r;

	if (src->size > INT32_MAX)
		return -EFBIG;
	if (room == 0)
		return COMPRESS_IN_VAIN;
	buf = malloc(COMPRESS_CHUNK);
	out = malloc(room);
	if (!buf || !out ||
		deflateInit2(&z, level, Z_DEFLATED, WINDOW_GZIP, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	z.next_out = out;
	z.avail_out = (unsigned)room;
	r = compress_into(&z, src, buf);
	if (r != 0)
		return r;
	*ret_len = z.total_out;
	fit = realloc(out, z.total_out);
	*ret_data = fit ? fit : (void *)out;
	out = NULL;
	return 0;
}

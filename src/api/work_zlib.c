/* tine/work_zlib.h: zlib's work off the loop, for modules. Runs in the worker, on the loop's thread. */
#include <errno.h>

#include "runtime/work_zlib.h"

int tine_zlib_deflate(struct tine_worker *worker, const struct tine_zlib *z, struct tine_work **ret)
{
	return work_zlib_deflate(worker, z, ret);
}

int tine_zlib_inflate(struct tine_worker *worker, const struct tine_zlib *z, struct tine_work **ret)
{
	return work_zlib_inflate(worker, z, ret);
}

int tine_zlib_open(struct tine_worker *worker, const struct tine_zlib_options *o,
	struct tine_zlib_stream **ret)
{
	return worker && ret ? zlib_stream_open(worker, o, ret) : -EINVAL;
}

int tine_zlib_write(struct tine_zlib_stream *stream, const void *data, size_t len, bool flush)
{
	if (!stream || (!data && len > 0) || len > TINE_ZLIB_BYTES_MAX)
		return -EINVAL;
	return zlib_stream_write(stream, data, len, flush);
}

size_t tine_zlib_room(const struct tine_zlib_stream *stream)
{
	return stream ? zlib_stream_room(stream) : 0;
}

int tine_zlib_end(struct tine_zlib_stream *stream)
{
	return stream ? zlib_stream_end(stream) : -EINVAL;
}

void tine_zlib_pause(struct tine_zlib_stream *stream, bool on)
{
	if (stream)
		zlib_stream_pause(stream, on);
}

void tine_zlib_close(struct tine_zlib_stream *stream)
{
	if (stream)
		zlib_stream_close(stream);
}

/* Ready-made work with zlib: what tine/work_zlib.h offers. */
#pragma once

#include <zlib.h>

#include <tine/work_zlib.h>

int work_zlib_deflate(
	struct tine_worker *worker, const struct tine_zlib *z, struct tine_work **ret);
int work_zlib_inflate(
	struct tine_worker *worker, const struct tine_zlib *z, struct tine_work **ret);

int zlib_stream_open(struct tine_worker *worker, const struct tine_zlib_options *o,
	struct tine_zlib_stream **ret);
int zlib_stream_write(struct tine_zlib_stream *s, const void *data, size_t len, bool flush);
size_t zlib_stream_room(const struct tine_zlib_stream *s);
int zlib_stream_end(struct tine_zlib_stream *s);
void zlib_stream_pause(struct tine_zlib_stream *s, bool on);
void zlib_stream_close(struct tine_zlib_stream *s);

/* --- one coder, for both: input into output, until one of them is used up; any thread, one at a time --- */

struct zcoder {
	z_stream z;
	bool inflate, gzip; /* gzip: further members may follow */
	bool ended;         /* the format's own end was seen */
	bool open;
};

bool zcoder_is_sound(bool inflate, enum tine_zlib_format format, int level);
int zcoder_open(struct zcoder *c, bool inflate, enum tine_zlib_format format, int level);
int zcoder_run(struct zcoder *c, int flush);
const char *zcoder_message(const struct zcoder *c, int r);
void zcoder_close(struct zcoder *c);

/* Messages of permessage-deflate (RFC 7692), each compressed by itself. */
#pragma once

#include <stddef.h>

#include <tine/http.h>

/* What the messages of all connections of a worker share. Zero-initialised; made on first use. */
struct deflate {
	struct z_stream_s *unpacker;
	struct z_stream_s *packers[16]; /* by bits of their window */
};

#define DEFLATE_BITS_MIN 9
#define DEFLATE_BITS_MAX 15

/* Answer of deflate_pack: it would not become shorter. */
#define DEFLATE_NO_GAIN 1

int deflate_unpack(
	struct deflate *d, struct tine_text packed, size_t max, char **ret, size_t *ret_len);
int deflate_pack(
	struct deflate *d, unsigned bits, struct tine_text plain, char **ret, size_t *ret_len);
void deflate_release(struct deflate *d);

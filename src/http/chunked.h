/* The chunked transfer coding of a request's body (RFC 9112 section 7.1), strictly. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/parser.h"

#define CHUNKED_EXTENSIONS_MAX 4096 /* bytes of all chunk extensions of one body */
#define CHUNKED_TRAILER_MAX    8192 /* bytes of all trailer lines of one body */
#define CHUNKED_FIELDS_MAX     32   /* trailer lines of one body */

/* Answers of chunked_decode. */
enum {
	CHUNKED_END = 0,            /* the body is over, its trailer too */
	CHUNKED_MORE = PARSER_MORE, /* what is there is fine so far, but more must come */
	CHUNKED_DATA,               /* bytes of the body */
	CHUNKED_TRAILER,            /* a field of the trailer */
};

/* One body being decoded; all zero is its beginning. */
struct chunked {
	uint64_t left;       /* bytes of the chunk still to come; its size while that is read */
	uint16_t extensions; /* bytes so far */
	uint16_t trailer;    /* bytes so far */
	uint8_t n_fields;    /* trailer lines so far */
	uint8_t n_digits;    /* of the size being read */
	uint8_t state;       /* enum chunked_state */
};

int chunked_decode(
	struct chunked *d, const char *data, size_t len, struct http_field *ret, size_t *ret_used);
bool chunked_is_forbidden(struct tine_text name);

/* One line of the access log for one request. Pure functions over a buffer. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <tine/http.h>

#include "base/peer.h"
#include "shared/config.h"

/* Bytes of a line with its newline, at most; what is too long in a field is cut. PIPE_BUF: a pipe takes it whole. */
#define ACCESS_LINE_MAX 4096

struct access_record {
	struct timespec time; /* CLOCK_REALTIME */
	const struct peer *client;
	struct tine_text line;                      /* the request line as it came */
	struct tine_text host, referer, user_agent; /* empty: not sent */
	unsigned status;                            /* 0: a crash cut the request short */
	unsigned worker;
	uint64_t body_bytes; /* of the answer, as far as it was sent */
	uint64_t duration_us;
};

/* The time as text, made anew when the second changes. Zero to begin with. */
struct access_clock {
	time_t second;
	size_t len;
	char text[40]; /* combined: [10/Oct/2000:13:55:36 -0700]; json: 2000-10-10T20:55:36 */
};

size_t access_line_format(enum access_format format, struct access_clock *clock,
	const struct access_record *r, char out[ACCESS_LINE_MAX]);

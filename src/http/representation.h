/* From an open file to an answer: conditions, ranges, what is sent from where. */
#pragma once

#include <stdbool.h>

#include <tine/http.h>

#define REPRESENTATION_MORE_MAX 512 /* bytes of header lines of a folder's own */

struct file_cache;
struct file_entry;
struct file_gzip;

/* What is sent when a file is asked for. The caller's references are held during the call alone. */
struct representation {
	struct file_entry *entry;
	struct file_gzip *gzip; /* in place of the entry's own bytes; may be NULL */
	struct tine_text type;
	const char *coding; /* Content-Encoding of it; NULL: none */
	bool varies;        /* another client may get another coding */
	struct tine_text
		more; /* header lines, each with its CRLF, up to REPRESENTATION_MORE_MAX bytes */
	struct file_cache *cache;
};

int representation_answer(struct tine_request *rq, const struct representation *r);

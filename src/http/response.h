/* Writing answers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tine/http.h>

/* An answer, its parts already checked: nothing in them is looked at again. */
struct http_answer {
	unsigned status;
	struct tine_text type;   /* Content-Type; empty: none */
	struct tine_text fields; /* more header lines, each with its CRLF */
	uint64_t length;         /* Content-Length */
	const void *body;        /* `length` bytes */
	bool pieces; /* they follow by output_piece() instead, and then request_end_pieces() */
	unsigned
		framing; /* enum answer_framing; all but FRAMING_LENGTH for response_start() only */
};

int response_write(struct tine_request *rq, const struct http_answer *a);
int response_start(struct tine_request *rq, const struct http_answer *a);
int response_text(struct tine_request *rq, unsigned status);
int response_redirect(struct tine_request *rq, struct tine_text path);
int response_add_header(struct tine_request *rq, struct tine_text name, struct tine_text value);
struct tine_text response_reason(unsigned status);

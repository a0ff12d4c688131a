/* Answers whose body follows piece by piece. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <tine/http.h>

int streamed_start(struct tine_request *rq, unsigned status, struct tine_text type, int64_t length);
int streamed_write(struct tine_request *rq, const void *data, size_t len);
int streamed_add_trailer(struct tine_request *rq, struct tine_text name, struct tine_text value);
int streamed_end(struct tine_request *rq);
void streamed_break(struct tine_request *rq);
void streamed_abort(struct tine_request *rq);
void streamed_cut(struct tine_request *rq);
void streamed_drained(struct tine_request *rq);

int sse_start(struct tine_request *rq);
int sse_send(struct tine_request *rq, struct tine_text event, struct tine_text id, const char *data,
	size_t len);
void sse_keep_alive(struct tine_request *rq);

/* The body of a request: collected, streamed to a module, or dropped. */
#pragma once

#include <stddef.h>

#include <tine/http.h>

int body_own(struct tine_request *rq);
void body_begin(struct tine_request *rq);
void body_decide(struct tine_request *rq);
size_t body_feed(struct tine_request *rq, const char *data, size_t len);
int body_read(struct tine_request *rq, tine_body_fn fn, void *arg);
void body_pause(struct tine_request *rq, bool pause);
void body_drop_rest(struct tine_request *rq);
void body_fail(struct tine_request *rq);
bool body_waits(const struct tine_request *rq);
struct tine_text body_trailer(const struct tine_request *rq, const char *name, size_t len);
void body_clear(struct tine_request *rq);

/* Conditional requests (RFC 9110 section 13). Pure functions. */
#pragma once

#include <stdbool.h>
#include <time.h>

#include <tine/http.h>

struct http_head;

/* Answers of conditional_check. */
#define CONDITIONAL_UNCHANGED 304
#define CONDITIONAL_FAILED    412

int conditional_check(const struct http_head *h, struct tine_text etag, time_t modified);
struct tine_text conditional_range(
	const struct http_head *h, struct tine_text etag, time_t modified);
bool conditional_etag_in(struct tine_text list, struct tine_text etag, bool weak);

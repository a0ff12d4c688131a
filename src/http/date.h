/* HTTP dates (RFC 9110 section 5.6.7). */
#pragma once

#include <stdint.h>
#include <time.h>

#include <tine/http.h>

#define HTTP_DATE_LEN 29 /* Sun, 06 Nov 1994 08:49:37 GMT */

/*
 * The line every answer begins with after its status; made anew when the second changes. There is no Server line:
 * nobody needs it but who looks for known holes, and every answer would carry it.
 */
struct http_date {
	uint64_t until_ms; /* CLOCK_MONOTONIC: holds until then */
	size_t len;
	char line[48]; /* "Date: ...\r\n" */
};

void http_date_format(time_t t, char buf[HTTP_DATE_LEN]);
int http_date_parse(struct tine_text s, time_t *ret);
void http_date_renew(struct http_date *d, uint64_t now_ms);

static inline void http_date_update(struct http_date *d, uint64_t now_ms)
{
	if (now_ms >= d->until_ms)
		http_date_renew(d, now_ms);
}

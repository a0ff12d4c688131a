/*
 * The head of a request (RFC 9112 sections 2 to 6): request line and header fields, strictly. Pure
 * functions over a buffer; nothing is copied, the results point into it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tine/http.h>

#define HTTP_FIELDS_MAX 100

/* Answer of http_parse_head: what is there is fine so far, but more must come. */
#define PARSER_MORE 1

/* Bits, so that a set of methods is an unsigned. */
enum http_method {
	METHOD_UNKNOWN = 0,
	METHOD_GET = TINE_GET,
	METHOD_HEAD = TINE_HEAD,
	METHOD_POST = 1 << 2,
	METHOD_PUT = 1 << 3,
	METHOD_DELETE = 1 << 4,
	METHOD_CONNECT = 1 << 5,
	METHOD_OPTIONS = 1 << 6,
	METHOD_TRACE = 1 << 7,
	METHOD_PATCH = 1 << 8,
};

struct http_limits {
	size_t max_line; /* bytes of the request line, its CRLF included: else 414 */
	size_t max_head; /* bytes of the whole head: else 431 */
};

struct http_field {
	struct tine_text name, value;
};

/* Small: what it points to is elsewhere. http_head_move() takes it along when that moves. */
struct http_head {
	size_t size;            /* bytes of the head, up to and with its empty line */
	struct tine_text line;  /* request line without CRLF */
	struct tine_text path;  /* as sent: begins with '/', or is "*", or empty (CONNECT) */
	struct tine_text query; /* as sent, without '?'; data is NULL when there was no '?' */
	struct tine_text host;  /* of an absolute-form target, else of the field Host */
	uint64_t content_length;
	struct http_field *fields; /* the caller's */
	uint16_t n_fields;
	uint16_t method; /* enum http_method */
	uint8_t minor;   /* HTTP/1.minor: 0 or 1 */
	bool has_length, has_host;
	bool chunked;                    /* Transfer-Encoding: chunked; never with has_length */
	bool close, keep_alive, upgrade; /* tokens of Connection */
	bool expect, expect_unknown;     /* Expect: 100-continue; anything else */
};

int http_parse_head(const char *data, size_t len, const struct http_limits *limits,
	struct http_field fields[HTTP_FIELDS_MAX], struct http_head *ret);
int http_parse_field(
	const char *data, size_t len, size_t max, struct http_field *ret, size_t *ret_used);
void http_head_move(
	struct http_head *h, const char *from, const char *to, struct http_field *fields);
struct tine_text http_head_field(const struct http_head *h, const char *name, size_t len);

bool http_is_token(const char *s, size_t len);
bool http_is_value(const char *s, size_t len);
bool http_text_is(struct tine_text t, const char *lower, size_t len);
bool http_list_next(struct tine_text *list, struct tine_text *ret);

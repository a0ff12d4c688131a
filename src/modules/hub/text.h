/* Text: UTF-8, JSON, the query of a URL, and memory that grows as it is written to. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <tine/http.h>

/* Put together piece by piece; once there was no memory `failed` stays set. */
struct text {
	char *data;
	size_t len, cap;
	bool failed;
};

void text_free(struct text *t);
char *text_reserve(struct text *t, size_t n);
void text_put(struct text *t, const void *data, size_t len);
void text_print(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_put_json(struct text *t, struct tine_text s);
unsigned text_hash(const void *data, size_t len);
bool text_is_utf8(struct tine_text s);
bool text_query(struct tine_text query, const char *name, char *to, size_t size, size_t *ret_len);
bool text_has_token(struct tine_text list, const char *token);

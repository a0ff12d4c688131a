/*
 * What modules of tests and benchmarks have in common, all of which are driven by HTTP: what was asked for, and the answer. For one
 * .c file of a module.
 */
#pragma once

#include <stdlib.h>
#include <string.h>

#include <tine/errors.h>
#include <tine/http.h>

static inline char unhex(const char digits[2])
{
	const char text[3] = {digits[0], digits[1], '\0'};

	return (char)strtoul(text, NULL, 16);
}

/* As far as there is room. */
static inline const char *decode(struct tine_text t, char *ret, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < t.len && n + 1 < size; i++) {
		if (t.data[i] == '%' && i + 2 < t.len) {
			ret[n++] = unhex(t.data + i + 1);
			i += 2;
		} else {
			ret[n++] = t.data[i];
		}
	}
	ret[n] = '\0';
	return ret;
}

/* The value of a key of the query, decoded; "" when it is not there. */
static inline const char *value(
	struct tine_request *request, const char *key, char *ret, size_t size)
{
	struct tine_text q = tine_request_query(request);
	size_t key_len = strlen(key);
	const char *end = q.data + q.len, *next;

	for (const char *p = q.data; p && p < end; p = next ? next + 1 : NULL) {
		size_t n;

		next = memchr(p, '&', (size_t)(end - p));
		n = (size_t)((next ? next : end) - p);
		if (n > key_len && memcmp(p, key, key_len) == 0 && p[key_len] == '=') {
			p += key_len + 1;
			return decode((struct tine_text){p, n - key_len - 1}, ret, size);
		}
	}
	ret[0] = '\0';
	return ret;
}

static inline unsigned long number_or(
	struct tine_request *request, const char *key, unsigned long def)
{
	char text[64];

	return *value(request, key, text, sizeof(text)) ? strtoul(text, NULL, 10) : def;
}

static inline unsigned long number(struct tine_request *request, const char *key)
{
	return number_or(request, key, 0);
}

static inline void answer(struct tine_request *request, const char *text)
{
	tine_respond(request, 200, "text/plain", text, strlen(text));
}

/* What a function returned. */
static inline const char *status_name(int status)
{
	static const struct {
		int status;
		const char *name;
	} names[] = {{0, "ok"}, {TINE_E_FULL, "full"}, {TINE_E_GONE, "gone"},
		{TINE_E_NOBODY, "nobody"}, {TINE_E_TOO_LARGE, "too large"}, {TINE_E_QUOTA, "quota"},
		{TINE_E_TIMEOUT, "timeout"}, {TINE_E_CANCELED, "canceled"},
		{TINE_E_CRASHED, "crashed"}, {TINE_E_CLOSED, "closed"}, {-EINVAL, "invalid"},
		{-EPERM, "perm"}, {-EACCES, "access"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].status == status)
			return names[i].name;
	return strerror(-status);
}

struct handler {
	const char *path;
	tine_http_fn fn;
};

/* handlers: the last one has no path. For GET and POST. */
static inline int add_handlers(struct tine_worker *worker, const struct handler *handlers)
{
	int r = 0;

	for (const struct handler *h = handlers; r == 0 && h->path; h++)
		r = tine_http_route(worker, TINE_GET | TINE_POST, h->path, h->fn, NULL);
	return r;
}

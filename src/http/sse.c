/*
 * Server-sent events (WHATWG HTML section 9.2): a streamed answer with lines in it. Worker and admin.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/http.h"
#include "http/response.h"
#include "http/streamed.h"
#include "net/connection.h"
#include "net/output.h"

#define TEXT(literal) ((struct tine_text){(literal), sizeof(literal) - 1})
#define SSE_INLINE    4096 /* events up to here are put together on the stack */
#define SSE_MAX       (256u << 10)

/* See tine_sse_start(). */
int sse_start(struct tine_request *rq)
{
	int r = response_add_header(rq, TEXT("Cache-Control"), TEXT("no-store"));

	if (r == 0) /* proxies that collect answers before they pass them on know this field */
		r = response_add_header(rq, TEXT("X-Accel-Buffering"), TEXT("no"));
	if (r == 0)
		r = streamed_start(rq, 200, TEXT("text/event-stream"), -1);
	if (r == 0) {
		rq->is_sse = true;
		rq->connection->phase = 0; /* its deadline is another one from now on */
	}
	return r;
}

static bool is_one_line(struct tine_text t)
{
	return !memchr(t.data, '\n', t.len) && !memchr(t.data, '\r', t.len) &&
		!memchr(t.data, '\0', t.len);
}

static char *put_line(char *p, struct tine_text name, const char *data, size_t len)
{
	memcpy(p, name.data, name.len);
	p += name.len;
	if (len > 0)
		memcpy(p, data, len);
	p += len;
	*p++ = '\n';
	return p;
}

/* The length of the line at the start of data; *ret_next: where the next one begins, beyond len after the last. */
static size_t line_length(const char *data, size_t len, size_t *ret_next)
{
	size_t n = 0;

	while (n < len && data[n] != '\n' && data[n] != '\r')
		n++;
	*ret_next = n + 1;
	if (n + 1 < len && data[n] == '\r' && data[n + 1] == '\n')
		*ret_next = n + 2;
	return n;
}

/* Writes the event to `to`. Returns its length; with NULL it only counts. */
static size_t put_event(
	char *to, struct tine_text event, struct tine_text id, const char *data, size_t len)
{
	size_t at = 0, n, next, size = 1;
	char *p = to;

	if (event.data)
		size += 7 + event.len + 1;
	if (id.data)
		size += 4 + id.len + 1;
	if (to && event.data)
		p = put_line(p, TEXT("event: "), event.data, event.len);
	if (to && id.data)
		p = put_line(p, TEXT("id: "), id.data, id.len);
	do {
		n = line_length(data + at, len - at, &next);
		if (to)
			p = put_line(p, TEXT("data: "), data + at, n);
		size += 6 + n + 1;
		at += next;
	} while (at <= len);
	if (to)
		*p = '\n';
	return size;
}

/* See tine_sse_send(). */
int sse_send(struct tine_request *rq, struct tine_text event, struct tine_text id, const char *data,
	size_t len)
{
	char small[SSE_INLINE], *buf = small;
	size_t size;
	int r;

	if (!rq->is_sse || (event.data && !is_one_line(event)) || (id.data && !is_one_line(id)))
		return -EINVAL;
	if (len > SSE_MAX)
		return -EMSGSIZE;
	size = put_event(NULL, event, id, data, len);
	if (size > sizeof(small)) {
		buf = malloc(size);
		if (!buf)
			return -ENOMEM;
	}
	put_event(buf, event, id, data, len);
	r = streamed_write(rq, buf, size);
	if (buf != small)
		free(buf);
	return r;
}

/* Nothing has been sent for a while: a comment shows the client, and us, that the other side is there. */
void sse_keep_alive(struct tine_request *rq)
{
	if (!connection_output_pending(rq->connection))
		streamed_write(rq, ":\n\n", 3);
}

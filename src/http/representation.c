/*
 * From an open file to an answer (RFC 9110 sections 13 to 15): conditions, one range or several, and what of it is
 * sent from where. Worker only.
 *
 * Always: what is announced is the size the file had when it was looked at. A file that has become shorter breaks
 * the connection off, one that has become longer is cut there (output.c).
 */
#include "http/representation.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/fd.h"
#include "http/conditional.h"
#include "http/file_cache.h"
#include "http/http.h"
#include "http/range.h"
#include "http/request.h"
#include "http/response.h"
#include "net/connection.h"
#include "net/output.h"

#define FIELDS_MAX (REPRESENTATION_MORE_MAX + 512)
#define ETAG_MAX   80

#define TEXT(literal) ((struct tine_text){(literal), sizeof(literal) - 1})

/* Header lines put together for one answer. */
struct lines {
	size_t len;
	char text[FIELDS_MAX];
};

/* A representation and what its header says of it. */
struct view {
	const struct representation *r;
	uint64_t size;
	struct tine_text etag, fields;
	char etag_buf[ETAG_MAX];
	struct lines lines;
};

static void lines_add(struct lines *l, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void lines_add(struct lines *l, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(l->text + l->len, sizeof(l->text) - l->len, format, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof(l->text) - l->len)
		l->len += (size_t)n;
}

/* The lines of the entry with a tag that is not that of its own bytes. */
static void view_add_coded(struct view *v)
{
	const struct file_entry *e = v->r->entry;
	size_t before = (size_t)(e->etag.data - e->fields.data);
	const char *behind = e->etag.data + e->etag.len;
	int n = snprintf(
		v->etag_buf, sizeof(v->etag_buf), "%.*s-gz\"", (int)e->etag.len - 1, e->etag.data);

	v->etag = (struct tine_text){v->etag_buf, (size_t)n};
	lines_add(&v->lines, "%.*s%s%.*s", (int)before, e->fields.data, v->etag_buf,
		(int)(e->fields.data + e->fields.len - behind), behind);
}

/* Most of the time the lines are the entry's, as they are. */
static void view_init(struct view *v, const struct representation *r)
{
	const struct file_entry *e = r->entry;

	v->r = r;
	v->size = r->gzip ? r->gzip->len : e->size;
	v->etag = e->etag;
	v->fields = e->fields;
	v->lines.len = 0;
	if (!r->coding && !r->varies && r->more.len == 0)
		return;
	if (r->gzip)
		view_add_coded(v);
	else
		lines_add(&v->lines, "%.*s", (int)e->fields.len, e->fields.data);
	if (r->coding)
		lines_add(&v->lines, "Content-Encoding: %s\r\n", r->coding);
	if (r->varies)
		lines_add(&v->lines, "Vary: Accept-Encoding\r\n");
	lines_add(&v->lines, "%.*s", (int)r->more.len, r->more.data);
	v->fields = (struct tine_text){v->lines.text, v->lines.len};
}

/* --- what is sent --- */

/* Its bytes if they are in memory, or NULL. */
static const char *view_bytes(const struct view *v)
{
	return v->r->gzip ? v->r->gzip->data : v->r->entry->content;
}

/* Whether the file is to be sent from its snapshot, which may be taken just now. */
static bool is_hot(const struct representation *r, struct net_server *s)
{
	struct file_entry *e = r->entry;

	if (file_entry_count(e) && splice_ready(&s->splice))
		file_cache_heat(r->cache, e, s->now_ms);
	return e->hot.data && splice_ready(&s->splice);
}

/* The range as a piece to be sent, with a reference to what it is a part of. */
static struct sending view_piece(const struct view *v, struct range range, struct net_server *s)
{
	const struct representation *r = v->r;
	struct sending piece = {.off = (int64_t)range.first, .left = range.len};

	if (view_bytes(v)) {
		piece.kind = SENDING_BYTES;
		piece.data = view_bytes(v);
	} else if (range.len == v->size && is_hot(r, s)) {
		piece.kind = SENDING_PAGES;
		piece.data = r->entry->hot.data;
		piece.release = hot_chunk_unref;
		piece.owner = hot_chunk_ref(r->entry->hot.chunk);
		return piece;
	} else {
		piece.kind = SENDING_FILE;
		piece.fd = r->entry->fd;
		piece.cold = &r->entry->cold;
	}
	if (r->gzip) {
		piece.release = file_gzip_unref;
		piece.owner = file_gzip_ref(r->gzip);
	} else {
		piece.release = file_entry_unref;
		piece.owner = file_entry_ref(r->entry);
	}
	return piece;
}

/* Answers with one range of it, or all. */
static int answer_part(
	struct tine_request *rq, const struct view *v, unsigned status, struct range range)
{
	struct connection *c = rq->connection;
	const char *bytes = view_bytes(v);
	bool inlined = bytes && range.len <= OUTPUT_INLINE_MAX;
	bool head_alone = rq->head.method == METHOD_HEAD;
	struct http_answer a = {.status = status,
		.type = v->r->type,
		.fields = v->fields,
		.length = range.len,
		.body = inlined ? bytes + range.first : NULL,
		.pieces = !inlined && !head_alone && range.len > 0};
	struct sending piece;
	int r = response_write(rq, &a);

	if (r < 0 || !a.pieces)
		return r;
	piece = view_piece(v, range, c->server);
	output_piece(c, &piece, false);
	request_end_pieces(rq);
	return 0;
}

static int answer_range(struct tine_request *rq, struct view *v, struct range range)
{
	/* "v->fields" may be the entry's own */
	if (v->lines.len == 0)
		lines_add(&v->lines, "%.*s", (int)v->fields.len, v->fields.data);
	lines_add(&v->lines, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n",
		range.first, range.first + range.len - 1, v->size);
	v->fields = (struct tine_text){v->lines.text, v->lines.len};
	return answer_part(rq, v, 206, range);
}

static int answer_unsatisfiable(struct tine_request *rq, const struct view *v)
{
	char value[48];
	int n = snprintf(value, sizeof(value), "bytes */%" PRIu64, v->size);

	response_add_header(rq, TEXT("Content-Range"), (struct tine_text){value, (size_t)n});
	return response_text(rq, 416);
}

/* --- several ranges --- */

#define BOUNDARY_LEN  32
#define PART_HEAD_MAX (128 + BOUNDARY_LEN + MIME_TYPE_MAX) /* with three numbers of 64 bits */

/* The texts between the ranges of one answer; on the connection's list of pieces once for each. */
struct parts {
	unsigned refs;
	char boundary[BOUNDARY_LEN + 1];
	size_t at[RANGES_MAX + 2]; /* where each begins, and the end of the last */
	char text[];
};

static void parts_unref(void *owner)
{
	struct parts *p = owner;

	if (--p->refs == 0)
		free(p);
}

/* Nobody can know it beforehand and put it into a file. */
static void make_boundary(char *buf)
{
	uint64_t random[2] = {0, 0};

	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random[0] = (uint64_t)(uintptr_t)buf;
	snprintf(buf, BOUNDARY_LEN + 1, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
}

/* The head of each range and the end of all (RFC 9110 section 14.6). NULL: out of memory. */
static struct parts *parts_new(const struct view *v, const struct range_set *set)
{
	size_t cap = (set->n + 1) * (size_t)PART_HEAD_MAX, len = 0;
	struct parts *p = calloc(1, sizeof(*p) + cap);
	struct tine_text type = v->r->type;

	if (!p)
		return NULL;
	p->refs = 1;
	make_boundary(p->boundary);
	for (unsigned i = 0; i < set->n; i++) {
		const struct range *range = &set->ranges[i];

		p->at[i] = len;
		len += (size_t)snprintf(p->text + len, cap - len,
			"\r\n--%s\r\nContent-Type: %.*s\r\n"
			"Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n\r\n",
			p->boundary, (int)type.len, type.data, range->first,
			range->first + range->len - 1, v->size);
	}
	p->at[set->n] = len;
	len += (size_t)snprintf(p->text + len, cap - len, "\r\n--%s--\r\n", p->boundary);
	p->at[set->n + 1] = len;
	return p;
}

static void send_between(struct connection *c, struct parts *p, unsigned i, bool more)
{
	struct sending piece = {.kind = SENDING_BYTES,
		.data = p->text,
		.off = (int64_t)p->at[i],
		.left = p->at[i + 1] - p->at[i],
		.release = parts_unref,
		.owner = p};

	p->refs++;
	output_piece(c, &piece, more);
}

static int answer_ranges(struct tine_request *rq, const struct view *v, const struct range_set *set)
{
	struct connection *c = rq->connection;
	struct parts *p = parts_new(v, set);
	struct http_answer a = {.status = 206, .fields = v->fields, .pieces = true};
	char type[64 + BOUNDARY_LEN];
	struct sending piece;
	int r;

	if (!p)
		return response_text(rq, 503);
	a.type.data = type;
	a.type.len = (size_t)snprintf(
		type, sizeof(type), "multipart/byteranges; boundary=%s", p->boundary);
	a.length = p->at[set->n + 1];
	for (unsigned i = 0; i < set->n; i++)
		a.length += set->ranges[i].len;
	r = response_write(rq, &a);
	for (unsigned i = 0; r == 0 && i < set->n; i++) {
		send_between(c, p, i, true);
		piece = view_piece(v, set->ranges[i], c->server);
		output_piece(c, &piece, true);
	}
	if (r == 0) {
		send_between(c, p, set->n, false);
		request_end_pieces(rq);
	}
	parts_unref(p);
	return r;
}

/* Answers GET or HEAD with the file. Returns as tine_respond(). */
int representation_answer(struct tine_request *rq, const struct representation *r)
{
	struct range_set set;
	struct tine_text range;
	struct view v;
	int how;

	view_init(&v, r);
	switch (conditional_check(&rq->head, v.etag, r->entry->last_modified)) {
	case CONDITIONAL_UNCHANGED:
		return response_write(rq, &(struct http_answer){.status = 304, .fields = v.fields});
	case CONDITIONAL_FAILED:
		return response_text(rq, 412);
	}
	range = conditional_range(&rq->head, v.etag, r->entry->last_modified);
	how = range.data ? range_parse(range, v.size, &set) : 0;
	if (how == RANGE_UNSATISFIABLE)
		return answer_unsatisfiable(rq, &v);
	if (how == RANGE_PARTIAL && set.n == 1)
		return answer_range(rq, &v, set.ranges[0]);
	if (how == RANGE_PARTIAL)
		return answer_ranges(rq, &v, &set);
	return answer_part(rq, &v, 200, (struct range){0, v.size});
}

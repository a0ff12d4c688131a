/*
 * Messages lie one behind the other in chunks, which are linked in the order of writing. The writer fills the last chunk and counts; the count
 * is what makes a message visible. The reader frees the chunks that it has passed; one of them goes back to the writer, so that
 * a steady stream allocates nothing.
 *
 * Always: the bounds hold for all but answers, of which there are no more than tasks; what is put is taken once, or released by port_free().
 */
#include "runtime/thread_port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/thread_buffer.h"

#define CHUNK_SIZE ((16u << 10) - 64) /* with what malloc adds, four pages */
#define INLINE_MAX 2048               /* larger ones are copied to memory of their own */
#define ALIGN      8u

enum kind { COPIED, MOVED, SHARED, NEXT /* it goes on in the next chunk */ };

struct record {
	uint32_t kind;
	int32_t status;
	uint64_t task;
	size_t len; /* of what is sent */
};

struct moved {
	struct record record;
	void *data;
	void (*release)(void *data);
};

struct shared {
	struct record record;
	struct tine_buffer *buffer;
};

#define CHUNK_DATA (CHUNK_SIZE - sizeof(struct port_chunk *))

struct port_chunk {
	struct port_chunk *next; /* set before the record NEXT is published */
	_Alignas(ALIGN) char data[CHUNK_DATA];
};

_Static_assert(sizeof(struct record) == PORT_OVERHEAD, "it is what the header says");
_Static_assert(sizeof(struct moved) + sizeof(struct record) <= CHUNK_DATA &&
		sizeof(struct record) + INLINE_MAX + ALIGN + sizeof(struct record) <= CHUNK_DATA,
	"each fits, with a NEXT behind it");

/* Bytes that a message takes in a chunk. */
static size_t record_size(enum kind kind, size_t len)
{
	static const size_t sizes[] = {[COPIED] = sizeof(struct record),
		[MOVED] = sizeof(struct moved),
		[SHARED] = sizeof(struct shared)};

	return sizes[kind] + (kind == COPIED ? (len + ALIGN - 1) / ALIGN * ALIGN : 0);
}

/* --- the writer --- */

static struct port_chunk *chunk_new(struct port *p)
{
	struct port_chunk *c = atomic_exchange_explicit(&p->spare, NULL, memory_order_acquire);

	return c ? c : malloc(sizeof(*c));
}

/* Room for a record of that size, and for a NEXT behind it. NULL: out of memory. */
static struct record *writer_room(struct port *p, size_t size)
{
	struct port_chunk *c;

	if (p->tail && p->tail_used + size + sizeof(struct record) <= CHUNK_DATA)
		return (struct record *)(p->tail->data + p->tail_used);
	c = chunk_new(p);
	if (!c)
		return NULL;
	if (p->tail) {
		p->tail->next = c;
		((struct record *)(p->tail->data + p->tail_used))->kind = NEXT;
	} else {
		p->first = c;
	}
	p->tail = c;
	p->tail_used = 0;
	return (struct record *)c->data;
}

static bool has_room(struct port *p, uint64_t bytes)
{
	return p->n_put - p->n_read_seen < p->max_messages &&
		p->bytes_put + bytes - p->bytes_read_seen <= p->max_bytes;
}

static void look_at_reader(struct port *p)
{
	p->n_read_seen = atomic_load(&p->n_read);
	p->bytes_read_seen = atomic_load_explicit(&p->bytes_read, memory_order_relaxed);
}

/* The reader may have made room before it knew that it is wanted: then it has not said so. */
static int check_room(struct port *p, uint64_t bytes)
{
	if (bytes > p->max_bytes)
		return TINE_E_TOO_LARGE;
	if (has_room(p, bytes))
		return 0;
	look_at_reader(p);
	if (has_room(p, bytes))
		return 0;
	atomic_store(&p->wanted, true);
	look_at_reader(p);
	if (!has_room(p, bytes))
		return TINE_E_FULL;
	atomic_store(&p->wanted, false);
	return 0;
}

static enum kind kind_of(const struct tine_thread_send *s)
{
	return s->buffer ? SHARED : s->release ? MOVED : COPIED;
}

static void write_record(struct record *r, enum kind kind, const struct tine_thread_send *s)
{
	r->kind = kind;
	r->len = s->len;
	if (kind == SHARED) {
		((struct shared *)r)->buffer = buffer_ref(s->buffer);
		r->len = s->buffer->size;
	} else if (kind == MOVED) {
		((struct moved *)r)->data = (void *)s->data;
		((struct moved *)r)->release = s->release;
	} else if (s->len > 0) {
		memcpy(r + 1, s->data, s->len);
	}
}

static int put(struct port *p, const struct port_letter *l, const struct tine_thread_send *s,
	uint64_t bytes)
{
	enum kind kind = kind_of(s);
	size_t size = record_size(kind, s->len);
	struct record *r = writer_room(p, size);

	if (!r)
		return -ENOMEM;
	write_record(r, kind, s);
	r->status = l->status;
	r->task = l->task;
	p->tail_used += size;
	p->bytes_put += bytes;
	atomic_store_explicit(&p->bytes_written, p->bytes_put, memory_order_relaxed);
	atomic_store(&p->n_written, ++p->n_put);
	return 0;
}

/* What is too large for a chunk is moved: a copy of it. */
static int put_copy(struct port *p, const struct port_letter *l, uint64_t bytes)
{
	struct tine_thread_send s = {
		.data = malloc(l->send->len), .len = l->send->len, .release = free};
	int r;

	if (!s.data)
		return -ENOMEM;
	memcpy((void *)s.data, l->send->data, s.len);
	r = put(p, l, &s, bytes);
	if (r < 0)
		free((void *)s.data);
	return r;
}

/* On the writer's thread, which then calls the reader's bell. Returns 0, or as tine/thread.h says, and nothing is put. */
int port_put(struct port *p, const struct port_letter *l)
{
	const struct tine_thread_send *s = l->send;
	size_t len = s->buffer ? s->buffer->size : s->len;
	uint64_t bytes = (uint64_t)len + sizeof(struct record);
	int r = bytes < len ? TINE_E_TOO_LARGE : l->always ? 0 : check_room(p, bytes);

	if (r < 0)
		return r;
	return kind_of(s) == COPIED && len > INLINE_MAX ? put_copy(p, l, bytes)
							: put(p, l, s, bytes);
}

/* --- the reader --- */

static void chunk_pass(struct port *p)
{
	struct port_chunk *c = p->head;

	p->head = c->next;
	p->head_used = 0;
	free(atomic_exchange_explicit(&p->spare, c, memory_order_acq_rel));
}

static void read_record(struct record *r, struct tine_thread_message *ret)
{
	*ret = (struct tine_thread_message){.data = r + 1, .len = r->len, .task = r->task};
	if (r->kind == MOVED) {
		ret->data = ((struct moved *)r)->data;
		ret->release = ((struct moved *)r)->release;
	} else if (r->kind == SHARED) {
		ret->buffer = ((struct shared *)r)->buffer;
		ret->data = ret->buffer->data;
	}
}

/* The next message, which is to be handed to port_done() before the one after it is taken. Returns whether there is one. */
bool port_take(struct port *p, struct tine_thread_message *ret, int *ret_status)
{
	struct record *r;

	if (p->n_taken == p->n_written_seen) {
		p->n_written_seen = atomic_load_explicit(&p->n_written, memory_order_acquire);
		if (p->n_taken == p->n_written_seen)
			return false;
	}
	if (!p->head)
		p->head = p->first;
	r = (struct record *)(p->head->data + p->head_used);
	if (r->kind == NEXT) {
		chunk_pass(p);
		r = (struct record *)p->head->data;
	}
	read_record(r, ret);
	*ret_status = r->status;
	p->head_used += record_size((enum kind)r->kind, r->len);
	p->n_taken++;
	p->bytes_taken += r->len + sizeof(*r);
	return true;
}

/* Gives back what is still in it, and its room. */
void port_done(struct port *p, const struct tine_thread_message *m)
{
	if (m->release)
		m->release(m->data);
	buffer_unref(m->buffer);
	atomic_store_explicit(&p->bytes_read, p->bytes_taken, memory_order_relaxed);
	atomic_store_explicit(&p->n_read, p->n_taken, memory_order_release);
}

static bool is_half_empty(struct port *p)
{
	uint64_t n = atomic_load(&p->n_written) - p->n_taken;
	uint64_t bytes = atomic_load_explicit(&p->bytes_written, memory_order_relaxed);

	return n <= p->max_messages / 2 && bytes - p->bytes_taken <= p->max_bytes / 2;
}

/*
 * On the reader's thread, now and then and before it sleeps. Returns whether the writer has been waiting for the room that there is
 * now, and its bell is to be called.
 */
bool port_pass_room(struct port *p)
{
	atomic_store(&p->n_read, p->n_taken);
	if (!atomic_load(&p->wanted) || !is_half_empty(p))
		return false;
	atomic_store(&p->wanted, false);
	atomic_store(&p->writable, true);
	return true;
}

/* Both threads are through with it. */
void port_free(struct port *p)
{
	struct tine_thread_message m;
	int status;

	while (port_take(p, &m, &status))
		port_done(p, &m);
	free(p->head ? p->head : p->first);
	free(atomic_load_explicit(&p->spare, memory_order_relaxed));
}

/*
 * A ring of records in shared memory. Worker only.
 *
 * One worker at a time appends, under the area's lock; all read at any time without it. A record counts from the moment at
 * which `head` is moved behind it, in one store, and is given up before anything is written over it, by moving `tail`. So a
 * worker may die anywhere in the middle: nothing of what it had not finished is seen, and nothing is to be repaired.
 *
 * A reader copies a record, looks whether `tail` has passed it meanwhile, and believes it when its position and the sum of its
 * bytes are right: any worker may have written anything anywhere. Lengths are checked before they are used.
 */
#include "modules/hub/ring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAGIC UINT64_C(0x74696e65687562)

#define RECORD 0x4d534721u
#define FILLER 0x46494c4cu /* the rest of the ring, too short for the record that came */
#define ALIGN  8u

struct ring_memory {
	_Atomic uint64_t magic; /* written last when it is made */
	_Atomic uint64_t epoch;
	uint64_t layout, capacity;
	_Alignas(64) _Atomic uint64_t head; /* behind the newest record */
	_Atomic uint64_t tail;              /* where the oldest one begins */
	_Alignas(64) char bytes[];
};

struct record {
	uint32_t kind; /* RECORD or FILLER */
	uint32_t size; /* with this, and what makes the next one aligned */
	uint64_t position;
	uint64_t time_ms;
	uint32_t data_len;
	uint16_t subject_len;
	uint16_t unused;
	uint32_t sum; /* of all but itself */
	uint32_t unused2;
};

_Static_assert(sizeof(struct record) % ALIGN == 0, "records are aligned");

static void *at(const struct ring *r, uint64_t position)
{
	return r->memory->bytes + position % r->capacity;
}

/* Bytes from there to the end of the memory. */
static uint64_t rest(const struct ring *r, uint64_t position)
{
	return r->capacity - position % r->capacity;
}

static uint32_t sum_of(struct record h, const char *text, size_t len)
{
	h.sum = 0;
	return (uint32_t)crc32(
		crc32(0, (const Bytef *)&h, sizeof(h)), (const Bytef *)text, (uInt)len);
}

/* Whether it is a ring at all. Sure under the lock only: without it somebody may be in the middle of mending it. */
bool ring_is_sound(const struct ring *r)
{
	const struct ring_memory *m = r->memory;
	uint64_t head = atomic_load(&m->head), tail = atomic_load(&m->tail);

	return atomic_load(&m->magic) == MAGIC && m->layout == RING_LAYOUT &&
		m->capacity == r->capacity && atomic_load(&m->epoch) != 0 && tail <= head &&
		head - tail <= r->capacity && head % ALIGN == 0 && tail % ALIGN == 0;
}

/* Empty, and with another epoch: what anybody remembers of it counts no more. Under the lock. */
void ring_start_anew(struct ring *r, uint64_t epoch)
{
	struct ring_memory *m = r->memory;

	atomic_store(&m->magic, 0);
	m->layout = RING_LAYOUT;
	m->capacity = r->capacity;
	atomic_store(&m->epoch, epoch);
	atomic_store(&m->head, 0);
	atomic_store(&m->tail, 0);
	atomic_store(&m->magic, MAGIC);
}

/* For the case that somebody has written over it. Under the lock. */
void ring_mend(struct ring *r, uint64_t new_epoch)
{
	if (!ring_is_sound(r))
		ring_start_anew(r, new_epoch);
}

/*
 * Looks at memory, all zero at first, as a ring; the caller holds its lock. new_epoch: of a new one; not 0, and not likely to be
 * used twice. Returns 0, or -EINVAL for less than RING_SIZE_MIN.
 */
int ring_open(struct ring *r, void *memory, size_t size, uint64_t new_epoch)
{
	if (size < RING_SIZE_MIN || (uintptr_t)memory % 64 != 0)
		return -EINVAL;
	*r = (struct ring){.memory = memory,
		.capacity = (size - sizeof(struct ring_memory)) & ~(uint64_t)(ALIGN - 1)};
	ring_mend(r, new_epoch);
	ring_follow(r);
	return 0;
}

void ring_close(struct ring *r)
{
	free(r->record);
	r->record = NULL;
}

/* Whether it is still the ring that this process knows; if not, ring_follow() makes it that. */
bool ring_is_same(const struct ring *r)
{
	return atomic_load_explicit(&r->memory->epoch, memory_order_relaxed) == r->epoch;
}

void ring_follow(struct ring *r)
{
	r->epoch = atomic_load(&r->memory->epoch);
}

uint64_t ring_head(const struct ring *r)
{
	return atomic_load_explicit(&r->memory->head, memory_order_acquire);
}

uint64_t ring_tail(const struct ring *r)
{
	return atomic_load_explicit(&r->memory->tail, memory_order_acquire);
}

/* Tells the rings of a hub apart: by size and layout. Not 0. */
uint64_t ring_key(const struct ring *r)
{
	return r->capacity << 8 | RING_LAYOUT;
}

/* Of subject and data together: a fourth of the ring, so that a few always fit. */
size_t ring_message_max(const struct ring *r)
{
	return (size_t)(r->capacity / 4) - sizeof(struct record);
}

/* --- appending; under the lock --- */

/* Where the record after the oldest one begins. Returns false when what is there is none. */
static bool skip_oldest(const struct ring *r, uint64_t head, uint64_t *tail)
{
	uint64_t left = rest(r, *tail);
	struct record h;

	if (left < sizeof(h)) {
		*tail += left;
		return *tail <= head;
	}
	memcpy(&h, at(r, *tail), sizeof(h));
	if (h.position != *tail || h.size < sizeof(h) || h.size % ALIGN != 0 || h.size > left ||
		h.size > head - *tail)
		return false;
	*tail += h.size;
	return true;
}

/* Gives up the oldest records until there is room up to `end`. */
static bool make_room(struct ring *r, uint64_t head, uint64_t end)
{
	uint64_t tail = atomic_load(&r->memory->tail);

	while (tail < head && end - tail > r->capacity) {
		if (!skip_oldest(r, head, &tail))
			return false;
	}
	if (tail >= head)
		tail = head;
	atomic_store(&r->memory->tail, tail);
	atomic_thread_fence(memory_order_seq_cst); /* before anything is written over them */
	return true;
}

static void write_filler(struct ring *r, uint64_t position)
{
	uint64_t left = rest(r, position);
	struct record h = {.kind = FILLER, .size = (uint32_t)left, .position = position};

	if (left >= sizeof(h))
		memcpy(at(r, position), &h, sizeof(h));
}

static void write_record(
	struct ring *r, struct record h, struct tine_text subject, struct tine_text data)
{
	char *p = (char *)at(r, h.position) + sizeof(h);

	memcpy(p, subject.data, subject.len);
	if (data.len > 0)
		memcpy(p + subject.len, data.data, data.len);
	h.sum = sum_of(h, p, subject.len + data.len);
	memcpy(p - sizeof(h), &h, sizeof(h));
}

/*
 * Adds a message. new_epoch: for the case that somebody has written over the ring. Returns 0, or -EMSGSIZE.
 */
int ring_append(struct ring *r, struct tine_text subject, struct tine_text data, uint64_t time_ms,
	uint64_t new_epoch, struct ring_id *ret)
{
	uint64_t size = (sizeof(struct record) + subject.len + data.len + ALIGN - 1) &
		~(uint64_t)(ALIGN - 1);
	uint64_t head, begin;

	if (subject.len > UINT16_MAX || subject.len + data.len > ring_message_max(r))
		return -EMSGSIZE;
	ring_mend(r, new_epoch);
	for (;;) {
		head = begin = atomic_load(&r->memory->head);
		if (rest(r, begin) < size)
			begin += rest(r, begin);
		if (make_room(r, head, begin + size))
			break;
		ring_start_anew(r, new_epoch);
	}
	if (begin > head)
		write_filler(r, head);
	write_record(r,
		(struct record){.kind = RECORD,
			.size = (uint32_t)size,
			.position = begin,
			.time_ms = time_ms,
			.data_len = (uint32_t)data.len,
			.subject_len = (uint16_t)subject.len},
		subject, data);
	atomic_store_explicit(&r->memory->head, begin + size, memory_order_release);
	*ret = (struct ring_id){atomic_load(&r->memory->epoch), begin + size};
	return 0;
}

/* --- reading --- */

/* Copies `len` bytes behind the head of the record there. Returns 0, RING_LOST, or -ENOMEM. */
static int copy_text(struct ring *r, uint64_t position, size_t len)
{
	char *larger;

	if (len > r->record_size) {
		larger = realloc(r->record, len);
		if (!larger)
			return -ENOMEM;
		r->record = larger;
		r->record_size = len;
	}
	if (len > 0)
		memcpy(r->record, (const char *)at(r, position) + sizeof(struct record), len);
	atomic_thread_fence(memory_order_acquire);
	return ring_tail(r) > position || !ring_is_same(r) ? RING_LOST : 0;
}

static bool is_record(
	const struct ring *r, const struct record *h, uint64_t position, uint64_t head)
{
	return (h->kind == RECORD || h->kind == FILLER) && h->position == position &&
		h->size >= sizeof(*h) && h->size % ALIGN == 0 && h->size <= rest(r, position) &&
		h->size <= head - position;
}

/* The head of the record that begins there, or behind a filler there. Returns 0 or an enum ring_result. */
static int find(const struct ring *r, uint64_t *position, struct record *ret)
{
	uint64_t head = ring_head(r);

	if (!ring_is_same(r) || *position > head || *position < ring_tail(r) ||
		*position % ALIGN != 0)
		return RING_LOST;
	for (int n = 0; n < 2; n++) {
		if (*position == head)
			return RING_END;
		if (rest(r, *position) >= sizeof(*ret)) {
			memcpy(ret, at(r, *position), sizeof(*ret));
			if (!is_record(r, ret, *position, head))
				return RING_LOST;
			if (ret->kind == RECORD)
				return ret->size - sizeof(*ret) <
						(uint64_t)ret->subject_len + ret->data_len
					? RING_LOST
					: 0;
		}
		*position += rest(r, *position);
		if (*position > head)
			return RING_LOST;
	}
	return RING_LOST;
}

/* The record that begins there. Returns 0, an enum ring_result, or -ENOMEM. */
int ring_read(struct ring *r, uint64_t position, struct ring_record *ret)
{
	struct record h;
	int n = find(r, &position, &h);

	if (n == 0)
		n = copy_text(r, position, (size_t)h.subject_len + h.data_len);
	if (n != 0)
		return n;
	*ret = (struct ring_record){position, position + h.size, h.time_ms,
		{r->record, h.subject_len}, {r->record + h.subject_len, h.data_len}};
	return sum_of(h, r->record, (size_t)h.subject_len + h.data_len) == h.sum ? 0 : RING_TORN;
}

/*
 * The same without its data, and without looking whether all of it is right: for those who want to know whether it is
 * for them. Never RING_TORN.
 */
int ring_peek(struct ring *r, uint64_t position, struct ring_record *ret)
{
	struct record h;
	int n = find(r, &position, &h);

	if (n == 0)
		n = copy_text(r, position, h.subject_len);
	if (n != 0)
		return n;
	*ret = (struct ring_record){
		position, position + h.size, h.time_ms, {r->record, h.subject_len}, {NULL, 0}};
	return 0;
}

/* --- ids --- */

/* Of the newest message, whether or not it is still the ring that this process knows. */
struct ring_id ring_last_id(const struct ring *r)
{
	return (struct ring_id){atomic_load(&r->memory->epoch), ring_head(r)};
}

/* As text, terminated by NUL. Returns its length. */
size_t ring_write_id(struct ring_id id, char to[RING_ID_MAX])
{
	return (size_t)snprintf(to, RING_ID_MAX, "%08" PRIx64 "-%" PRIu64, id.epoch, id.position);
}

static bool take_number(const char **p, const char *end, unsigned base, uint64_t *ret)
{
	const char *begin = *p;
	static const char digits[] = "0123456789abcdef";
	uint64_t n = 0;

	for (; *p < end; ++*p) {
		const char *digit = memchr(digits, **p, base);

		if (!digit)
			break;
		if (__builtin_mul_overflow(n, base, &n) ||
			__builtin_add_overflow(n, (unsigned)(digit - digits), &n))
			return false;
	}
	*ret = n;
	return *p > begin;
}

/* Returns whether it is one, of this ring or of another. */
bool ring_parse_id(struct tine_text text, struct ring_id *ret)
{
	const char *p = text.data, *end = text.data + text.len;

	return text.len > 0 && take_number(&p, end, 16, &ret->epoch) && p < end && *p++ == '-' &&
		take_number(&p, end, 10, &ret->position) && p == end;
}

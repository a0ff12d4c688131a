/*
 * The messages of a hub in memory that all workers share: a ring of records, the newest over the oldest.
 *
 * A position counts bytes since the ring was made and never goes back; a message is known by the position behind it, so that
 * reading on from there gives the next one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tine/http.h>

#define RING_LAYOUT   2 /* of the memory; grows with every change */
#define RING_SIZE_MIN 4096
#define RING_ID_MAX   40 /* bytes of an id as text, NUL included */

struct ring_memory;

/* What clients know a message by: the position behind it, and in which ring. */
struct ring_id {
	uint64_t epoch, position;
};

/* This process's view of one; not shared. */
struct ring {
	struct ring_memory *memory;
	uint64_t capacity; /* bytes for records */
	uint64_t epoch;    /* what is numbered anew has another one */
	char *record;      /* what was read last */
	size_t record_size;
};

struct ring_record {
	uint64_t begin, end;            /* its position, and the one behind it */
	uint64_t time_ms;               /* since 1970 */
	struct tine_text subject, data; /* valid until the next call */
};

enum ring_result {
	RING_END = 1, /* nothing beyond that position yet */
	RING_LOST,    /* no record begins there any more, or ever did */
	RING_TORN, /* what is there is not what was written; end says where the next one begins */
};

int ring_open(struct ring *r, void *memory, size_t size, uint64_t new_epoch);
void ring_close(struct ring *r);
int ring_append(struct ring *r, struct tine_text subject, struct tine_text data, uint64_t time_ms,
	uint64_t new_epoch, struct ring_id *ret);
int ring_read(struct ring *r, uint64_t position, struct ring_record *ret);
int ring_peek(struct ring *r, uint64_t position, struct ring_record *ret);
bool ring_is_sound(const struct ring *r);
void ring_mend(struct ring *r, uint64_t new_epoch);
void ring_start_anew(struct ring *r, uint64_t epoch);
bool ring_is_same(const struct ring *r);
void ring_follow(struct ring *r);
uint64_t ring_head(const struct ring *r);
uint64_t ring_tail(const struct ring *r);
uint64_t ring_key(const struct ring *r);
size_t ring_message_max(const struct ring *r);
struct ring_id ring_last_id(const struct ring *r);
size_t ring_write_id(struct ring_id id, char to[RING_ID_MAX]);
bool ring_parse_id(struct tine_text text, struct ring_id *ret);

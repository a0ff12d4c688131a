/*
 * The access log: lines wait in a buffer that the worker shares with the primary and are written out
 * many at a time. What a crash leaves there, and the requests it cut short, the primary writes out.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "base/peer.h"
#include "shared/access_line.h"
#include "shared/segment.h"

#define ACCESS_BUFFER  (16u << 10) /* bytes of lines that wait */
#define ACCESS_FLIGHTS 64  /* requests under way whose line is known; of others, only how many */
#define ACCESS_LINE    224 /* bytes kept of the line of one under way */

/* A request under way, for the case that it never ends. */
struct access_flight {
	struct peer client;
	uint32_t line_len;
	uint64_t started_us; /* CLOCK_MONOTONIC */
	char line[ACCESS_LINE];
};

/* In shared memory, one per child, written by it alone; the primary clamps all it reads. */
struct access_slot {
	_Alignas(SEGMENT_PAGE) _Atomic uint32_t used; /* bytes in `lines`: whole ones */
	_Atomic uint32_t n_others;                    /* under way beyond those in `flights` */
	_Atomic uint64_t taken;                       /* a bit for each of `flights` */
	struct access_flight flights[ACCESS_FLIGHTS];
	char lines[ACCESS_BUFFER];
};

struct access_slots {
	struct segment segment;
	struct access_slot *slots; /* one for each child; NULL: nothing was ever logged */
};

struct access_log_options {
	enum access_format format;
	enum log_sink sink;
	int fd;                   /* from log_open_sink(); taken over unless it is stderr */
	unsigned worker;          /* for the lines */
	struct access_slot *slot; /* cleared; its memory stays the caller's */
};

struct access_log;

int access_log_new(const struct access_log_options *o, struct access_log **ret);
struct access_log *access_log_free(struct access_log *l);
unsigned access_log_begin(
	struct access_log *l, const struct peer *client, struct tine_text line, uint64_t now_us);
void access_log_end(struct access_log *l, unsigned ticket);
void access_log_write(struct access_log *l, const struct access_record *r);
bool access_log_tick(struct access_log *l, uint64_t now_ms);
void access_log_flush(struct access_log *l);
void access_log_set_fd(struct access_log *l, int fd);

/* The primary's side. */
int access_slots_new(size_t n_slots, struct access_slots *ret);
int access_slots_confine(const struct access_slots *s, size_t slot);
void access_slot_clear(struct access_slot *s);
unsigned access_slot_salvage(struct access_slot *s, const struct access_log_options *o);

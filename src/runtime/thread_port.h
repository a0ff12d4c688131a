/* One way between two threads: a bounded queue of messages with one writer and one reader, and the bell of the one who may sleep. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tine/thread.h>

/* --- bells --- */

/*
 * Wakes a loop that sleeps, and only then. Before it sleeps it says so, and looks once more at all that others may have put there;
 * who has put something there looks whether it sleeps. Both in the one order of seq_cst, so one of them sees the other.
 */
struct bell {
	atomic_bool asleep;
	void (*ring)(struct bell *b); /* on the caller's thread; once for each sleep */
};

static inline void bell_call(struct bell *b)
{
	if (atomic_load(&b->asleep) && atomic_exchange(&b->asleep, false))
		b->ring(b);
}

static inline void bell_sleep(struct bell *b)
{
	atomic_store(&b->asleep, true);
}

/* Returns whether we are awake by this; else somebody is ringing. */
static inline bool bell_wake(struct bell *b)
{
	return atomic_exchange(&b->asleep, false);
}

/* --- ports --- */

struct port_chunk;

#define PORT_OVERHEAD 24 /* bytes that a message counts more than it has */

/* Zeroed at first. Used by two threads: who may touch what is said group by group. */
struct port {
	size_t max_messages, max_bytes; /* set before the first use */

	/* the writer's */
	struct port_chunk *tail;
	size_t tail_used;
	uint64_t n_put, bytes_put;
	uint64_t n_read_seen, bytes_read_seen; /* at the last look */

	/* written by the writer */
	_Alignas(64) _Atomic uint64_t n_written; /* publishes what is in the chunks */
	_Atomic uint64_t bytes_written;
	struct port_chunk *first; /* set before the first one is published */
	atomic_bool wanted;       /* it waits for room */

	/* the reader's */
	_Alignas(64) struct port_chunk *head;
	size_t head_used;
	uint64_t n_written_seen;
	uint64_t n_taken, bytes_taken;

	/* written by the reader */
	_Alignas(64) _Atomic uint64_t n_read;
	_Atomic uint64_t bytes_read;
	atomic_bool writable; /* there is room again, for who waited; taken by the writer */

	_Alignas(64) _Atomic(struct port_chunk *) spare; /* from the reader to the writer */
};

/* What is put into a port. */
struct port_letter {
	const struct tine_thread_send *send;
	uint64_t task;
	int status;
	bool always; /* without a bound */
};

int port_put(struct port *p, const struct port_letter *l);
bool port_take(struct port *p, struct tine_thread_message *ret, int *ret_status);
void port_done(struct port *p, const struct tine_thread_message *m);
bool port_pass_room(struct port *p);
void port_free(struct port *p);

/* On the reader's side: nothing is there. */
static inline bool port_is_empty(struct port *p)
{
	return atomic_load(&p->n_written) == p->n_taken;
}

/* On the writer's side: who was refused may try again. */
static inline bool port_take_room(struct port *p)
{
	return atomic_load(&p->writable) && atomic_exchange(&p->writable, false);
}

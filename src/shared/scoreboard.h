/*
 * What every child tells the rest about itself: one MAP_SHARED segment made by the primary, one slot per
 * child. A slot's counters are written by its owner alone, with relaxed atomics; everybody else displays
 * them or takes them as a hint, and never trusts them for memory or lengths.
 * The head of a slot (state, generation, pid) is written by the primary alone, and can be: it has a page of its own.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/histogram.h"
#include "shared/segment.h"

#define SB_REQUEST_LINE 128 /* bytes kept of the request being served */

/* The states of a child, which the primary moves it between (primary/proctab.c). */
enum proc_state {
	PROC_EMPTY,    /* nobody here */
	PROC_STARTING, /* forked, not yet READY */
	PROC_READY,    /* serves */
	PROC_DRAINING, /* takes nothing new, finishes what it has */
	PROC_KILLING,  /* told to die by signal */
	PROC_DEAD,     /* reaped; what comes next is being decided */
	PROC_BACKOFF,  /* waits for its next start */
	PROC_FAILED,   /* spent its budget; a reload tries again */
	PROC_STATES
};

/* What the bridge counts: messages, and connections. */
struct nats_counters {
	_Atomic uint64_t in, out;     /* from NATS and to it */
	_Atomic uint64_t reconnects;  /* connections after the first one */
	_Atomic uint64_t unconfirmed; /* written shortly before a connection broke: nobody knows */
	_Atomic uint64_t dropped_in;  /* for which there was no room when they came */
	_Atomic uint64_t overrun;     /* that came faster than they were taken from the library */
	_Atomic uint64_t
		dropped_out; /* for which there was none while NATS was away, or which it did not take */
	_Atomic uint64_t too_large; /* larger than the server takes */
	_Atomic uint64_t unsent;    /* that could not be put into the form that NATS needs */
};

struct sb_slot {
	/* written by the primary */
	_Alignas(SEGMENT_PAGE) _Atomic uint32_t state; /* enum proc_state */
	_Atomic uint32_t pid;
	_Atomic uint64_t generation;
	_Atomic uint64_t started_us; /* CLOCK_MONOTONIC */
	_Atomic uint32_t role;       /* enum msg_role; 0: the slot is free */
	_Atomic uint32_t index;      /* within its generation */
	_Atomic uint32_t on_trial;   /* 1 while it is ready but not yet allowed to accept */
	_Atomic uint32_t leaving;    /* 1: its place is not filled again */
	_Atomic uint32_t failures;   /* starts in a row that did not turn out well */
	_Atomic uint64_t rss;        /* bytes of memory, sampled about every second */
	_Atomic uint32_t address;    /* on the bus; the next three are of the last heartbeat */
	_Atomic uint32_t subscriptions;
	_Atomic uint64_t bus_queued;  /* bytes that wait for it */
	_Atomic uint64_t bus_dropped; /* messages, before they reached it */

	/* written by the child: read by the other workers at every accept */
	_Alignas(SEGMENT_PAGE) _Atomic uint32_t accepting; /* 1 while it takes new connections */
	_Atomic uint32_t connections;                      /* open now */
	_Atomic uint64_t tick_us; /* when its loop last turned, CLOCK_MONOTONIC */

	/* written by the child: counters since it started */
	_Alignas(64) _Atomic uint64_t turns;
	_Atomic uint64_t accepted;
	_Atomic uint64_t requests;
	_Atomic uint64_t bytes_in, bytes_out;
	_Atomic uint64_t client_errors, server_errors; /* 4xx and 5xx answers */
	_Atomic uint64_t stepped_back; /* times it left a connection to a less loaded worker */
	_Atomic uint64_t busy_us;      /* time its loop did not wait for events */
	_Atomic uint64_t bus_sent, bus_received; /* messages */
	_Atomic uint64_t bus_failed;             /* of those sent: refused, or to nobody */

	_Atomic uint64_t pool_submitted; /* jobs for its thread pool */

	/* written by the child's threads: not beside what its loop writes at each turn */
	_Alignas(64) _Atomic uint64_t pool_begun;
	_Atomic uint64_t pool_jobs; /* that are finished */

	/* written by the primary and by a task process: scoreboard_begin_task() */
	_Alignas(64) _Atomic uint64_t task_word;

	/* written by the bridge, by several threads, each its own */
	_Alignas(64) struct nats_counters nats;
	_Atomic uint32_t nats_connected; /* 1 while it is */
	_Atomic uint32_t nats_connects;  /* how often it was */

	_Atomic uint64_t
		looked_us; /* the admin process: when somebody last looked at what it shows */

	_Alignas(64) struct histogram
		latency; /* of answers: from the turn of the loop that had all of the request's head to
			    the one that queued the answer's last byte; event streams are left out */
	struct histogram pool_wait; /* of jobs: from being submitted to a thread that begins */
	struct histogram pool_run;  /* of the same jobs: from there to their end */
	struct histogram
		loop_lag; /* of turns: how long an event may have had to wait for the one before it */

	_Alignas(64) char request_line[SB_REQUEST_LINE]; /* not terminated; may be torn */
};

struct scoreboard {
	struct segment segment;
	_Atomic size_t *
		n_used; /* in the segment: slots at and above were never used; written by the primary */
	struct sb_slot *slots;
	size_t n_slots;
};

/* Owner's side: one writer, so no locked instruction is needed. */
#define sb_set(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)
#define sb_get(field)        atomic_load_explicit(&(field), memory_order_relaxed)
#define sb_add(field, n)     sb_set(field, sb_get(field) + (n))

uint64_t scoreboard_pool_queued(const struct sb_slot *s);
uint64_t scoreboard_pool_running(const struct sb_slot *s);
int scoreboard_new(size_t n_slots, struct scoreboard *ret);
int scoreboard_confine(const struct scoreboard *sb, size_t slot);
const char *scoreboard_state_name(uint32_t state);
void scoreboard_clear_slot(struct sb_slot *s);
bool scoreboard_begin_task(struct sb_slot *s, uint32_t n);
uint32_t scoreboard_begun_task(const struct sb_slot *s);
uint32_t scoreboard_revoke_tasks(struct sb_slot *s, uint32_t last);
void scoreboard_end_turn(struct sb_slot *s);
void scoreboard_clear_counters(struct sb_slot *s);

/*
 * What the primary tells about itself and remembers of its children, in shared memory: totals that outlive a worker, the
 * last crashes, the last events. Written by the primary alone. Workers give the mapping up; the admin process can
 * only read it.
 * A record of a ring is being written while its number is 0: who reads beside the writer takes the number before and
 * after and compares (history_read_crash(), history_read_event()).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/histogram.h"
#include "shared/scoreboard.h"

#define HISTORY_CRASHES   64
#define HISTORY_EVENTS    256
#define HISTORY_TEXT      240
#define HISTORY_BACKTRACE 2048
#define HISTORY_SUBJECTS  64
#define HISTORY_PATTERN   256 /* bytes of the longest, with its NUL */

/* clang-format off */
/* What an event is about: also the value of TINE_EVENT in the journal. */
#define HISTORY_EVENT_TABLE(X) \
	X(STATE, "state")      /* a child moved to another state */                        \
	X(CRASH, "crash")      /* a child ended that was not to */                         \
	X(HANG, "hang")        /* a loop does not answer */                                \
	X(RELOAD, "reload")    /* begun, succeeded, failed */                              \
	X(SCALE, "scale")      /* more or fewer workers are wanted */                      \
	X(RECYCLE, "recycle")  /* a worker is replaced for its age, requests or memory */  \
	X(RESTART, "restart")  /* a worker is replaced because somebody said so */         \
	X(UPGRADE, "upgrade")  /* begun, succeeded, failed */                              \
	X(COMMAND, "command")  /* somebody asked for something to be done */               \
	X(LIFE, "life")        /* the primary itself: start, stop */
/* clang-format on */

enum history_event_kind {
#define X(name, text) EVENT_##name,
	HISTORY_EVENT_TABLE(X)
#undef X
		N_EVENT_KINDS
};

struct history_event {
	_Atomic uint64_t number; /* 1 or more, counted up without end; 0: being written */
	uint64_t realtime_us;    /* CLOCK_REALTIME */
	uint32_t kind;           /* enum history_event_kind */
	int32_t level;           /* enum log_level */
	int32_t slot;            /* -1: it is about no single child */
	uint64_t generation;     /* 0: about none */
	char text[HISTORY_TEXT]; /* terminated; printable ASCII, for the rest is escaped */
};

struct history_crash {
	_Atomic uint64_t number;
	uint64_t realtime_us;
	uint32_t slot, pid, role; /* enum role */
	char farm[64];            /* of a task process: its name, terminated; else empty */
	uint64_t generation;
	int32_t signal; /* 0: it exited by itself */
	int32_t status; /* of exit(3) */
	bool core;      /* the kernel wrote a core dump */
	bool hung;      /* we killed it because its loop stood still */
	uint64_t age_us, user_us, system_us;
	uint64_t max_rss; /* bytes */
	uint64_t requests;
	char how[HISTORY_TEXT]; /* "killed by signal 11 (Segmentation fault)" */
	char request_line[SB_REQUEST_LINE +
		1]; /* what it was serving, or the function of its task; may be empty */
	char backtrace[HISTORY_BACKTRACE]; /* a line for each frame; empty: none was to be had */
};

/* Counters of children that are gone; a report adds those of the living. */
struct history_totals {
	_Atomic uint64_t accepted, requests, bytes_in, bytes_out, client_errors, server_errors,
		stepped_back;
	struct histogram latency, loop_lag, pool_wait, pool_run;
	struct nats_counters nats;
};

/* A pattern that somebody has subscribed to, and what came by it. */
struct history_subject {
	char pattern[HISTORY_PATTERN]; /* terminated; printable ASCII */
	uint64_t subscriptions, messages, delivered, dropped, refused;
};

struct history_bus {
	_Atomic uint64_t version; /* odd while it is being written */
	uint64_t refreshed_us;    /* 0: never; nobody looked */
	uint64_t n_patterns;      /* there are */
	uint32_t n_rows;
	struct history_subject rows[HISTORY_SUBJECTS]; /* those with the most messages */
};

/* What the primary counts of the bridge's messages. */
struct history_nats {
	_Atomic uint32_t configured; /* 1: there is a bridge, or is to be */
	_Atomic uint64_t missed;     /* published while there was none */
	_Atomic uint64_t no_room;    /* for which its queue had no room */
	_Atomic uint64_t perished;   /* that it had not passed on when it ended */
};

#define HISTORY_FARMS      64
#define HISTORY_QUARANTINE 32
#define HISTORY_FUNCTION   64 /* bytes of its name, with its NUL */

/* A farm, under its name through all generations. Written by the primary; the texts are there before `used` is set. */
struct history_farm {
	_Atomic uint32_t used; /* 1: the row is in use */
	char name[64];         /* terminated */
	/* counters of tasks, since the start */
	_Atomic uint64_t submitted;
	_Atomic uint64_t done, failed; /* those that the function itself failed */
	_Atomic uint64_t refused;      /* never begun: for want of room, or as they were */
	_Atomic uint64_t crashed;      /* deaths of a process that ran one */
	_Atomic uint64_t retried;      /* begun again after that */
	_Atomic uint64_t quarantined;  /* given up after it */
	_Atomic uint64_t timed_out, canceled;
	_Atomic uint64_t dropped; /* whose worker had gone */
	/* now, of the generation that serves; refreshed with each heartbeat */
	_Atomic uint32_t processes, busy, idle, starting, not_startable;
	_Atomic uint64_t queued, queued_bytes;
	_Atomic uint64_t oldest_us; /* CLOCK_MONOTONIC: the oldest that waits; 0: none does */
};

/* A task that was given up, because its process died each time. */
struct history_quarantined {
	_Atomic uint64_t number; /* as of an event */
	uint64_t realtime_us;
	char farm[64];                   /* its name, terminated */
	uint32_t tries, pid;             /* of the process that died the last time */
	uint64_t bytes;                  /* of the argument */
	char function[HISTORY_FUNCTION]; /* terminated; printable ASCII */
	char how[HISTORY_TEXT];          /* the process died the last time */
};

struct history {
	/* the primary and what it wants; everything below by the primary, relaxed */
	_Atomic uint64_t started_us;   /* CLOCK_MONOTONIC */
	_Atomic uint64_t heartbeat_us; /* when its loop last had a heartbeat, CLOCK_MONOTONIC */
	_Atomic uint64_t heartbeat_interval_us;
	_Atomic uint64_t generation; /* that serves; 0: none yet */
	_Atomic uint32_t pid, phase; /* enum primary_phase */
	_Atomic uint32_t target;     /* workers wanted */
	_Atomic uint32_t reloading, upgrading;
	_Atomic uint64_t reloads, reload_failures, upgrades, upgrade_failures, crashes, hangs,
		recycled,
		restarts; /* restarts: workers started in place of others, for whatever reason */
	char config_path[4096];
	char last_reload[HISTORY_TEXT]; /* its verdict; may be torn */

	_Atomic uint64_t totals_version; /* odd while a slot is moved into the totals */
	struct history_totals totals;
	struct history_nats nats;
	struct history_bus bus;
	_Atomic uint64_t n_crashes, n_events, n_quarantined; /* numbers of the newest */
	struct history_farm farms[HISTORY_FARMS];
	struct history_quarantined quarantine_ring[HISTORY_QUARANTINE];
	struct history_crash crash_ring[HISTORY_CRASHES];
	struct history_event event_ring[HISTORY_EVENTS];
};

struct history_quarantined *history_begin_quarantined(struct history *h);
uint64_t history_end_quarantined(struct history *h, struct history_quarantined *q);
bool history_read_quarantined(
	const struct history *h, uint64_t number, struct history_quarantined *ret);
int history_new(struct history **ret);
const char *history_event_name(unsigned kind);
struct history_event *history_begin_event(struct history *h);
struct history_crash *history_begin_crash(struct history *h);
uint64_t history_end_event(struct history *h, struct history_event *e);
uint64_t history_end_crash(struct history *h, struct history_crash *c);
struct history_crash *history_crash(struct history *h, uint64_t number);
bool history_read_event(const struct history *h, uint64_t number, struct history_event *ret);
bool history_read_crash(const struct history *h, uint64_t number, struct history_crash *ret);
void history_add_slot(struct history_totals *t, const struct sb_slot *s);
bool history_read_bus(const struct history *h, struct history_bus *ret);
void history_bury_slot(struct history *h, struct sb_slot *s);

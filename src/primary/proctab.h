/*
 * The table of child processes and the one door through which they change state.
 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/backoff.h"
#include "ipc/msg.h"
#include "primary/waiters.h"
#include "shared/history.h"
#include "shared/scoreboard.h"

struct farm;
struct farm_process;
struct generation;
struct lane;
struct primary;
struct relay_peer;

/* Its part in the restart that somebody has asked for. */
enum restart_step {
	RESTART_NONE,
	RESTART_WANTED, /* its turn comes */
	RESTART_BEGUN,  /* it, or the successor it has, is to get ready */
};

struct proc {
	struct primary *primary;
	unsigned slot;
	enum msg_role role;
	unsigned index; /* within its generation, among those of its role */
	enum proc_state state;
	bool leaving;           /* its slot is not filled again when it ends */
	bool on_trial;          /* it may not accept yet: MSG_SERVE ends that */
	struct generation *gen; /* NULL when the slot is free */

	pid_t pid;
	int pidfd;
	struct event ev_exit;  /* the pidfd */
	struct event ev_timer; /* the deadline of the present state */
	struct lane *control;
	struct relay_peer *bus;    /* NULL: it is not on the bus, such as a task process */
	struct farm *farm;         /* of a task process; NULL: it is none */
	struct farm_process *task; /* what the farm knows of it, while it lives */
	bool stays_in_farm;        /* it counts as one of it: it is not leaving */
	bool killed_for_task;      /* its task was canceled, which is no crash */
	bool was_given_tasks;      /* the one that has died in this slot was */
	uint32_t address;          /* on it */

	uint64_t started_us, ready_us;
	uint64_t asked_us; /* when the PING was sent that has no answer yet; 0: it has */
	/* health.c */
	struct event ev_hang;                  /* its silence may have lasted long enough */
	unsigned n_missed;                     /* rounds in a row without an answer */
	uint64_t missed_us;                    /* when the first of them was */
	uint64_t seen_cpu_us, seen_starved_us; /* of the process, then */
	bool warned, hung, aborted;
	bool late, told; /* its task took too long; it has begun to write down where it was */
	bool drained;    /* it said so */
	struct backoff backoff;
	/* replace.c */
	struct proc *successor, *predecessor; /* of a pair, until one is out of the question */
	enum history_event_kind replaced_for; /* EVENT_RECYCLE or EVENT_RESTART */
	bool replaced;                        /* its successor serves; it drains */
	enum restart_step restart;
	struct backoff replace_backoff; /* of successors that did not help */
	uint64_t not_before_us;         /* is it recycled */
	struct waiters gone_waiters;    /* who wants to know when it has ended */
	/* recycle.c */
	uint64_t max_requests, max_age_us; /* with jitter */
	bool over_memory;                  /* over the hard limit: killed for it */
	char *words; /* why it said it could not start; NULL when it did not */
};

/* Every slot that is in use, in order. */
#define proctab_foreach(p, pr)                                                  \
	for (struct proc *pr = (p)->procs; pr < (p)->procs + (p)->n_used; pr++) \
		if (pr->state != PROC_EMPTY)

/* The same, workers only. */
#define proctab_foreach_worker(p, pr) \
	proctab_foreach (p, pr)       \
		if (pr->role == ROLE_WORKER)

int proctab_new(struct primary *p, size_t n_slots, event_callback_fn on_timer,
	event_callback_fn on_silence);
const char *proc_state_name(enum proc_state s);
bool proc_may_move(enum proc_state from, enum proc_state to);
void proc_set_state(struct proc *pr, enum proc_state next, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void proc_set_timer(struct proc *pr, uint64_t us);
const char *proc_role_name(const struct proc *pr);
bool proc_serves(const struct proc *pr);
struct proc *proctab_take(
	struct primary *p, struct generation *g, enum msg_role role, unsigned index);
void proctab_give_back(struct proc *pr);
unsigned proctab_n_ready(const struct primary *p, const struct generation *g);
bool proctab_all_ready(const struct primary *p, const struct generation *g);
unsigned proctab_free_index(const struct primary *p, const struct generation *g);

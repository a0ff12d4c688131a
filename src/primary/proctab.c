/*
 * The process table. Runs in the primary. proc_set_state() is the only code that changes a state.
 */
#include "primary/proctab.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "primary/events.h"
#include "primary/farm_pool.h"
#include "primary/generation.h"
#include "primary/primary.h"
#include "shared/report.h"

/* The states a child may move to from each state, as a set. */
static const unsigned next_states[PROC_STATES] = {
#define TO(s) (1u << PROC_##s)
	[PROC_EMPTY] = TO(STARTING) | TO(BACKOFF) | TO(FAILED),
	[PROC_STARTING] = TO(READY) | TO(DRAINING) | TO(KILLING) | TO(DEAD),
	[PROC_READY] = TO(DRAINING) | TO(KILLING) | TO(DEAD),
	[PROC_DRAINING] = TO(KILLING) | TO(DEAD),
	[PROC_KILLING] = TO(DEAD),
	[PROC_DEAD] = TO(EMPTY) | TO(STARTING) | TO(BACKOFF) | TO(FAILED),
	[PROC_BACKOFF] = TO(STARTING) | TO(EMPTY),
	[PROC_FAILED] = TO(STARTING) | TO(EMPTY),
#undef TO
};

const char *proc_state_name(enum proc_state s)
{
	return scoreboard_state_name((uint32_t)s);
}

bool proc_may_move(enum proc_state from, enum proc_state to)
{
	return next_states[from] & (1u << to);
}

const char *proc_role_name(const struct proc *pr)
{
	return report_role_name((uint32_t)pr->role);
}

/* Whether it takes new connections, as far as we know. */
bool proc_serves(const struct proc *pr)
{
	return pr->state == PROC_READY && !pr->on_trial;
}

/* Moves a child to its next state; the text says why, for the log. */
void proc_set_state(struct proc *pr, enum proc_state next, const char *fmt, ...)
{
	struct sb_slot *sb = &pr->primary->scoreboard.slots[pr->slot];
	enum proc_state before = pr->state;
	char why[256];
	va_list ap;

	assert(proc_may_move(before, next));
	pr->state = next;
	event_del(&pr->ev_timer);
	sb_set(sb->state, (uint32_t)next); /* whoever reads the log finds it so */
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (pr->role == ROLE_TASK && next != PROC_FAILED) /* it may be hundreds of times a second */
		log_debug("task[%u]: %s -> %s: %s", pr->slot, proc_state_name(before),
			proc_state_name(next), why);
	else
		event_note(pr->primary, LOG_LVL_INFO, EVENT_STATE, pr, "%s -> %s: %s",
			proc_state_name(before), proc_state_name(next), why);
}

/* Arms the deadline of the present state, from now on. */
void proc_set_timer(struct proc *pr, uint64_t us)
{
	struct timeval tv = timeval_from_us(us);

	event_add(&pr->ev_timer, &tv);
}

/*
 * on_timer: called with the process when the deadline of its state has come; on_silence: when its silence may have lasted
 * long enough.
 */
int proctab_new(
	struct primary *p, size_t n_slots, event_callback_fn on_timer, event_callback_fn on_silence)
{
	int r = scoreboard_new(n_slots, &p->scoreboard);

	if (r < 0)
		return r;
	p->procs = calloc(n_slots, sizeof(*p->procs));
	if (!p->procs)
		return -ENOMEM;
	p->n_slots = n_slots;
	p->on_timer = on_timer;
	p->on_silence = on_silence;
	return 0;
}

static void proc_assign_events(struct proc *pr)
{
	event_assign(&pr->ev_timer, pr->primary->base, -1, 0, pr->primary->on_timer, pr);
	event_assign(&pr->ev_hang, pr->primary->base, -1, 0, pr->primary->on_silence, pr);
}

/* Finds an empty slot for a new member of a generation; NULL: all are taken. The slot is still EMPTY. */
struct proc *proctab_take(
	struct primary *p, struct generation *g, enum msg_role role, unsigned index)
{
	for (size_t i = 0; i < p->n_slots; i++) {
		struct proc *pr = &p->procs[i];

		if (pr->state != PROC_EMPTY || pr->gen)
			continue;
		pr->primary = p;
		pr->slot = (unsigned)i;
		pr->role = role;
		pr->index = index;
		pr->gen = g;
		pr->pidfd = -1;
		pr->farm = NULL;
		if (!event_initialized(&pr->ev_timer))
			proc_assign_events(pr);
		pr->leaving = pr->on_trial = pr->replaced = pr->was_given_tasks = false;
		pr->restart = RESTART_NONE;
		pr->successor = pr->predecessor = NULL;
		pr->not_before_us = 0;
		backoff_reset(&pr->replace_backoff);
		sb_set(p->scoreboard.slots[i].role, (uint32_t)role);
		sb_set(p->scoreboard.slots[i].index, index);
		backoff_reset(&pr->backoff);
		g->n_procs++;
		if (i >= p->n_used) {
			p->n_used = i + 1;
			sb_set(*p->scoreboard.n_used, p->n_used);
		}
		return pr;
	}
	return NULL;
}

/* The slot is free for anybody. Only when EMPTY. May end its generation. */
void proctab_give_back(struct proc *pr)
{
	struct generation *g = pr->gen;

	assert(pr->state == PROC_EMPTY);
	sb_set(pr->primary->scoreboard.slots[pr->slot].role, 0);
	pr->gen = NULL;
	g->n_procs--;
	generation_release(pr->primary, g);
}

/* How many workers of a generation are ready and to stay. */
unsigned proctab_n_ready(const struct primary *p, const struct generation *g)
{
	unsigned n = 0;

	proctab_foreach_worker(p, pr) n += pr->gen == g && pr->state == PROC_READY && !pr->leaving;
	return n;
}

/* Whether everybody a generation wants is ready, the processes there is one of included. */
bool proctab_all_ready(const struct primary *p, const struct generation *g)
{
	unsigned n_others = 0;

	proctab_foreach (p, pr)
		n_others += pr->gen == g && pr->role != ROLE_WORKER && pr->role != ROLE_TASK &&
			pr->state == PROC_READY;
	return proctab_n_ready(p, g) >= g->target && farm_pool_is_ready(g) &&
		n_others >= g->has_admin + (unsigned)(g->config->bus.nats != NULL);
}

/* The lowest index no member of the generation has. */
unsigned proctab_free_index(const struct primary *p, const struct generation *g)
{
	for (unsigned index = 0;; index++) {
		bool taken = false;

		proctab_foreach_worker(p, pr) taken |=
			pr->gen == g && pr->index == index && !pr->leaving;
		if (!taken)
			return index;
	}
}

/*
 * Successors. Runs in the primary.
 * Always holds: a child and its successor point at each other until one of them is out of the question; the old one
 * serves until the successor is ready; no more than max_unavailable are being replaced, which each of them is until it has
 * drained and ended.
 */
#include "primary/replace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "primary/events.h"
#include "primary/farm_pool.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/recycle.h"
#include "primary/supervisor.h"

#define RETRY_MIN_US (1 * US_PER_S)
#define RETRY_MAX_US (60 * US_PER_S)

static const struct backoff_limits retry_limits = {.min_us = RETRY_MIN_US, .max_us = RETRY_MAX_US};

/* --- pairs --- */

static unsigned n_being_replaced(const struct primary *p)
{
	unsigned n = 0;

	proctab_foreach (p, pr)
		n += pr->gen == p->current && (pr->successor || pr->replaced);
	return n;
}

static bool has_room(const struct primary *p)
{
	return n_being_replaced(p) < p->current->config->workers.max_unavailable;
}

static void unlink_pair(struct proc *old, struct proc *new)
{
	old->successor = NULL;
	new->predecessor = NULL;
}

/* Forks a successor. Returns false when there is no slot for one. */
static bool begin(struct proc *old, enum history_event_kind kind, const char *why)
{
	struct proc *new = proctab_take(old->primary, old->gen, old->role, old->index);

	if (!new)
		return false;
	if (old->farm)
		farm_pool_join(new, old->farm);
	old->successor = new;
	new->predecessor = old;
	old->replaced_for = kind;
	event_note(old->primary, LOG_LVL_INFO, kind, old, "to be replaced: %s", why);
	supervisor_start(new, "a successor");
	return true;
}

/* Seconds grow to a minute as it repeats. */
static uint64_t next_delay_us(struct backoff *b, uint64_t now)
{
	return backoff_failed(b, &retry_limits, false, now, (uint32_t)random());
}

/* --- restarting, on command --- */

static void end_restart(struct primary *p, bool ok, const char *text)
{
	if (!p->restarting)
		return;
	proctab_foreach (p, pr)
		pr->restart = RESTART_NONE;
	p->restarting = false;
	event_note(p, ok ? LOG_LVL_INFO : LOG_LVL_ERROR, EVENT_RESTART, NULL, "restart: %s%s",
		ok ? "" : "failed: ", text);
	waiters_tell(&p->restart_waiters, ok, text);
}

/* Ends it when nothing of it is left to do. */
static void settle_restart(struct primary *p)
{
	char text[64];

	proctab_foreach (p, pr) {
		if (pr->restart != RESTART_NONE)
			return;
	}
	snprintf(text, sizeof(text), "%u process%s replaced", p->n_restarted,
		p->n_restarted == 1 ? "" : "es");
	end_restart(p, true, text);
}

/* What was asked for a child is done. */
static void count_restarted(struct proc *pr)
{
	if (pr->restart != RESTART_NONE)
		pr->primary->n_restarted++;
	pr->restart = RESTART_NONE;
}

/* One that waits for its next start, or was given up, begins anew at once: nobody has to wait for it. */
static void start_over(struct proc *pr)
{
	pr->restart = RESTART_BEGUN;
	backoff_reset(&pr->backoff);
	sb_add(pr->primary->history->restarts, 1);
	supervisor_start(pr, "told to restart");
}

static void restart(struct proc *pr)
{
	bool has_ended = pr->state == PROC_BACKOFF || pr->state == PROC_FAILED;

	if (has_ended) {
		start_over(pr);
		return;
	}
	pr->restart = RESTART_BEGUN;
	if (!begin(pr, EVENT_RESTART, "told to restart"))
		end_restart(pr->primary, false,
			"no slot is free for a successor: too many are still draining");
}

/* --- recycling --- */

/*
 * A successor that soon has too much memory itself is not replaced as soon: the limit is too low for the modules, and
 * forking without end would help nobody.
 */
static void be_patient(struct proc *old, struct proc *new, uint64_t now)
{
	uint64_t delay_us;

	if (now - old->started_us >= RETRY_MAX_US)
		return;
	new->replace_backoff = old->replace_backoff;
	delay_us = next_delay_us(&new->replace_backoff, now);
	new->not_before_us = now + delay_us;
	if (delay_us > 0)
		event_note(new->primary, LOG_LVL_WARNING, EVENT_RECYCLE, new,
			"max_memory may be too low for its modules; it stays for %" PRIu64
			" ms at least",
			delay_us / US_PER_MS);
}

/* Returns whether that was tried. */
static bool recycle(struct proc *pr, uint64_t now)
{
	enum recycle_reason reason;
	char why[160];

	if (now < pr->not_before_us)
		return false;
	reason = recycle_reason(pr, now, why, sizeof(why));
	if (reason == RECYCLE_NOT)
		return false;
	if (!begin(pr, EVENT_RECYCLE, why))
		pr->not_before_us = now + RETRY_MAX_US;
	else if (reason == RECYCLE_MEMORY && pr->successor)
		be_patient(pr, pr->successor, now);
	return true;
}

/* --- whose turn it is --- */

static bool is_idle(const struct primary *p)
{
	return p->phase == PRIMARY_SERVING && !p->rollout && !p->upgrade;
}

static bool may_be_replaced(const struct proc *pr)
{
	return pr->gen == pr->primary->current && !pr->leaving && !pr->successor &&
		!pr->predecessor && proc_serves(pr);
}

/* Those that are restarted go before those that are recycled: somebody waits for them. */
static void begin_restarts(struct primary *p)
{
	proctab_foreach (p, pr) {
		if (pr->restart == RESTART_NONE)
			continue;
		if (pr->state == PROC_BACKOFF || pr->state == PROC_FAILED ||
			(may_be_replaced(pr) && has_room(p)))
			restart(pr);
	}
	settle_restart(p);
}

static void begin_recycling(struct primary *p)
{
	uint64_t now = now_us();
	bool room = has_room(p);

	proctab_foreach (p, pr) {
		if (!room)
			return;
		if (may_be_replaced(pr) && recycle(pr, now))
			room = has_room(p);
	}
}

/* Begins what may begin now. To be called when a replacement has ended, and at each heartbeat. */
void replace_step(struct primary *p)
{
	if (is_idle(p) && p->restarting)
		begin_restarts(p);
	if (is_idle(p))
		begin_recycling(p);
}

void replace_heartbeat(struct primary *p)
{
	recycle_sample_memory(p, now_us());
	replace_step(p);
}

/* --- what happens to one of a pair --- */

void replace_on_ready(struct proc *pr)
{
	struct history *h = pr->primary->history;
	struct proc *old = pr->predecessor;
	char why[64];

	count_restarted(pr);
	if (old && old->state == PROC_READY) { /* else it is being killed: see replace_on_exit() */
		unlink_pair(old, pr);
		sb_add(h->restarts, 1);
		sb_add(h->recycled, old->replaced_for == EVENT_RECYCLE);
		count_restarted(old);
		old->replaced = true;
		snprintf(why, sizeof(why), "%s[%u] serves in its place", proc_role_name(pr),
			pr->slot);
		supervisor_retire(old, why);
	}
	replace_step(pr->primary);
}

/* The successor is no good: the old one serves on, and is tried again later. */
static void give_up(struct proc *old, struct proc *new, const char *how)
{
	uint64_t now = now_us();
	uint64_t delay_us = RETRY_MIN_US + next_delay_us(&old->replace_backoff, now);
	char why[512];

	unlink_pair(old, new);
	supervisor_set_leaving(new);
	old->not_before_us = now + delay_us;
	snprintf(why, sizeof(why), "the successor of %s[%u] did not get ready: %s",
		proc_role_name(old), old->slot, how);
	if (old->restart == RESTART_BEGUN) {
		event_note(old->primary, LOG_LVL_WARNING, EVENT_RESTART, old, "serves on");
		end_restart(old->primary, false, why);
	} else {
		event_note(old->primary, LOG_LVL_ERROR, EVENT_RECYCLE, old,
			"%s; it serves on, next try in %" PRIu64 " ms", why, delay_us / US_PER_MS);
	}
}

/* The old one goes of its own accord, or has gone: the successor, which may still start, has its place already. */
static void hand_over(struct proc *old)
{
	struct proc *new = old->successor;

	unlink_pair(old, new);
	supervisor_set_leaving(old);
	supervisor_count_failure(old); /* a crash remains one: the budget is the place's */
	new->backoff = old->backoff;
	sb_add(old->primary->history->restarts, 1);
	if (new->state == PROC_READY)
		count_restarted(old);
	else if (old->restart != RESTART_NONE)
		new->restart = RESTART_BEGUN;
	old->restart = RESTART_NONE;
}

/* It drains, though nobody here told it to. Returns whether somebody takes its place already. */
bool replace_on_leaving(struct proc *pr)
{
	if (!pr->successor) {
		count_restarted(pr);
		return false;
	}
	hand_over(pr);
	return true;
}

static void tell_gone(struct proc *pr, const char *how)
{
	bool ok = pr->drained || pr->ready_us == 0;
	char text[320];

	snprintf(text, sizeof(text), "%s[%u] %s%s", proc_role_name(pr), pr->slot,
		ok ? "has ended" : "did not drain: ", ok ? "" : how);
	waiters_tell(&pr->gone_waiters, ok, text);
}

/* To be called before it is decided whether a child that has ended is to be replaced. */
void replace_on_exit(struct proc *pr, const char *how)
{
	struct proc *old = pr->predecessor;
	char why[320];

	if (pr->leaving) {
		tell_gone(pr, how);
	} else if (old) {
		give_up(old, pr, how);
	} else if (pr->successor) {
		hand_over(pr);
	} else if (pr->restart == RESTART_BEGUN) {
		snprintf(why, sizeof(why), "%s[%u] did not get ready: %s", proc_role_name(pr),
			pr->slot, how);
		end_restart(pr->primary, false, why);
	}
}

/* It is sent away: what was begun for its sake is not needed any more. */
void replace_on_retire(struct proc *pr)
{
	struct proc *new = pr->successor;

	pr->restart = RESTART_NONE;
	if (pr->predecessor)
		unlink_pair(pr->predecessor, pr);
	if (!new)
		return;
	unlink_pair(pr, new);
	supervisor_retire(new, "no longer needed");
}

/* Its slot is free. */
void replace_on_vacate(struct proc *pr)
{
	pr->restart = RESTART_NONE;
	pr->replaced = false;
	waiters_tell(&pr->gone_waiters, true, "it was not running");
}

/* --- commands --- */

static int check_idle(const struct primary *p, char *error, size_t size)
{
	if (is_idle(p))
		return 0;
	snprintf(error, size,
		"not while starting, reloading, upgrading or stopping; try again later");
	return -EBUSY;
}

static struct proc *find(struct primary *p, unsigned slot, char *error, size_t size)
{
	struct proc *pr = slot < p->n_used ? &p->procs[slot] : NULL;

	if (pr && pr->state != PROC_EMPTY && pr->gen == p->current && !pr->leaving)
		return pr;
	snprintf(error, size, "slot %u has no process that is to stay; \"workers\" shows them",
		slot);
	return NULL;
}

/*
 * Replaces the child in a slot, or all workers (-1), max_unavailable at a time; those that wait for their next start or
 * were given up start at once. w hears that all are replaced, or of the first that could not be, with which it ends.
 */
int replace_restart(struct primary *p, int slot, struct waiter *w, char *error, size_t size)
{
	struct proc *one = NULL;
	int r = check_idle(p, error, size);

	if (r < 0)
		return r;
	if (p->restarting) {
		snprintf(error, size, "a restart is under way, %u replaced so far; try again later",
			p->n_restarted);
		return -EBUSY;
	}
	if (slot >= 0) {
		one = find(p, (unsigned)slot, error, size);
		if (!one)
			return -EINVAL;
	}
	proctab_foreach (p, pr) {
		if (one ? pr == one
			: pr->role == ROLE_WORKER && pr->gen == p->current && !pr->leaving &&
					!pr->predecessor)
			pr->restart = RESTART_WANTED;
	}
	p->restarting = true;
	p->n_restarted = 0;
	if (w)
		waiters_add(&p->restart_waiters, w);
	replace_step(p);
	return 0;
}

static bool others_serve(const struct primary *p, const struct proc *but)
{
	proctab_foreach_worker(p, pr)
	{
		if (pr != but && pr->gen == p->current && !pr->leaving && proc_serves(pr))
			return true;
	}
	return false;
}

/* Why a child cannot be drained; NULL: it can. */
static const char *objection(const struct primary *p, const struct proc *pr)
{
	if (pr->role != ROLE_WORKER)
		return "is no worker; \"restart\" replaces it";
	if (pr->predecessor)
		return "only just starts in place of another; drain that one";
	if (p->current->target <= 1 || !others_serve(p, pr))
		return "is the only worker that serves; \"stop\" ends the service";
	return NULL;
}

/* Takes a worker out of service for good: one less is wanted. w hears when it has ended. */
int replace_drain(struct primary *p, unsigned slot, struct waiter *w, char *error, size_t size)
{
	int r = check_idle(p, error, size);
	const char *why_not;
	struct proc *pr;

	if (r < 0)
		return r;
	pr = find(p, slot, error, size);
	if (!pr)
		return -EINVAL;
	why_not = objection(p, pr);
	if (why_not) {
		snprintf(error, size, "%s[%u] %s", proc_role_name(pr), slot, why_not);
		return -EINVAL;
	}
	p->current->target--;
	p->scaled_by_hand = true;
	if (w)
		waiters_add(&pr->gone_waiters, w);
	event_note(p, LOG_LVL_INFO, EVENT_SCALE, pr, "told to drain; %u workers are wanted",
		p->current->target);
	supervisor_retire(pr, "told to drain");
	primary_status(p);
	return 0;
}

/* A reload has replaced everybody, or the primary stops. */
void replace_abandon(struct primary *p, bool ok, const char *why)
{
	end_restart(p, ok, why);
}

/*
 * Successors. Runs in the primary.
 * Always holds: a worker and its successor point at each other until one of them is out of the question; at most
 * max_unavailable such pairs exist; the worker serves until its successor is ready.
 */
#include "primary/replace.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "primary/events.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/supervisor.h"

#define SAMPLE_US    (900 * US_PER_MS) /* of memory; at a heartbeat, so about every second */
#define JITTER       10 /* percent up or down, so that workers of one age do not leave together */
#define RETRY_MIN_US (1 * US_PER_S)
#define RETRY_MAX_US (60 * US_PER_S)
#define MIB(bytes)   ((bytes) >> 20)

static const struct backoff_limits retry_limits = {
	RETRY_MIN_US, RETRY_MAX_US, {UINT32_MAX, US_PER_S}};

/* --- pairs --- */

/* Whether it has a successor or is one. */
bool replace_is_under_way(const struct proc *pr)
{
	return pr->successor || pr->predecessor;
}

static unsigned n_pairs(const struct primary *p)
{
	unsigned n = 0;

	proctab_foreach_worker(p, pr) n += pr->successor != NULL;
	return n;
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
	old->successor = new;
	new->predecessor = old;
	old->replaced_for = kind;
	event_note(old->primary, LOG_LVL_INFO, kind, old, "is to be replaced: %s", why);
	supervisor_start(new, "successor");
	return true;
}

/* --- restarting, on command --- */

/* Tells those who asked for it when nothing of it is left to do. */
static void settle_restart(struct primary *p)
{
	char text[64];

	proctab_foreach (p, pr) {
		if (pr->wants_restart || (pr->successor && pr->replaced_for == EVENT_RESTART))
			return;
	}
	snprintf(text, sizeof(text), "%u replaced", p->n_restarted);
	p->n_restarted = 0;
	waiters_tell(&p->restart_waiters, true, text);
}

static void fail_restart(struct primary *p, const char *why)
{
	proctab_foreach (p, pr)
		pr->wants_restart = false;
	p->n_restarted = 0;
	waiters_tell(&p->restart_waiters, false, why);
}

/* One that waits or was given up begins anew at once; it has nobody to wait for. */
static void start_over(struct proc *pr)
{
	pr->wants_restart = false;
	pr->primary->n_restarted++;
	backoff_reset(&pr->backoff);
	supervisor_start(pr, "told to restart");
}

/* --- recycling --- */

static uint64_t jittered(uint64_t n)
{
	return n - n * JITTER / 100 + (n / 100) * (uint64_t)(random() % (2 * JITTER + 1));
}

/* Draws the limits of a new child. */
void replace_on_start(struct proc *pr)
{
	const struct conf_workers *c = &pr->gen->config->workers;

	pr->max_requests = jittered(c->max_requests);
	pr->max_age_us = jittered(c->max_lifetime_us);
}

/* Why a worker has served enough; false when it has not. */
static bool is_due(const struct proc *pr, uint64_t now, char *why, size_t size)
{
	const struct conf_workers *c = &pr->gen->config->workers;
	const struct sb_slot *sb = &pr->primary->scoreboard.slots[pr->slot];
	uint64_t requests = sb_get(sb->requests), rss = sb_get(sb->rss);

	if (pr->role != ROLE_WORKER)
		return false;
	if (c->max_requests && requests >= pr->max_requests)
		snprintf(why, size, "%" PRIu64 " requests", requests);
	else if (c->max_lifetime_us && now - pr->started_us >= pr->max_age_us)
		snprintf(why, size, "%" PRIu64 " s old", (now - pr->started_us) / US_PER_S);
	else if (c->max_memory && rss > c->max_memory)
		snprintf(why, size, "%" PRIu64 " MiB of memory, more than max_memory", MIB(rss));
	else
		return false;
	return true;
}

/* Begins what may begin now. */
static void step(struct primary *p)
{
	uint64_t now = now_us();
	char why[128];

	if (p->phase != PRIMARY_SERVING || p->rollout || p->upgrade)
		return;
	proctab_foreach (p, pr) {
		bool restart = pr->wants_restart;

		if (pr->gen != p->current || pr->leaving || replace_is_under_way(pr))
			continue;
		if (restart && (pr->state == PROC_BACKOFF || pr->state == PROC_FAILED)) {
			start_over(pr);
			continue;
		}
		if (pr->state != PROC_READY ||
			n_pairs(p) >= p->current->config->workers.max_unavailable)
			continue;
		if (restart)
			snprintf(why, sizeof(why), "told to");
		else if (now < pr->not_before_us || !is_due(pr, now, why, sizeof(why)))
			continue;
		pr->wants_restart = false;
		if (!begin(pr, restart ? EVENT_RESTART : EVENT_RECYCLE, why) && restart)
			fail_restart(p, "no slot is free for a successor");
	}
	settle_restart(p);
}

/* --- what happens to one of a pair --- */

void replace_on_ready(struct proc *pr)
{
	struct primary *p = pr->primary;
	struct proc *old = pr->predecessor;

	if (!old)
		return;
	unlink_pair(old, pr);
	sb_add(p->history->restarts, 1);
	if (old->replaced_for == EVENT_RECYCLE)
		sb_add(p->history->recycled, 1);
	else
		p->n_restarted++;
	supervisor_retire(old, "its successor is ready");
	step(p);
}

/* The successor is no good: the worker serves on, and is tried again later. */
static void give_up(struct proc *old, struct proc *new, const char *how)
{
	struct primary *p = old->primary;
	uint64_t now = now_us();
	char why[512];

	unlink_pair(old, new);
	supervisor_set_leaving(new);
	snprintf(why, sizeof(why), "the successor of %s[%u] did not get ready: %s",
		proc_role_name(old), old->slot, new->words ? new->words : how);
	old->not_before_us = now +
		backoff_failed(
			&old->replace_backoff, &retry_limits, false, now, (uint32_t)random()) +
		RETRY_MIN_US;
	event_note(p, LOG_LVL_ERROR, old->replaced_for, old, "%s; it serves on", why);
	if (old->replaced_for == EVENT_RESTART)
		fail_restart(p, why);
}

/* To be called before it is decided whether a child that has ended is to be replaced. */
void replace_on_exit(struct proc *pr, const char *how)
{
	struct proc *old = pr->predecessor;

	if (old && pr->leaving)
		unlink_pair(old, pr);
	else if (old)
		give_up(old, pr, how);
	if (pr->successor) { /* it was to go anyway, and the one that follows is on its way */
		supervisor_set_leaving(pr);
		unlink_pair(pr, pr->successor);
	}
}

/* Somebody else sends it away. */
void replace_on_retire(struct proc *pr)
{
	pr->wants_restart = false;
	if (pr->successor)
		unlink_pair(pr, pr->successor);
}

/* Its slot is free. */
void replace_on_vacate(struct proc *pr)
{
	if (pr->predecessor)
		unlink_pair(pr->predecessor, pr);
	pr->wants_restart = false;
	waiters_tell(&pr->gone_waiters, true, "drained");
}

/* --- memory --- */

/*
 * Resident memory in bytes (proc_pid_statm(5)); 0 when it cannot be told. Not smaps_rollup, whose reader waits for the
 * child's own lock on its memory map.
 */
static uint64_t resident(pid_t pid)
{
	char path[64], text[128];
	const char *blank;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	if (fd_read_text(path, text, sizeof(text)) <= 0)
		return 0;
	blank = strchr(text, ' ');
	return blank ? strtoull(blank, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void check_memory(struct proc *pr)
{
	const uint64_t max = pr->gen->config->workers.max_memory_hard;
	struct sb_slot *sb = &pr->primary->scoreboard.slots[pr->slot];
	uint64_t rss = resident(pr->pid);
	char why[128];

	sb_set(sb->rss, rss);
	if (max == 0 || rss <= max || pr->role != ROLE_WORKER)
		return;
	snprintf(
		why, sizeof(why), "%" PRIu64 " MiB of memory, more than max_memory_hard", MIB(rss));
	supervisor_kill(pr, SIGKILL, why);
}

void replace_heartbeat(struct primary *p)
{
	uint64_t now = now_us();

	if (now >= p->sampled_us + SAMPLE_US) {
		p->sampled_us = now;
		proctab_foreach (p, pr) {
			if (pr->pidfd >= 0)
				check_memory(pr);
		}
	}
	step(p);
}

/* --- commands --- */

static struct proc *find(struct primary *p, unsigned slot, char *error, size_t size)
{
	struct proc *pr = slot < p->n_used ? &p->procs[slot] : NULL;

	if (pr && pr->state != PROC_EMPTY && pr->gen == p->current && !pr->leaving)
		return pr;
	snprintf(error, size, "slot %u has no process that serves; \"workers\" shows them", slot);
	return NULL;
}

static int check_idle(const struct primary *p, char *error, size_t size)
{
	if (p->phase == PRIMARY_SERVING && !p->rollout && !p->upgrade)
		return 0;
	snprintf(error, size,
		"not while starting, reloading, upgrading or stopping; try again later");
	return -EBUSY;
}

/*
 * Replaces the child in a slot, or all (-1). w hears when it is done. Returns 0, or -errno and why nothing was begun.
 */
int replace_restart(struct primary *p, int slot, struct waiter *w, char *error, size_t size)
{
	int r = check_idle(p, error, size);
	struct proc *one = NULL;

	if (r < 0)
		return r;
	if (slot >= 0) {
		one = find(p, (unsigned)slot, error, size);
		if (!one)
			return -EINVAL;
	}
	proctab_foreach (p, pr) {
		if (pr == one ||
			(slot < 0 && pr->gen == p->current && !pr->leaving && !pr->predecessor))
			pr->wants_restart = true;
	}
	waiters_add(&p->restart_waiters, w);
	step(p);
	return 0;
}

/* Takes a worker out of service for good. w hears when it has ended. Returns as replace_restart(). */
int replace_drain(struct primary *p, unsigned slot, struct waiter *w, char *error, size_t size)
{
	int r = check_idle(p, error, size);
	struct proc *pr = r == 0 ? find(p, slot, error, size) : NULL;

	if (r < 0)
		return r;
	if (!pr)
		return -EINVAL;
	if (pr->role != ROLE_WORKER || replace_is_under_way(pr) || p->current->target <= 1) {
		snprintf(error, size, "%s[%u] %s", proc_role_name(pr), slot,
			pr->role != ROLE_WORKER ? "is no worker"
				: replace_is_under_way(pr)
				? "is just being replaced; try again later"
				: "is the only worker; use \"stop\"");
		return pr->role == ROLE_WORKER ? -EBUSY : -EINVAL;
	}
	p->current->target--;
	p->scaled_by_hand = true;
	waiters_add(&pr->gone_waiters, w);
	event_note(p, LOG_LVL_INFO, EVENT_SCALE, pr, "drained on command; %u workers are wanted",
		p->current->target);
	supervisor_retire(pr, "drained on command");
	primary_status(p);
	return 0;
}

/* The primary stops. */
void replace_abandon(struct primary *p)
{
	fail_restart(p, "tined is stopping");
}

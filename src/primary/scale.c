/*
 * Scaling. Runs in the primary. What is wanted is one number, the generation's target; workers are started and sent away
 * until there are as many.
 */
#include "primary/scale.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/log.h"
#include "primary/events.h"
#include "primary/listener.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/supervisor.h"

#define LOOK_US      (5 * US_PER_S) /* at the number of CPUs */
#define STARTING_MAX 16             /* forked beside each other; more only when these are ready */

/* Whether a worker counts: a successor does not, until its predecessor is out of the question. */
static bool is_member(const struct primary *p, const struct proc *pr)
{
	return pr->gen == p->current && !pr->leaving && !pr->predecessor;
}

static unsigned n_members(const struct primary *p)
{
	unsigned n = 0;

	proctab_foreach_worker(p, pr) n += is_member(p, pr);
	return n;
}

static unsigned n_starting(const struct primary *p)
{
	unsigned n = 0;

	proctab_foreach_worker(p, pr) n += pr->gen == p->current && pr->state == PROC_STARTING;
	return n;
}

/* --- up and down --- */

/* Returns 0 or -errno. */
static int open_sockets(struct primary *p, unsigned n_workers, char *error, size_t size)
{
	int r = listener_pool_grow(p->pool, p, n_workers);

	listener_pool_assign(p->pool, p);
	if (r < 0)
		snprintf(error, size, "cannot open another reuseport socket: %s", strerror(-r));
	return r;
}

/* Returns 0 or -errno. */
static int add_one(struct primary *p, char *error, size_t size)
{
	unsigned index = proctab_free_index(p, p->current);
	int r = open_sockets(p, index + 1, error, size);
	struct proc *pr;

	if (r < 0)
		return r;
	pr = proctab_take(p, p->current, ROLE_WORKER, index);
	if (!pr) {
		snprintf(error, size,
			"no slot is free for another worker: too many are still draining");
		return -ENOSPC;
	}
	supervisor_start(pr, "scaling up");
	return 0;
}

/* How little is lost when it goes: one that does not serve first, then the one with the fewest connections. */
static unsigned load(const struct proc *pr)
{
	if (pr->state != PROC_READY)
		return 0;
	return 1 + sb_get(pr->primary->scoreboard.slots[pr->slot].connections);
}

static void remove_one(struct primary *p)
{
	struct proc *least = NULL;

	proctab_foreach_worker(p, pr)
	{
		if (is_member(p, pr) && (!least || load(pr) < load(least)))
			least = pr;
	}
	if (least)
		supervisor_retire(least, "scaling down");
}

/* Starts what may start now. What fails is tried again at the next heartbeat. */
static void fill(struct primary *p)
{
	char error[256];

	while (n_members(p) < p->current->target && n_starting(p) < STARTING_MAX) {
		if (add_one(p, error, sizeof(error)) == 0)
			continue;
		log_warning("scale: %s; trying again", error);
		waiters_tell(&p->scale_waiters, false, error);
		return;
	}
}

static void set_target(struct primary *p, unsigned n)
{
	if (n == p->current->target)
		return;
	waiters_tell(&p->scale_waiters, false, "another number of workers is wanted by now");
	p->current->target = n;
	event_note(p, LOG_LVL_INFO, EVENT_SCALE, NULL, "scale: %u worker%s", n, n == 1 ? "" : "s");
	for (unsigned members = n_members(p); members > n; members--)
		remove_one(p);
	fill(p);
	primary_status(p);
}

/* --- who waits for it --- */

static void tell_failure(struct primary *p, const struct proc *pr)
{
	char text[512];

	snprintf(text, sizeof(text), "%u of %u workers are ready; worker[%u] %s%s%s",
		proctab_n_ready(p, p->current), p->current->target, pr->slot,
		pr->state == PROC_FAILED ? "was given up" : "does not get ready and is tried again",
		pr->words ? ": " : "", pr->words ? pr->words : "");
	waiters_tell(&p->scale_waiters, false, text);
}

/* To be called when a worker has become ready, or waits for its next start, or was given up. */
void scale_settle(struct primary *p)
{
	unsigned n_ready;
	char text[64];

	if (!p->current || LIST_EMPTY(&p->scale_waiters))
		return;
	proctab_foreach_worker(p, pr)
	{
		if (is_member(p, pr) && (pr->state == PROC_BACKOFF || pr->state == PROC_FAILED)) {
			tell_failure(p, pr);
			return;
		}
	}
	n_ready = proctab_n_ready(p, p->current);
	if (n_ready < p->current->target)
		return;
	snprintf(text, sizeof(text), "%u worker%s", n_ready, n_ready == 1 ? "" : "s");
	waiters_tell(&p->scale_waiters, true, text);
}

static bool is_idle(const struct primary *p)
{
	return p->phase == PRIMARY_SERVING && !p->rollout && !p->upgrade;
}

/* Goes on with what was not possible at once. */
void scale_step(struct primary *p)
{
	if (is_idle(p))
		fill(p);
	scale_settle(p);
}

/* --- commands --- */

static int check(const struct primary *p, int n, char *error, size_t size)
{
	if (!is_idle(p)) {
		snprintf(error, size,
			"not while starting, reloading, upgrading or stopping; try again later");
		return -EBUSY;
	}
	if (n < 1 || n > SCALE_MAX) {
		snprintf(error, size, "%d workers are not possible; 1 to %d are", n, SCALE_MAX);
		return -EINVAL;
	}
	return 0;
}

static int scale(struct primary *p, int n, struct waiter *w, char *error, size_t size)
{
	int r = check(p, n, error, size);

	if (r == 0)
		r = open_sockets(p, (unsigned)n, error, size);
	if (r < 0) {
		log_warning("scale: %s; ignoring", error);
		return r;
	}
	p->scaled_by_hand = true;
	set_target(p, (unsigned)n);
	if (w)
		waiters_add(&p->scale_waiters, w);
	scale_settle(p);
	return 0;
}

int scale_to(struct primary *p, unsigned n, struct waiter *w, char *error, size_t size)
{
	return scale(p, n > INT_MAX ? INT_MAX : (int)n, w, error, size);
}

/* delta: between -SCALE_MAX and SCALE_MAX. */
int scale_by(struct primary *p, int delta, struct waiter *w, char *error, size_t size)
{
	int target = p->current ? (int)p->current->target : 0;

	return scale(p, target + delta, w, error, size);
}

/* A reload has gone back to the configured count, or the primary stops. */
void scale_abandon(struct primary *p, const char *why)
{
	waiters_tell(&p->scale_waiters, false, why);
}

/* --- the CPUs --- */

/* With count = auto there are as many workers as CPUs we may use, also when that changes; cheap, but not free. */
static void follow_cpus(struct primary *p)
{
	uint64_t now = now_us();
	unsigned n;

	if (p->scaled_by_hand || p->current->config->workers.count != 0 ||
		now < p->cpus_seen_us + LOOK_US)
		return;
	p->cpus_seen_us = now;
	n = cpu_available();
	if (n == p->current->target || n > SCALE_MAX)
		return;
	event_note(p, LOG_LVL_INFO, EVENT_SCALE, NULL, "the CPUs we may use changed from %u to %u",
		p->current->target, n);
	set_target(p, n);
}

void scale_heartbeat(struct primary *p)
{
	if (is_idle(p))
		follow_cpus(p);
	scale_step(p);
}

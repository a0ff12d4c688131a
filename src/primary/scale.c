/*
 * Scaling. Runs in the primary.
 */
#include "primary/scale.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/log.h"
#include "primary/events.h"
#include "primary/listener.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/replace.h"
#include "primary/supervisor.h"

#define LOOK_US (5 * US_PER_S) /* at the number of CPUs */

/* Returns 0 or -errno. */
static int add_one(struct primary *p, char *error, size_t size)
{
	struct generation *g = p->current;
	unsigned index = proctab_free_index(p, g);
	int r = listener_pool_grow(p->pool, p, index + 1);
	struct proc *pr;

	listener_pool_assign(p->pool, p);
	if (r < 0) {
		snprintf(error, size, "cannot open another reuseport socket: %s", strerror(-r));
		return r;
	}
	pr = proctab_take(p, g, ROLE_WORKER, index);
	if (!pr) {
		snprintf(error, size,
			"no slot is free for another worker: too many are still draining");
		return -ENOSPC;
	}
	g->target++;
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

/* Returns 0 or -EBUSY. */
static int remove_one(struct primary *p, char *error, size_t size)
{
	struct generation *g = p->current;
	struct proc *least = NULL;

	proctab_foreach_worker(p, pr)
	{
		if (pr->gen == g && !pr->leaving && !replace_is_under_way(pr) &&
			(!least || load(pr) < load(least)))
			least = pr;
	}
	if (!least) {
		snprintf(error, size, "every worker is just being replaced; try again later");
		return -EBUSY;
	}
	g->target--;
	supervisor_retire(least, "scaling down");
	return 0;
}

/* Goes to n as far as it can. Returns 0 or -errno and why it got no further. */
static int change(struct primary *p, unsigned n, char *error, size_t size)
{
	struct generation *g = p->current;
	const unsigned before = g->target;
	int r = 0;

	while (r == 0 && g->target < n)
		r = add_one(p, error, size);
	while (r == 0 && g->target > n)
		r = remove_one(p, error, size);
	if (g->target != before)
		event_note(p, LOG_LVL_INFO, EVENT_SCALE, NULL, "scale: %u workers", g->target);
	return r;
}

/* How far those are that were asked for. */
static bool is_settled(const struct primary *p)
{
	proctab_foreach_worker(p, pr)
	{
		if (pr->gen == p->current && !pr->leaving && !pr->predecessor &&
			pr->state != PROC_READY && pr->state != PROC_FAILED)
			return false;
	}
	return true;
}

/* To be called when a worker has become ready, or was given up. */
void scale_settle(struct primary *p)
{
	unsigned n_ready;
	char text[96];

	if (!p->current || LIST_EMPTY(&p->scale_waiters) || !is_settled(p))
		return;
	n_ready = proctab_n_ready(p, p->current);
	snprintf(text, sizeof(text), "%u of %u workers ready", n_ready, p->current->target);
	waiters_tell(&p->scale_waiters, n_ready == p->current->target, text);
}

int scale_to(struct primary *p, unsigned n, struct waiter *w, char *error, size_t size)
{
	int r = 0;

	if (p->phase != PRIMARY_SERVING || p->rollout || p->upgrade) {
		snprintf(error, size,
			"not while starting, reloading, upgrading or stopping; try again later");
		r = -EBUSY;
	} else if (n < 1 || n > SCALE_MAX) {
		snprintf(error, size, "%u workers are not possible; 1 to %d are", n, SCALE_MAX);
		r = -EINVAL;
	}
	if (r == 0)
		r = change(p, n, error, size);
	if (r < 0) {
		log_warning("scale: %s; ignoring", error);
		return r;
	}
	p->scaled_by_hand = true;
	if (w)
		waiters_add(&p->scale_waiters, w);
	scale_settle(p);
	primary_status(p);
	return 0;
}

int scale_by(struct primary *p, int delta, struct waiter *w, char *error, size_t size)
{
	int target = p->current ? (int)p->current->target : 0;

	return scale_to(p, target + delta > 0 ? (unsigned)(target + delta) : 0, w, error, size);
}

/* At a heartbeat: with count = auto there are as many workers as CPUs we may use, also when that changes. */
void scale_follow_cpus(struct primary *p)
{
	uint64_t now = now_us();
	char error[256];
	unsigned n;

	if (p->phase != PRIMARY_SERVING || p->rollout || p->upgrade || p->scaled_by_hand ||
		p->current->config->workers.count != 0 || now < p->cpus_seen_us + LOOK_US)
		return;
	p->cpus_seen_us = now;
	n = cpu_available();
	if (n == p->current->target || n < 1 || n > SCALE_MAX)
		return;
	event_note(p, LOG_LVL_INFO, EVENT_SCALE, NULL,
		"the CPUs we may use have changed from %u to %u", p->current->target, n);
	if (change(p, n, error, sizeof(error)) < 0)
		log_warning("scale: %s", error);
	primary_status(p);
}

/* The primary stops. */
void scale_abandon(struct primary *p)
{
	waiters_tell(&p->scale_waiters, false, "tined is stopping");
}

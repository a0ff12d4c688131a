/*
 * Scaling the generation that serves. Runs in the primary. A reload goes back to the configured count.
 */
#include "primary/scale.h"

#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "primary/listener.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/supervisor.h"

#define WORKERS_MAX 1024

static void scale_up(struct primary *p)
{
	struct generation *g = p->current;
	unsigned index = proctab_free_index(p, g);
	struct proc *pr;
	int r;

	if (g->target >= WORKERS_MAX) {
		log_warning("scale: %u workers are the most; ignoring", g->target);
		return;
	}
	r = listener_pool_grow(p->pool, p, index + 1);
	listener_pool_assign(p->pool, p);
	if (r < 0) {
		log_warning(
			"scale: cannot open another reuseport socket: %s; ignoring", strerror(-r));
		return;
	}
	pr = proctab_take(p, g, ROLE_WORKER, index);
	if (!pr) {
		log_warning("scale: no slot is free; ignoring");
		return;
	}
	g->target++;
	log_info("scale: %u workers", g->target);
	supervisor_start(pr, "scaling up");
}

/* How little is lost when it goes: one that does not serve first, then the one with the fewest connections. */
static unsigned load(const struct proc *pr)
{
	if (pr->state != PROC_READY)
		return 0;
	return 1 + sb_get(pr->primary->scoreboard.slots[pr->slot].connections);
}

static void scale_down(struct primary *p)
{
	struct generation *g = p->current;
	struct proc *least = NULL;

	if (g->target <= 1) {
		log_warning("scale: one worker is the least; ignoring");
		return;
	}
	proctab_foreach_worker(p, pr)
	{
		if (pr->gen == g && !pr->leaving && (!least || load(pr) < load(least)))
			least = pr;
	}
	g->target--;
	log_info("scale: %u workers", g->target);
	if (least)
		supervisor_retire(least, "scaling down");
}

/* delta: 1 or -1. */
void scale_by(struct primary *p, int delta)
{
	if (p->phase != PRIMARY_SERVING || p->rollout) {
		log_warning("scale: not while starting, reloading or stopping; ignoring");
		return;
	}
	if (delta > 0)
		scale_up(p);
	else
		scale_down(p);
	primary_status(p);
}

/*
 * The bridge's life. Runs in the primary. One of each generation, like the admin process; of two generations that are there at
 * the same time it is that of the one that serves.
 */
#include "primary/bridge.h"

#include <string.h>

#include "base/log.h"
#include "ipc/lane.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/relay.h"
#include "primary/remote.h"
#include "shared/config.h"

/* A generation begins to serve: what goes to other machines is what its configuration says. */
void bridge_commit(struct primary *p)
{
	const struct conf_bus *c = &p->current->config->bus;

	if (remote_set_exports(relay_remote(p->relay), c->nats ? c->nats_subjects : NULL) < 0)
		log_error("nats: out of memory; nothing is carried to other machines");
	sb_set(p->history->nats.configured, c->nats != NULL);
	if (!c->nats)
		remote_end(relay_remote(p->relay));
}

/* Lets the process that has become the bridge begin: it may have waited for the end of another one. */
static void let_begin(const struct primary *p)
{
	const struct relay_peer *bridge = remote_bridge(relay_remote(p->relay));

	if (!bridge)
		return;
	proctab_foreach (p, pr) {
		if (pr->bus == bridge && pr->control)
			lane_send(pr->control, MSG_SERVE, 0, NULL, 0);
	}
}

/* It is ready, or its trial is over: if both, it is to be the bridge. */
void bridge_activate(struct proc *pr)
{
	const struct primary *p = pr->primary;

	if (pr->role != ROLE_BRIDGE || pr->state != PROC_READY || pr->on_trial || !pr->bus)
		return;
	remote_activate(relay_remote(p->relay), pr->bus);
	let_begin(p);
}

static bool has_workers(const struct primary *p)
{
	proctab_foreach_worker(p, pr)
	{
		if (pr->bus)
			return true;
	}
	return false;
}

/* It is told to leave. It goes when nothing comes to it any more, which it has to be told if that is so already. */
void bridge_on_drain(const struct proc *pr)
{
	const struct primary *p = pr->primary;

	if (pr->role == ROLE_BRIDGE && pr->bus &&
		(remote_bridge(relay_remote(p->relay)) != pr->bus || !has_workers(p)))
		relay_send_last(pr->bus);
}

/* A process has ended, and is off the bus. When all workers have, nobody publishes any more. */
void bridge_on_gone(const struct proc *pr)
{
	const struct primary *p = pr->primary;

	if (pr->role == ROLE_BRIDGE)
		let_begin(p);
	else if (p->phase == PRIMARY_STOPPING && !has_workers(p))
		remote_end(relay_remote(p->relay));
}

/* It has ended: what came to its queue and did not go on has perished with it. Before its counters are cleared. */
void bridge_bury(const struct proc *pr)
{
	const struct nats_counters *c = &pr->primary->scoreboard.slots[pr->slot].nats;
	struct history_nats *h = &pr->primary->history->nats;
	uint64_t passed_on = sb_get(c->out) + sb_get(c->dropped_out) + sb_get(c->too_large) +
		sb_get(c->unsent),
		 got;

	if (pr->role != ROLE_BRIDGE || !pr->bus)
		return;
	got = relay_peer_figures(pr->bus).received;
	if (got > passed_on)
		sb_add(h->perished, got - passed_on);
}

/* Shows what the relay has counted. */
void bridge_heartbeat(const struct primary *p)
{
	struct remote_figures f = remote_figures(relay_remote(p->relay));

	sb_set(p->history->nats.missed, f.missed);
	sb_set(p->history->nats.no_room, f.dropped);
}

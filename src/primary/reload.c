/*
 * Reload in steps: parse, stage, start, prove, commit. Runs in the primary.
 * Always holds: until the commit the old generation serves untouched; after a failure nothing of the new one stays.
 */
#include "primary/reload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "primary/generation.h"
#include "primary/listener.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/supervisor.h"
#include "shared/notify.h"

struct rollout {
	struct generation *gen;
	bool proving; /* every worker was ready once; probation runs */
	struct event ev_probation;
	uint64_t started_us;
};

static struct generation *rollout_end(struct primary *p)
{
	struct generation *g = p->rollout->gen;

	event_del(&p->rollout->ev_probation);
	free(p->rollout);
	p->rollout = NULL;
	g->staged = false;
	return g;
}

/* Sends every member away; the generation itself goes with the last of them, perhaps here. */
static void dismiss(struct primary *p, struct generation *g, const char *why)
{
	g->n_procs++; /* hold it while its members go */
	proctab_foreach (p, pr) {
		if (pr->gen == g && pr->state != PROC_DEAD)
			supervisor_retire(pr, why);
	}
	g->n_procs--;
	generation_release(p, g);
}

static void on_catch_up(evutil_socket_t fd, short what, void *arg)
{
	rollout_reload(arg);
}

/* A HUP that came while we were busy: next turn, when nothing of this reload is on the stack. */
static void catch_up(struct primary *p)
{
	const struct timeval at_once = {0, 0};

	if (!p->reload_again)
		return;
	p->reload_again = false;
	event_base_once(p->base, -1, EV_TIMEOUT, on_catch_up, p, &at_once);
}

static void commit(struct primary *p)
{
	struct generation *old = p->current;
	struct generation *g;
	uint64_t took_us = now_us() - p->rollout->started_us;

	g = rollout_end(p);
	p->current = g;
	p->phase = PRIMARY_SERVING;
	primary_configure(p);
	log_info("%s: generation %" PRIu64 " serves, %u workers, after %" PRIu64 " ms",
		old ? "reload" : "start", g->number, g->target, took_us / US_PER_MS);
	listener_pool_retire(p->pool, p);
	if (old)
		dismiss(p, old, "a new generation serves");
	primary_ready(p);
	catch_up(p);
}

/* The new generation will not do: send it away. */
static void fail(struct primary *p, const char *why)
{
	struct generation *g = rollout_end(p);

	log_error("%s", why);
	if (!p->current) {
		dismiss(p, g, "it cannot serve");
		primary_stop(p, EXIT_FAILURE);
		return;
	}
	log_error("reload: failed; generation %" PRIu64 " serves on", p->current->number);
	primary_configure(p);
	listener_pool_retire(p->pool, p);
	dismiss(p, g, "the reload failed");
	primary_ready(p);
	catch_up(p);
}

static void on_probation_over(evutil_socket_t fd, short what, void *arg)
{
	struct primary *p = arg;
	const struct generation *g = p->rollout->gen;

	/* One may be on its way out already: rollout_on_exit() will decide. */
	if (proctab_n_ready(p, g) == g->target)
		commit(p);
}

static void start_members(struct primary *p, struct generation *g)
{
	const unsigned n = g->target;

	for (unsigned i = 0; i < n && p->rollout;
		i++) { /* a member that cannot start ends the rollout */
		struct proc *pr = proctab_take(p, g, i);

		if (!pr) {
			fail(p, "no slot is free for another worker: too many are still draining");
			return;
		}
		supervisor_start(pr, "new generation");
	}
}

/* Takes over the configuration and starts its workers. Returns false, having said why, when that cannot be. */
static bool begin(struct primary *p, struct config *c)
{
	struct rollout *ro = calloc(1, sizeof(*ro));
	char error[512];
	int r;

	if (!ro) {
		config_free(c);
		log_error("out of memory");
		return false;
	}
	r = generation_new(p, c, &ro->gen, error, sizeof(error));
	listener_pool_assign(p->pool,
		p); /* new reuseport sockets are minded until their own workers are there */
	if (r < 0) {
		log_error("%s", error);
		free(ro);
		return false;
	}
	ro->started_us = now_us();
	evtimer_assign(&ro->ev_probation, p->base, on_probation_over, p);
	p->rollout = ro;
	primary_hasten(p, c);
	if (primary_open_log(c, error, sizeof(error)) < 0 ||
		(!p->current && primary_write_pid_file(p, c, error, sizeof(error)) < 0))
		fail(p, error);
	else
		start_members(p, ro->gen);
	return true;
}

/* Brings up the first generation. What goes wrong ends the primary with status 1. */
void rollout_first(struct primary *p, struct config *c)
{
	if (!begin(p, c))
		primary_stop(p, EXIT_FAILURE);
}

static void on_config_error(const char *line, void *arg)
{
	log_error("%s", line);
}

/* Starts a reload; one that runs already is followed by another. */
void rollout_reload(struct primary *p)
{
	struct config *c;

	if (p->phase != PRIMARY_SERVING || p->rollout) {
		p->reload_again = p->phase != PRIMARY_STOPPING;
		log_info("reload: busy; doing it again afterwards");
		return;
	}
	notify_reloading();
	if (config_load(p->config_path, on_config_error, NULL, &c) < 0 || !begin(p, c)) {
		log_error("reload: failed; generation %" PRIu64 " serves on", p->current->number);
		primary_ready(p);
	}
}

/* The primary stops: what is under way is of no more interest. */
void rollout_abandon(struct primary *p)
{
	p->reload_again = false;
	if (p->rollout)
		dismiss(p, rollout_end(p), "stopping");
}

void rollout_on_ready(struct primary *p, struct proc *pr)
{
	struct rollout *ro = p->rollout;
	uint64_t us;
	struct timeval tv;

	if (!ro || pr->gen != ro->gen || ro->proving ||
		proctab_n_ready(p, ro->gen) < ro->gen->target)
		return;
	ro->proving = true;
	us = p->current ? ro->gen->config->workers.probation_us : 0;
	if (us == 0) {
		commit(p);
		return;
	}
	tv = timeval_from_us(us);
	event_add(&ro->ev_probation, &tv);
}

/* One of the new generation has ended before it was to. */
void rollout_on_exit(struct primary *p, struct proc *pr, const char *how)
{
	char why[1280];

	if (!p->rollout || pr->gen != p->rollout->gen)
		return;
	pr->leaving = true;
	if (pr->words)
		snprintf(why, sizeof(why), "%s", pr->words);
	else
		snprintf(why, sizeof(why), "worker[%u] of the new generation %s %s", pr->slot,
			p->rollout->proving ? "did not survive its probation:"
					    : "did not get ready:",
			how);
	fail(p, why);
}

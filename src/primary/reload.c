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
#include "primary/events.h"
#include "primary/bridge.h"
#include "primary/farm.h"
#include "primary/farm_pool.h"
#include "primary/generation.h"
#include "primary/health.h"
#include "primary/lasting.h"
#include "primary/listener.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/replace.h"
#include "primary/scale.h"
#include "primary/supervisor.h"
#include "primary/upgrade.h"
#include "shared/notify.h"

#define RELOAD_ERROR_MAX 2048
#define PROOF_RETRY_US   (5 * US_PER_MS)

struct rollout {
	struct generation *gen;
	unsigned n_started; /* workers forked so far */
	bool proving;       /* everybody was ready once; probation runs */
	bool asked;         /* it is over, and everybody was sent a last PING */
	struct event ev_probation;
	uint64_t started_us;
};

static struct generation *rollout_end(struct primary *p)
{
	struct generation *g = p->rollout->gen;

	event_del(&p->rollout->ev_probation);
	free(p->rollout);
	p->rollout = NULL;
	sb_set(p->history->reloading, 0);
	g->staged = false;
	return g;
}

/* Sends every member away; the generation itself goes with the last of them, perhaps here. */
static void dismiss(struct primary *p, struct generation *g, const char *why)
{
	g->n_procs++; /* hold it while its members go */
	proctab_foreach (p, pr) {
		if (pr->gen == g && pr->state != PROC_DEAD && pr->role != ROLE_TASK)
			supervisor_retire(pr, why);
	}
	farm_pool_dismiss(p);
	g->n_procs--;
	generation_release(p, g);
}

static void on_catch_up(evutil_socket_t fd, short what, void *arg)
{
	rollout_reload(arg, NULL);
}

/* A reload that was asked for while we were busy: next turn, when nothing of this one is on the stack. */
static void catch_up(struct primary *p)
{
	const struct timeval at_once = {0, 0};

	if (!p->reload_again)
		return;
	p->reload_again = false;
	event_base_once(p->base, -1, EV_TIMEOUT, on_catch_up, p, &at_once);
}

/* A reload is over: everybody who asked hears the same. */
static void give_verdict(struct primary *p, bool ok, const char *text)
{
	sb_add(p->history->reloads, 1);
	if (!ok)
		sb_add(p->history->reload_failures, 1);
	snprintf(p->history->last_reload, sizeof(p->history->last_reload), "%s%s",
		ok ? "" : "failed: ", text);
	for (char *c = p->history->last_reload; *c; c++) {
		if (*c < 0x20 || *c > 0x7e) /* it goes to systemd, line by line */
			*c = *c == '\n' ? ';' : '?';
	}
	primary_ready(p);
	waiters_tell(&p->reload_waiters, ok, text);
	catch_up(p);
}

static void commit(struct primary *p)
{
	struct generation *old = p->current;
	uint64_t took_us = now_us() - p->rollout->started_us;
	struct generation *g = rollout_end(p);
	char text[128], lasting[512], verdict[768];

	p->current = g;
	p->scaled_by_hand = false;
	primary_set_phase(p, PRIMARY_SERVING);
	primary_configure(p);
	bridge_commit(p);
	snprintf(text, sizeof(text),
		"generation %" PRIu64 " serves, %u workers, after %" PRIu64 " ms", g->number,
		g->target, took_us / US_PER_MS);
	event_note(p, LOG_LVL_INFO, EVENT_RELOAD, NULL, "%s: %s", old ? "reload" : "start", text);
	proctab_foreach (p, pr) {
		if (pr->gen == g)
			supervisor_end_trial(pr);
	}
	listener_pool_assign(p->pool, p);
	listener_pool_retire(p->pool, p);
	if (!old) {
		primary_ready(p);
		listener_pool_store(p->pool);
		catch_up(p);
		return;
	}
	listener_pool_store(p->pool);
	replace_abandon(p, true, "a reload has replaced everybody");
	scale_abandon(p, "a reload has gone back to the configured count");
	lasting_compare(p, g->config, lasting, sizeof(lasting));
	dismiss(p, old, "a new generation serves");
	snprintf(verdict, sizeof(verdict), "%s%s%s", text,
		*lasting ? "; counts after a restart only: " : "", lasting);
	give_verdict(p, true, verdict);
}

/* The new generation will not do: send it away. why: one line for each error. */
static void fail(struct primary *p, const char *why)
{
	struct generation *g = rollout_end(p);

	event_note(p, LOG_LVL_ERROR, EVENT_RELOAD, NULL, "%s", why);
	if (!p->current) {
		if (p->succeeds)
			upgrade_report_failure(p, why);
		dismiss(p, g, "it cannot serve");
		primary_stop(p, EXIT_FAILURE);
		return;
	}
	event_note(p, LOG_LVL_ERROR, EVENT_RELOAD, NULL,
		"reload: failed; generation %" PRIu64 " serves on", p->current->number);
	primary_configure(p);
	listener_pool_retire(p->pool, p);
	dismiss(p, g, "the reload failed");
	give_verdict(p, false, why);
}

/* Whether every loop of the new generation turns: one that was asked has answered. */
static bool all_answer(const struct primary *p, const struct generation *g)
{
	proctab_foreach (p, pr) {
		if (pr->gen == g && pr->asked_us != 0 && !farm_pool_is_busy(pr))
			return false;
	}
	return true;
}

/* The new generation has proven itself. */
static void finish(struct primary *p)
{
	if (p->succeeds && !p->proven)
		upgrade_report_ready(p);
	else
		commit(p);
}

/* The primary before this one lets us serve. */
void rollout_take_over(struct primary *p)
{
	char error[512];

	if (!p->rollout)
		return;
	if (primary_take_names(p, p->rollout->gen->config, error, sizeof(error)) < 0)
		log_error("%s", error);
	listener_pool_own(p->pool, p, p->rollout->gen);
	commit(p);
	upgrade_report_serving(p);
}

static void on_probation_over(evutil_socket_t fd, short what, void *arg)
{
	struct primary *p = arg;
	const struct generation *g = p->rollout->gen;
	const struct timeval retry = timeval_from_us(PROOF_RETRY_US);

	/* One is on its way out: rollout_on_exit() will decide. Or a task process starts in place of one that its task has killed. */
	if (!proctab_all_ready(p, g)) {
		event_add(&p->rollout->ev_probation, &retry);
		return;
	}
	if (p->rollout->asked && all_answer(p, g)) {
		finish(p);
		return;
	}
	p->rollout->asked = true;
	proctab_foreach (p, pr) {
		if (pr->gen == g)
			health_ping(pr);
	}
	event_add(&p->rollout->ev_probation, &retry);
}

/* Forks one member. Returns false when the rollout has ended by that. */
static bool start_member(struct primary *p, enum msg_role role, unsigned index)
{
	struct proc *pr = proctab_take(p, p->rollout->gen, role, index);

	if (!pr) {
		fail(p, "no slot is free for another worker: too many are still draining");
		return false;
	}
	pr->on_trial = p->current || p->succeeds;
	supervisor_start(pr, "new generation");
	return p->rollout != NULL;
}

static unsigned n_starting(const struct primary *p, const struct generation *g)
{
	unsigned n = 0;

	proctab_foreach_worker(p, pr) n += pr->gen == g && pr->state == PROC_STARTING;
	return n;
}

/* Starts as many workers as may start at the same time. */
static void start_members(struct primary *p)
{
	struct rollout *ro = p->rollout;
	uint64_t surge = ro->gen->config->workers.max_surge;

	if (!p->current)
		surge = 0;
	while (ro->n_started < ro->gen->target && (surge == 0 || n_starting(p, ro->gen) < surge)) {
		if (!start_member(p, ROLE_WORKER, ro->n_started++))
			return;
	}
}

/* Takes over the configuration and starts its workers. Returns false, with the reason, when that cannot be. */
static bool begin(struct primary *p, struct config *c, char *error, size_t size)
{
	struct rollout *ro = calloc(1, sizeof(*ro));
	int r;

	if (!ro) {
		config_free(c);
		snprintf(error, size, "out of memory");
		return false;
	}
	r = generation_new(p, c, &ro->gen, error, size);
	listener_pool_assign(p->pool,
		p); /* new reuseport sockets are minded until their own workers are there */
	if (r < 0) {
		free(ro);
		return false;
	}
	ro->started_us = now_us();
	evtimer_assign(&ro->ev_probation, p->base, on_probation_over, p);
	p->rollout = ro;
	sb_set(p->history->reloading, 1);
	primary_hasten(p, c);
	if (primary_open_log(c, error, size) < 0 ||
		(!p->current && !p->succeeds && primary_take_names(p, c, error, size) < 0)) {
		fail(p, error);
		return true;
	}
	if ((!ro->gen->has_admin || start_member(p, ROLE_ADMIN, 0)) &&
		(!ro->gen->config->bus.nats || start_member(p, ROLE_BRIDGE, 0)) &&
		farm_pool_start(p, ro->gen))
		start_members(p);
	return true;
}

/* Brings up the first generation. What goes wrong ends the primary with status 1. */
void rollout_first(struct primary *p, struct config *c)
{
	char error[512];

	if (begin(p, c, error, sizeof(error)))
		return;
	log_error("%s", error);
	if (p->succeeds)
		upgrade_report_failure(p, error);
	primary_stop(p, EXIT_FAILURE);
}

/* All that is wrong with a file, as far as there is room. */
struct complaint {
	struct primary *primary;
	char text[RELOAD_ERROR_MAX];
	size_t used;
};

static void on_config_error(const char *line, void *arg)
{
	struct complaint *c = arg;
	size_t len = strlen(line);

	event_note(c->primary, LOG_LVL_ERROR, EVENT_RELOAD, NULL, "%s", line);
	if (c->used + len + 2 > sizeof(c->text))
		return;
	if (c->used > 0)
		c->text[c->used++] = '\n';
	memcpy(c->text + c->used, line, len + 1);
	c->used += len;
}

/*
 * Starts a reload; one that runs already is followed by another. w, unless NULL, hears the verdict of the one that its call
 * has brought about.
 */
void rollout_reload(struct primary *p, struct waiter *w)
{
	struct complaint complaint = {.primary = p, .text = "out of memory"};
	struct config *c;

	if (w)
		waiters_add(&p->next_reload_waiters, w);
	if (p->phase == PRIMARY_STOPPING) {
		waiters_tell(&p->next_reload_waiters, false, "stopping");
		return;
	}
	if (p->phase != PRIMARY_SERVING || p->rollout || p->upgrade) {
		p->reload_again = true;
		log_info("reload: busy; doing it again afterwards");
		return;
	}
	waiters_join(&p->reload_waiters, &p->next_reload_waiters);
	notify_reloading();
	event_note(p, LOG_LVL_INFO, EVENT_RELOAD, NULL, "reload: begins");
	if (config_load(p->config_path, on_config_error, &complaint, &c) == 0) {
		if (begin(p, c, complaint.text, sizeof(complaint.text)))
			return;
		log_error("%s", complaint.text);
	}
	event_note(p, LOG_LVL_ERROR, EVENT_RELOAD, NULL,
		"reload: failed; generation %" PRIu64 " serves on", p->current->number);
	give_verdict(p, false, complaint.text);
}

/* The primary stops: what is under way is of no more interest. */
void rollout_abandon(struct primary *p)
{
	p->reload_again = false;
	if (p->rollout)
		dismiss(p, rollout_end(p), "stopping");
	waiters_tell(&p->reload_waiters, false, "tined is stopping");
	waiters_tell(&p->next_reload_waiters, false, "tined is stopping");
}

void rollout_on_ready(struct primary *p, struct proc *pr)
{
	struct rollout *ro = p->rollout;
	uint64_t us;
	struct timeval tv;

	if (!ro || pr->gen != ro->gen || ro->proving)
		return;
	start_members(p);
	if (!p->rollout || !proctab_all_ready(p, ro->gen))
		return;
	ro->proving = true;
	us = p->current || p->succeeds ? ro->gen->config->workers.probation_us : 0;
	if (us == 0) {
		finish(p);
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
		snprintf(why, sizeof(why), "%s[%u]%s%s of the new generation %s %s",
			proc_role_name(pr), pr->slot, pr->farm ? " of farm:" : "",
			pr->farm ? farm_conf(pr->farm)->name : "",
			p->rollout->proving ? "did not survive its probation:"
					    : "did not get ready:",
			how);
	fail(p, why);
}

/*
 * Farms' processes. Runs in the primary.
 * Always holds: a farm has `min` processes from the start and up to `processes` while tasks wait; the surplus ends when it has been idle. One more is kept
 * ready for a while after one has died in the middle of a task: it goes on at once, and the next one's start delays nobody. They stay
 * until the last worker of their generation has gone, for only then nobody submits anything any more.
 */
#include "primary/farm_pool.h"

#include <signal.h>

#include "base/clock.h"
#include "primary/events.h"
#include "primary/farm_parts.h"
#include "primary/health.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/supervisor.h"

#define TOLD_MAX 5               /* deaths of task processes in a second */
#define SPARE_US (10 * US_PER_S) /* after a death */

#define proctab_foreach_task(p, pr) \
	proctab_foreach (p, pr)     \
		if (pr->role == ROLE_TASK)

/* Those of a farm that are to stay, and how many of them start, or were given up. */
struct census {
	unsigned n_starting, n_failed;
};

static struct census count(const struct primary *p, const struct farm *f)
{
	struct census c = {0};

	proctab_foreach_task(p, pr)
	{
		if (pr->farm != f || !pr->stays_in_farm)
			continue;
		c.n_failed += pr->state == PROC_FAILED;
		c.n_starting += pr->state != PROC_FAILED && pr->state != PROC_READY;
	}
	return c;
}

/* Whether a generation is on its way out: neither serving nor about to. */
static bool is_leaving(const struct primary *p, const struct generation *g)
{
	return p->phase == PRIMARY_STOPPING || (g != p->current && !g->staged);
}

static bool has_workers(const struct primary *p, const struct generation *g)
{
	proctab_foreach_worker(p, pr)
	{
		if (pr->gen == g)
			return true;
	}
	return false;
}

/* Whether anybody may still have tasks for the processes of a generation. */
static bool is_needed(const struct primary *p, const struct generation *g)
{
	return !is_leaving(p, g) || has_workers(p, g);
}

bool farm_pool_needs(const struct proc *pr)
{
	return is_needed(pr->primary, pr->gen);
}

/* --- more and fewer --- */

/* Whether it has fewer than are to be there in any case. */
bool farm_pool_is_short(const struct farm *f)
{
	return f->n_processes < f->conf->min;
}

/* Makes a slot that was taken for it the farm's. */
void farm_pool_join(struct proc *pr, struct farm *f)
{
	pr->farm = f;
	pr->stays_in_farm = true;
	f->n_processes++;
}

/* Forks one more. Returns false when all slots are taken. */
static bool start_one(struct primary *p, struct generation *g, struct farm *f, const char *why)
{
	struct proc *pr = proctab_take(p, g, ROLE_TASK, f->n_processes);

	if (!pr)
		return false;
	farm_pool_join(pr, f);
	supervisor_start(pr, why);
	return true;
}

/* How many there may be. */
static uint64_t most(const struct farm *f)
{
	return f->conf->processes + (f->spare_until_us != 0);
}

/* Tasks wait, and no process is free: one more for each, as long as there are not as many as there may be. */
static void on_want(struct farm *f, void *arg)
{
	struct generation *g = arg;
	struct primary *p = g->primary;
	struct census c;
	uint64_t n;

	if (f->n_processes >= f->conf->processes || !is_needed(p, g))
		return;
	c = count(p, f);
	n = f->n_waiting; /* a start may give some to those that run */
	while (f->n_processes < f->conf->processes && c.n_starting < n) {
		if (!start_one(p, g, f, "tasks wait"))
			return;
		c.n_starting++;
	}
}

/* Ends those above `min` that have been idle for too long. */
static void shrink(struct farm *f, uint64_t now)
{
	struct farm_process *fp;

	if (now >= f->spare_until_us)
		f->spare_until_us = 0;
	while (f->n_processes > f->conf->min && (fp = TAILQ_LAST(&f->idle, farm_processes)) &&
		(f->n_processes > most(f) || now - fp->since_us >= f->conf->idle_time_us))
		supervisor_retire(fp->o.arg, "idle");
}

/* Forks what every farm has from the start. Returns false when the rollout has ended by that. */
bool farm_pool_start(struct primary *p, struct generation *g)
{
	const struct rollout *ro = p->rollout;

	for (size_t i = 0; i < farms_count(g->farms); i++) {
		struct farm *f = farms_at(g->farms, i);

		while (f->n_processes < f->conf->min) {
			if (!start_one(p, g, f, "new generation"))
				return true; /* with fewer: they are started as slots become free */
			if (p->rollout != ro)
				return false;
		}
	}
	return true;
}

/* Whether each farm has what it is to have from the start. */
bool farm_pool_is_ready(const struct generation *g)
{
	for (size_t i = 0; i < farms_count(g->farms); i++) {
		const struct farm *f = farms_at(g->farms, i);

		if (f->n_ready < f->conf->min)
			return false;
	}
	return true;
}

/* Sends those away of whose generation no worker is left. */
void farm_pool_dismiss(struct primary *p)
{
	proctab_foreach_task(p, pr)
	{
		if (!pr->leaving && !is_needed(p, pr->gen))
			supervisor_retire(pr, "no worker is left that has tasks");
	}
}

/* --- what happens to one --- */

static void on_kill(const char *why, bool is_late, void *arg)
{
	struct proc *pr = arg;

	pr->killed_for_task = !is_late;
	if (is_late)
		health_end_late(pr, why);
	else
		supervisor_kill(pr, SIGKILL, why);
}

static void on_offence(const char *why, void *arg)
{
	event_note(((struct proc *)arg)->primary, LOG_LVL_ERROR, EVENT_CRASH, arg,
		"broke the protocol of the bus: %s; killing it", why);
	supervisor_kill(arg, SIGKILL, why);
}

/* It has run as many tasks as it is to; another one takes its place. */
static void on_spent(void *arg)
{
	struct proc *pr = arg;
	struct farm *f = pr->farm;
	struct generation *g = pr->gen;

	supervisor_retire(pr, "recycle_after");
	if (farm_pool_is_short(f) && is_needed(pr->primary, g))
		start_one(pr->primary, g, f, "in place of one that has run its tasks");
}

/* It was forked: from here on it may be given tasks. Returns 0 or -errno; the descriptor is taken in any case. */
int farm_pool_attach(struct proc *pr, int bus_fd)
{
	struct farm_process_options o = {.address = pr->address,
		.pid = pr->pid,
		.slot = &pr->primary->scoreboard.slots[pr->slot],
		.fd = bus_fd,
		.on_kill = on_kill,
		.on_offence = on_offence,
		.on_spent = on_spent,
		.arg = pr};

	pr->killed_for_task = false;
	return farm_process_new(pr->farm, &o, &pr->task);
}

void farm_pool_on_ready(struct proc *pr)
{
	farm_process_ready(pr->task);
}

/* Its place is not filled again. */
void farm_pool_on_leaving(struct proc *pr)
{
	if (pr->task)
		farm_process_retire(pr->task);
	if (pr->stays_in_farm)
		pr->farm->n_processes--;
	pr->stays_in_farm = false;
	farm_dispatch(pr->farm);
}

/* It has died; how: in a few words. */
void farm_pool_on_gone(struct proc *pr, const char *how)
{
	bool was_busy = farm_pool_is_busy(pr);

	pr->was_given_tasks = farm_process_given(pr->task) > 0;
	pr->task = farm_process_bury(pr->task, how);
	if (was_busy && !pr->leaving)
		pr->farm->spare_until_us = now_us() + SPARE_US;
}

/* It is decided what becomes of its place. why: it died. */
void farm_pool_on_settled(struct proc *pr, const char *why)
{
	struct farm *f = pr->farm;
	struct census c = count(pr->primary, f);

	if (f->n_ready == 0 && c.n_starting == 0 && c.n_failed > 0)
		farm_set_broken(f, why);
	else
		farm_dispatch(f);
	if (f->spare_until_us != 0 && f->n_processes == f->conf->processes && farm_pool_needs(pr))
		start_one(pr->primary, pr->gen, f, "a spare one, as one has died");
}

/* Whether it is in the middle of a task: it cannot be expected to answer. */
bool farm_pool_is_busy(const struct proc *pr)
{
	return pr->task && !TAILQ_EMPTY(&pr->task->given);
}

/* --- the log --- */

/*
 * A task that crashes may do so hundreds of times a second. Of so many deaths in a second each is told, of others how many
 * they were. Returns whether this one is.
 */
bool farm_pool_may_tell(struct primary *p)
{
	uint64_t second = now_us() / US_PER_S;

	if (p->task_deaths.second != second) {
		if (p->task_deaths.n > TOLD_MAX)
			event_note(p, LOG_LVL_WARNING, EVENT_CRASH, NULL,
				"%u more task processes died in a second",
				p->task_deaths.n - TOLD_MAX);
		p->task_deaths.second = second;
		p->task_deaths.n = 0;
	}
	return ++p->task_deaths.n <= TOLD_MAX;
}

static void tell_rest(struct primary *p)
{
	if (p->task_deaths.n <= TOLD_MAX || p->task_deaths.second == now_us() / US_PER_S)
		return;
	farm_pool_may_tell(p);
	p->task_deaths.n = 0;
}

/* --- what there is to see --- */

static void show_nothing(struct history_farm *row)
{
	sb_set(row->processes, 0);
	sb_set(row->busy, 0);
	sb_set(row->idle, 0);
	sb_set(row->starting, 0);
	sb_set(row->not_startable, 0);
	sb_set(row->queued, 0);
	sb_set(row->queued_bytes, 0);
	sb_set(row->oldest_us, 0);
}

/* Shows in the history what the farms of the generation that serves do now. */
void farm_pool_refresh(struct primary *p)
{
	struct generation *g = p->current;

	for (size_t i = 0; g && i < HISTORY_FARMS && sb_get(p->history->farms[i].used); i++) {
		if (!config_farm(g->config, p->history->farms[i].name))
			show_nothing(&p->history->farms[i]);
	}
	for (size_t i = 0; g && i < farms_count(g->farms); i++) {
		struct farm *f = farms_at(g->farms, i);
		struct census c = count(p, f);

		sb_set(f->figures->processes, f->n_processes);
		sb_set(f->figures->busy, f->n_busy);
		sb_set(f->figures->idle, f->n_ready - f->n_busy);
		sb_set(f->figures->starting, c.n_starting);
		sb_set(f->figures->not_startable, c.n_failed);
		sb_set(f->figures->queued, f->n_waiting + f->n_ahead_all);
		sb_set(f->figures->queued_bytes, f->bytes_waiting);
		sb_set(f->figures->oldest_us, farm_queue_oldest_us(f));
	}
}

void farm_pool_heartbeat(struct primary *p)
{
	struct generation *g = p->current;
	uint64_t now = now_us();

	tell_rest(p);
	for (size_t i = 0; g && i < farms_count(g->farms); i++)
		shrink(farms_at(g->farms, i), now);
	farm_pool_refresh(p);
}

/* Makes the farms of a generation. Returns 0 or -ENOMEM. */
int farm_pool_new(struct primary *p, struct generation *g)
{
	struct farms_options o = {.base = p->base,
		.config = g->config,
		.history = p->history,
		.on_want = on_want,
		.arg = g};

	g->primary = p;
	return farms_new(&o, &g->farms);
}

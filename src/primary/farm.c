/*
 * The farms of a generation. Runs in the primary.
 * Always holds: a task waits in its worker's line, or one process was given it; no process is idle while a task may begin.
 */
#include "primary/farm.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/lane.h"
#include "primary/farm_parts.h"

#define SHORT_US 200
#define FAR_US   80
#define AHEAD_US (1 * US_PER_MS)

_Static_assert(
	sizeof(((struct history_farm *)0)->name) == CONFIG_NAME_MAX + 1, "names are copied whole");

/* The row of a farm's name, or one that nobody has used; NULL: all are taken. */
static struct history_farm *figures_of(struct history *h, const struct conf_farm *conf)
{
	for (size_t i = 0; i < HISTORY_FARMS; i++) {
		struct history_farm *row = &h->farms[i];

		if (!sb_get(row->used)) {
			memcpy(row->name, conf->name, sizeof(row->name));
			atomic_store_explicit(&row->used, 1, memory_order_release);
			return row;
		}
		if (strcmp(row->name, conf->name) == 0)
			return row;
	}
	return NULL;
}

static void farm_init(struct farm *f, struct farms *all, unsigned index)
{
	static struct history_farm spare; /* when there have been too many names */
	struct history_farm *row;

	f->all = all;
	f->index = index;
	f->conf = &all->o.config->farms[index];
	for (unsigned i = 0; i < PRIORITIES; i++)
		TAILQ_INIT(&f->turns[i]);
	TAILQ_INIT(&f->processes);
	TAILQ_INIT(&f->idle);
	f->short_us = SHORT_US;
	f->far_us = FAR_US;
	f->ahead_us = AHEAD_US;
	evtimer_assign(&f->ev_ahead, all->o.base, farm_on_ahead, f);
	row = figures_of(all->o.history, f->conf);
	f->figures = row ? row : &spare;
}

/* The farms of a configuration. They have no processes yet. Returns 0 or -ENOMEM. */
int farms_new(const struct farms_options *o, struct farms **ret)
{
	size_t n = o->config->n_farms;
	struct farms *all = calloc(1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	all->o = *o;
	all->farms = calloc(n ? n : 1, sizeof(*all->farms));
	if (!all->farms) {
		free(all);
		return -ENOMEM;
	}
	all->n = n;
	for (unsigned i = 0; i < n; i++)
		farm_init(&all->farms[i], all, i);
	*ret = all;
	return 0;
}

/* Their processes and workers are gone. */
struct farms *farms_free(struct farms *all)
{
	if (!all)
		return NULL;
	for (size_t i = 0; i < all->n; i++) {
		event_del(&all->farms[i].ev_ahead);
		free(all->farms[i].broken);
	}
	free(all->farms);
	free(all);
	return NULL;
}

/* all NULL: there are none. */
size_t farms_count(const struct farms *all)
{
	return all ? all->n : 0;
}

struct farm *farms_at(struct farms *all, size_t index)
{
	return &all->farms[index];
}

/* How many have come from processes. all NULL: there are no farms. */
uint64_t farms_n_results(const struct farms *all)
{
	return all ? all->n_results : 0;
}

const struct conf_farm *farm_conf(const struct farm *f)
{
	return f->conf;
}

/* Nobody knows of the task any more. */
void farm_task_free(struct farm_task *t)
{
	if (t->fd >= 0) {
		lane_close_foreign(t->fd);
		++*t->fds_left;
	}
	free(t);
}

/* There is no process, nor will there be one. */
static void fail_waiting(struct farm *f)
{
	struct farm_task *t;

	while ((t = farm_queue_next(f))) {
		sb_add(f->figures->refused, 1);
		farm_task_fail(t, -ENOENT, "farm %s has no process that starts: %s", f->conf->name,
			f->broken);
	}
}

static bool has_idle(const struct farm *f)
{
	return f->n_busy < f->conf->processes && !TAILQ_EMPTY(&f->idle);
}

static void begin_waiting(struct farm *f)
{
	struct farm_task *t;

	while (has_idle(f) && (t = farm_queue_next(f)))
		farm_process_begin(TAILQ_FIRST(&f->idle), t);
}

/* Whether a process has one ahead that the task is to be begun before. */
static bool is_before_one_ahead(const struct farm_task *t)
{
	for (unsigned i = 0; i < PRIORITIES; i++) {
		if (t->farm->n_ahead[i] > 0 && farm_goes_before(t->priority, (enum msg_priority)i))
			return true;
	}
	return false;
}

/* Whether others are to have what processes have ahead, or to go before it. */
static bool is_wanted_back(const struct farm *f)
{
	const struct farm_task *t;

	if (f->n_ahead_all == 0)
		return false;
	if (has_idle(f))
		return true;
	t = farm_queue_peek(f);
	return t && is_before_one_ahead(t);
}

/* Begins what may begin now. */
void farm_dispatch(struct farm *f)
{
	begin_waiting(f);
	if (is_wanted_back(f)) {
		farm_take_back(f);
		begin_waiting(f);
	}
	if (f->broken)
		fail_waiting(f);
	else if (f->n_waiting > 0 && TAILQ_EMPTY(&f->idle))
		f->all->o.on_want(f, f->all->o.arg);
}

/* No process of the farm can be started, and why; NULL: one may be, or there is one. */
void farm_set_broken(struct farm *f, const char *why)
{
	free(f->broken);
	f->broken = why ? strdup(why) : NULL;
	farm_dispatch(f);
}

/*
 * The queue of a farm. Runs in the primary.
 * Workers take turns: of the highest priority of which tasks wait, the worker whose turn it is has its oldest one begun, and goes to
 * the end. So none can hold the others up by submitting more. All of it takes a constant time.
 */
#include <stdlib.h>

#include "primary/farm_parts.h"

/* In which order their tasks are begun. */
static const enum msg_priority order[PRIORITIES] = {PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW};

/* The line of a worker in a farm of its own; NULL: out of memory. */
struct farm_line *farm_line_of(struct farm_client *c, struct farm *f)
{
	struct farm_line *l = c->lines[f->index];

	if (l)
		return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->client = c;
	for (unsigned i = 0; i < PRIORITIES; i++)
		TAILQ_INIT(&l->tasks[i]);
	c->lines[f->index] = l;
	return l;
}

/* What a task that waits counts for. */
uint64_t farm_task_bytes(const struct farm_task *t)
{
	return sizeof(*t) + t->length + t->large;
}

static struct farm_line *line_of(const struct farm_task *t)
{
	return t->client->lines[t->farm->index];
}

static void take_turn(struct farm *f, struct farm_line *l, unsigned priority, bool in_front)
{
	if (l->has_turn[priority] || TAILQ_EMPTY(&l->tasks[priority]) ||
		!STAILQ_EMPTY(&l->client->held))
		return;
	if (in_front)
		TAILQ_INSERT_HEAD(&f->turns[priority], l, turn[priority]);
	else
		TAILQ_INSERT_TAIL(&f->turns[priority], l, turn[priority]);
	l->has_turn[priority] = true;
}

static void leave_turns(struct farm *f, struct farm_line *l, unsigned priority)
{
	if (l->has_turn[priority])
		TAILQ_REMOVE(&f->turns[priority], l, turn[priority]);
	l->has_turn[priority] = false;
}

/* Puts a task, whose client is there, behind the others of its worker; or in front, when it was begun before. */
void farm_queue_add(struct farm_task *t, bool in_front)
{
	struct farm *f = t->farm;
	struct farm_line *l = line_of(t);

	if (in_front)
		TAILQ_INSERT_HEAD(&l->tasks[t->priority], t, link);
	else
		TAILQ_INSERT_TAIL(&l->tasks[t->priority], t, link);
	f->n_waiting++;
	f->bytes_waiting += farm_task_bytes(t);
	if (in_front)
		leave_turns(f, l, t->priority);
	take_turn(f, l, t->priority, in_front);
}

void farm_queue_remove(struct farm_task *t)
{
	struct farm *f = t->farm;
	struct farm_line *l = line_of(t);

	TAILQ_REMOVE(&l->tasks[t->priority], t, link);
	f->n_waiting--;
	f->bytes_waiting -= farm_task_bytes(t);
	if (TAILQ_EMPTY(&l->tasks[t->priority]))
		leave_turns(f, l, t->priority);
}

/* The task that is to be begun next; NULL: there is none. */
struct farm_task *farm_queue_peek(const struct farm *f)
{
	for (unsigned i = 0; i < PRIORITIES; i++) {
		struct farm_line *l = TAILQ_FIRST(&f->turns[order[i]]);

		if (l)
			return TAILQ_FIRST(&l->tasks[order[i]]);
	}
	return NULL;
}

/* Takes it out. */
struct farm_task *farm_queue_next(struct farm *f)
{
	struct farm_task *t = farm_queue_peek(f);
	struct farm_line *l;

	if (!t)
		return NULL;
	l = line_of(t);
	leave_turns(f, l, t->priority);
	farm_queue_remove(t);
	take_turn(f, l, t->priority, false);
	return t;
}

/* Whether one of the first priority is begun before one of the other. */
bool farm_goes_before(enum msg_priority a, enum msg_priority b)
{
	unsigned i = 0;

	while (order[i] != a && order[i] != b)
		i++;
	return a != b && order[i] == a;
}

/* No task of this worker's is begun. */
void farm_queue_pause(struct farm_client *c)
{
	for (size_t i = 0; i < c->all->n; i++) {
		for (unsigned priority = 0; c->lines[i] && priority < PRIORITIES; priority++)
			leave_turns(&c->all->farms[i], c->lines[i], priority);
	}
}

/* They are again. */
void farm_queue_resume(struct farm_client *c)
{
	for (size_t i = 0; i < c->all->n; i++) {
		for (unsigned priority = 0; c->lines[i] && priority < PRIORITIES; priority++)
			take_turn(&c->all->farms[i], c->lines[i], priority, false);
		if (c->lines[i])
			farm_dispatch(&c->all->farms[i]);
	}
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

/* Since when the task has waited that has done so longest; 0: none waits. Of workers that take no results it is not known. */
uint64_t farm_queue_oldest_us(const struct farm *f)
{
	const struct farm_line *l;
	uint64_t oldest = 0;

	for (unsigned priority = 0; priority < PRIORITIES; priority++) {
		TAILQ_FOREACH (l, &f->turns[priority], turn[priority])
			oldest = earlier(oldest, TAILQ_FIRST(&l->tasks[priority])->submitted_us);
	}
	return oldest;
}

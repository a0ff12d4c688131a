/*
 * The shared segment. Pages of slots nobody uses are never touched, so a generous number of slots costs nothing.
 */
#include "shared/scoreboard.h"

#include <string.h>

#include "base/clock.h"
#include "base/turn.h"

/* The segment: a head, then the slots. */
struct board {
	_Atomic size_t n_used;
	struct sb_slot slots[];
};

/* Maps n_slots cleared slots, shared with every child forked later. Returns 0 or -errno. */
int scoreboard_new(size_t n_slots, struct scoreboard *ret)
{
	size_t size = sizeof(struct board) + n_slots * sizeof(struct sb_slot);
	struct segment segment;
	struct board *b;
	int r = segment_new("tined-scoreboard", size, &segment);

	if (r < 0)
		return r;
	b = segment.memory;
	*ret = (struct scoreboard){
		.segment = segment, .n_used = &b->n_used, .slots = b->slots, .n_slots = n_slots};
	return 0;
}

/* In a child: from here on it can write to what is its own in its slot alone. Returns 0 or -errno. */
int scoreboard_confine(const struct scoreboard *sb, size_t slot)
{
	const size_t head = offsetof(struct sb_slot, accepting);

	return segment_confine(
		&sb->segment, (char *)&sb->slots[slot] + head, sizeof(struct sb_slot) - head);
}

const char *scoreboard_state_name(uint32_t state)
{
	static const char *const names[PROC_STATES] = {
		[PROC_EMPTY] = "empty",
		[PROC_STARTING] = "starting",
		[PROC_READY] = "ready",
		[PROC_DRAINING] = "draining",
		[PROC_KILLING] = "killing",
		[PROC_DEAD] = "dead",
		[PROC_BACKOFF] = "backoff",
		[PROC_FAILED] = "failed",
	};

	return state < PROC_STATES ? names[state] : "unknown";
}

/* All that a child wrote: when it has ended, and was counted among those that are gone. */
void scoreboard_clear_counters(struct sb_slot *s)
{
	const size_t head = offsetof(struct sb_slot, accepting);

	memset((char *)s + head, 0, sizeof(*s) - head);
}

/* For a new child: by the primary, before the fork. */
void scoreboard_clear_slot(struct sb_slot *s)
{
	memset(s, 0, sizeof(*s));
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* Jobs that wait for a thread of the pool. Of numbers that grow meanwhile: a hint. */
uint64_t scoreboard_pool_queued(const struct sb_slot *s)
{
	uint64_t begun = sb_get(s->pool_begun);

	return less(sb_get(s->pool_submitted), begun);
}

/* Jobs that threads of the pool work at. */
uint64_t scoreboard_pool_running(const struct sb_slot *s)
{
	uint64_t finished = sb_get(s->pool_jobs);

	return less(sb_get(s->pool_begun), finished);
}

/* By the child that owns the slot, when all work of a turn of its loop is done. Reads the clock once. */
void scoreboard_end_turn(struct sb_slot *s)
{
	uint64_t now = now_us(), us = turn_end(now);

	sb_set(s->tick_us, now);
	sb_add(s->turns, 1);
	sb_add(s->busy_us, us);
	histogram_add(&s->loop_lag, us, 1);
}

/*
 * Tasks are given to a process with serial numbers, some of them before it has come to them. Until it has, the primary may take
 * them back. Who is first is decided in one word: the number begun last, and above it that of the last one taken back.
 */
static uint64_t task_word(uint32_t begun, uint32_t revoked)
{
	return (uint64_t)revoked << 32 | begun;
}

/* By the task process, before it runs a task. Returns whether it may: false when the task was taken back. */
bool scoreboard_begin_task(struct sb_slot *s, uint32_t n)
{
	uint64_t word = atomic_load_explicit(&s->task_word, memory_order_acquire);

	do {
		if ((int32_t)(n - (uint32_t)(word >> 32)) <= 0)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&s->task_word, &word, task_word(n, n - 1),
		memory_order_acq_rel, memory_order_acquire));
	return true;
}

/* The number of the task it has begun last. */
uint32_t scoreboard_begun_task(const struct sb_slot *s)
{
	return (uint32_t)atomic_load_explicit(&s->task_word, memory_order_acquire);
}

/* By the primary: takes back all up to the last one given that are not begun. Returns the number of the last one that is. */
uint32_t scoreboard_revoke_tasks(struct sb_slot *s, uint32_t last)
{
	uint64_t word = atomic_load_explicit(&s->task_word, memory_order_acquire);

	while (!atomic_compare_exchange_weak_explicit(&s->task_word, &word,
		task_word((uint32_t)word, last), memory_order_acq_rel, memory_order_acquire))
		;
	return (uint32_t)word;
}

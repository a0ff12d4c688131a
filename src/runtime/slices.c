/*
 * Each slice is one of the calls of the end of a turn (runtime/soon.h), which adds the next one.
 *
 * A slice that is bounded by time is made of several steps: the first has one element, each next one twice as many as long as
 * a step takes little of the time that is left. So the clock is read rarely where elements are cheap, and
 * after each where they are not.
 */
#include "runtime/slices.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <tine/errors.h>

#include "base/clock.h"
#include "runtime/soon.h"

#define PART 8 /* a step is to take at most one of so many parts of the time */

/* The public opaque type of tine/loop.h. */
struct tine_slices {
	struct soon *soon;
	struct slices_options o;
	size_t next; /* element */
	size_t step; /* elements, where time counts */
	bool cancelled;
};

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int step(struct tine_slices *s, size_t n)
{
	size_t begin = s->next;

	s->next += n;
	return s->o.step(begin, s->next, s->o.arg);
}

/* As many as fit into the time, but not more than `end`. */
static int step_for_a_while(struct tine_slices *s, size_t end)
{
	uint64_t begun = now_us(), last = begun, now;
	size_t n;
	int r = 0;

	do {
		n = least(s->step, end - s->next);
		r = step(s, n);
		now = now_us();
		if ((now - last) * PART < s->o.budget_us)
			s->step = n == s->step && n <= SIZE_MAX / 2 ? 2 * n : s->step;
		else if (now - last > s->o.budget_us / PART && s->step > 1)
			s->step /= 2;
		last = now;
	} while (r == 0 && s->next < end && now - begun < s->o.budget_us && !s->cancelled);
	return r;
}

static int slice(struct tine_slices *s)
{
	size_t left = s->o.n - s->next;
	size_t end = s->next + (s->o.count > 0 ? least(s->o.count, left) : left);

	if (left == 0)
		return 0;
	return s->o.budget_us > 0 ? step_for_a_while(s, end) : step(s, end - s->next);
}

static void finish(struct tine_slices *s, int status)
{
	if (s->o.done)
		s->o.done(status, s->o.arg);
	free(s);
}

static void on_turn(void *arg)
{
	struct tine_slices *s = arg;
	int r = 0;

	if (!s->cancelled && !s->soon->ending)
		r = slice(s);
	if (r == 0 && s->next == s->o.n && !s->cancelled)
		return finish(s, 0);
	if (r == 0 && s->cancelled)
		r = TINE_E_CANCELED;
	if (r != 0)
		return finish(s, r);
	r = soon_add(s->soon, on_turn, s);
	if (r != 0)
		finish(s, r == TINE_E_CLOSED ? TINE_E_CANCELED : r);
}

/* Begins with the end of this turn. Returns 0 or what soon_add() does. */
int slices_start(struct soon *soon, const struct slices_options *o, struct tine_slices **ret)
{
	struct tine_slices *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->soon = soon;
	s->o = *o;
	s->step = 1;
	r = soon_add(soon, on_turn, s);
	if (r < 0) {
		free(s);
		return r;
	}
	if (ret)
		*ret = s;
	return 0;
}

/* Before done() was called; it is not called from within this. */
void slices_cancel(struct tine_slices *s)
{
	s->cancelled = true;
}

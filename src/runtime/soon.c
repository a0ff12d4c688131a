/*
 * Calls for the end of the turn. In a turn those are run that were there when it began to run them: what they add is for the next
 * one. When they take long the rest waits for the next turn, too, which looks after sockets and timers first.
 */
#include "runtime/soon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <tine/errors.h>

#include "base/clock.h"
#include "base/turn.h"

#define ROOM_MIN 64
#define ROOM_MAX (1u << 20) /* calls that wait */
#define KEEP     4096       /* a ring with room for more is not kept when it is empty */
#define TURN_US  1000       /* then others in the loop get their turn */
#define LOOK     16         /* calls between two looks at the clock */

static struct soon_call *at(const struct soon *s, size_t i)
{
	return &s->calls[(s->first + i) & (s->size - 1)];
}

static int grow(struct soon *s)
{
	size_t size = s->size ? 2 * s->size : ROOM_MIN;
	struct soon_call *calls;

	if (size > ROOM_MAX)
		return TINE_E_FULL;
	calls = calloc(size, sizeof(*calls));
	if (!calls)
		return -ENOMEM;
	for (size_t i = 0; i < s->n; i++)
		calls[i] = *at(s, i);
	free(s->calls);
	s->calls = calls;
	s->size = size;
	s->first = 0;
	return 0;
}

/* Returns 0, TINE_E_FULL, TINE_E_CLOSED or -ENOMEM. */
int soon_add(struct soon *s, soon_fn fn, void *arg)
{
	int r = 0;

	if (s->ending)
		return TINE_E_CLOSED;
	if (s->n == s->size)
		r = grow(s);
	if (r == 0)
		*at(s, s->n++) = (struct soon_call){fn, arg};
	return r;
}

/* Takes back all calls of fn with arg that wait. Returns how many there were. */
size_t soon_cancel(struct soon *s, soon_fn fn, void *arg)
{
	size_t n = s->n, n_turn = s->n_turn;

	s->n = s->n_turn = 0;
	for (size_t i = 0; i < n; i++) {
		struct soon_call c = *at(s, i);

		if (c.fn == fn && c.arg == arg)
			continue;
		*at(s, s->n++) = c;
		s->n_turn += i < n_turn;
	}
	return n - s->n;
}

static void run_first(struct soon *s)
{
	struct soon_call c = *at(s, 0);

	s->first = (s->first + 1) & (s->size - 1);
	s->n--;
	c.fn(c.arg);
}

static void shrink(struct soon *s)
{
	if (s->n > 0 || s->size <= KEEP)
		return;
	free(s->calls);
	s->calls = NULL;
	s->size = s->first = 0;
}

/* Returns whether there is more. */
bool soon_run_some(struct soon *s)
{
	uint64_t end;

	turn_mark();
	end = now_us() + TURN_US;
	s->n_turn = s->n;
	for (size_t i = 1; s->n_turn > 0; i++) {
		s->n_turn--;
		run_first(s);
		if (i % LOOK == 0 && now_us() >= end)
			break;
	}
	shrink(s);
	return s->n > 0;
}

/* The loop has ended: runs what is there, takes nothing any more. */
void soon_finish(struct soon *s)
{
	s->ending = true;
	while (s->n > 0)
		run_first(s);
	free(s->calls);
	s->calls = NULL;
	s->size = s->first = 0;
}

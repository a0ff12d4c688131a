/* What is to be done at the end of the present turn of a loop, or of the next one. For the loop's thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef void (*soon_fn)(void *arg);

struct soon_call {
	soon_fn fn;
	void *arg;
};

/* All zero at first. A ring: those added while others run come after them. */
struct soon {
	struct soon_call *calls;
	size_t size; /* a power of two, or 0 */
	size_t first, n;
	size_t n_turn; /* of these, that are for the turn whose calls are being made */
	bool ending;   /* nothing is taken any more */
};

int soon_add(struct soon *s, soon_fn fn, void *arg);
size_t soon_cancel(struct soon *s, soon_fn fn, void *arg);
void soon_finish(struct soon *s);
bool soon_run_some(struct soon *s);

/* Whether there is something to do, so that the next turn is not to wait. */
static inline bool soon_waits(const struct soon *s)
{
	return s->n > 0;
}

/* At the end of a turn. Returns whether there is more to do, as above. */
static inline bool soon_end_turn(struct soon *s)
{
	return soon_waits(s) && soon_run_some(s);
}

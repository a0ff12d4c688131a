/*
 * Looking again at once. It costs nothing but idle time: between two looks the CPU is offered to whoever else wants it, and when somebody
 * took it, sleeping is the better way for a while, since who is woken up goes first.
 */
#include "base/spin.h"

#include <sched.h>

#define CONTENDED_US 20               /* between two looks: somebody else wants the CPU */
#define OFF_US       (20 * US_PER_MS) /* so long it is not tried then */

/* Decides, and offers the CPU to others before the next look. */
bool spin_goes_on(struct spin *s, uint64_t n_seen, uint64_t now)
{
	if (n_seen != s->n_seen) {
		s->n_seen = n_seen;
		s->hot = now - s->idle_us < s->budget_us && now >= s->off_us;
		s->idle_us = s->last_us = now;
		return s->hot;
	}
	if (now - s->last_us > CONTENDED_US) {
		s->off_us = now + OFF_US;
		s->hot = false;
	}
	if (now - s->idle_us > s->budget_us)
		s->hot = false;
	s->last_us = now;
	if (s->hot)
		sched_yield();
	return s->hot;
}

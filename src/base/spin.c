/*
 * Looking again at once. It costs nothing but idle time: between two looks the CPU is offered to whoever else wants it, and when somebody
 * took it, sleeping is the better way for a while, since who is woken up goes first; for longer each time that this repeats.
 */
#include "base/spin.h"

#include <sched.h>

#define STREAK \
	16 /* so many since there were masses: it is a conversation, not what those end with */
#define CONTENDED_US 20 /* between two looks: somebody else wants the CPU */
#define REST_MIN_US  (20 * US_PER_MS)
#define REST_MAX_US  (2 * US_PER_S)

static void rest(struct spin *s, uint64_t now)
{
	s->rest_us = s->rest_us == 0 ? REST_MIN_US : 2 * s->rest_us;
	if (s->rest_us > REST_MAX_US)
		s->rest_us = REST_MAX_US;
	s->off_us = now + s->rest_us;
	s->hot = false;
}

/* Something has come: if it came fast, and no masses were among the last, so may the next. */
static bool on_seen(struct spin *s, const struct spin_seen *seen, uint64_t now)
{
	if (s->hot && s->last_us != s->idle_us)
		s->rest_us = 0; /* it was worth the wait, and nobody minded */
	s->streak = seen->n_bulk != s->seen.n_bulk ? 0 : s->streak + (s->streak < STREAK);
	s->hot = s->streak == STREAK && now - s->idle_us < s->budget_us && now >= s->off_us;
	s->seen = *seen;
	s->idle_us = s->last_us = now;
	return s->hot;
}

/* Decides, and offers the CPU to others before the next look. */
bool spin_goes_on(struct spin *s, const struct spin_seen *seen, uint64_t now)
{
	if (seen->n != s->seen.n)
		return on_seen(s, seen, now);
	if (now - s->last_us > CONTENDED_US)
		rest(s, now);
	if (now - s->idle_us > s->budget_us)
		s->hot = false;
	s->last_us = now;
	if (s->hot)
		sched_yield();
	return s->hot;
}

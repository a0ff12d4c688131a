/*
 * Who wants to hear how something ends that takes a while: a reload, an upgrade, a restart. Embedded in its owner, who may
 * go away before: waiter_cancel().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

struct waiter {
	LIST_ENTRY(waiter) link;
	bool waiting;
	/* Called once, after the waiter was taken off its list. text: one line. */
	void (*done)(struct waiter *w, bool ok, const char *text);
};

LIST_HEAD(waiters, waiter);

static inline void waiters_add(struct waiters *list, struct waiter *w)
{
	LIST_INSERT_HEAD(list, w, link);
	w->waiting = true;
}

static inline void waiter_cancel(struct waiter *w)
{
	if (w->waiting)
		LIST_REMOVE(w, link);
	w->waiting = false;
}

/* Moves all of one list to another. */
static inline void waiters_join(struct waiters *to, struct waiters *from)
{
	struct waiter *w;

	while ((w = LIST_FIRST(from))) {
		LIST_REMOVE(w, link);
		LIST_INSERT_HEAD(to, w, link);
	}
}

/* Tells everybody who waits now; those who begin to wait while they are told are not among them. */
static inline void waiters_tell(struct waiters *list, bool ok, const char *text)
{
	struct waiters now = *list;
	struct waiter *w;

	LIST_INIT(list);
	if (now.lh_first)
		now.lh_first->link.le_prev = &now.lh_first;
	while ((w = LIST_FIRST(&now))) {
		waiter_cancel(w);
		w->done(w, ok, text);
	}
}

/*
 * tine/loop.h - the worker's event loop: libevent's base, calls at the end of the turn, long walks in slices, how busy it is.
 *
 * A turn of the loop waits for events, unless there is something to do, calls back for those that have come, and ends. Whatever a
 * callback does, everybody else in this worker waits for it.
 */
#ifndef TINE_LOOP_H
#define TINE_LOOP_H

#include <stddef.h>
#include <stdint.h>

#include "errors.h"
#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

struct event_base;

/*
 * The worker's libevent loop: add timers and events of your own to it. It belongs to the loop thread, and
 * lives until worker_stop has returned; free your events there at the latest.
 */
TINE_EXPORT struct event_base *tine_loop_base(struct tine_worker *worker);

/*
 * Has fn called with arg on the loop thread, soon. May be called from ANY thread: it is how a thread tells the loop that
 * it is done. Calls made by one thread are run in their order. Those that come after worker_stop are not run, nor those that
 * other calls go on making while the worker ends. Returns 0, -EINVAL without fn, or -ENOMEM.
 */
TINE_EXPORT int tine_loop_post(struct tine_worker *worker, void (*fn)(void *arg), void *arg);

/* --- calls at the end of the turn --- */

/*
 * Has fn called with arg when this turn's events have been handled, before the loop waits again (Node's setImmediate). Loop thread.
 * Calls are made in their order. What they add is for the next turn, which looks for events first, without waiting; so is the
 * rest when they have taken a millisecond together: however many there are, they do not starve events. Cheap: nothing is allocated as a
 * rule, and nobody woken.
 *
 * When the worker ends, what is left is called before worker_stop, and nothing is taken from then on. Drain does not wait for it.
 * Returns 0 or:
 *	-EINVAL		no fn
 *	-ENOMEM
 *	TINE_E_FULL	a million calls wait
 *	TINE_E_CLOSED	the worker is ending
 */
TINE_EXPORT int tine_loop_soon(struct tine_worker *worker, void (*fn)(void *arg), void *arg);

/*
 * Takes back all calls of fn with arg that wait. Loop thread. Returns how many there were. It goes through all that wait: for
 * very many of them keep a mark of your own.
 */
TINE_EXPORT size_t tine_loop_soon_cancel(
	struct tine_worker *worker, void (*fn)(void *arg), void *arg);

/* --- walking over many elements --- */

struct tine_slices; /* one walk; valid until `done` has been called */

/* What is 0 is not there. */
struct tine_slices_options {
	size_t size; /* sizeof(struct tine_slices_options) */
	size_t n;    /* elements */

	/* What one turn takes: so many elements, or as many as fit into so much time, or whichever comes first. Both 0: 1 ms. */
	size_t count;
	uint64_t budget_us;

	/*
	 * Called on the loop thread for the elements begin to end - 1; several times in a turn where time counts, to find out how many
	 * fit: fewer when they take long, one at least. Returns 0, or a negative errno that ends the walk.
	 */
	int (*step)(size_t begin, size_t end, void *arg);

	/*
	 * Called on the loop thread, once, never from within tine_loop_slices() or tine_loop_slices_cancel(): 0 when all elements were
	 * walked over; what step returned; TINE_E_CANCELED when it was cancelled, or the worker is ending; TINE_E_FULL or -ENOMEM when
	 * there was no room for its next turn. May be NULL.
	 */
	void (*done)(int status, void *arg);

	void *arg; /* handed to both; must live until `done` is called */
};

/*
 * Walks over n elements in slices, one for each turn of the loop, beginning with the end of this one; events are handled in between.
 * Loop thread. The options are copied. `*ret`, unless ret is NULL, is for tine_loop_slices_cancel(). Returns 0, -EINVAL without step
 * or what tine_loop_soon() does.
 */
TINE_EXPORT int tine_loop_slices(struct tine_worker *worker,
	const struct tine_slices_options *options, struct tine_slices **ret);

/* Ends a walk before its next step; also from within its own step. Loop thread, before `done` is called. NULL is fine. */
TINE_EXPORT void tine_loop_slices_cancel(struct tine_slices *slices);

/* --- how busy the loop is --- */

/*
 * Since this module asked last; the first time: since the worker was started. A turn that is under way counts in busy_us as far as it
 * has come, and not as a turn. Lag is how long turns worked, so long an event may have had to wait; the figures are at most a quarter too
 * high. Ask once a second or so, in one place.
 */
struct tine_loop_figures {
	size_t size;          /* sizeof(struct tine_loop_figures), set before the call */
	uint64_t interval_us; /* how long that is */
	uint64_t turns;
	uint64_t busy_us; /* of interval_us: time the loop did not wait for events */
	uint64_t lag_p50_us, lag_p99_us, lag_max_us;
	uint64_t turn_us; /* for how long the present turn has worked */
};

/* Loop thread. Returns 0, -EINVAL or -ENOMEM. */
TINE_EXPORT int tine_loop_figures(struct tine_worker *worker, struct tine_loop_figures *figures);

#ifdef __cplusplus
}
#endif
#endif

/*
 * tine/loop.h - the worker's event loop.
 */
#ifndef TINE_LOOP_H
#define TINE_LOOP_H

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
 * it is done. Calls made by one thread are run in their order. Those that come after worker_stop are not run. Returns 0 or
 * -ENOMEM.
 */
TINE_EXPORT int tine_loop_post(struct tine_worker *worker, void (*fn)(void *arg), void *arg);

#ifdef __cplusplus
}
#endif
#endif

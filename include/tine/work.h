/*
 * tine/work.h - the worker's thread pool: what would block the loop, or keep it busy for long, is done by a thread.
 *
 * A piece of work is submitted on the loop thread, run on a thread of the pool, and reported on the loop thread again. Each worker
 * has one pool of [workers] threads, which tined itself uses for files that are not in memory; threads are started when they are first
 * needed. There is no order between pieces of work, even of one lane.
 *
 * Lanes: work says what it mostly does, so that a slow one does not keep all threads from the others. Of n threads
 *	TINE_LANE_CPU	computes: n - 1 at most
 *	TINE_LANE_IO	waits for disks: half of them at most, rounded down
 *	TINE_LANE_DNS	waits for name servers, or anything else in a network: the same
 * and the last two n - 1 together, at least 1 in each case. So with 3 threads or more one slow lane keeps
 * nobody waiting, and both together do not keep TINE_LANE_CPU waiting; with 2, IO and DNS share one; a single thread takes work from all
 * lanes in turn, each of which waits for the one before. Lanes with work take turns, however much waits in each.
 *
 * At most 4096 pieces wait in each lane.
 *
 * When the worker ends: what waits is reported as TINE_E_CANCELED, what runs is told to stop, and waited for; all of it is reported
 * before worker_stop is called, and nothing is taken from then on. Drain does not wait for work: keep the request, whose answer it is
 * for, deferred. Work that does not look at tine_work_stopped() may keep the worker from ending in time: it is then killed
 * ([workers] drain_timeout).
 */
#ifndef TINE_WORK_H
#define TINE_WORK_H

#include <stddef.h>
#include <stdint.h>

#include "errors.h"
#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tine_work; /* one piece of work; valid from its submission until `done` has been called */

enum tine_lane { TINE_LANE_CPU, TINE_LANE_IO, TINE_LANE_DNS };

/* What is 0 is not there. */
struct tine_work_options {
	size_t size; /* sizeof(struct tine_work_options) */
	enum tine_lane lane;

	/*
	 * Called on a thread, once. It may use what arg points to, tine_work_stopped(), tine_loop_post(), tine_log() and what else
	 * is for any thread. Its stack has 256 KiB; signals are blocked. A crash in it is a crash of the worker.
	 */
	void (*run)(struct tine_work *work, void *arg);

	/*
	 * Called on the loop thread, once, and never from within a function below: the last that is heard of it.
	 *	0			run has returned
	 *	TINE_E_CANCELED		it was cancelled: run was not called, or has returned since then
	 *	TINE_E_TIMEOUT		the same at the end of timeout_us
	 * May be NULL.
	 */
	void (*done)(int status, void *arg);

	void *arg; /* handed to both; must live until `done` is called */

	/*
	 * From submission: at its end work that waits is not run any more, and work that runs is told to stop. `done` is called when it
	 * has. 0: it has all the time.
	 */
	uint64_t timeout_us;
};

/*
 * Has a piece of work done. Loop thread, from worker_start on. The options are copied. `*ret`, unless ret is NULL, is what the functions
 * below want. Returns 0 or:
 *	-EINVAL		no run, or no such lane
 *	TINE_E_FULL	too much waits in its lane: try again when some of it is done
 *	-ENOMEM		also when not one thread could be started
 *	TINE_E_CLOSED	the worker is ending
 * After an error nothing of it is called.
 */
TINE_EXPORT int tine_work_submit(struct tine_worker *worker,
	const struct tine_work_options *options, struct tine_work **ret);

/*
 * Work that waits is not run; work that runs is told to stop, and may not care. Loop thread; before `done` is called, which reports
 * TINE_E_CANCELED in either case, later. Once is enough. NULL is fine.
 */
TINE_EXPORT void tine_work_cancel(struct tine_work *work);

/*
 * Whether it is to stop: 0, or why: TINE_E_CANCELED or TINE_E_TIMEOUT. For `run`, on its thread: long work asks every few
 * milliseconds. It costs a few nanoseconds.
 */
TINE_EXPORT int tine_work_stopped(struct tine_work *work);

#ifdef __cplusplus
}
#endif

/* Ready-made work. */
#include "work_crypto.h"
#include "work_dns.h"
#include "work_file.h"
#include "work_zlib.h"

#endif

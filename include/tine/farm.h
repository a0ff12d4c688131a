/*
 * tine/farm.h - tasks in processes of their own.
 *
 * A section [farm:NAME] of the configuration is a pool of task processes, all of which have loaded its module. Each runs one
 * task at a time, a call of a function that the module exports, and is used again. Any module of any worker may submit tasks to
 * any farm. They go through the primary, which keeps the farm's queue: the next free process gets the first one of the highest
 * priority, the workers that have submitted some taking turns. So the order in which tasks end is not the order in which they were submitted.
 *
 * What happens in a task process does not touch the worker that submitted the task. A task that runs longer than it may is killed
 * with its process. When a task's process dies, by a signal or by exit(3), the task is tried again as often as the farm's `retries`
 * says, and then never again; it is listed by `tinectl farms`. Other tasks notice nothing of either.
 *
 * A worker's tasks go to the farm of its own generation: to the configuration that the worker was started with. When a worker
 * ends, those of its tasks that wait are dropped, and those that run come to their end, and nobody hears of it; a worker that drains
 * does not wait for its tasks.
 */
#ifndef TINE_FARM_H
#define TINE_FARM_H

#include "errors.h"
#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- submitting: in a worker, on the loop's thread, from worker_start on --- */

/* A task that was submitted, until its on_done is called. Never 0, and never used again by the same worker. */
typedef uint64_t tine_task_id;

/* Tasks of a higher priority begin before those of a lower one, however long these have waited. Running ones are not interrupted. */
enum tine_farm_priority {
	TINE_FARM_NORMAL,
	TINE_FARM_HIGH,
	TINE_FARM_LOW,
};

/* What became of a task. All of it is valid until the callback returns. */
struct tine_farm_result {
	size_t size;      /* sizeof(struct tine_farm_result), as tined knows it */
	int status;       /* 0, or a negative errno: see tine_farm_done_fn */
	unsigned tries;   /* how often it was begun */
	const void *data; /* what the function answered, aligned to 8 bytes; not with an error */
	size_t len;
	const char *error; /* why there is no result, a text; empty when status is 0 */
};

/*
 * Called once for each task that was submitted, but not after worker_stop. status is 0, what the function returned, or:
 *	TINE_E_FULL	the farm's queue has no room: queue_max, queue_memory
 *	TINE_E_TIMEOUT	it ran longer than it may, and was killed
 *	TINE_E_CANCELED	tine_farm_cancel() was called
 *	TINE_E_CRASHED	its process died, as often as it was tried
 *	TINE_E_TOO_LARGE	the result has more than the farm's max_result, or the argument more than its queue_memory
 *	TINE_E_NOBODY	the farm's module has no such function, or none of its processes can be started
 *	TINE_E_QUOTA	too many descriptors are in use, in any process on the way, for a result or an argument above 64 KiB
 *	TINE_E_CLOSED	the primary is gone
 *	-ENOMEM
 */
typedef void (*tine_farm_done_fn)(const struct tine_farm_result *result, void *arg);

/* What is 0 is not there. */
struct tine_farm_task {
	size_t size;          /* sizeof(struct tine_farm_task) */
	const char *farm;     /* NAME of [farm:NAME] */
	const char *function; /* one of those that its module exports */
	const void *data;     /* the argument: any bytes; copied */
	size_t len;
	enum tine_farm_priority priority;
	/* It may run so long, at most a day, from the moment at which it begins; each try anew. 0: the farm's `timeout`. */
	uint64_t timeout_us;
	tine_farm_done_fn on_done; /* NULL: nobody wants to know */
	void *arg;                 /* handed to on_done */
};

/*
 * Submits a task. Returns 0 and its number (ret may be NULL), or, and then it was not submitted and on_done will not be called:
 *	-EINVAL		an argument is malformed
 *	-ENOMEM
 *	TINE_E_NOBODY	there is no farm of this name
 *	TINE_E_FULL	too much is on its way to the primary at present; see tine_farm_on_writable()
 *	TINE_E_TOO_LARGE	the argument has more than [bus] max_message
 *	TINE_E_QUOTA	too many tasks of this worker wait or run (1 048 576), or too many descriptors are in use
 *	TINE_E_CLOSED	the primary is gone
 */
TINE_EXPORT int tine_farm_submit(
	struct tine_worker *worker, const struct tine_farm_task *task, tine_task_id *ret);

/*
 * Cancels a task. If it waits, it will not begin; if it runs, its process is killed. Its on_done is called in any case, never from
 * within this function: with TINE_E_CANCELED, unless what became of it is on its way already. Returns 0, TINE_E_GONE (there is no such task, or
 * no more), -ENOMEM, TINE_E_CLOSED.
 */
TINE_EXPORT int tine_farm_cancel(struct tine_worker *worker, tine_task_id task);

/*
 * Sets what is called when something that returned TINE_E_FULL may have room again; one for each module. NULL: nothing, as it is
 * before.
 */
TINE_EXPORT void tine_farm_on_writable(
	struct tine_worker *worker, void (*on_writable)(void *arg), void *arg);

/*
 * --- running: in a task process, on its only thread ---
 *
 * A task process has no listeners, no loop that a module could use, and is no peer of the bus: besides the functions below, those
 * of tine/module.h that begin with tine_config_, tine_log() and tine_version() may be called. What it writes to stdout and
 * stderr goes where a worker's goes. A function may block; while it does, the farm's `timeout` watches over it. What it leaves behind
 * (memory, descriptors, threads) is there when the next task begins.
 */

/* The argument, aligned to 8 bytes; valid until the function returns. Sets *ret_len. Never NULL. */
TINE_EXPORT const void *tine_task_data(const struct tine_task *task, size_t *ret_len);

/*
 * The result, at most once; without it, it is empty. Copied. It counts if the function returns 0. Returns 0, -EALREADY, -EINVAL,
 * -ENOMEM, TINE_E_QUOTA, or TINE_E_TOO_LARGE (more than the farm's max_result: the task fails with it, whatever the function returns).
 */
TINE_EXPORT int tine_task_answer(struct tine_task *task, const void *data, size_t len);

/* Says why the function fails, for tine_farm_result.error: 1 KiB at most. Returns -EINVAL; the function may return another error. */
TINE_EXPORT int tine_task_fail(struct tine_task *task, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* How often it was begun before, and its process died: 0 the first time. */
TINE_EXPORT unsigned tine_task_tries(const struct tine_task *task);

/* The farm's own options, as task_start got them. */
TINE_EXPORT const struct tine_config *tine_task_config(const struct tine_task *task);

#ifdef __cplusplus
}
#endif
#endif

/*
 * tine/thread.h - worker threads: code with a libevent loop of its own, beside the worker's, and messages both ways.
 *
 * A thread shares nothing with the module but what they hand each other. It is for work that keeps a CPU busy and remembers
 * something from one piece to the next, or that waits for things of its own; for single pieces of work there is the thread pool.
 *
 * Threads: the functions that take a `struct tine_thread_self` are for the thread itself, from its main() on; the ones for shared buffers
 * for any thread; all others for the worker's loop thread, from worker_start on. On a thread, nothing else of tine/ may be called but
 * tine_loop_post(), tine_version(), and what says of itself that any thread may.
 *
 * Messages: what one side posts arrives in that order, each with one callback. A message is copied; or moved, which hands over memory; or
 * it is a shared buffer, of which both sides then have a reference. What the poster wrote to any memory before, the
 * receiver sees (release and acquire).
 *
 * Back-pressure: each way is bounded, in messages and in bytes. Posting returns TINE_E_FULL when there is no room; on_writable is called
 * when half of it is free again. Posting never blocks.
 *
 * Life: on_online, messages, on_error if there was one, on_exit. Each thread that was started has an on_exit, which is the last of it. It ends
 * when it says so (tine_thread_exit, tine_thread_fail, an error from main), or is told to (tine_thread_terminate). What it has posted
 * until then arrives before on_exit; what was posted to it and not read is dropped.
 *
 * Before worker_stop is called all threads have been told to end, and all on_exit have been called: no thread is left
 * when a module tears down. Draining does not touch them. A thread cannot be stopped by force, for it may hold a lock that all others
 * need: a module with a thread that does not end within half a second of that gets no worker_stop, and the worker
 * process is ended with the thread in it. A crash on a thread is a crash of the worker: the primary replaces it, its log has
 * the thread's backtrace. What must not take the worker with it belongs into another process.
 *
 * Signals are blocked on threads, but for those that an instruction of theirs causes. The thread is shown by its name in ps -L and top -H.
 *
 * Functions return 0 or:
 *	-EINVAL		an argument is malformed
 *	-ENOMEM
 *	TINE_E_FULL	no room at present; on_writable will be called
 *	TINE_E_TOO_LARGE	a message larger than max_bytes
 *	TINE_E_CLOSED	the thread has ended, or was told to
 * After an error nothing has happened: what was to be posted is still the caller's.
 */
#ifndef TINE_THREAD_H
#define TINE_THREAD_H

#include <stdbool.h>

#include "errors.h"
#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

struct event_base;
struct tine_thread; /* a thread as the worker's loop sees it; valid until its on_exit returns */
struct tine_thread_self; /* a thread as it sees itself; valid until its on_stop returns */

#define TINE_THREADS_MAX 256 /* in a worker, those of pools included */

/* --- shared buffers --- */

/*
 * Memory that several threads use at a time, freed with its last reference. It is zeroed and aligned to 64 bytes. Any thread that has a
 * reference may use it. What two threads touch at the same time is accessed by C11 atomics or under a lock; what was
 * written before a message was posted needs neither. Everything that was done to a buffer has happened before it is freed.
 */
struct tine_buffer;

/* Makes one of `size` bytes, 1 or more, with one reference. */
TINE_EXPORT int tine_buffer_new(size_t size, struct tine_buffer **ret);
TINE_EXPORT void *tine_buffer_data(struct tine_buffer *buffer);
TINE_EXPORT size_t tine_buffer_size(const struct tine_buffer *buffer);

/* One reference more; returns the buffer. NULL is fine. */
TINE_EXPORT struct tine_buffer *tine_buffer_ref(struct tine_buffer *buffer);

/* One less. NULL is fine. */
TINE_EXPORT void tine_buffer_unref(struct tine_buffer *buffer);

/* --- messages --- */

/* What is posted. All 0: a message without content. */
struct tine_thread_send {
	size_t size;      /* sizeof(struct tine_thread_send) */
	const void *data; /* copied, unless `release` is set */
	size_t len;
	/* Set: moved. `data` is the receiver's from now on, and given to this function when it is done, or when nobody reads it any more;
	 * on either thread. free(3) does for what malloc(3) made. */
	void (*release)(void *data);
	/* Set: shared. A reference is taken, the caller keeps his own; data, len and release stay 0. */
	struct tine_buffer *buffer;
};

/* What comes. Valid until the callback returns. The structure may grow at its end. */
struct tine_thread_message {
	void *data; /* aligned to 8 bytes, but for moved memory; may be written to */
	size_t len;
	void (*release)(
		void *data); /* called for moved data after the callback, unless it is set to NULL: who does keeps data */
	struct tine_buffer *
		buffer; /* given back after the callback, unless it is set to NULL: who does keeps it; data and len are its */
	uint64_t task;  /* not 0: a task of a pool, to be answered; see tine_parent_answer() */
};

/* --- on the thread --- */

/* Callbacks on the thread; all may be NULL. A message for a thread without on_message is dropped; a task fails with -ENOSYS. */
struct tine_thread_handlers {
	size_t size; /* sizeof(struct tine_thread_handlers) */
	void (*on_message)(
		struct tine_thread_self *self, struct tine_thread_message *message, void *arg);
	/* Something that returned TINE_E_FULL may have room again. */
	void (*on_writable)(struct tine_thread_self *self, void *arg);
	/* The last call on the thread, whatever ended it: free its events and memory. Its messages still go out. */
	void (*on_stop)(struct tine_thread_self *self, void *arg);
	void *arg; /* handed to all */
};

/* Sets the handlers, copied; usually in main(). May be called again. */
TINE_EXPORT int tine_thread_listen(
	struct tine_thread_self *self, const struct tine_thread_handlers *handlers);

/* The thread's libevent loop: add timers and events of your own to it, and free them in on_stop. Not for other threads. */
TINE_EXPORT struct event_base *tine_thread_base(struct tine_thread_self *self);

/* Its number: 1 or more, and of no other thread of this worker, before or after. */
TINE_EXPORT uint64_t tine_thread_self_id(const struct tine_thread_self *self);

/*
 * Whether it was told to end. The loop ends by itself after the present callback; a long computation should look every few milliseconds. Costs a read of
 * memory.
 */
TINE_EXPORT bool tine_thread_stopping(const struct tine_thread_self *self);

/* Ends the thread after the present callback, with that code for on_exit. The first call counts. In main() too. */
TINE_EXPORT void tine_thread_exit(struct tine_thread_self *self, int code);

/* The same after an error, a negative errno, of which on_error is told with a text of up to 255 bytes; the exit code is 1. */
TINE_EXPORT void tine_thread_fail(struct tine_thread_self *self, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Posts to the worker's loop: on_message there. The first copies. */
TINE_EXPORT int tine_parent_post(struct tine_thread_self *self, const void *data, size_t len);
TINE_EXPORT int tine_parent_send(
	struct tine_thread_self *self, const struct tine_thread_send *send);

/*
 * Answers a task, at any time after it came, once. status: 0, or a negative errno which on_result gets without the data. `send` NULL: an
 * answer without content. There is always room for an answer. Returns -EINVAL also when no task of this number waits for one here.
 */
TINE_EXPORT int tine_parent_answer(struct tine_thread_self *self, uint64_t task, int status,
	const struct tine_thread_send *send);

/* --- on the worker's loop --- */

/*
 * The thread's code. Runs on it first; sets up what it needs, and its handlers. `data` is a copy of the start data, aligned to 16 bytes; it is the
 * thread's own, until it ends. 0: go on with the loop, until the end. A negative errno: it failed, as if by tine_thread_fail(); on_stop is
 * called if it was set.
 */
typedef int (*tine_thread_main_fn)(struct tine_thread_self *self, void *data, size_t len);

struct tine_thread_options {
	size_t size;         /* sizeof(struct tine_thread_options) */
	const char *name;    /* copied; what ps shows has 15 bytes. NULL: "tined-thread-ID" */
	const void *data;    /* start data, copied; may be NULL */
	size_t len;          /* of them */
	size_t stack_size;   /* bytes; 0: 1 MiB. At least 64 KiB */
	size_t max_messages; /* that wait, each way; 0: 4096 */
	size_t max_bytes;    /* the same in bytes, with 24 for each message; 0: 4 MiB */
	tine_thread_main_fn main;

	/* All on the worker's loop; they may be NULL. Every function may be called in them. */

	/* It runs, and main() is about to be called, or was. Before its first message. */
	void (*on_online)(struct tine_thread *thread, void *arg);
	void (*on_message)(
		struct tine_thread *thread, struct tine_thread_message *message, void *arg);
	/* Something that returned TINE_E_FULL may have room again. */
	void (*on_writable)(struct tine_thread *thread, void *arg);
	/* It ended by tine_thread_fail() or an error from main(): a negative errno, and a text, valid until this returns. on_exit follows. */
	void (*on_error)(struct tine_thread *thread, int error, const char *text, void *arg);
	/* It was told to end and has not by its deadline; called once. It runs on, and its on_exit comes if it ends after all. */
	void (*on_overdue)(struct tine_thread *thread, void *arg);
	/* It has ended. The code of tine_thread_exit(); 1 after an error, and when it was told to end before it said so itself. */
	void (*on_exit)(struct tine_thread *thread, int code, void *arg);
	void *arg; /* handed to all; must live until on_exit */
};

/*
 * Starts a thread. Returns also -EAGAIN when the system has no more threads, -EMFILE when it has no more descriptors (a thread needs four),
 * TINE_E_QUOTA when the worker has TINE_THREADS_MAX already, -ESHUTDOWN when the worker is about to end.
 */
TINE_EXPORT int tine_thread_start(struct tine_worker *worker,
	const struct tine_thread_options *options, struct tine_thread **ret);

TINE_EXPORT uint64_t tine_thread_id(const struct tine_thread *thread);

/* Posts to the thread: on_message there. The first copies. */
TINE_EXPORT int tine_thread_post(struct tine_thread *thread, const void *data, size_t len);
TINE_EXPORT int tine_thread_send(struct tine_thread *thread, const struct tine_thread_send *send);

/*
 * Tells the thread to end: its loop breaks after the present callback, tine_thread_stopping() is true. on_overdue is called
 * when it has not ended after timeout_us microseconds (0: no deadline). NULL is fine, and so is a second call, whose
 * deadline replaces the first one's.
 */
TINE_EXPORT void tine_thread_terminate(struct tine_thread *thread, uint64_t timeout_us);

/* --- pools --- */

/*
 * Threads with the same main(), to which tasks are given: each to the thread that has the fewest. To a thread, a task is a message with a
 * number, which it answers by tine_parent_answer(), when it likes and in any order. A thread that ends, by an error or otherwise, is
 * replaced: at once at first, and with growing delays, of 5 s at most, when it happens again before a task was answered. The tasks that it
 * had got and not answered fail; the others go to other threads. Tasks wait meanwhile, and when all threads have as many as they may.
 */
struct tine_thread_pool; /* valid until on_stopped returns */

struct tine_thread_pool_options {
	size_t size;        /* sizeof(struct tine_thread_pool_options) */
	const char *name;   /* as above; shared by all */
	unsigned n_threads; /* 1 or more */
	unsigned
		n_tasks; /* that a thread has at a time, 1024 at most; 0: 1. With more it need not wait for the next one, which may then wait for it */
	size_t queue_max; /* tasks that wait for a thread; 0: 1024 */
	const void *data; /* start data, copied */
	size_t len;
	size_t stack_size;
	size_t max_bytes; /* of the tasks at a thread; 0: 4 MiB */
	tine_thread_main_fn main;

	/* All may be NULL. */

	/* A message that is no answer. */
	void (*on_message)(
		struct tine_thread_pool *pool, struct tine_thread_message *message, void *arg);
	/* What returned TINE_E_FULL may have room again. */
	void (*on_writable)(struct tine_thread_pool *pool, void *arg);
	/* A thread failed, or could not be replaced: negative errno and text, as on_error above. It is (tried to be) replaced. */
	void (*on_error)(struct tine_thread_pool *pool, int error, const char *text, void *arg);
	/* All threads have ended, all tasks had their on_result: the last call. Also when the worker ends. */
	void (*on_stopped)(struct tine_thread_pool *pool, void *arg);
	void *arg; /* handed to all; must live until on_stopped */
};

/* Starts the pool with all its threads, or nothing. Returns as tine_thread_start(). */
TINE_EXPORT int tine_thread_pool_start(struct tine_worker *worker,
	const struct tine_thread_pool_options *options, struct tine_thread_pool **ret);

/*
 * The result of a task, once for each that was taken: status 0 and the answer, or NULL and an error: what the thread answered with; what
 * it failed with; TINE_E_CLOSED when it ended otherwise; TINE_E_CANCELED when the pool was stopped.
 */
typedef void (*tine_thread_result_fn)(int status, struct tine_thread_message *result, void *arg);

/*
 * Hands in a task. on_result may be NULL. Returns TINE_E_FULL when queue_max tasks wait, TINE_E_CLOSED when the pool was
 * stopped. on_result is never called from within.
 */
TINE_EXPORT int tine_thread_pool_submit(struct tine_thread_pool *pool,
	const struct tine_thread_send *task, tine_thread_result_fn on_result, void *arg);

/*
 * Stops it: tasks that wait and those at threads end with TINE_E_CANCELED, threads are told to end, on_stopped follows. None of it from
 * within this call. A thread that has not ended after timeout_us (0: no deadline) is an error for on_error, TINE_E_TIMEOUT. NULL is fine.
 */
TINE_EXPORT void tine_thread_pool_stop(struct tine_thread_pool *pool, uint64_t timeout_us);

#ifdef __cplusplus
}
#endif
#endif

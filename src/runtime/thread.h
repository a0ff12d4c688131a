/* Worker threads: a loop of their own, ports to and from the worker's. */
#pragma once

#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <tine/thread.h>

#include "base/mailbox.h"
#include "base/spin.h"
#include "runtime/thread_port.h"

#define THREAD_NAME_MAX 16  /* with its end */
#define THREAD_TEXT_MAX 256 /* of an error */
#define THREAD_STACK    (1u << 20)
#define THREAD_MESSAGES 4096
#define THREAD_BYTES    (4u << 20)

/* How far it has come. Set by the thread, read by the loop. */
enum thread_stage { THREAD_NEW, THREAD_ONLINE, THREAD_ENDED };

/*
 * The thread's own half, the public opaque type. The thread's alone from its start to its end, but for the bell and the descriptor; the loop's
 * before and after.
 */
struct tine_thread_self {
	struct tine_thread *thread;
	struct bell bell;
	int wake_fd; /* written to by the loop; closed by it */
	struct event wake;
	struct event_base *base;
	struct tine_thread_handlers handlers;
	void *data; /* the start data */
	size_t len;
	uint64_t *tasks; /* that wait for an answer */
	unsigned n_tasks, tasks_size;
	bool over; /* it has said that it ends */
	int code, error;
	char text[THREAD_TEXT_MAX];
	struct spin spin;
	struct spin_seen seen;
};

/* The public opaque type. The loop's, but for what two threads use. */
struct tine_thread {
	struct threads *threads;
	const void *module; /* whose it is */
	struct tine_thread_options o;
	/* An answer to a task; for pools. */
	void (*on_answer)(struct tine_thread *t, int status, struct tine_thread_message *m);
	TAILQ_ENTRY(tine_thread) link;
	uint64_t id;
	pthread_t pthread;
	bool said_online, told, ended;
	struct event overdue;
	struct mail mail;
	struct tine_thread_self self;

	/* used by both */
	struct bell bell; /* the loop's */
	atomic_int stage; /* enum thread_stage */
	atomic_bool stop; /* it is told to end */
	struct port down, up;
};

/* Somebody who has threads, and is to know that all of them are about to end. */
struct threads_user {
	void (*on_end)(struct threads_user *u);
	TAILQ_ENTRY(threads_user) link;
};

struct threads_options {
	struct event_base *base;
	struct mailbox *mailbox; /* of the loop; outlives them */
	uint64_t spin_us;        /* for which a thread looks for the next message; 0: never */
};

/* All worker threads of a process. The loop's, but for what two threads use. */
struct threads {
	struct threads_options o;
	TAILQ_HEAD(thread_list, tine_thread) list;
	TAILQ_HEAD(threads_user_list, threads_user) users;
	unsigned n;
	uint64_t last_id;
	bool ending;
	struct spin_seen seen; /* messages that have come */

	/* under the lock: threads that have not ended, for who waits for that */
	pthread_mutex_t lock;
	pthread_cond_t less;
	unsigned n_running;
};

int threads_new(const struct threads_options *o, struct threads **ret);
unsigned threads_end(struct threads *ts, uint64_t timeout_us);
bool threads_has(const struct threads *ts, const void *module);
struct threads *threads_free(struct threads *ts);
void threads_count(struct threads *ts, int n);

int thread_start(struct threads *ts, const void *module, const struct tine_thread_options *o,
	struct tine_thread **ret);
int thread_send(struct tine_thread *t, const struct tine_thread_send *send, uint64_t task);
void thread_terminate(struct tine_thread *t, uint64_t timeout_us);

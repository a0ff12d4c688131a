/* A thread pool for what would block the loop. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/mailbox.h"

struct pool;

/* What a job spends its time with. None of them may take all threads. */
enum pool_lane { POOL_CPU, POOL_IO, POOL_DNS, POOL_LANES };

/* A job. Lies in a structure of the caller's, which lives on until done() is called. */
struct pool_job {
	enum pool_lane lane;
	void (*work)(struct pool_job *job); /* on a thread; what it uses nobody else may touch */
	void (*done)(struct pool_job *job, int status); /* on the loop's thread; may free the job */

	/* of the pool */
	TAILQ_ENTRY(pool_job) link; /* while queued */
	bool queued;                /* these two under the lock of the queue */
	int status;
	struct mail mail;
};

/* Where a pool says how it fares: written under its lock, read by anybody. All or none. */
struct pool_figures {
	_Atomic uint64_t *n_finished; /* jobs */
	_Atomic uint32_t *n_queued, *n_running;
};

struct pool_options {
	struct mailbox *mailbox;     /* of the loop; outlives the pool */
	unsigned n_threads;          /* at most */
	unsigned queue_max;          /* jobs that wait for a thread */
	struct pool_figures figures; /* they outlive the pool; NULL: nobody wants to know */
};

int pool_new(const struct pool_options *o, struct pool **ret);
struct pool *pool_free(struct pool *p);
int pool_submit(struct pool *p, struct pool_job *job);
bool pool_cancel(struct pool *p, struct pool_job *job);

/* A thread pool for what would block the loop. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/mailbox.h"

struct histogram;
struct pool;

/* What a job spends its time with: see lanes[] in pool.c for how many threads each may hold. */
enum pool_lane { POOL_CPU, POOL_IO, POOL_DNS, POOL_LANES };

/* A job. Lies in a structure of the caller's, zeroed at first, which lives on until done() is called. */
struct pool_job {
	enum pool_lane lane;
	void (*work)(struct pool_job *job); /* on a thread; what it uses nobody else may touch */
	void (*done)(struct pool_job *job, int status); /* on the loop's thread; may free the job */

	/* of the pool */
	TAILQ_ENTRY(pool_job) link; /* while queued */
	struct pool *pool;
	struct pool_job *next; /* before that: on the way from the loop to the threads */
	bool queued;           /* the loop sets it, a thread clears it under the lock */
	int status;
	uint32_t stands_for;                 /* jobs, of which it was measured; 0: it was not */
	uint64_t since_us, begun_us, end_us; /* submitted, begun, done */
	struct mail mail;
};

/*
 * Where a pool says how it fares: read by anybody. Each number only grows; what waits are those submitted and not begun, what runs are
 * those begun and not finished. All or none.
 */
struct pool_figures {
	_Atomic uint64_t *n_submitted; /* written by the loop; less those that were taken back */
	_Atomic uint64_t *n_begun, *n_finished; /* written under the lock */
	struct histogram *wait, *run; /* written by the loop; samples where there are many */
};

struct pool_options {
	struct mailbox *mailbox; /* of the loop; outlives the pool */
	unsigned n_threads;      /* at most */
	unsigned queue_max;      /* jobs of each lane that wait for a thread */
	uint64_t spin_us; /* how long an idle thread may look for the next job; 0: it sleeps */
	struct pool_figures figures; /* they outlive the pool; NULL: nobody wants to know */
};

int pool_new(const struct pool_options *o, struct pool **ret);
void pool_stop(struct pool *p);
struct pool *pool_free(struct pool *p);
int pool_submit(struct pool *p, struct pool_job *job);
bool pool_cancel(struct pool *p, struct pool_job *job);
bool pool_is_stopping(const struct pool *p);
struct mailbox *pool_mailbox(const struct pool *p);

/*
 * Locks in memory that processes share, which outlive whoever holds them: when a holder has died, the next one gets the lock
 * and is told so. A lock is a word that is 0 while nobody holds it, and may hold anything at all (somebody else may have
 * written there): the worst that comes of it is a lock that is taken from a living holder, or not to be had in time.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOCK_OWNER_DIED 1 /* we hold it now, and whoever did before died in the middle */

/* A process that takes locks; all of its threads together. */
struct lock_owner {
	int fd; /* of the memory in which the locks are; must stay open */
	bool is_own; /* it was opened for this; else any other one of that file that is closed ends it all */
	uint32_t id;
};

int lock_join(int fd, _Atomic uint32_t *last_id, struct lock_owner *ret);
void lock_leave(struct lock_owner *o);
bool lock_is_alive(int fd, uint32_t id);
int lock_take(const struct lock_owner *o, _Atomic uint32_t *word, uint64_t timeout_us);
int lock_give(const struct lock_owner *o, _Atomic uint32_t *word);

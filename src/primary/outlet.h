/*
 * The way out to one process: its bus lane's queue, with its marks. Runs in the primary.
 *
 * Three lengths matter. Above the middle between queue_low and queue_high senders are told to wait. At queue_high the outlet is
 * full: what comes then is refused, or kept beside or dropped where a subscription says so, until the queue is down
 * at queue_low; so nothing overtakes what was kept. Then those who wait may go on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "ipc/msg.h"

struct lane;

#define OUTLET_FDS      64 /* descriptors that wait at a time */
#define OUTLET_SUBJECTS 16 /* that one sender is told of by themselves; then of all together */

/* A sender that was told to wait. */
struct outlet_waiter {
	STAILQ_ENTRY(outlet_waiter) link;
	struct lane *sender;                /* told on its lane */
	uint64_t keys[OUTLET_SUBJECTS + 2]; /* of which it was told: KEY_SUBJECTS, the address */
	size_t n_keys, n_subjects;
};

/* A frame that was kept has been dropped for a newer one. */
typedef void (*outlet_drop_fn)(const struct frame *f, void *arg);

struct outlet {
	struct lane *lane;
	size_t high, mark, low;
	bool full;
	uint64_t reserved; /* promised to what is about to be put */
	size_t reserved_fds;
	size_t *fds_left;           /* of all outlets together */
	uint64_t large[OUTLET_FDS]; /* bytes behind each descriptor that waits, in order */
	size_t n_large;
	uint64_t large_bytes;
	STAILQ_HEAD(, outlet_waiter) waiters;
	struct outlet_waiter *latest; /* who was looked for last; NULL: look */
	size_t n_waiters;
	char *kept; /* frames of subscriptions that drop their oldest, while it is full; in order */
	size_t kept_start, kept_end, kept_size;
	outlet_drop_fn on_drop;
	void *arg;
};

void outlet_init(struct outlet *o, size_t high, size_t low, outlet_drop_fn on_drop, void *arg);
void outlet_reserve(struct outlet *o, uint64_t n, bool with_fd);
void outlet_unreserve(struct outlet *o);
void outlet_clear(struct outlet *o);
bool outlet_has_room(const struct outlet *o, uint64_t n);
bool outlet_takes(struct outlet *o, uint64_t n);
int outlet_append(struct outlet *o, const void *frames, size_t len);
int outlet_put_fd(
	struct outlet *o, const struct frame *f, const struct iovec *body, int fd, uint64_t size);
void outlet_keep(struct outlet *o, const struct frame *f);
void outlet_make_wait(struct outlet *o, struct lane *sender, uint64_t key);
void outlet_forget(struct outlet *o, const struct lane *sender);
void outlet_on_written(struct outlet *o);
uint64_t outlet_load(const struct outlet *o);

/*
 * A lane: one end of a socketpair between the primary and a child, with frames in and out on an event loop.
 * Bounded both ways, never blocks, and hands up only messages that the table allows.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "ipc/msg.h"

struct event_base;
struct lane;

#define LANE_E_FULL 1 /* lane_send()'s answer: the queue is at its mark; nothing was queued */

/*
 * f lies right before its payload, both aligned to 8 bytes, and the next frame right behind what frame_space() says; they are
 * valid during the call, or until on_burst where there is one. fd: the descriptor that came along, or -1; the handler owns it.
 * It is -1 also when this process may have no more of them (RLIMIT_NOFILE): msg_lost_fd() tells.
 */
typedef void (*lane_message_fn)(const struct frame *f, const void *payload, int fd, void *arg);

/* The lane is of no more use. why: NULL when the peer closed it, else what rule it broke or what failed. */
typedef void (*lane_closed_fn)(const char *why, void *arg);

struct lane_options {
	struct event_base *base;
	int fd; /* non-blocking; owned by the lane from here on, also when lane_new() fails */
	enum msg_lane kind;
	enum msg_role peer; /* what the other end may send follows from it */
	size_t queue_max;   /* bytes waiting to be written before lane_send() says full */
	lane_message_fn on_message;
	lane_closed_fn on_closed;
	void (*on_burst)(
		void *arg); /* those messages that came with one read are through; may be NULL */
	void (*on_written)(void *arg); /* some of the queue has been written; may be NULL */
	void *arg;
};

int lane_pair(enum msg_lane kind, int ret_fds[2]);
int lane_new(const struct lane_options *o, struct lane **ret);
struct lane *lane_free(struct lane *l);
int lane_put(struct lane *l, const struct frame *f, const struct iovec *parts, size_t n, int fd);
int lane_append(struct lane *l, const void *frames, size_t len);
size_t lane_queued(const struct lane *l);
size_t lane_queued_fds(const struct lane *l);
void lane_reject(struct lane *l, const char *why);
void lane_yield(struct lane *l);
void lane_set_reading(struct lane *l, bool on);
int lane_send(struct lane *l, enum msg_type type, uint64_t id, const void *payload, size_t len);
int lane_send_fd(struct lane *l, enum msg_type type, const void *payload, size_t len, int fd);
void lane_flush(struct lane *l);
void lane_read_rest(struct lane *l);
void lane_close_foreign(int fd);
void lane_wait(const struct lane *l, int ms);
bool lane_is_open(const struct lane *l);

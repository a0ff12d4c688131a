/*
 * What ties a child to the primary: the control lane, and what every child does about it, whatever its role. It answers
 * PING, follows LOG_LEVEL and LOG_REOPEN, and is told to drain by DRAIN, by SIGTERM (from an operator, or from the kernel
 * when the primary has died) and by the end of the lane. On the loop's thread.
 */
#pragma once

#include <stdint.h>

#include "ipc/lane.h"

struct child;
struct event_base;
struct lifeline;

struct lifeline_options {
	struct event_base *base;
	const struct child *child;
	void (*on_drain)(uint64_t timeout_us, void *arg); /* at most once */
	void (*on_quit)(void *arg);                       /* leave at once */
	/* Messages that only this role gets: by number, NULL where it gets none. fd: the handler owns it. */
	const lane_message_fn *handlers;
	void *arg;
};

int lifeline_new(const struct lifeline_options *o, struct lifeline **ret);
struct lane *lifeline_lane(struct lifeline *l);
void lifeline_say_ready(struct lifeline *l);
void lifeline_say_goodbye(struct lifeline *l, enum msg_type type, const char *text);

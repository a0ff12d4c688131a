/*
 * Requests of our own to a worker that has no clients yet: a generation on trial is to crash on these rather than
 * on theirs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct child;
struct event_base;
struct http_router;
struct pool;
struct probe;

struct probe_options {
	struct event_base *base;
	struct pool *pool;
	const struct child *child;
	struct http_router *const *routers; /* one for each listener */
	size_t input_max;
	void (*on_passed)(
		void *arg); /* once: every module has got a request, and the loop goes on */
	void *arg;
};

int probe_new(const struct probe_options *o, struct probe **ret);
void probe_start(struct probe *p);
void probe_stop(struct probe *p);
bool probe_end_turn(struct probe *p);

/*
 * What a process has sent on the bus and not heard of: how much that may be, who wants to know what became of which frame, and
 * whom not to send to at present. On the loop's thread of a process that runs modules; knows nothing of lanes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/msg.h"

#define WINDOW_FDS 16 /* descriptors that may be sent and not heard of, large payloads included */

/* What is to be told when it is known what became of a frame. */
struct fate {
	uint64_t frame; /* its number in the row of all that were sent, from 0 */
	void (*on_done)(int status, void *arg);
	void *arg;
	uint32_t request; /* fails with it; valid if is_request */
	uint64_t large;   /* bytes behind its descriptor */
	bool is_request, has_fd;
};

/* A receiver, or a subject, that is not to be sent to. */
struct window_pause {
	uint64_t key;
	unsigned n; /* queues that are the reason */
};

struct window {
	uint64_t size; /* bytes */
	uint64_t n_sent, bytes_sent, bytes_acked;
	struct fate *fates; /* a ring, in the order of their frames */
	size_t first_fate, n_fates, fates_size;
	unsigned n_fds;       /* of them with a descriptor */
	uint64_t large_bytes; /* behind those */
	struct window_pause *pauses;
	size_t n_pauses;
	void (*on_fate)(const struct fate *f, int status, void *arg);
	void *arg;
};

int window_reserve(struct window *w);
void window_note(struct window *w, uint64_t bytes, const struct fate *fate);
bool window_has_room(const struct window *w, uint64_t bytes, bool has_fd);
bool window_is_half_empty(const struct window *w);
void window_ack(struct window *w, const struct msg_ack *m);
void window_nak(struct window *w, const struct msg_nak *m);
void window_end(struct window *w, int status);
void window_pause(struct window *w, uint64_t key);
void window_resume(struct window *w, uint64_t key);
bool window_is_paused(const struct window *w, uint64_t key);
void window_release(struct window *w);

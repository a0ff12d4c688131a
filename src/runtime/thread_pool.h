/* Worker threads of one kind, to which tasks are given. The loop's thread alone. */
#pragma once

#include <tine/thread.h>

struct threads;

#define THREAD_POOL_QUEUE 1024

int thread_pool_start(struct threads *ts, const void *module,
	const struct tine_thread_pool_options *o, struct tine_thread_pool **ret);
int thread_pool_submit(struct tine_thread_pool *p, const struct tine_thread_send *send,
	tine_thread_result_fn on_result, void *arg);
void thread_pool_stop(struct tine_thread_pool *p, uint64_t timeout_us);

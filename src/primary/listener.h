/*
 * The listening sockets. They belong to the pool, which outlives generations: a reload that keeps an address
 * keeps its socket, with every connection waiting in its queue.
 */
#pragma once

#include <stddef.h>

#include "shared/listener.h"

struct listener_pool;
struct primary;

int listener_pool_new(struct listener_pool **ret);
void listener_pool_retire(struct listener_pool *pool, const struct primary *p);
void listener_pool_close(struct listener_pool *pool);
struct listener_pool *listener_pool_free(struct listener_pool *pool);
int listener_pool_open(struct listener_pool *pool, const struct config *config,
	const struct conf_listener *conf, unsigned n_workers, struct listener *ret, char *error,
	size_t size);
void listener_pool_release(struct listener_pool *pool, struct listener *l);
int listener_pool_grow(struct listener_pool *pool, struct primary *p, unsigned n_workers);
size_t listener_pool_export(
	const struct listener_pool *pool, int *ret_fds, const char **ret_names, size_t max);
void listener_pool_hand_over(struct listener_pool *pool);
void listener_pool_store(const struct listener_pool *pool);
void listener_pool_assign(struct listener_pool *pool, struct primary *p);

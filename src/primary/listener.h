/*
 * The listening sockets. They belong to the pool, which outlives generations: a reload that keeps an address
 * keeps its socket, with every connection waiting in its queue.
 */
#pragma once

#include <stddef.h>

#include "shared/listener.h"

#define LISTENER_FD_NAME_MAX 256 /* of sd_listen_fds_with_names(3), terminated */

struct generation;
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
size_t listener_pool_count(const struct listener_pool *pool);
void listener_pool_export(
	const struct listener_pool *pool, int *ret_fds, char (*ret_names)[LISTENER_FD_NAME_MAX]);
void listener_pool_hand_over(struct listener_pool *pool);
void listener_pool_borrow(struct listener_pool *pool);
void listener_pool_own(struct listener_pool *pool, struct primary *p, const struct generation *g);
void listener_pool_store(struct listener_pool *pool);
void listener_pool_assign(struct listener_pool *pool, struct primary *p);

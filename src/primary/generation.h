/*
 * A generation: one configuration with its sockets and the processes that run it.
 */
#pragma once

#include <stddef.h>

struct config;
struct generation;
struct primary;

int generation_new(
	struct primary *p, struct config *c, struct generation **ret, char *error, size_t size);
void generation_release(struct primary *p, struct generation *g);
int generation_reopen_access(struct generation *g);

/* Both ends of what a child's standard streams are to be. */
#pragma once

#include "runtime/subprocess_internal.h"

struct stdio_ends {
	int ours[N_STREAMS];   /* -1: none */
	int theirs[N_STREAMS]; /* what is to be its descriptor 0, 1, ... */
	bool made[N_STREAMS];  /* theirs[i] is to be closed when it has been started */
	int n;
};

int stdio_open(struct subprocesses *all, const struct tine_child_options *o, bool channel,
	struct stdio_ends *ret);
void stdio_close_theirs(struct stdio_ends *e);
void stdio_close(struct stdio_ends *e);

/* Memory to a socket without copying it, through a pipe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SPLICE_PIPE_SIZE (1u << 20) /* what any user may have, by default */

struct net_splice {
	int in, out;  /* the pipe's ends; -1: not made yet */
	bool refused; /* not possible here, ever */
};

void splice_init(struct net_splice *s);
bool splice_ready(struct net_splice *s);
ssize_t splice_send(struct net_splice *s, int fd, const char *data, size_t len);
void splice_close(struct net_splice *s);

/* Memory to a socket without copying it, through a pipe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SPLICE_PIPE_SIZE (1u << 20) /* what any user may have, by default */

struct http_splice {
	int in, out;  /* the pipe's ends; -1: not made yet */
	bool refused; /* not possible here, ever */
};

void splice_init(struct http_splice *s);
bool splice_ready(struct http_splice *s);
ssize_t splice_send(struct http_splice *s, int fd, const char *data, size_t len);
void splice_close(struct http_splice *s);

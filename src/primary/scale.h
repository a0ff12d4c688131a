/*
 * How many workers the generation that serves has. A reload goes back to the configured count. Runs in the primary.
 */
#pragma once

#include <stddef.h>

#define SCALE_MAX 1024

struct primary;
struct waiter;

/*
 * w, unless NULL, hears when those that are wanted are ready, or that one was given up. Return 0, or -errno and why nothing
 * was changed: -EBUSY, -EINVAL, or what failed.
 */
int scale_to(struct primary *p, unsigned n, struct waiter *w, char *error, size_t size);
int scale_by(struct primary *p, int delta, struct waiter *w, char *error, size_t size);

void scale_settle(struct primary *p);
void scale_follow_cpus(struct primary *p);
void scale_abandon(struct primary *p);

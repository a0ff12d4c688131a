/*
 * How many workers the generation that serves has. A reload goes back to the configured count. Runs in the primary.
 */
#pragma once

#include <stddef.h>

#define SCALE_MAX 1024

struct primary;
struct waiter;

/*
 * w, unless NULL, hears when as many as are wanted are ready, or that one does not get ready; perhaps before these return.
 * Those that are too many have been told to drain by then. They return 0, or -errno and why nothing was changed, in which
 * case w hears nothing: -EBUSY, -EINVAL, or what failed.
 */
int scale_to(struct primary *p, unsigned n, struct waiter *w, char *error, size_t size);
int scale_by(struct primary *p, int delta, struct waiter *w, char *error, size_t size);

/* called by the others */
void scale_settle(struct primary *p);
void scale_step(struct primary *p);
void scale_heartbeat(struct primary *p);
void scale_abandon(struct primary *p, const char *why);

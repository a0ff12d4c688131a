/*
 * Replacing children one by one: a successor is forked beside the old one, which drains when the successor is ready.
 * Why: it has served enough (recycling), or somebody said so (restarting).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct primary;
struct proc;
struct waiter;

/*
 * w, unless NULL, hears how it ended, perhaps before these return. They return 0, or -errno and why nothing was begun, in
 * which case w hears nothing: -EBUSY, -EINVAL.
 */
int replace_restart(struct primary *p, int slot, struct waiter *w, char *error, size_t size);
int replace_drain(struct primary *p, unsigned slot, struct waiter *w, char *error, size_t size);

/* called by the others */
void replace_step(struct primary *p);
void replace_on_ready(struct proc *pr);
void replace_on_exit(struct proc *pr, const char *how);
bool replace_on_leaving(struct proc *pr);
void replace_on_retire(struct proc *pr);
void replace_on_vacate(struct proc *pr);
void replace_heartbeat(struct primary *p);
void replace_abandon(struct primary *p, bool ok, const char *why);

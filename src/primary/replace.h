/*
 * Replacing workers one by one: a successor is forked beside the worker, and the worker drains when the successor is ready.
 * Why: it has served enough (recycling), or somebody said so (restarting). Runs in the primary.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct primary;
struct proc;
struct waiter;

int replace_restart(struct primary *p, int slot, struct waiter *w, char *error, size_t size);
int replace_drain(struct primary *p, unsigned slot, struct waiter *w, char *error, size_t size);
bool replace_is_under_way(const struct proc *pr);

/* called by the others */
void replace_on_start(struct proc *pr);
void replace_on_ready(struct proc *pr);
void replace_on_exit(struct proc *pr, const char *how);
void replace_on_retire(struct proc *pr);
void replace_on_vacate(struct proc *pr);
void replace_heartbeat(struct primary *p);
void replace_abandon(struct primary *p);

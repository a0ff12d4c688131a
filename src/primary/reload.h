/*
 * Bringing up a generation beside the one that serves, and making it the one that serves, or not.
 * The first start is the same with nothing beside it.
 */
#pragma once

struct config;
struct primary;
struct proc;
struct waiter;

void rollout_first(struct primary *p, struct config *c);
void rollout_reload(struct primary *p, struct waiter *w);
void rollout_abandon(struct primary *p);
void rollout_take_over(struct primary *p);
void rollout_on_ready(struct primary *p, struct proc *pr);
void rollout_on_exit(struct primary *p, struct proc *pr, const char *how);

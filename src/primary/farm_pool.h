/*
 * The processes of the farms, as children of the primary: how many there are, when they start and when they end.
 */
#pragma once

#include <stdbool.h>

struct farm;
struct generation;
struct primary;
struct proc;

int farm_pool_new(struct primary *p, struct generation *g);
bool farm_pool_start(struct primary *p, struct generation *g);
bool farm_pool_is_ready(const struct generation *g);
void farm_pool_dismiss(struct primary *p);
void farm_pool_heartbeat(struct primary *p);
void farm_pool_refresh(struct primary *p);
bool farm_pool_may_tell(struct primary *p);

bool farm_pool_is_short(const struct farm *f);
void farm_pool_join(struct proc *pr, struct farm *f);
int farm_pool_attach(struct proc *pr, int bus_fd);
void farm_pool_on_ready(struct proc *pr);
void farm_pool_on_leaving(struct proc *pr);
void farm_pool_on_gone(struct proc *pr, const char *how);
void farm_pool_on_settled(struct proc *pr, const char *why);
bool farm_pool_needs(const struct proc *pr);
bool farm_pool_is_busy(const struct proc *pr);

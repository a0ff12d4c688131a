/*
 * The bridge among the processes of a generation: when it begins to be the bridge, and what is left of its figures when it has
 * ended. Runs in the primary.
 */
#pragma once

struct primary;
struct proc;

void bridge_commit(struct primary *p);
void bridge_activate(struct proc *pr);
void bridge_on_drain(const struct proc *pr);
void bridge_on_gone(const struct proc *pr);
void bridge_bury(const struct proc *pr);
void bridge_heartbeat(const struct primary *p);

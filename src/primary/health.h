/*
 * Whether the loops of the children turn: PING, PONG, and what is done about one that stands still. Runs in the primary.
 */
#pragma once

struct primary;
struct proc;

void health_ping(struct proc *pr);
void health_on_pong(struct proc *pr);
void health_heartbeat(struct primary *p);
void health_on_start_timeout(struct proc *pr);
void health_end_late(struct proc *pr, const char *why);
void health_on_killing_timeout(struct proc *pr);
void health_on_deadline(int fd, short what, void *arg);

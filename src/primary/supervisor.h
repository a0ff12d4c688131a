/*
 * Keeps the processes of the table alive: starts, watches, drains, kills, buries, replaces.
 */
#pragma once

#include <stdint.h>

struct primary;
struct proc;

void supervisor_start(struct proc *pr, const char *why);
void supervisor_kill(struct proc *pr, int sig, const char *why);
void supervisor_retire(struct proc *pr, const char *why);
void supervisor_set_leaving(struct proc *pr);
uint64_t supervisor_count_failure(struct proc *pr);
void supervisor_end_trial(struct proc *pr);
void supervisor_on_timer(int fd, short what, void *arg);

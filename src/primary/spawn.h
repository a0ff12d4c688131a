/* Makes a child process out of a slot of the table. */
#pragma once

struct identity;
struct proc;

void spawn_confine_helper(const struct identity *id, int keep);
int spawn(struct proc *pr, int *ret_control_fd, int *ret_bus_fd);

/* Makes a child process out of a slot of the table. */
#pragma once

struct proc;

int spawn(struct proc *pr, int *ret_control_fd, int *ret_bus_fd);

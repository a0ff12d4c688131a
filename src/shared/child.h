/*
 * What a child process is given by the primary. Inherited over fork(2), so it may hold pointers.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct config;
struct listener;
struct scoreboard;

struct child {
	unsigned slot;       /* on the scoreboard */
	unsigned index;      /* 0 to count-1 within its generation: its CPU, its reuseport socket */
	uint64_t generation; /* 1 or more */
	const struct config *config;
	const struct scoreboard *scoreboard;
	const struct listener *listeners;
	size_t n_listeners;
	int control_fd, bus_fd;
	pid_t primary;
};

/* Runs a child's role to its end and returns the exit status. */
typedef int (*child_main_fn)(const struct child *c);

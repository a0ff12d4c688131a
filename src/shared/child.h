/*
 * What a child process is given by the primary. Inherited over fork(2), so it may hold pointers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct access_slot;
struct backtrace_slot;
struct clients;
struct conf_farm;
struct config;
struct history;
struct listener;
struct scoreboard;

struct child {
	unsigned slot;       /* on the scoreboard */
	uint32_t address;    /* on the bus */
	uint64_t machine;    /* this tined among those that NATS joins */
	unsigned index;      /* 0 to count-1 within its generation: its CPU, its reuseport socket */
	uint64_t generation; /* 1 or more */
	bool on_trial;       /* accept nothing until SERVE comes */
	const struct config *config;
	const struct scoreboard *scoreboard;
	const struct history *history; /* for the admin process alone */
	const struct listener *listeners;
	size_t n_listeners;
	const struct listener *admin_listener; /* for the admin process alone */
	const struct conf_farm *farm;          /* for a task process alone: whose it is */
	struct backtrace_slot *backtrace;      /* its own */
	struct access_slot *access;            /* its own; NULL: there is no access log */
	int access_fd;                         /* of the access log, when there is one */
	struct clients
		*clients;       /* of its generation; nothing is mapped when they are not counted */
	int control_fd, bus_fd; /* its lanes; the admin process is not on the bus: -1 */
	int arena_fd;           /* of the memory that workers share */
	pid_t primary;
};

/* Runs a child's role to its end and returns the exit status. */
typedef int (*child_main_fn)(const struct child *c);

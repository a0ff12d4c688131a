/*
 * The primary process: everything its files share. One thread, one loop, no application code.
 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/spin.h"
#include "primary/waiters.h"
#include "shared/access_log.h"
#include "shared/backtrace.h"
#include "shared/child.h"
#include "shared/clients.h"
#include "shared/config.h"
#include "shared/history.h"
#include "shared/listener.h"
#include "shared/options.h"
#include "shared/scoreboard.h"

/* Whom children become. */
struct identity {
	bool set; /* false: they stay who we are */
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	int n_groups;
};

struct control;
struct farms;
struct listener_pool;
struct proc;
struct relay;
struct rollout;
struct strays;
struct symbolizer;
struct upgrade;

/* One configuration and the processes that run it. Gone when it serves no more and its last process has ended. */
struct generation {
	uint64_t number; /* 1 or more */
	struct primary *primary;
	struct config *config;
	struct identity identity;
	struct listener
		*listeners; /* one for each of config->listeners; sockets belong to the pool */
	size_t n_listeners;
	bool has_admin;
	struct conf_listener admin_conf; /* what [admin] says, in the words of a listener */
	struct listener admin;           /* its sockets; none without [admin] */
	int access_fd;                   /* of the access log; -1: there is none */
	struct clients clients;          /* mapped only with max_per_client */
	struct farms *farms;             /* one for each of config->farms */
	unsigned target;                 /* workers wanted */
	unsigned n_procs;                /* slots that belong to it, and who else holds it */
	bool staged;                     /* on its way to be current */
};

enum primary_phase { PRIMARY_STARTING, PRIMARY_SERVING, PRIMARY_STOPPING };

struct primary {
	struct event_base *base;
	const char *config_path; /* NULL: the embedded default */
	child_main_fn worker_main, admin_main, bridge_main, task_main;
	pid_t pid;
	enum primary_phase phase;
	uint64_t stopping_us; /* since when; PRIMARY_STOPPING only */
	bool done;            /* stopped, and nobody is left */
	int exit_status;

	struct scoreboard scoreboard;
	struct history *history;
	struct control *control; /* NULL: there is no control socket */
	void (*on_event)(
		struct primary *p, uint64_t number); /* for those who follow; NULL: nobody */
	struct backtraces backtraces;                /* one for each slot */
	struct symbolizer *symbolizer;               /* at work; the others behind it */
	struct strays *strays;                       /* NULL: nothing can be known of them */
	const struct proc *victim;                   /* taken down last for hanging */
	uint64_t clocks_apart_us;                    /* CLOCK_BOOTTIME - CLOCK_MONOTONIC */
	struct access_slots access; /* one for each slot, once a generation has an access log */
	struct proc *procs;         /* one for each slot of the scoreboard */
	size_t n_slots;
	event_callback_fn on_timer, on_silence; /* of every process */
	size_t n_used;                          /* slots at and above were never used */

	struct relay *relay; /* the bus */
	struct listener_pool *pool;
	struct generation *current; /* serves; NULL until the first one does */
	struct rollout *rollout;    /* a generation on its way to be current; NULL: none */
	bool reload_again;          /* another was asked for during a reload */
	struct waiters reload_waiters, next_reload_waiters;
	struct waiters restart_waiters, scale_waiters;
	bool restarting;      /* somebody's restart is under way */
	unsigned n_restarted; /* by it */
	bool scaled_by_hand;  /* since the last reload: the number of CPUs is not followed */
	uint64_t sampled_us, cpus_seen_us;

	/* upgrade.c */
	char *binary, **arguments; /* what to execute */
	struct upgrade *upgrade;   /* our successor, on its way; NULL: none */
	struct waiters upgrade_waiters;
	bool had_upgrade;   /* a successor was started at some time */
	bool succeeds;      /* another primary serves until we have proven ourselves */
	bool proven;        /* we have */
	bool orphan;        /* it died before it could say "go" */
	int predecessor_fd; /* to it; -1: there is none */
	struct event ev_predecessor;

	int arena_fd; /* memory for the workers to share, which we never look into; -1: not made yet */
	uint64_t last_generation;

	struct spin spin; /* for messages on the bus */

	struct {
		uint64_t second;
		unsigned n;
	} task_deaths; /* of task processes: how many in that second; farm_pool.c */

	int signal_fd;
	struct event ev_signal;
	struct event ev_heartbeat;
	uint64_t heartbeat_us, heartbeat_due_us;
	uint64_t watchdog_us, watchdog_due_us;
	uint64_t ping_id;
	char *pid_file;
	/* Values of options as we were started with them; NULL: a reload changes it. */
	char *lasting[OPTIONS_MAX];
};

struct primary_options {
	const char *config_path;
	struct config *config; /* parsed already; taken over */
	child_main_fn worker_main, admin_main, bridge_main, task_main;
	char **arguments; /* of this process, for the binary that replaces it; outlive it */
};

int primary_run(const struct primary_options *o);

/* primary.c, called by the others */
void primary_stop(struct primary *p, int exit_status);
void primary_reopen_logs(struct primary *p);
void primary_set_phase(struct primary *p, enum primary_phase phase);
void primary_settled(struct primary *p);
void primary_ready(struct primary *p);
void primary_status(struct primary *p);
void primary_configure(struct primary *p);
void primary_hasten(struct primary *p, const struct config *c);
int primary_take_names(struct primary *p, const struct config *c, char *error, size_t size);
int primary_open_log(const struct config *c, char *error, size_t size);

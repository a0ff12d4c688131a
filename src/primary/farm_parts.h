/*
 * The structures that the files of the farms share. Runs in the primary.
 */
#pragma once

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* Task numbers are the workers' own choice. */
#include "base/keyed_hash.h"
#define HASH_FUNCTION(key, len, ret) (ret) = (unsigned)keyed_hash(0, key, len)
#define HASH_NONFATAL_OOM            1
#include <uthash.h>

#include "ipc/msg.h"
#include "primary/farm.h"
#include "shared/config.h"
#include "shared/history.h"

struct farm_client;
struct farm_line;

/* From its submission until somebody was told what became of it. */
struct farm_task {
	TAILQ_ENTRY(farm_task) link; /* in its line, while it waits; then among its process's */
	UT_hash_handle hh;           /* among its worker's, by id */
	struct farm *farm;
	struct farm_client *client;   /* who wants the result; NULL: he is gone */
	struct farm_process *process; /* that was given it; NULL: it waits */
	uint32_t number;              /* the process's, serial */
	bool is_canceled;             /* and its process is to be killed when it comes to it */
	uint64_t id;                  /* the worker's number */
	uint64_t submitted_us;
	uint64_t timeout_us;
	uint64_t large;   /* bytes behind the descriptor */
	int fd;           /* of a large argument; -1: none */
	size_t *fds_left; /* the descriptor is taken from there */
	enum msg_priority priority;
	unsigned tries;             /* how often it was begun */
	uint32_t length;            /* of the payload */
	_Alignas(8) char payload[]; /* as it came: struct msg_task, the function, the argument */
};

TAILQ_HEAD(farm_tasks, farm_task);

/* The tasks of one worker that wait in one farm. */
struct farm_line {
	struct farm_client *client;
	struct farm_tasks tasks[PRIORITIES];
	TAILQ_ENTRY(farm_line) turn[PRIORITIES];
	bool has_turn[PRIORITIES]; /* it is among the farm's turns */
};

TAILQ_HEAD(farm_lines, farm_line);
TAILQ_HEAD(farm_processes, farm_process);

struct farm {
	struct farms *all;
	unsigned index;
	const struct conf_farm *conf;
	struct farm_lines
		turns[PRIORITIES]; /* whose turn it is next: lines with tasks that may begin */
	uint64_t n_waiting, bytes_waiting;
	unsigned n_ahead[PRIORITIES], n_ahead_all; /* tasks that processes have ahead */
	uint64_t short_us;     /* a process that took less for its last task is given some ahead */
	uint64_t far_us;       /* more of them, when it took longer than this */
	uint64_t ahead_us;     /* of one that takes longer they are taken back */
	struct event ev_ahead; /* they are looked at */
	struct farm_processes processes, idle; /* idle: the latest first */
	unsigned n_processes;    /* that are to stay, whatever their state (farm_pool.c) */
	uint64_t spare_until_us; /* until then there is one more than are to run (farm_pool.c) */
	unsigned n_ready, n_busy;
	char *broken; /* why no process can be had; NULL: there are, or may be */
	struct history_farm *figures;
};

struct farms {
	struct farms_options o;
	uint64_t n_results; /* that have come from processes */
	struct farm *farms;
	size_t n;
};

/* A result for which there is no room yet on the way to its worker. */
struct farm_held {
	STAILQ_ENTRY(farm_held) link;
	int fd;
	uint64_t large;
	struct frame frame; /* its payload behind it */
};

/* A worker that has submitted something. */
struct farm_client {
	struct relay_peer *peer;
	struct farms *all;
	struct farm_task *tasks;       /* those it has not heard of yet, by id */
	STAILQ_HEAD(, farm_held) held; /* while there are some, no task of its is begun */
	struct farm_line *lines[];     /* by the farm's index; NULL: nothing was submitted there */
};

struct farm_process {
	TAILQ_ENTRY(farm_process) link, idle_link;
	struct farm *farm;
	struct farm_process_options o;
	struct lane *lane;
	struct farm_tasks
		given; /* the first one runs, as far as we know; the others it has ahead */
	unsigned n_given_now;
	bool is_ready, is_idle, is_retired;
	bool is_doomed;                   /* it was killed; what it says is of no interest */
	char killed_in[HISTORY_FUNCTION]; /* the function, when that was for its task's sake */
	uint64_t n_given;                 /* tasks so far: the number of the last one */
	uint64_t n_most;                  /* tasks it is to run; 0: any number */
	uint64_t since_us;                /* of the first one, or of its idleness */
	uint64_t took_us;     /* at most, for one of those that it was given the last time */
	uint64_t worst_us;    /* so far, for one of those that it was given since */
	uint64_t deadline_us; /* of its task */
	uint64_t armed_us;    /* when ev_deadline fires, perhaps too early; 0: it does not */
	struct event ev_deadline;
};

/* farm.c */
void farm_dispatch(struct farm *f);
void farm_task_free(struct farm_task *t);

/* farm_queue.c */
struct farm_line *farm_line_of(struct farm_client *c, struct farm *f);
uint64_t farm_task_bytes(const struct farm_task *t);
void farm_queue_add(struct farm_task *t, bool in_front);
void farm_queue_remove(struct farm_task *t);
struct farm_task *farm_queue_peek(const struct farm *f);
struct farm_task *farm_queue_next(struct farm *f);
bool farm_goes_before(enum msg_priority a, enum msg_priority b);
void farm_queue_pause(struct farm_client *c);
void farm_queue_resume(struct farm_client *c);
uint64_t farm_queue_oldest_us(const struct farm *f);

/* farm_client.c */
void farm_task_end(struct farm_task *t, struct frame *f, int fd, uint64_t large);
void farm_task_fail(struct farm_task *t, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* farm_process.c */
void farm_process_begin(struct farm_process *fp, struct farm_task *t);
void farm_process_kill(struct farm_process *fp, const char *why);
bool farm_process_stop(struct farm_process *fp, struct farm_task *t, const char *why);
void farm_process_take_back(struct farm_process *fp);
void farm_take_back(struct farm *f);
void farm_on_ahead(int fd, short what, void *arg);

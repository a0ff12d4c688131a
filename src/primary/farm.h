/*
 * Farms: tasks of workers, and the processes that run them. Runs in the primary, and knows of processes no more than their
 * lanes; farm_pool.h starts and ends them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/history.h"

struct conf_farm;
struct config;
struct event_base;
struct farm;
struct farm_process;
struct farms;
struct frame;
struct history;
struct relay_peer;
struct sb_slot;

/* What a farm wants of those who start processes. */
struct farms_options {
	struct event_base *base;
	const struct config *config; /* outlives the farms */
	struct history *history;     /* where is counted */
	/* Tasks wait, and no process is free. From within any function below. */
	void (*on_want)(struct farm *f, void *arg);
	void *arg;
};

struct farm_process_options {
	uint32_t address;
	pid_t pid;
	struct sb_slot *slot; /* where it and we agree on what it has begun */
	int fd;               /* of its bus lane; the process's from here on, in any case */
	/* It has to be killed for its task's sake. The task is dealt with. is_late: it took too long, and not that it is unwanted. */
	void (*on_kill)(const char *why, bool is_late, void *arg);
	void (*on_offence)(const char *why, void *arg); /* it broke a rule; its lane is closed */
	/* It has run as many tasks as it is to, and gets no more. */
	void (*on_spent)(void *arg);
	void *arg;
};

/* farm.c */
int farms_new(const struct farms_options *o, struct farms **ret);
struct farms *farms_free(struct farms *all);
size_t farms_count(const struct farms *all);
struct farm *farms_at(struct farms *all, size_t index);
uint64_t farms_n_results(const struct farms *all);
const struct conf_farm *farm_conf(const struct farm *f);
void farm_set_broken(struct farm *f, const char *why);

/* farm_client.c: a worker, for the relay */
void farm_on_task(struct relay_peer *p, struct frame *f, int fd);
void farm_on_cancel(struct relay_peer *p, const struct frame *f);
void farm_on_written(struct relay_peer *p);
void farm_forget(struct relay_peer *p);

/* farm_process.c */
int farm_process_new(
	struct farm *f, const struct farm_process_options *o, struct farm_process **ret);
void farm_process_ready(struct farm_process *fp);
void farm_process_retire(struct farm_process *fp);
void farm_process_read_rest(struct farm_process *fp);
struct farm_process *farm_process_bury(struct farm_process *fp, const char *how);
uint64_t farm_process_given(const struct farm_process *fp);
void farm_process_function(const struct farm_process *fp, char ret[HISTORY_FUNCTION]);
void farms_feed(struct farms *all);

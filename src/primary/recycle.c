/*
 * The limits of a worker's service, and the memory of every child. Runs in the primary. Whoever is over a soft limit is
 * replaced (replace.c); over the hard limit of memory it is killed.
 */
#include "primary/recycle.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/supervisor.h"

#define JITTER     10 /* percent up or down, so that workers of one age do not leave together */
#define MIN_AGE_US (1 * US_PER_S) /* whatever the limits: nobody forks without pause */
#define SAMPLE_US  (1 * US_PER_S)
#define MIB(bytes) ((double)(bytes) / (1 << 20))

/* chance: any random number. */
uint64_t recycle_jittered(uint64_t n, uint32_t chance)
{
	return n - n * JITTER / 100 + chance % (n * 2 * JITTER / 100 + 1);
}

/* For a child that starts. */
void recycle_draw_limits(struct proc *pr)
{
	const struct conf_workers *c = &pr->gen->config->workers;

	pr->over_memory = false;
	pr->max_requests = recycle_jittered(c->max_requests, (uint32_t)random());
	/* in milliseconds, for a random number has but 31 bits */
	pr->max_age_us =
		recycle_jittered(c->max_lifetime_us / US_PER_MS, (uint32_t)random()) * US_PER_MS;
}

/* Why a worker has served enough, also in words; RECYCLE_NOT: it has not. */
enum recycle_reason recycle_reason(const struct proc *pr, uint64_t now, char *why, size_t size)
{
	const struct conf_workers *c = &pr->gen->config->workers;
	const struct sb_slot *sb = &pr->primary->scoreboard.slots[pr->slot];
	uint64_t requests = sb_get(sb->requests), rss = sb_get(sb->rss);
	uint64_t age_us = now - pr->started_us;

	if (pr->role != ROLE_WORKER || age_us < MIN_AGE_US)
		return RECYCLE_NOT;
	if (c->max_requests && requests >= pr->max_requests) {
		snprintf(why, size, "%" PRIu64 " requests, about max_requests = %" PRIu64, requests,
			c->max_requests);
		return RECYCLE_REQUESTS;
	}
	if (c->max_lifetime_us && age_us >= pr->max_age_us) {
		snprintf(why, size, "%.1f s old, about max_lifetime = %.1f s", (double)age_us / 1e6,
			(double)c->max_lifetime_us / 1e6);
		return RECYCLE_AGE;
	}
	if (c->max_memory && rss > c->max_memory) {
		snprintf(why, size, "%.1f MiB of memory, more than max_memory = %.1f MiB", MIB(rss),
			MIB(c->max_memory));
		return RECYCLE_MEMORY;
	}
	return RECYCLE_NOT;
}

/*
 * Resident memory in bytes (proc_pid_statm(5)); 0 when it cannot be told. Not smaps_rollup, whose reader waits for the
 * child's own lock on its memory map.
 */
static uint64_t resident(pid_t pid)
{
	char path[64], text[128];
	const char *blank;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	if (fd_read_text(path, text, sizeof(text)) <= 0)
		return 0;
	blank = strchr(text, ' ');
	return blank ? strtoull(blank, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void check_memory(struct proc *pr)
{
	const uint64_t max = pr->gen->config->workers.max_memory_hard;
	uint64_t rss = pr->pidfd >= 0 ? resident(pr->pid) : 0;
	char why[128];

	sb_set(pr->primary->scoreboard.slots[pr->slot].rss, rss);
	if (max == 0 || rss <= max || pr->role != ROLE_WORKER || pr->state == PROC_KILLING)
		return;
	snprintf(why, sizeof(why), "%.1f MiB of memory, more than max_memory_hard = %.1f MiB",
		MIB(rss), MIB(max));
	pr->over_memory = true;
	supervisor_kill(pr, SIGKILL, why);
}

/* At every heartbeat: samples the memory of all children when the next one would be too late for it. */
void recycle_sample_memory(struct primary *p, uint64_t now)
{
	uint64_t slack_us = p->heartbeat_us / 10; /* timers are always a little late */

	if (now + p->heartbeat_us <= p->sampled_us + SAMPLE_US + slack_us)
		return;
	p->sampled_us = now;
	proctab_foreach (p, pr)
		check_memory(pr);
}

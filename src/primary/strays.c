/*
 * Strays. Runs in the primary.
 *
 * The kernel kills a worker's children with the worker (PR_SET_PDEATHSIG, runtime/subprocess_launch.c). What those had started is
 * inherited by the next subreaper above, which is this process. Each end of a child of ours, inherited or not, is told by SIGCHLD;
 * then the children that nobody here knows are looked at: a dead one is reaped, a living one is killed, and its own children come to
 * us in their turn. Nothing is done, and nothing wakes up, as long as no child ends.
 *
 * Whom we do not know need not be a stray. Spared are
 * - children that this process had before it became the primary: a shell may have started some and then executed us;
 * - what does not have no_new_privs, which all that a worker starts inherits from it, and cannot give up: in a container, where we may
 *   be process 1, we inherit everybody's orphans;
 * - once there has been an upgrade, the members of our own process group: the primary that succeeded us, and the workers it leaves
 *   behind should it die. What a worker starts is in a group of its own, unless it was asked not to be.
 */
#include "primary/strays.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/symbolizer.h"
#include "primary/upgrade.h"

#define LOOK_MAX      4096 /* children in one look: the rest when one of them has ended */
#define LINES_MAX     8    /* of one stray each, in PERIOD_US; the others are counted */
#define PERIOD_US     (10 * US_PER_S)
#define CLOSE_US      (1 * US_PER_S)
#define CLOSE_STEP_MS 20

/* Children that have not been reaped. */
struct pid_set {
	pid_t pids[LOOK_MAX];
	size_t n;
};

struct strays {
	struct pid_set elders; /* children from before */
	struct pid_set killed;
	struct event ev_period;    /* runs while some have been told of not long ago */
	unsigned n_told, n_untold; /* in this period */
};

/* --- sets --- */

static pid_t *find_pid(struct pid_set *s, pid_t pid)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->pids[i] == pid)
			return &s->pids[i];
	}
	return NULL;
}

static void add_pid(struct pid_set *s, pid_t pid)
{
	if (s->n < LOOK_MAX)
		s->pids[s->n++] = pid;
}

static void remove_pid(struct pid_set *s, pid_t pid)
{
	pid_t *at = find_pid(s, pid);

	if (at)
		*at = s->pids[--s->n];
}

/* --- which children there are --- */

static FILE *open_children(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	return fopen(path, "re");
}

/* Calls fn for each child, until there are too many. Returns the sum of what it returns, or -errno. */
static int for_each_child(struct primary *p, int (*fn)(struct primary *p, pid_t pid))
{
	CLEANUP(fclosep) FILE *f = open_children();
	int n = 0, pid;

	if (!f)
		return -errno;
	for (unsigned i = 0; i < LOOK_MAX && fscanf(f, "%d", &pid) == 1; i++)
		n += fn(p, pid);
	return n;
}

static int note_elder(struct primary *p, pid_t pid)
{
	add_pid(&p->strays->elders, pid);
	return 0;
}

/* --- who one is --- */

/* Those that others here watch, and reap. */
static bool is_ours(struct primary *p, pid_t pid)
{
	proctab_foreach (p, pr) {
		if (pr->pidfd >= 0 && pr->pid == pid)
			return true;
	}
	return pid == symbolizer_pid(p) || pid == upgrade_pid(p);
}

/* Not reaped yet, so what /proc says is said of this very process. */
static bool descends_from_a_worker(pid_t pid)
{
	char path[64], text[8192];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (fd_read_text(path, text, sizeof(text)) < 0)
		return false;
	at = strstr(text, "\nNoNewPrivs:");
	return at && atoi(at + strlen("\nNoNewPrivs:")) == 1;
}

static bool is_stray(struct primary *p, pid_t pid)
{
	if (find_pid(&p->strays->elders, pid) || (p->had_upgrade && getpgid(pid) == getpgrp()))
		return false;
	return descends_from_a_worker(pid);
}

/* --- what the log says --- */

static void tell_of_others(struct strays *s)
{
	if (s->n_untold > 0)
		log_info("%u more processes were left behind by workers, and killed", s->n_untold);
	s->n_told = s->n_untold = 0;
}

static void on_period_over(evutil_socket_t fd, short what, void *arg)
{
	tell_of_others(arg);
}

static void tell_of(struct strays *s, pid_t pid, bool leads)
{
	struct timeval period = timeval_from_us(PERIOD_US);

	if (s->n_told == 0)
		event_add(&s->ev_period, &period);
	if (s->n_told == LINES_MAX) {
		s->n_untold++;
		return;
	}
	s->n_told++;
	log_info("pid %d was left behind by a worker; killing it%s", (int)pid,
		leads ? ", and its process group" : "");
}

/* --- what is done about it --- */

/* Its number is its own until we reap it, and so is that of the group it leads. */
static void end_stray(struct primary *p, pid_t pid)
{
	bool leads = getpgid(pid) == pid;

	tell_of(p->strays, pid, leads);
	kill(pid, SIGKILL); /* once is enough, whatever group it may have moved to meanwhile */
	if (leads)
		kill(-pid, SIGKILL);
	add_pid(&p->strays->killed, pid);
}

/* Returns 1 when it is one that has been killed and is not gone yet, else 0. */
static int look_at(struct primary *p, pid_t pid)
{
	struct strays *s = p->strays;
	siginfo_t si = {0};

	if (is_ours(p, pid))
		return 0;
	if (waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG) < 0 || si.si_pid != 0) {
		remove_pid(&s->elders, pid); /* the number may be somebody else's from now on */
		remove_pid(&s->killed, pid);
		return 0;
	}
	if (find_pid(&s->killed, pid))
		return 1;
	if (!is_stray(p, pid))
		return 0;
	end_stray(p, pid);
	return 1;
}

/* A child of ours has ended, whoever's it was. */
void strays_look(struct primary *p)
{
	if (p->strays)
		for_each_child(p, look_at);
}

/* Becomes the heir of what workers leave behind; before the first of them is started. Returns 0 or -ENOMEM. */
int strays_open(struct primary *p)
{
	p->strays = calloc(1, sizeof(*p->strays));
	if (!p->strays)
		return -ENOMEM;
	evtimer_assign(&p->strays->ev_period, p->base, on_period_over, p->strays);
	if (for_each_child(p, note_elder) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
		return 0;
	log_debug("cannot tell which children there are; init will inherit what workers leave "
		  "behind");
	free(p->strays);
	p->strays = NULL;
	return 0;
}

/* The last worker is gone, maybe just now: the other wait of the primary's life, and a short one. */
void strays_close(struct primary *p)
{
	const struct timespec step = {.tv_nsec = CLOSE_STEP_MS * 1000000};
	uint64_t end_us = now_us() + CLOSE_US;
	sigset_t set;

	if (!p->strays)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	while (for_each_child(p, look_at) > 0 && now_us() < end_us)
		sigtimedwait(&set, NULL, &step);
	event_del(&p->strays->ev_period);
	tell_of_others(p->strays);
	free(p->strays);
	p->strays = NULL;
}

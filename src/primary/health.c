/*
 * Health. Runs in the primary.
 * A child is killed for silence only when the silence is its own: it missed two rounds in a row, was given the CPU it wanted,
 * this process was not held up, and the machine was not asleep. The ladder: a warning at half of hang_timeout; at the end of it
 * a backtrace, SIGABRT, SIGKILL. At most one child is taken down for hanging at a time.
 */
#include "primary/health.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "ipc/lane.h"
#include "primary/burial.h"
#include "primary/events.h"
#include "primary/farm_pool.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/supervisor.h"
#include "runtime/backtrace.h"
#include "shared/backtrace.h"

#define MISSES_MIN     2                 /* rounds in a row */
#define STARVED_FACTOR 5                 /* times hang_timeout: no starvation excuses more */
#define BACKTRACE_US   (150 * US_PER_MS) /* for the child to write it down */
#define LATE_LOOK_US   (5 * US_PER_MS)   /* whether one whose task is late has done so */
#define ABORT_US       (2 * US_PER_S)    /* between SIGABRT and SIGKILL */
#define SUSPEND_US     (500 * US_PER_MS) /* by which the clocks part when the machine sleeps */

/* --- what /proc knows of a child --- */

/* Time it was ready to run and did not get a CPU (proc(5), schedstat, second field), in microseconds; 0: unknown. */
static uint64_t starved_us(pid_t pid)
{
	char path[64], text[128];
	const char *blank;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	if (fd_read_text(path, text, sizeof(text)) <= 0)
		return 0;
	blank = strchr(text, ' ');
	return blank ? strtoull(blank, NULL, 10) / 1000 : 0;
}

static char run_state(pid_t pid)
{
	char path[64], text[1024];
	const char *after_name;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_text(path, text, sizeof(text)) <= 0)
		return '?';
	after_name = strrchr(text, ')');
	return after_name && after_name[1] == ' ' ? after_name[2] : '?';
}

static void remember(struct proc *pr)
{
	pr->seen_cpu_us = burial_cpu_us(pr->pid);
	pr->seen_starved_us = starved_us(pr->pid);
}

/* What it did since the silence was noticed, for the log. */
static const char *behaviour(const struct proc *pr, uint64_t since_us)
{
	uint64_t ran_us = burial_cpu_us(pr->pid) - pr->seen_cpu_us;
	uint64_t waited_us = starved_us(pr->pid) - pr->seen_starved_us;
	char state = run_state(pr->pid);

	if (state == 'T' || state == 't')
		return "was stopped by a signal";
	if ((ran_us + waited_us) * 2 >
		since_us) /* on a busy machine it may get little of what it wants */
		return "burnt CPU";
	return state == 'D' ? "waited for the disk" : "slept";
}

/* --- silence --- */

/* How long it has been silent, without the time it was ready to run and was not let. */
static uint64_t silence_us(const struct proc *pr, uint64_t now)
{
	uint64_t all = now - pr->asked_us, starved = starved_us(pr->pid);

	starved = starved > pr->seen_starved_us ? starved - pr->seen_starved_us : 0;
	if (all >= STARVED_FACTOR * pr->gen->config->workers.hang_timeout_us)
		return all;
	return starved < all ? all - starved : 0;
}

static void say(struct proc *pr, enum log_level level, uint64_t now, const char *what)
{
	const struct sb_slot *sb = &pr->primary->scoreboard.slots[pr->slot];
	uint64_t since_us = now - pr->missed_us;
	char line[SB_REQUEST_LINE + 1];

	burial_request_line(sb, line);
	event_note(pr->primary, level, EVENT_HANG, pr,
		"%s: no answer for %" PRIu64 " ms, in which it %s (%" PRIu64
		" ms of CPU); serving \"%s\"",
		what, (now - pr->asked_us) / US_PER_MS, behaviour(pr, since_us),
		(burial_cpu_us(pr->pid) - pr->seen_cpu_us) / US_PER_MS, line);
}

/* Whether another one is just being replaced for hanging. */
static bool is_taking_turns(const struct primary *p, const struct proc *pr)
{
	const struct proc *v = p->victim;

	return v && v != pr &&
		(v->state == PROC_KILLING || v->state == PROC_DEAD || v->state == PROC_STARTING);
}

/* First it is to write down where it stands; a stopped one has to be let go on for that, and gets no further. */
static void take_down(struct proc *pr, const char *why)
{
	pr->primary->victim = pr;
	pr->hung = true;
	pr->aborted = false;
	sb_add(pr->primary->history->hangs, 1);
	supervisor_kill(pr, BACKTRACE_SIGNAL, why);
	pidfd_send_signal(pr->pidfd, SIGCONT, NULL, 0);
	proc_set_timer(pr, BACKTRACE_US);
}

/* When to look again: when the silence will have been long enough. */
static void look_again(struct proc *pr, uint64_t us)
{
	struct timeval tv = timeval_from_us(us + US_PER_MS);

	event_add(&pr->ev_hang, &tv);
}

static void judge(struct proc *pr, uint64_t now)
{
	const uint64_t hang_us = pr->gen->config->workers.hang_timeout_us;
	uint64_t silent = silence_us(pr, now);

	if (silent >= hang_us / 2 && !pr->warned) {
		pr->warned = true;
		say(pr, LOG_LVL_WARNING, now, "its loop stands still");
	}
	if (silent < hang_us) {
		look_again(pr, pr->warned ? hang_us - silent : hang_us / 2 - silent);
		return;
	}
	if (pr->n_missed < MISSES_MIN || is_taking_turns(pr->primary, pr))
		return; /* the next round will come back to it */
	say(pr, LOG_LVL_ERROR, now, "hung");
	take_down(pr, "hung");
}

/* A child's silence may have lasted long enough. */
void health_on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct proc *pr = arg;

	if (pr->state == PROC_READY && pr->asked_us != 0 && pr->n_missed > 0 &&
		!farm_pool_is_busy(pr))
		judge(pr, now_us());
}

static void begin_anew(struct proc *pr, uint64_t now)
{
	pr->asked_us = now;
	pr->missed_us = now;
	pr->n_missed = 0;
	pr->warned = false;
	remember(pr);
}

/* A round in which it has not answered the last PING. */
static void on_miss(struct proc *pr, uint64_t now, uint64_t late_us)
{
	if (pr->n_missed++ == 0) {
		pr->missed_us = now;
		remember(pr);
	}
	if (late_us > pr->primary->heartbeat_us / 2)
		pr->asked_us = pr->asked_us + late_us < now ? pr->asked_us + late_us : now;
	judge(pr, now);
}

/* Asks a child whether its loop turns, unless it has been asked and has not answered yet. */
void health_ping(struct proc *pr)
{
	if (pr->asked_us != 0 ||
		lane_send(pr->control, MSG_PING, pr->primary->ping_id, NULL, 0) != 0)
		return;
	pr->asked_us = now_us();
	pr->n_missed = 0;
	pr->warned = false;
}

void health_on_pong(struct proc *pr)
{
	if (pr->warned && pr->state == PROC_READY)
		event_note(pr->primary, LOG_LVL_WARNING, EVENT_HANG, pr,
			"its loop turns again, after %" PRIu64 " ms",
			(now_us() - pr->asked_us) / US_PER_MS);
	pr->asked_us = 0;
	pr->warned = false;
	event_del(&pr->ev_hang);
}

/* By how much the machine has slept longer since it was started than when last asked. */
static uint64_t slept_us(struct primary *p)
{
	struct timespec ts;
	uint64_t apart, before = p->clocks_apart_us;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	apart = (uint64_t)ts.tv_sec * US_PER_S + (uint64_t)ts.tv_nsec / 1000 - now_us();
	p->clocks_apart_us = apart;
	return before != 0 && apart > before ? apart - before : 0;
}

/*
 * One round: judge the answers to the last PING, send the next. When this process itself was held up, the
 * children's silence proves nothing, so they get that time on top; when the machine slept, all begin anew, and so does who
 * runs a task, for which there is a time-out of its own.
 */
void health_heartbeat(struct primary *p)
{
	uint64_t now = now_us();
	uint64_t late_us = now > p->heartbeat_due_us ? now - p->heartbeat_due_us : 0;
	bool slept = slept_us(p) > SUSPEND_US;

	if (slept)
		event_note(p, LOG_LVL_INFO, EVENT_LIFE, NULL, "the machine was asleep");
	p->ping_id++;
	proctab_foreach (p, pr) {
		if (pr->state != PROC_READY)
			continue;
		if (pr->asked_us == 0 && !farm_pool_is_busy(pr))
			health_ping(pr);
		else if (pr->asked_us != 0 && (slept || farm_pool_is_busy(pr)))
			begin_anew(pr, now);
		else if (pr->asked_us != 0)
			on_miss(pr, now, late_us);
	}
}

/* --- deadlines of states --- */

void health_on_start_timeout(struct proc *pr)
{
	uint64_t now = now_us();
	uint64_t cpu_us = burial_cpu_us(pr->pid);

	pr->seen_cpu_us = 0;
	pr->seen_starved_us = 0;
	event_note(pr->primary, LOG_LVL_ERROR, EVENT_HANG, pr,
		"not ready after %" PRIu64 " ms, in which it %s (%" PRIu64
		" ms of CPU); killing it",
		(now - pr->started_us) / US_PER_MS, behaviour(pr, now - pr->started_us),
		cpu_us / US_PER_MS);
	take_down(pr, "start_timeout is over");
}

/* A task took too long, of which nothing counts any more; but where it was is to be known. SIGKILL follows in milliseconds. */
void health_end_late(struct proc *pr, const char *why)
{
	if (pr->state == PROC_KILLING)
		return;
	pr->late = true;
	pr->told = false;
	pr->missed_us = now_us();
	supervisor_kill(pr, BACKTRACE_SIGNAL, why);
	pidfd_send_signal(pr->pidfd, SIGCONT, NULL, 0);
	proc_set_timer(pr, LATE_LOOK_US);
}

/* It may be in the middle of it when it is seen to have begun: once more. */
static bool is_telling(struct proc *pr)
{
	bool had_begun = pr->told;

	pr->told = backtrace_is_begun(&pr->primary->backtraces.slots[pr->slot]);
	return !(had_begun && pr->told) && now_us() - pr->missed_us < BACKTRACE_US;
}

/* It was to die, and is still there: the next rung. */
void health_on_killing_timeout(struct proc *pr)
{
	bool abort_first = pr->hung && !pr->aborted;
	bool had_time = pr->aborted || !pr->late;

	if (!had_time && is_telling(pr)) {
		proc_set_timer(pr, LATE_LOOK_US);
		return;
	}
	pr->aborted = true;
	if (!abort_first && had_time)
		event_note(pr->primary, LOG_LVL_WARNING, EVENT_STATE, pr,
			"still there; sending SIGKILL");
	pidfd_send_signal(pr->pidfd, abort_first ? SIGABRT : SIGKILL, NULL, 0);
	proc_set_timer(pr, ABORT_US);
}

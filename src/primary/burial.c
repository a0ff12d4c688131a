/*
 * Reaps children and writes their record into the log. Runs in the primary.
 */
#include "primary/burial.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "primary/events.h"
#include "primary/farm.h"
#include "primary/farm_pool.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/symbolizer.h"
#include "shared/access_log.h"
#include "shared/backtrace.h"

/*
 * CPU time a living child has used so far, in microseconds (proc_pid_stat(5), fields 14 and 15); 0 when it
 * cannot be told. Not reaped yet, so the pid is still its own.
 */
uint64_t burial_cpu_us(pid_t pid)
{
	char path[64], text[1024];
	unsigned long long utime = 0, stime = 0;
	const char *after_name;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_text(path, text, sizeof(text)) < 0)
		return 0;
	after_name = strrchr(text, ')');
	if (!after_name ||
		sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
			&utime, &stime) != 2)
		return 0;
	return (utime + stime) * US_PER_S / (unsigned long long)sysconf(_SC_CLK_TCK);
}

/* A copy of the request line in a slot, made safe to print; the child may be writing it. */
void burial_request_line(const struct sb_slot *s, char ret[SB_REQUEST_LINE + 1])
{
	memcpy(ret, s->request_line, SB_REQUEST_LINE);
	ret[SB_REQUEST_LINE] = '\0';
}

/* What it was at when it ended: a request, or the function of a task. */
static void serving(const struct proc *pr, char ret[SB_REQUEST_LINE + 1])
{
	_Static_assert(HISTORY_FUNCTION <= SB_REQUEST_LINE + 1, "a function's name fits");

	if (pr->farm)
		farm_process_function(pr->task, ret);
	else
		burial_request_line(&pr->primary->scoreboard.slots[pr->slot], ret);
}

/* What a child of ours left of the access log: lines not yet written, and the requests it was serving. */
void burial_salvage(const struct proc *pr)
{
	const struct conf_http *c = &pr->gen->config->http;
	struct access_log_options o = {.format = (enum access_format)c->access_format,
		.sink = c->access_log.sink,
		.fd = pr->gen->access_fd,
		.worker = pr->slot};
	unsigned n_others;

	if (o.fd < 0)
		return;
	n_others = access_slot_salvage(&pr->primary->access.slots[pr->slot], &o);
	if (n_others > 0)
		log_warning("worker[%u]: the access log lacks %u more requests it was serving",
			pr->slot, n_others);
}

static double seconds(struct timeval tv)
{
	return (double)tv.tv_sec + (double)tv.tv_usec / 1e6;
}

static void describe(const siginfo_t *si, char *how, size_t size)
{
	if (si->si_code == CLD_EXITED)
		snprintf(how, size, "exited with status %d", si->si_status);
	else
		snprintf(how, size, "killed by signal %d (%s%s)", si->si_status,
			strsignal(si->si_status), si->si_code == CLD_DUMPED ? ", core dumped" : "");
}

/* Whether its end was what we wanted of it. */
static bool was_expected(const struct proc *pr, const siginfo_t *si)
{
	return pr->leaving && si->si_code == CLD_EXITED && si->si_status == 0;
}

static uint64_t us_of(struct timeval tv)
{
	return (uint64_t)tv.tv_sec * US_PER_S + (uint64_t)tv.tv_usec;
}

/* Remembers an end nobody asked for. Returns the number of the record. */
static uint64_t remember(
	const struct proc *pr, const siginfo_t *si, const struct rusage *ru, const char *how)
{
	struct history *h = pr->primary->history;
	const struct sb_slot *sb = &pr->primary->scoreboard.slots[pr->slot];
	struct history_crash *c = history_begin_crash(h);
	bool by_itself = si->si_code == CLD_EXITED;
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	c->realtime_us = (uint64_t)ts.tv_sec * US_PER_S + (uint64_t)ts.tv_nsec / 1000;
	c->slot = pr->slot;
	c->pid = (uint32_t)pr->pid;
	c->role = pr->role;
	snprintf(c->farm, sizeof(c->farm), "%s", pr->farm ? farm_conf(pr->farm)->name : "");
	c->generation = pr->gen->number;
	c->signal = by_itself ? 0 : si->si_status;
	c->status = by_itself ? si->si_status : 0;
	c->core = si->si_code == CLD_DUMPED;
	c->hung = pr->hung;
	c->age_us = now_us() - pr->started_us;
	c->user_us = us_of(ru->ru_utime);
	c->system_us = us_of(ru->ru_stime);
	c->max_rss = (uint64_t)ru->ru_maxrss << 10;
	c->requests = sb_get(sb->requests);
	snprintf(c->how, sizeof(c->how), "%.*s", (int)sizeof(c->how) - 1, how);
	serving(pr, c->request_line);
	c->backtrace[0] = '\0';
	sb_add(h->crashes, 1);
	return history_end_crash(h, c);
}

/* Of a task process: not that it was killed for its task's sake; and not each of hundreds of crashes in a second. */
static bool is_worth_telling(struct proc *pr)
{
	if (pr->killed_for_task)
		return false;
	if (farm_pool_may_tell(pr->primary))
		return true;
	sb_add(pr->primary->history->crashes, 1);
	return false;
}

/*
 * Reaps the child behind a pidfd that has become readable. An end nobody asked for is logged with what is known.
 * ret_how: the end in a few words; what the child said itself, if it said why it could not start.
 */
void burial_record(struct proc *pr, char *ret_how, size_t size)
{
	const struct sb_slot *sb = &pr->primary->scoreboard.slots[pr->slot];
	char line[SB_REQUEST_LINE + 1], raw[BACKTRACE_TEXT + 1];
	bool we_did_it = pr->leaving && pr->state == PROC_KILLING;
	siginfo_t si = {0};
	struct rusage ru = {0};
	uint64_t number;

	/* glibc's waitid(2) hides the kernel's fifth argument, which gives the rusage. */
	syscall(SYS_waitid, P_PIDFD, pr->pidfd, &si, WEXITED, &ru);
	describe(&si, ret_how, size);
	if (pr->over_memory)
		strncat(ret_how, ", for more memory than max_memory_hard",
			size - strlen(ret_how) - 1);
	if (pr->hung && pr->ready_us == 0)
		strncat(ret_how, ", for it was not ready within start_timeout",
			size - strlen(ret_how) - 1);
	if (pr->late)
		strncat(ret_how, ", for its task took longer than it may",
			size - strlen(ret_how) - 1);
	if (pr->words) {
		snprintf(ret_how, size, "%s", pr->words);
		if (!pr->leaving && !pr->primary->rollout) /* a rollout says it itself */
			event_note(pr->primary, LOG_LVL_ERROR, EVENT_CRASH, pr, "cannot start: %s",
				ret_how);
		return;
	}
	if (was_expected(pr, &si) || (pr->farm && !is_worth_telling(pr)))
		return;
	serving(pr, line);
	event_note(pr->primary, we_did_it ? LOG_LVL_WARNING : LOG_LVL_ERROR, EVENT_CRASH, pr,
		"%s: %s; generation %" PRIu64 ", pid %d, age %.3f s, CPU %.3f s user "
		"%.3f s system, max RSS %ld KiB, %" PRIu64 " requests, serving \"%s\"",
		we_did_it ? "cut off" : "crash", ret_how, pr->gen->number, (int)pr->pid,
		(double)(now_us() - pr->started_us) / 1e6, seconds(ru.ru_utime),
		seconds(ru.ru_stime), ru.ru_maxrss, sb_get(sb->requests), line);
	if (we_did_it && !pr->hung) /* it was too slow to leave, which is no crash */
		return;
	number = remember(pr, &si, &ru, ret_how);
	if (backtrace_read(&pr->primary->backtraces.slots[pr->slot], raw) > 0)
		symbolizer_start(pr, number, raw);
}

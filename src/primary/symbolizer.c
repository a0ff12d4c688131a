/*
 * The symbolizer: the program tined-symbolize, given frames and asked for names. One runs at a time, and the others wait in a short
 * queue: p->symbolizer is the one at work, and begins it.
 */
#include "primary/symbolizer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/beside.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "primary/events.h"
#include "primary/generation.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/spawn.h"
#include "shared/backtrace.h"

#define PROGRAM     "tined-symbolize"
#define DEADLINE_US (5 * US_PER_S)
#define ABANDON_MS  1000 /* that it gets when the primary ends */
#define CPU_MAX_S   4
#define MEMORY_MAX  ((rlim_t)2 << 30) /* address space: files are mapped */
#define QUEUE_MAX   16                /* beyond, addresses are left as they are */

struct symbolizer {
	struct symbolizer *next; /* its turn is after ours */
	struct primary *primary;
	struct generation *gen; /* held: it says who the process is to be */
	pid_t pid;              /* this and the next two lines: once it is at work */
	int pidfd, pipe_fd;
	unsigned slot;
	const char *role;
	uint64_t crash;
	struct event ev_exit, ev_deadline;
	char raw[BACKTRACE_TEXT + 1];
};

/* --- in the child --- */

static void limit(int resource, rlim_t max)
{
	struct rlimit l = {max, max};

	setrlimit(resource, &l);
}

/* Becomes the program. */
static void run_child(const struct symbolizer *s, int program, int in, int out)
{
	char name[] = PROGRAM, *argv[] = {name, NULL}, *environment[] = {NULL};

	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		_exit(EXIT_FAILURE);
	spawn_confine_helper(&s->gen->identity, program);
	limit(RLIMIT_CPU, CPU_MAX_S);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which reserve terabytes */
	limit(RLIMIT_AS, MEMORY_MAX);
#endif
	limit(RLIMIT_CORE, 0);
	alarm((unsigned)(DEADLINE_US / US_PER_S));
	fexecve(program, argv, environment);
	log_error("%s: cannot be executed: %s", PROGRAM, strerror(errno));
	_exit(EXIT_FAILURE);
}

/* --- in the primary --- */

/* The innermost frame that is not the C library's: the line one looks for first. */
static void note_place(
	struct primary *p, unsigned slot, enum history_event_kind kind, const char *text)
{
	static const char *const uninteresting[] = {
		" 0x", "+0x", " in libc.so", " in linux-vdso", " in libevent"};
	const struct proc *pr = &p->procs[slot];
	CLEANUP(freep) char *copy = strdup(text);
	char *rest = copy, *line;

	while ((line = strsep(&rest, "\n"))) {
		/* behind "#3"; what a child wrote itself may have none */
		const char *place = strchr(line, ' ');
		bool skip = !place;

		for (size_t i = 0; i < sizeof(uninteresting) / sizeof(*uninteresting); i++)
			skip |= strstr(line, uninteresting[i]) != NULL;
		if (skip)
			continue;
		event_note(p, LOG_LVL_ERROR, kind, pr->gen ? pr : NULL, "it was in %s", place + 1);
		return;
	}
}

/* Into the crash record and the log. */
static void publish(
	struct primary *p, const char *role, unsigned slot, uint64_t crash, const char *text)
{
	struct history_crash *c = history_crash(p->history, crash);
	CLEANUP(freep) char *copy = strdup(text);
	char *rest = copy, *line;

	if (c)
		snprintf(c->backtrace, sizeof(c->backtrace), "%s", text);
	while ((line = strsep(&rest, "\n"))) {
		if (*line)
			log_error("%s[%u]:   %s", role, slot, line);
	}
	note_place(p, slot, c && c->hung ? EVENT_HANG : EVENT_CRASH, text);
}

/* Takes the first one out of the queue. */
static void symbolizer_free(struct symbolizer *s)
{
	struct primary *p = s->primary;

	p->symbolizer = s->next;
	s->gen->n_procs--;
	generation_release(p, s->gen);
	free(s);
}

/* It has ended, or is given up: what it has found out, or else the addresses as they are. */
static void finish(struct symbolizer *s)
{
	char text[SYMBOLIZER_TEXT];
	ssize_t n = read(s->pipe_fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	for (char *c = text; *c; c++) {
		if ((*c < 0x20 || *c > 0x7e) && *c != '\n')
			*c = '?';
	}
	event_del(&s->ev_exit);
	event_del(&s->ev_deadline);
	close(s->pidfd);
	close(s->pipe_fd);
	publish(s->primary, s->role, s->slot, s->crash, *text ? text : s->raw);
	symbolizer_free(s);
}

static void start_next(struct primary *p);

static void on_exit_of_child(evutil_socket_t fd, short what, void *arg)
{
	struct symbolizer *s = arg;
	struct primary *p = s->primary;

	waitid(P_PIDFD, (id_t)s->pidfd, NULL, WEXITED | WNOHANG);
	finish(s);
	start_next(p);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct symbolizer *s = arg;

	pidfd_send_signal(s->pidfd, SIGKILL, NULL, 0);
}

/* Both ends of a pipe, none of which holds anybody up. */
static int open_pipe(int *ret_read, int *ret_write)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	*ret_read = fds[0];
	*ret_write = fds[1];
	return 0;
}

/* Opened before privileges go: the folder may not be for everybody. */
static int open_program(int *ret)
{
	char path[PATH_MAX];
	int r = beside_path(PROGRAM, path, sizeof(path));

	*ret = r < 0 ? -1 : open(path, O_PATH | O_CLOEXEC);
	if (r == 0 && *ret < 0)
		r = -errno;
	if (r < 0)
		log_warning("%s: %s; backtraces are left as addresses", path, strerror(-r));
	return r;
}

static int fork_child(struct symbolizer *s, int program, int in, int out)
{
	int r;

	s->pid = fork();
	if (s->pid == 0)
		run_child(s, program, in, out);
	s->pidfd = s->pid < 0 ? -1 : pidfd_open(s->pid, 0);
	if (s->pidfd >= 0)
		return 0;
	r = -errno;
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	return r;
}

static int start(struct symbolizer *s)
{
	const struct timeval deadline = timeval_from_us(DEADLINE_US);
	CLEANUP(closep) int program = -1;
	CLEANUP(closep) int in = -1;
	CLEANUP(closep) int in_end = -1;
	CLEANUP(closep) int out = -1;
	CLEANUP(closep) int out_end = -1;
	size_t len = strlen(s->raw);
	int r = open_program(&program);

	if (r == 0)
		r = open_pipe(&in, &in_end);
	if (r == 0)
		r = open_pipe(&out_end, &out);
	if (r == 0 &&
		write(in_end, s->raw, len) != (ssize_t)len) /* a pipe that is empty takes it all */
		r = -EIO;
	if (r == 0)
		r = fork_child(s, program, in, out);
	if (r < 0)
		return r;
	s->pipe_fd = take_fd(&out_end);
	event_assign(&s->ev_exit, s->primary->base, s->pidfd, EV_READ, on_exit_of_child, s);
	evtimer_assign(&s->ev_deadline, s->primary->base, on_deadline, s);
	event_add(&s->ev_exit, NULL);
	event_add(&s->ev_deadline, &deadline);
	return 0;
}

/* The one whose turn it is; those that cannot be started keep their addresses. */
static void start_next(struct primary *p)
{
	struct symbolizer *s;

	while ((s = p->symbolizer) && start(s) < 0) {
		publish(p, s->role, s->slot, s->crash, s->raw);
		symbolizer_free(s);
	}
}

void symbolizer_start(struct proc *pr, uint64_t crash, const char *raw)
{
	struct primary *p = pr->primary;
	struct symbolizer *s = NULL, **last = &p->symbolizer;
	unsigned n = 0;

	for (; *last; last = &(*last)->next)
		n++;
	if (n < QUEUE_MAX)
		s = calloc(1, sizeof(*s));
	if (!s) {
		publish(p, proc_role_name(pr), pr->slot, crash, raw);
		return;
	}
	s->primary = p;
	s->gen = pr->gen;
	s->gen->n_procs++;
	s->slot = pr->slot;
	s->role = proc_role_name(pr);
	s->crash = crash;
	snprintf(s->raw, sizeof(s->raw), "%s", raw);
	*last = s;
	if (n == 0)
		start_next(p);
}

/* The number of the process that is at work, or 0. */
pid_t symbolizer_pid(const struct primary *p)
{
	return p->symbolizer ? p->symbolizer->pid : 0;
}

/* The primary ends, maybe because of this very crash: the one wait of its life, and a short one. */
void symbolizer_abandon(struct primary *p)
{
	struct symbolizer *s = p->symbolizer;
	struct pollfd ended = {.fd = s ? s->pidfd : -1, .events = POLLIN};

	if (!s)
		return;
	poll(&ended, 1, ABANDON_MS);
	pidfd_send_signal(s->pidfd, SIGKILL, NULL, 0);
	waitid(P_PIDFD, (id_t)s->pidfd, NULL, WEXITED);
	finish(s);
	while ((s = p->symbolizer)) {
		publish(p, s->role, s->slot, s->crash, s->raw);
		symbolizer_free(s);
	}
}

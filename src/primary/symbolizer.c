/*
 * The symbolizer. One runs at a time, and the others wait in a short queue: p->symbolizer is the one at work, and begins it.
 */
#include "primary/symbolizer.h"

#include <elfutils/libdwfl.h>
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

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "primary/events.h"
#include "primary/generation.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/spawn.h"
#include "shared/backtrace.h"

#define DEADLINE_US (5 * US_PER_S)
#define ABANDON_MS  1000 /* that it gets when the primary ends */
#define CPU_MAX_S   4
#define MEMORY_MAX  ((rlim_t)2 << 30) /* address space: files are mapped */
#define LINES_MAX   24
#define QUEUE_MAX   16 /* beyond, addresses are left as they are */

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

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Where debug information lies in a file of its own. That of the C library is large, and its names alone will do. */
static int find_debuginfo(Dwfl_Module *m, void **data, const char *name, Dwarf_Addr base,
	const char *file, const char *link, GElf_Word crc, char **ret_name)
{
	if (strncmp(last_part(name), "libc.so", 7) == 0)
		return -1;
	return dwfl_standard_find_debuginfo(m, data, name, base, file, link, crc, ret_name);
}

static const Dwfl_Callbacks callbacks = {
	.find_debuginfo = find_debuginfo,
	.section_address = dwfl_offline_section_address,
	.find_elf = dwfl_build_id_find_elf,
};

static Dwfl_Module *open_module(Dwfl *dwfl, const char *path)
{
	Dwfl_Module *m;

	dwfl_report_begin_add(dwfl);
	m = dwfl_report_offline(dwfl, path, path, -1);
	dwfl_report_end(dwfl, NULL, NULL);
	return m;
}

/* Below these there is only how the process came to be. */
static bool is_bottom(const char *name)
{
	static const char *const mains[] = {
		"worker_main", "task_main", "admin_main", "bridge_main"};

	for (size_t i = 0; name && i < sizeof(mains) / sizeof(*mains); i++) {
		if (strcmp(name, mains[i]) == 0)
			return true;
	}
	return false;
}

/* "name (file.c:12) in object", as far as it can be found out. Returns false when no other frame is of interest. */
static bool describe(Dwfl_Module *m, const char *path, unsigned long address, FILE *out)
{
	GElf_Addr bias = 0;
	const char *name, *file = NULL;
	Dwfl_Line *line;
	int number = 0;

	if (!m || !dwfl_module_getelf(m, &bias)) {
		fprintf(out, "0x%lx in %s\n", address, path);
		return true;
	}
	name = dwfl_module_addrname(m, address + bias);
	line = dwfl_module_getsrc(m, address + bias);
	if (line)
		file = dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL);
	if (name)
		fprintf(out, "%s", name);
	else
		fprintf(out, "0x%lx", address);
	if (file)
		fprintf(out, " (%s:%d)", last_part(file), number);
	fprintf(out, " in %s\n", last_part(path));
	return !is_bottom(name);
}

/* A line is PATH+0xADDRESS; a path may hold plus signs. */
static bool resolve(Dwfl *dwfl, char *line, unsigned number, FILE *out)
{
	static char known[PATH_MAX];
	static Dwfl_Module *module;
	char *plus = strrchr(line, '+');

	fprintf(out, "#%u ", number);
	if (!plus || plus == line) {
		fprintf(out, "%s\n", line);
		return true;
	}
	*plus = '\0';
	if (strcmp(known, line) != 0) {
		snprintf(known, sizeof(known), "%s", line);
		module = *line == '/' ? open_module(dwfl, line) : NULL;
	}
	return describe(module, line, strtoul(plus + 1, NULL, 16), out);
}

static void limit(int resource, rlim_t max)
{
	struct rlimit l = {max, max};

	setrlimit(resource, &l);
}

static void run_child(char *raw, const struct identity *id, int fd)
{
	CLEANUP(fclosep) FILE *out = NULL;
	Dwfl *dwfl;
	char *line;
	unsigned n = 0;

	spawn_confine_helper(id, fd);
	limit(RLIMIT_CPU, CPU_MAX_S);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which reserve terabytes */
	limit(RLIMIT_AS, MEMORY_MAX);
#endif
	limit(RLIMIT_CORE, 0);
	alarm((unsigned)(DEADLINE_US / US_PER_S));
	unsetenv("DEBUGINFOD_URLS"); /* no questions to the network */
	out = fdopen(fd, "w");
	dwfl = dwfl_begin(&callbacks);
	if (!out || !dwfl)
		_exit(EXIT_FAILURE);
	while ((line = strsep(&raw, "\n")) && n < LINES_MAX) {
		if (*line && !resolve(dwfl, line, n++, out))
			break;
		fflush(out);
	}
	fflush(out);
	_exit(EXIT_SUCCESS);
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

static int start(struct symbolizer *s)
{
	const struct timeval deadline = timeval_from_us(DEADLINE_US);
	CLEANUP(closep) int out = -1;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	s->pipe_fd = fds[0];
	out = fds[1];
	s->pid = fork();
	if (s->pid == 0)
		run_child(s->raw, &s->gen->identity, out);
	s->pidfd = s->pid < 0 ? -1 : pidfd_open(s->pid, 0);
	if (s->pidfd < 0) {
		int r = -errno;

		if (s->pid > 0) {
			kill(s->pid, SIGKILL);
			waitpid(s->pid, NULL, 0);
		}
		close(s->pipe_fd);
		return r;
	}
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

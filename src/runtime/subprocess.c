/*
 * Child processes: from start to end. On the loop's thread of a process that runs modules.
 *
 * Always: a child's number is its own until its last callback is about to come, for it is reaped only then; so signals to its process
 * group never reach another one. A child is freed in on_settle() alone, which is called by nobody but the loop.
 */
#include "runtime/subprocess.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/turn.h"
#include "runtime/subprocess_error.h"
#include "runtime/subprocess_group.h"
#include "runtime/subprocess_internal.h"
#include "runtime/subprocess_launch.h"
#include "runtime/subprocess_program.h"
#include "runtime/subprocess_stdio.h"

#define CHANNEL_VARIABLE "TINE_CHANNEL="
#define STOP_MS          500 /* that killed children get to be gone where the loop does not wait for them */

/* --- the end of a child --- */

static void child_free(struct tine_child *c)
{
	struct subprocesses *all = c->all;

	TAILQ_REMOVE(&all->children, c, link);
	all->n--;
	event_del(&c->ev_settle);
	event_del(&c->ev_timer);
	if (c->pidfd >= 0) {
		event_del(&c->ev_exit);
		close(c->pidfd);
	}
	for (int i = 0; i < N_STREAMS; i++) {
		child_stream_close(&c->streams[i]);
		message_reader_reset(&c->streams[i].reader);
	}
	if (c->forget)
		c->forget(c->o.arg);
	event_del(&c->ev_settle); /* the streams' end */
	free(c);
}

/* Whether nothing more can come of it. */
static bool is_over(const struct tine_child *c)
{
	if (c->pid > 0 && !c->exited)
		return false;
	for (int i = 0; i < N_STREAMS; i++) {
		if (c->streams[i].fd >= 0)
			return false;
	}
	return true;
}

/* Something of it has ended, or is to be told: looked at in a call of its own. */
void subprocess_settle(struct tine_child *c)
{
	if (is_over(c) || c->error != 0)
		event_active(&c->ev_settle, EV_TIMEOUT, 0);
}

/* Its number is free for others after this. */
static void bury(struct tine_child *c)
{
	siginfo_t si;

	if (c->pid == 0)
		return;
	if (!c->o.same_group) /* what it started and left behind */
		kill(-c->pid, SIGKILL);
	waitid(P_PIDFD, (id_t)c->pidfd, &si, WEXITED | WNOHANG);
	c->reaped = true;
}

/* Says why there is an error, for whoever is told of it next. */
void subprocess_say(struct tine_child *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->text, sizeof(c->text), fmt, ap);
	va_end(ap);
}

/* From within a call of the loop. */
void subprocess_tell(struct tine_child *c, int error)
{
	if (c->o.on_error)
		c->o.on_error(c, error, c->o.arg);
}

static void on_settle(evutil_socket_t fd, short what, void *arg)
{
	struct tine_child *c = arg;
	int error = c->error;

	turn_mark();
	c->error = 0;
	if (error != 0)
		subprocess_tell(c, error);
	if (!is_over(c))
		return;
	bury(c);
	if (c->o.on_close)
		c->o.on_close(c, c->o.arg);
	child_free(c);
}

/* Nobody waits for what may still come. */
static void close_streams(struct tine_child *c)
{
	for (int i = 0; i < N_STREAMS; i++)
		child_stream_close(&c->streams[i]);
	subprocess_settle(c);
}

/* waitid(2) leaves it unreaped. glibc hides the kernel's fifth argument, which gives the rusage. */
static void look_how(struct tine_child *c)
{
	siginfo_t si = {0};
	long r = syscall(
		SYS_waitid, P_PIDFD, c->pidfd, &si, WEXITED | WNOHANG | WNOWAIT, &c->how.usage);
	bool known = r == 0 && si.si_pid != 0; /* else somebody else has reaped it */
	bool by_itself = known && si.si_code == CLD_EXITED;

	c->how.status = by_itself ? si.si_status : -1;
	c->how.signal = known && !by_itself ? si.si_status : 0;
	c->how.dumped = known && si.si_code == CLD_DUMPED;
	c->how.timed_out = c->timed_out;
}

static void on_exit_of_child(evutil_socket_t fd, short what, void *arg)
{
	struct tine_child *c = arg;

	turn_mark();
	look_how(c);
	c->exited = true;
	child_stream_close(&c->streams[TINE_CHILD_STDIN]); /* nobody reads it */
	if (c->o.on_exit)
		c->o.on_exit(c, &c->how, c->o.arg);
	if (c->cut)
		close_streams(c);
	subprocess_settle(c);
}

/* --- signals --- */

/* Returns 0, TINE_E_GONE or -errno. */
int subprocess_signal(struct tine_child *c, int sig)
{
	int r;

	if (c->pid == 0 || c->reaped)
		return TINE_E_GONE;
	r = c->o.same_group ? pidfd_send_signal(c->pidfd, sig, NULL, 0) : kill(-c->pid, sig);
	return r < 0 ? -errno : 0;
}

/* The same for people who want to know whether anybody was there: one that has ended is until it is reaped, for the kernel. */
int subprocess_kill(struct tine_child *c, int sig)
{
	bool gone = c->exited && (c->o.same_group || !group_is_alive(c->pid));
	int r = subprocess_signal(c, sig);

	return gone ? TINE_E_GONE : r;
}

/* Kills it and all it has started, and waits for its own end alone. */
void subprocess_end(struct tine_child *c)
{
	subprocess_signal(c, SIGKILL);
	c->cut = true;
	if (c->exited)
		close_streams(c);
}

/* What it does cannot be borne. The error is told. */
void subprocess_fail(struct tine_child *c, int error)
{
	c->error = error;
	child_stream_close(
		&c->streams[TINE_CHILD_CHANNEL]); /* where it came from, or never opened */
	subprocess_end(c);
	subprocess_settle(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct tine_child *c = arg;
	struct timeval grace = timeval_from_us(c->o.grace_us);

	turn_mark();
	if (c->timed_out) {
		subprocess_end(c);
		return;
	}
	c->timed_out = true;
	subprocess_signal(c, SIGTERM);
	event_add(&c->ev_timer, &grace);
}

/* --- the beginning --- */

/* What only a program needs, made before anything is started. */
struct program {
	char **paths, **environment;
	char *argv[2]; /* where none was given */
};

static void program_free(struct program *p)
{
	free(p->paths);
	free(p->environment);
}

static int program_prepare(
	struct program *p, const struct tine_child_options *o, bool channel, struct launch *ret)
{
	char *const *environment = o->environment ? (char *const *)o->environment : environ;
	int r = 0;

	if (channel) {
		r = program_environment(
			o->environment, CHANNEL_VARIABLE "3", CHANNEL_VARIABLE, &p->environment);
		environment = p->environment;
	}
	if (r == 0)
		r = program_find(o->program, environment, &p->paths);
	p->argv[0] = (char *)o->program;
	ret->paths = p->paths;
	ret->argv = o->argv ? (char *const *)o->argv : p->argv;
	ret->environment = environment;
	return r;
}

static int launch_with(struct tine_child *c, const struct tine_child_options *o, bool channel,
	const struct stdio_ends *e)
{
	struct program p = {0};
	struct launch l = {.function = o->function,
		.arg = o->arg,
		.n_fds = e->n,
		.directory = o->directory,
		.uid = o->uid,
		.gid = o->gid,
		.own_group = !o->same_group};
	enum launch_step step = LAUNCH_PROCESS;
	int r = o->function ? 0 : program_prepare(&p, o, channel, &l);

	memcpy(l.fds, e->theirs, sizeof(l.fds));
	if (r == 0)
		r = launch(&l, &c->pid, &c->pidfd, &step);
	if (r < 0) {
		c->pid = 0;
		c->pidfd = -1;
		launch_explain(&l, o->program, step, r, c->text, sizeof(c->text));
	}
	program_free(&p);
	return r;
}

/* Waits for one that was killed, though not for ever: one that hangs in the kernel is left to whoever inherits it. */
static void wait_for(const struct tine_child *c, uint64_t end_us)
{
	struct pollfd ended = {.fd = c->pidfd, .events = POLLIN};
	uint64_t now = now_us();

	poll(&ended, 1, now < end_us ? (int)((end_us - now) / US_PER_MS) + 1 : 0);
}

/* The loop has no room for it, and would not tell of its end. */
static void end_unwatched(struct tine_child *c)
{
	subprocess_signal(c, SIGKILL);
	wait_for(c, now_us() + STOP_MS * US_PER_MS);
	look_how(c);
	c->exited = true;
}

/* The child runs: our ends go onto the loop. */
static int watch(struct tine_child *c, struct stdio_ends *e)
{
	struct timeval timeout = timeval_from_us(c->o.timeout_us);
	int r = 0;

	event_assign(&c->ev_exit, c->all->base, c->pidfd, EV_READ, on_exit_of_child, c);
	if (event_add(&c->ev_exit, NULL) < 0) {
		end_unwatched(c);
		r = -ENOMEM;
	}
	for (int i = 0; i < e->n && r == 0; i++) {
		if (e->ours[i] < 0)
			continue;
		r = child_stream_open(&c->streams[i], e->ours[i]);
		if (r == 0 || c->streams[i].fd >= 0)
			e->ours[i] = -1;
	}
	if (r == 0 && c->o.timeout_us > 0 && event_add(&c->ev_timer, &timeout) < 0)
		r = -ENOMEM;
	return r;
}

/* Everything the system may refuse. Returns 0 or -errno, and then nothing runs, or it has been killed, and nothing is open. */
static int begin(struct tine_child *c, const struct tine_child_options *o, bool channel)
{
	struct stdio_ends e;
	int r = stdio_open(c->all, o, channel, &e);

	if (r < 0) {
		subprocess_say(c, "stream: %s", strerror(-r));
		return r;
	}
	r = launch_with(c, o, channel, &e);
	stdio_close_theirs(&e);
	if (r == 0) {
		r = watch(c, &e);
		if (r < 0) {
			subprocess_say(c, "process: %s", strerror(-r));
			subprocess_fail(c, r);
		}
	}
	stdio_close(&e);
	return r;
}

static struct tine_child *child_new(
	struct subprocesses *all, const struct tine_child_options *o, bool channel)
{
	struct tine_child *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->all = all;
	c->o = *o;
	c->pidfd = -1;
	for (int i = 0; i < N_STREAMS; i++)
		child_stream_init(&c->streams[i], c, (enum tine_child_stream)i);
	evtimer_assign(&c->ev_timer, all->base, on_timer, c);
	evtimer_assign(&c->ev_settle, all->base, on_settle, c);
	TAILQ_INSERT_TAIL(&all->children, c, link);
	all->n++;
	return c;
}

/*
 * Starts a child, whose options are complete. Returns 0, TINE_E_CLOSED, TINE_E_QUOTA or -ENOMEM; what the system refuses is told later, and
 * *ret is set all the same.
 */
int subprocess_start(struct subprocesses *all, const struct tine_child_options *o, bool channel,
	struct tine_child **ret)
{
	struct tine_child *c;

	if (all->ending)
		return TINE_E_CLOSED;
	if (all->n >= TINE_CHILD_MAX)
		return TINE_E_QUOTA;
	c = child_new(all, o, channel);
	if (!c)
		return -ENOMEM;
	c->error = begin(c, o, channel);
	subprocess_settle(c);
	*ret = c;
	return 0;
}

/* --- what may be done with one --- */

int subprocess_write(struct tine_child *c, const void *data, size_t len)
{
	return child_stream_write(&c->streams[TINE_CHILD_STDIN], NULL, 0, data, len);
}

int subprocess_send(struct tine_child *c, const void *data, size_t len)
{
	uint32_t head = (uint32_t)len;

	if (len > c->o.message_max)
		return TINE_E_TOO_LARGE;
	return child_stream_write(&c->streams[TINE_CHILD_CHANNEL], &head, sizeof(head), data, len);
}

void subprocess_close(struct tine_child *c, enum tine_child_stream stream)
{
	child_stream_finish(&c->streams[stream]);
}

void subprocess_pause(struct tine_child *c, enum tine_child_stream stream, bool on)
{
	if (on)
		child_stream_pause(&c->streams[stream]);
	else
		child_stream_resume(&c->streams[stream]);
}

pid_t subprocess_pid(const struct tine_child *c)
{
	return c->pid;
}

/* What its last error was about; "" when there was none. */
const char *subprocess_text(const struct tine_child *c)
{
	return c->text;
}

bool subprocess_has_timed_out(const struct tine_child *c)
{
	return c->timed_out;
}

/* What frees the callbacks' argument when the child is gone. */
void subprocess_set_forget(struct tine_child *c, void (*forget)(void *arg))
{
	c->forget = forget;
}

/* --- all of them --- */

/* Costs nothing until a child is started. Returns 0 or -ENOMEM. */
int subprocesses_new(struct event_base *base, struct subprocesses **ret)
{
	struct subprocesses *all = calloc(1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	all->base = base;
	all->null_fd = -1;
	TAILQ_INIT(&all->children);
	*ret = all;
	return 0;
}

/* The loop has ended: of a child that were started now nothing would be heard. */
void subprocesses_end(struct subprocesses *all)
{
	all->ending = true;
}

/* Kills what still runs, with all it has started, and reaps it. No callback is called. NULL is fine. Returns NULL. */
struct subprocesses *subprocesses_free(struct subprocesses *all)
{
	uint64_t end_us = now_us() + STOP_MS * US_PER_MS;
	struct tine_child *c;

	if (!all)
		return NULL;
	TAILQ_FOREACH (c, &all->children, link)
		subprocess_signal(c, SIGKILL);
	while ((c = TAILQ_FIRST(&all->children))) {
		if (c->pid > 0)
			wait_for(c, end_us);
		bury(c);
		child_free(c);
	}
	if (all->null_fd >= 0)
		close(all->null_fd);
	free(all->buffer);
	free(all);
	return NULL;
}

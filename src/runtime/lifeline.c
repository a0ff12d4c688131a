/*
 * Lifelines. One for each process.
 */
#include "runtime/lifeline.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/turn.h"
#include "runtime/backtrace.h"
#include "shared/child.h"
#include "shared/config.h"

#define LANE_QUEUE_MAX (64u << 10)

struct lifeline {
	struct lifeline_options o;
	struct lane *control;
	struct event ev_term;
	bool said_ready, draining;
};

/* --- SIGTERM --- */

static int term_fd = -1;
static unsigned term_alarm_s;

/* Even a loop that hangs must go some day: SIGALRM is not handled and ends the process. */
static void on_term_signal(int sig)
{
	const uint64_t one = 1;
	int saved_errno = errno;

	alarm(term_alarm_s);
	if (write(term_fd, &one, sizeof(one)) < 0)
		_exit(EXIT_FAILURE);
	errno = saved_errno;
}

static void drain(struct lifeline *l, uint64_t timeout_us)
{
	if (l->draining)
		return;
	l->draining = true;
	l->o.on_drain(timeout_us, l->o.arg);
}

static uint64_t drain_timeout_us(const struct lifeline *l)
{
	return l->o.child->config->workers.drain_timeout_us;
}

static void on_term(evutil_socket_t fd, short what, void *arg)
{
	struct lifeline *l = arg;

	turn_mark();
	if (l->draining)
		return;
	/* Not ready yet: to be told to leave is an answer to READY. */
	lifeline_say_ready(l);
	lane_send(l->control, MSG_LEAVING, 0, NULL, 0);
	drain(l, drain_timeout_us(l));
}

static int handle_signals(struct lifeline *l)
{
	static const int ignored[] = {
		SIGINT, SIGQUIT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGTSTP};
	struct sigaction term = {.sa_handler = on_term_signal, .sa_flags = SA_RESTART};

	/* A terminal sends some of them to the whole group; they are the primary's to act on. */
	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		signal(ignored[i], SIG_IGN);
	term_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (term_fd < 0)
		return -errno;
	term_alarm_s = (unsigned)(drain_timeout_us(l) / US_PER_S) + 2;
	event_assign(&l->ev_term, l->o.base, term_fd, EV_READ, on_term, l);
	if (event_add(&l->ev_term, NULL) < 0)
		return -ENOMEM;
	return sigaction(SIGTERM, &term, NULL) < 0 ? -errno : 0;
}

/* --- what the primary says --- */

static void on_ping(struct lifeline *l, const struct frame *f, const void *payload, int fd)
{
	lane_send(l->control, MSG_PONG, f->id, NULL, 0);
}

static void on_drain(struct lifeline *l, const struct frame *f, const void *payload, int fd)
{
	const struct msg_drain *m = payload;

	drain(l, m->timeout_us);
}

static void on_quit(struct lifeline *l, const struct frame *f, const void *payload, int fd)
{
	l->o.on_quit(l->o.arg);
}

static void on_log_level(struct lifeline *l, const struct frame *f, const void *payload, int fd)
{
	const struct msg_log_level *m = payload;

	log_set_level((enum log_level)m->level);
}

static void on_log_reopen(struct lifeline *l, const struct frame *f, const void *payload, int fd)
{
	log_set_fd(fd);
}

static void (*const handlers[MSG_TYPE_END])(
	struct lifeline *l, const struct frame *f, const void *payload, int fd) = {
	[MSG_PING] = on_ping,
	[MSG_DRAIN] = on_drain,
	[MSG_QUIT] = on_quit,
	[MSG_LOG_LEVEL] = on_log_level,
	[MSG_LOG_REOPEN] = on_log_reopen,
};

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct lifeline *l = arg;

	turn_mark();
	if (msg_lost_fd(f, fd))
		log_warning("%s: too many descriptors are in use; ignoring it", msg_name(f->type));
	else if (handlers[f->type])
		handlers[f->type](l, f, payload, fd);
	else if (l->o.handlers[f->type])
		l->o.handlers[f->type](f, payload, fd, l->o.arg);
	else if (fd >= 0)
		close(fd);
}

static void on_lane_closed(const char *why, void *arg)
{
	struct lifeline *l = arg;

	turn_mark();
	alarm(term_alarm_s);
	if (l->draining)
		return;
	log_warning("the primary is gone%s%s; finishing what is in flight", why ? ": " : "",
		why ? why : "");
	drain(l, drain_timeout_us(l));
}

/* Opens the lane, and sets up signals. From here on the primary can be told what fails. Returns 0 or -errno. */
int lifeline_new(const struct lifeline_options *o, struct lifeline **ret)
{
	struct lifeline *l = calloc(1, sizeof(*l));
	struct lane_options lo = {.base = o->base,
		.fd = o->child->control_fd,
		.kind = LANE_CONTROL,
		.peer = ROLE_PRIMARY,
		.queue_max = LANE_QUEUE_MAX,
		.on_message = on_message,
		.on_closed = on_lane_closed,
		.arg = l};
	int r;

	if (!l)
		return -ENOMEM;
	turn_forget();
	l->o = *o;
	r = lane_new(&lo, &l->control);
	if (r == 0)
		r = handle_signals(l);
	if (r == 0)
		r = backtrace_install(o->child->backtrace);
	*ret = l;
	return r;
}

struct lane *lifeline_lane(struct lifeline *l)
{
	return l->control;
}

/* Says it once, however often it is called. */
void lifeline_say_ready(struct lifeline *l)
{
	if (!l->said_ready)
		lane_send(l->control, MSG_READY, 0, NULL, 0);
	l->said_ready = true;
}

/* The last word: MSG_FAILED with a text, or MSG_DRAINED. */
void lifeline_say_goodbye(struct lifeline *l, enum msg_type type, const char *text)
{
	lane_send(l->control, type, 0, text, text ? strlen(text) : 0);
	lane_flush(l->control);
}

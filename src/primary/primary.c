/*
 * The primary: set-up in order, the loop, shutdown. It supervises and nothing else: no module's code, no byte from
 * the network, no thread, no call that can block.
 */
#include "primary/primary.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/spin.h"
#include "ipc/lane.h"
#include "primary/bridge.h"
#include "primary/bus_figures.h"
#include "primary/control.h"
#include "primary/events.h"
#include "primary/farm.h"
#include "primary/farm_pool.h"
#include "primary/generation.h"
#include "primary/health.h"
#include "primary/lasting.h"
#include "primary/listener.h"
#include "primary/proctab.h"
#include "primary/relay.h"
#include "primary/reload.h"
#include "primary/replace.h"
#include "primary/scale.h"
#include "primary/signals.h"
#include "primary/strays.h"
#include "primary/supervisor.h"
#include "primary/symbolizer.h"
#include "primary/upgrade.h"
#include "runtime/backtrace.h"
#include "shared/arena.h"
#include "shared/backtrace.h"
#include "shared/limits.h"
#include "shared/notify.h"

/* workers of all generations, those still draining included; addresses on the bus have room for them */
#define N_SLOTS          (1u << ADDRESS_SLOT_BITS)
#define STATUS_MAX       384
#define HEARTBEAT_MAX_US (500 * US_PER_MS)
/* timeout(1) and some shells signal the process and then its group: that is one request to stop, not two. */
#define SAME_SIGNAL_US (50 * US_PER_MS)

/* --- what systemd and the operator get to see --- */

/* What is wanted, for those who look. */
static void publish_target(struct primary *p)
{
	sb_set(p->history->generation, p->current ? p->current->number : 0);
	sb_set(p->history->target, p->current ? p->current->target : 0);
}

void primary_set_phase(struct primary *p, enum primary_phase phase)
{
	p->phase = phase;
	sb_set(p->history->phase, (uint32_t)phase);
}

/* What the history says about the primary itself. */
static void publish(struct primary *p)
{
	sb_set(p->history->pid, (uint32_t)p->pid);
	sb_set(p->history->started_us, now_us());
	sb_set(p->history->heartbeat_us, now_us());
	snprintf(p->history->config_path, sizeof(p->history->config_path), "%s",
		p->config_path ? p->config_path : "");
}

static void status_text(const struct primary *p, char *ret, size_t size)
{
	const struct generation *g = p->current;
	const char *verdict = p->history->last_reload;
	bool failed = strncmp(verdict, "failed: ", 8) == 0;

	snprintf(ret, size, "%u of %u workers ready, generation %" PRIu64 "%s%s",
		proctab_n_ready(p, g), g->target, g->number, failed ? "; last reload " : "",
		failed ? verdict : "");
}

/* Updates STATUS=, where there is something to say. */
void primary_status(struct primary *p)
{
	char text[STATUS_MAX];

	publish_target(p);
	if (p->phase != PRIMARY_SERVING || p->rollout)
		return;
	status_text(p, text, sizeof(text));
	notify_status("%s", text);
}

/* The first generation serves, or a reload is over, well or not. */
void primary_ready(struct primary *p)
{
	char text[STATUS_MAX];

	publish_target(p);
	status_text(p, text, sizeof(text));
	notify_ready(text);
}

/* --- settings that follow the configuration --- */

/* Opens the log as configured. Returns 0, or -errno and what is wrong; the old log stays then. */
int primary_open_log(const struct config *c, char *error, size_t size)
{
	int r = log_open(c->tined.log.sink, c->tined.log.path);

	if (r < 0) {
		snprintf(error, size, "%s: tined.log: %s: %s", c->path,
			c->tined.log.path ? c->tined.log.path : "journal", strerror(-r));
		return r;
	}
	log_set_level((enum log_level)c->tined.log_level);
	return 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void arm_heartbeat(struct primary *p)
{
	struct timeval tv = timeval_from_us(p->heartbeat_us);

	sb_set(p->history->heartbeat_interval_us, p->heartbeat_us);
	p->heartbeat_due_us = now_us() + p->heartbeat_us;
	event_add(&p->ev_heartbeat, &tv);
}

/* Takes on what the serving generation's configuration says about the primary itself. */
void primary_configure(struct primary *p)
{
	const struct config *c = p->current->config;
	char error[512];

	if (primary_open_log(c, error, sizeof(error)) < 0)
		log_warning("%s; logging as before", error);
	p->heartbeat_us = HEARTBEAT_MAX_US;
	p->spin.budget_us = c->bus.spin_us;
	if (p->watchdog_us)
		p->heartbeat_us = least(p->heartbeat_us, p->watchdog_us / 4);
	primary_hasten(p, c);
}

/* Makes the heart beat as fast as a configuration needs, if it does not yet. */
void primary_hasten(struct primary *p, const struct config *c)
{
	uint64_t fastest_us = p->heartbeat_us ? p->heartbeat_us : HEARTBEAT_MAX_US;

	p->heartbeat_us = least(fastest_us, c->workers.hang_timeout_us / 4);
	arm_heartbeat(p);
}

/* --- health --- */

/*
 * Whether any worker moves, or is on its way within a deadline of its own. One that has not answered for half the watchdog's
 * time does not move, whatever hang_timeout says: systemd asked to know by then.
 */
static bool is_making_progress(const struct primary *p, uint64_t now)
{
	if (p->phase != PRIMARY_SERVING || p->rollout)
		return true;
	proctab_foreach_worker(p, pr)
	{
		uint64_t patience_us =
			least(pr->gen->config->workers.hang_timeout_us, p->watchdog_us / 2);

		if (pr->state == PROC_STARTING || pr->state == PROC_BACKOFF)
			return true;
		if (pr->state == PROC_READY &&
			(pr->asked_us == 0 || now < pr->asked_us + patience_us))
			return true;
	}
	return false;
}

static void on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
	struct primary *p = arg;
	uint64_t now = now_us();

	sb_set(p->history->heartbeat_us, now);
	health_heartbeat(p);
	if (!p->rollout) /* what a generation on trial has opened may soon be closed again */
		listener_pool_store(p->pool);
	replace_heartbeat(p);
	relay_heartbeat(p->relay, now);
	bridge_heartbeat(p);
	bus_figures_heartbeat(p);
	farm_pool_heartbeat(p);
	scale_heartbeat(p);
	notify_retry();
	if (p->watchdog_us && now >= p->watchdog_due_us && is_making_progress(p, now)) {
		notify_watchdog();
		p->watchdog_due_us = now + p->watchdog_us / 2 - p->heartbeat_us;
	}
	arm_heartbeat(p);
}

/* --- log files --- */

/* The access log belongs to a generation; each child gets a descriptor of its own. */
static void reopen_access_logs(struct primary *p)
{
	proctab_foreach (p, pr) {
		int r = generation_reopen_access(pr->gen);

		if (r < 0)
			log_error("cannot reopen the access log of generation %" PRIu64
				  ": %s; writing to the old file",
				pr->gen->number, strerror(-r));
		else if (pr->control && pr->gen->access_fd > STDERR_FILENO &&
			pr->gen->config->http.access_log.sink == LOG_SINK_FILE)
			lane_send_fd(pr->control, MSG_ACCESS_REOPEN, NULL, 0, pr->gen->access_fd);
	}
}

/* SIGUSR1: log files were rotated away. Children get the new descriptor, for they may not open it themselves. */
void primary_reopen_logs(struct primary *p)
{
	int r = log_reopen();

	reopen_access_logs(p);

	if (r < 0) {
		log_error("cannot reopen the log: %s; writing to the old file", strerror(-r));
		return;
	}
	log_info("log reopened");
	if (log_fd() < 0)
		return;
	proctab_foreach (p, pr) {
		if (pr->control)
			lane_send_fd(pr->control, MSG_LOG_REOPEN, NULL, 0, log_fd());
	}
}

/* --- the end --- */

static void kill_all(struct primary *p)
{
	proctab_foreach (p, pr)
		supervisor_kill(pr, SIGKILL, "stop at once");
}

/* Gracefully at first, bounded by drain_timeout; asked a second time, at once. */
void primary_stop(struct primary *p, int exit_status)
{
	if (p->phase == PRIMARY_STOPPING) {
		if (now_us() < p->stopping_us + SAME_SIGNAL_US)
			return;
		log_warning("stopping at once");
		kill_all(p);
		return;
	}
	primary_set_phase(p, PRIMARY_STOPPING);
	p->stopping_us = now_us();
	p->exit_status = exit_status;
	if (exit_status == EXIT_SUCCESS)
		event_note(p, LOG_LVL_INFO, EVENT_LIFE, NULL, "stopping");
	notify_stopping();
	upgrade_abandon(p);
	rollout_abandon(p);
	replace_abandon(p, false, "tined is stopping");
	scale_abandon(p, "tined is stopping");
	proctab_foreach (p, pr) {
		if (pr->role != ROLE_TASK) /* they go when nobody has tasks any more */
			supervisor_retire(pr, "stopping");
	}
	farm_pool_dismiss(p);
	listener_pool_close(p->pool);
	primary_settled(p);
}

/* A slot has become free: perhaps it was the last one we waited for. */
void primary_settled(struct primary *p)
{
	if (p->phase != PRIMARY_STOPPING)
		return;
	proctab_foreach (p, pr)
		return;
	p->done = true;
	event_base_loopbreak(p->base);
}

/* --- set-up --- */

/* Ours takes the place of an old one, and of nothing else: not of a file that somebody named by mistake. */
static bool may_be_pid_file(const char *path)
{
	char text[32] = "";
	struct stat st;

	if (lstat(path, &st) < 0 || S_ISDIR(st.st_mode))
		return true; /* there is none, or to write it will fail */
	return S_ISREG(st.st_mode) && st.st_size < (off_t)sizeof(text) &&
		(st.st_size == 0 || fd_read_text(path, text, sizeof(text)) > 0) &&
		text[strspn(text, "0123456789\n")] == '\0';
}

/*
 * Writes the pid file, whole or not at all: a service that runs already keeps its own until its port is free.
 * Returns 0, or -errno and what is wrong.
 */
static int write_pid_file(struct primary *p, const struct config *c, char *error, size_t size)
{
	CLEANUP(freep)
	char *path = c->tined.pid_file && *c->tined.pid_file ? strdup(c->tined.pid_file) : NULL;
	CLEANUP(closep) int fd = -1;
	char temporary[PATH_MAX], text[32];
	int n = snprintf(text, sizeof(text), "%d\n", (int)p->pid);

	if (!path)
		return 0;
	if (!may_be_pid_file(path)) {
		snprintf(error, size,
			"%s: tined.pid_file: %s: there is something else than a pid file", c->path,
			path);
		return -EEXIST;
	}
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, (size_t)n) != n || rename(temporary, path) < 0) {
		int r = -errno;

		snprintf(error, size, "%s: tined.pid_file: %s: %s", c->path, path, strerror(-r));
		if (fd >= 0)
			unlink(temporary);
		return r;
	}
	p->pid_file = take_ptr(path);
	return 0;
}

/* What there is but one of, and others know us by: the pid file and the control socket. Returns as above. */
int primary_take_names(struct primary *p, const struct config *c, char *error, size_t size)
{
	int r = write_pid_file(p, c, error, size);

	return r < 0 ? r : control_open(p, c, error, size);
}

/* Unless somebody else has written his there. */
static void remove_pid_file(const struct primary *p)
{
	char text[32];

	if (p->pid_file && fd_read_text(p->pid_file, text, sizeof(text)) > 0 &&
		atoi(text) == (int)p->pid)
		unlink(p->pid_file);
}

static bool is_served(const struct config *c, const struct conf_listener *l)
{
	for (size_t i = 0; i < c->n_modules; i++) {
		if (strcmp(c->modules[i].listener, l->name) == 0)
			return true;
	}
	return false;
}

/* Tells the operator what would surprise him later. */
static void check_limits(const struct config *c)
{
	unsigned fds = 0;

	if (fd_raise_limit(&fds) == 0 && limits_connections(fds) < c->workers.max_connections)
		log_warning(
			"the limit of %u descriptors allows only %u connections for each worker, "
			"not max_connections = %" PRIu64 "; raise LimitNOFILE",
			fds, limits_connections(fds), c->workers.max_connections);
	if (geteuid() == 0 && !c->tined.user)
		log_warning("workers run as root; set `user` in [tined]");
	for (size_t i = 0; i < c->n_listeners; i++) {
		if (c->listeners[i].protocol == PROTOCOL_TCP && !is_served(c, &c->listeners[i]))
			log_warning("[listener:%s]: no module serves it; closing each connection "
				    "as it comes",
				c->listeners[i].name);
	}
}

static int set_up(struct primary *p, const struct config *c)
{
	char error[512];
	int r = primary_open_log(c, error, sizeof(error));

	if (r < 0) {
		log_error("%s", error);
		return r;
	}
	check_limits(c);
	p->watchdog_us = notify_watchdog_us();
	backtrace_preload(); /* children start often, and each would have to */
	r = loop_new(&p->base);
	if (r == 0)
		r = evtimer_assign(&p->ev_heartbeat, p->base, on_heartbeat, p);
	if (r == 0)
		r = proctab_new(p, N_SLOTS, supervisor_on_timer, health_on_deadline);
	if (r == 0)
		r = relay_new(p->base, &p->scoreboard, &p->relay);
	if (r == 0)
		r = history_new(&p->history);
	if (r == 0)
		r = backtraces_new(N_SLOTS, &p->backtraces);
	if (r == 0)
		r = signals_open(p);
	if (r == 0)
		r = strays_open(p);
	if (r == 0)
		r = listener_pool_new(&p->pool);
	if (r == 0)
		r = lasting_note(p, c);
	if (r == 0)
		r = upgrade_adopt(p, c);
	if (r == 0 && p->arena_fd < 0) /* the one before us left us none */
		r = arena_new(c->workers.shared_memory, &p->arena_fd);
	if (r < 0)
		log_error("cannot start: %s", strerror(-r));
	return r;
}

/* Copes with a primary that is only half made. */
static void tear_down(struct primary *p)
{
	struct generation *g = p->current;

	symbolizer_abandon(p); /* first: it may have something to tell of a child */
	strays_close(p);
	p->current = NULL;
	if (g)
		generation_release(p, g);
	control_close(p);
	relay_free(p->relay);
	listener_pool_free(p->pool);
	remove_pid_file(p);
	lasting_free(p);
	free(p->pid_file);
	free(p->binary);
	free(p->procs);
	if (p->base) {
		event_del(&p->ev_heartbeat);
		if (p->predecessor_fd >= 0) {
			event_del(&p->ev_predecessor);
			close(p->predecessor_fd);
		}
		if (p->signal_fd >= 0)
			event_del(&p->ev_signal);
		event_base_free(p->base);
	}
	if (p->signal_fd >= 0)
		close(p->signal_fd);
	if (p->arena_fd >= 0)
		close(p->arena_fd);
}

/* The file to execute for an upgrade: it may have been replaced by the time it is. */
static char *own_binary(void)
{
	static const char deleted[] = " (deleted)";
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n < 0)
		return strdup("/proc/self/exe");
	path[n] = '\0';
	if ((size_t)n > strlen(deleted) && strcmp(path + n - strlen(deleted), deleted) == 0)
		path[(size_t)n - strlen(deleted)] = '\0';
	return strdup(path);
}

/* What has come on the bus: messages, tasks, and results of those. */
static struct spin_seen seen_by(const struct primary *p)
{
	struct spin_seen seen = *relay_seen(p->relay);

	if (p->current)
		seen.n += farms_n_results(p->current->farms);
	return seen;
}

static void run(struct primary *p)
{
	struct spin_seen seen;
	bool spins = false;

	while (!p->done) {
		if (event_base_loop(p->base, spins ? EVLOOP_NONBLOCK : EVLOOP_ONCE) != 0)
			break;
		seen = seen_by(p);
		spins = spin_again(&p->spin, &seen);
	}
}

/* Runs the primary to its end. Returns the exit status. The configuration is taken over. */
int primary_run(const struct primary_options *o)
{
	struct primary p = {.config_path = o->config_path,
		.worker_main = o->worker_main,
		.admin_main = o->admin_main,
		.bridge_main = o->bridge_main,
		.task_main = o->task_main,
		.pid = getpid(),
		.exit_status = EXIT_FAILURE,
		.signal_fd = -1,
		.arena_fd = -1,
		.binary = own_binary(),
		.arguments = o->arguments,
		.predecessor_fd = -1};

	srandom((unsigned)(now_us() ^ (uint64_t)p.pid));
	if (set_up(&p, o->config) < 0) {
		config_free(o->config);
		tear_down(&p);
		return EXIT_FAILURE;
	}
	publish(&p);
	rollout_first(&p, o->config);
	run(&p);
	if (p.exit_status == EXIT_SUCCESS)
		log_info("stopped");
	tear_down(&p);
	return p.exit_status;
}

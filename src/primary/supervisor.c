/*
 * Supervision. Runs in the primary.
 * Always holds: a child is watched through its pidfd from birth to burial; whatever it sends or fails to send
 * can end only itself. One event each: message, lane closed, deadline, exit.
 */
#include "primary/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ipc/lane.h"
#include "primary/admin_commands.h"
#include "primary/bridge.h"
#include "primary/burial.h"
#include "primary/farm.h"
#include "primary/farm_pool.h"
#include "primary/health.h"
#include "primary/listener.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/recycle.h"
#include "primary/relay.h"
#include "primary/reload.h"
#include "primary/replace.h"
#include "primary/scale.h"
#include "primary/spawn.h"
#include "runtime/backtrace.h"

#define KILL_GRACE_US  (2 * US_PER_S) /* between SIGABRT and SIGKILL */
#define EXIT_GRACE_US  (1 * US_PER_S) /* for a child that has nothing left to do */
#define CONTROL_MAX    (64u << 10)    /* bytes queued to a child that does not read */
#define HEALTHY_FACTOR 10             /* a worker that served this many backoff_min was healthy */

static void signal_child(struct proc *pr, int sig)
{
	if (pidfd_send_signal(pr->pidfd, sig, NULL, 0) < 0 && errno != ESRCH)
		log_warning("worker[%u]: cannot send signal %d: %s; trying again later", pr->slot,
			sig, strerror(errno));
}

/* Ends a child by signal; SIGKILL follows if it survives that. */
void supervisor_kill(struct proc *pr, int sig, const char *why)
{
	if (pr->state == PROC_KILLING || !proc_may_move(pr->state, PROC_KILLING))
		return;
	proc_set_state(pr, PROC_KILLING, "%s; sending %s", why,
		sig == BACKTRACE_SIGNAL ? "a request for a backtrace" : strsignal(sig));
	signal_child(pr, sig);
	proc_set_timer(pr, KILL_GRACE_US);
	if (pr->role != ROLE_TASK)
		listener_pool_assign(pr->primary->pool, pr->primary);
}

/* Its place is not filled again when it ends. */
void supervisor_set_leaving(struct proc *pr)
{
	pr->leaving = true;
	if (pr->farm)
		farm_pool_on_leaving(pr);
	sb_set(pr->primary->scoreboard.slots[pr->slot].leaving, 1);
}

/* Lets a ready child accept connections. */
void supervisor_end_trial(struct proc *pr)
{
	if (!pr->on_trial)
		return;
	pr->on_trial = false;
	sb_set(pr->primary->scoreboard.slots[pr->slot].on_trial, 0);
	bridge_activate(pr);
	if (pr->role != ROLE_BRIDGE && pr->state == PROC_READY &&
		lane_send(pr->control, MSG_SERVE, 0, NULL, 0) > 0)
		supervisor_kill(pr, SIGKILL, "does not read its control lane");
}

/* Lets a child finish what it has; it is not replaced. */
static void drain(struct proc *pr, const char *why)
{
	struct msg_drain m = {.timeout_us = pr->gen->config->workers.drain_timeout_us};
	/* One that starts has nothing to finish, and may hang. If it was ready after all, on_ready() gives it time. */
	uint64_t allowed_us = pr->state == PROC_STARTING ? 0 : m.timeout_us;
	int r;

	if (!proc_may_move(pr->state, PROC_DRAINING))
		return;
	proc_set_state(pr, PROC_DRAINING, "%s", why);
	proc_set_timer(pr, allowed_us + EXIT_GRACE_US);
	r = lane_send(pr->control, MSG_DRAIN, 0, &m, sizeof(m));
	bridge_on_drain(pr);
	if (r == -EPIPE) /* it is dying: its pidfd will say how */
		proc_set_timer(pr, EXIT_GRACE_US);
	else if (r != 0)
		supervisor_kill(pr, SIGKILL, "does not read its control lane");
	listener_pool_assign(pr->primary->pool, pr->primary);
}

static void vacate(struct proc *pr, const char *why)
{
	struct primary *p = pr->primary;

	replace_on_vacate(pr);
	if (pr->farm)
		farm_pool_on_leaving(pr);
	proc_set_state(pr, PROC_EMPTY, "%s", why);
	free(pr->words);
	pr->words = NULL;
	proctab_give_back(pr);
	farm_pool_dismiss(p);
	primary_settled(p);
}

/* Takes a child out of service by whatever way its state allows. */
void supervisor_retire(struct proc *pr, const char *why)
{
	replace_on_retire(pr);
	supervisor_set_leaving(pr);
	if (pr->state == PROC_BACKOFF || pr->state == PROC_FAILED)
		vacate(pr, why);
	else
		drain(pr, why);
}

/* --- filling a slot again --- */

static void start_again(struct proc *pr, const char *why)
{
	sb_add(pr->primary->history->restarts, 1);
	supervisor_start(pr, why);
}

static void wait_or_give_up(struct proc *pr, uint64_t delay_us)
{
	if (delay_us == BACKOFF_SPENT) {
		proc_set_state(pr, PROC_FAILED, "budget spent");
		log_error("%s[%u]: more crashes than crash_limit allows; giving the slot up "
			  "until the next reload or restart",
			proc_role_name(pr), pr->slot);
	} else if (delay_us == 0) {
		start_again(pr, "replacing at once");
	} else {
		proc_set_state(
			pr, PROC_BACKOFF, "next start in %" PRIu64 " ms", delay_us / US_PER_MS);
		proc_set_timer(pr, delay_us);
	}
}

/* Counts an end that was not to be. Returns microseconds until the next start, or BACKOFF_SPENT. */
uint64_t supervisor_count_failure(struct proc *pr)
{
	const struct conf_workers *c = &pr->gen->config->workers;
	struct backoff_limits limits = {c->backoff_min_us, c->backoff_max_us, c->crash_limit};
	uint64_t now = now_us();
	bool healthy =
		pr->ready_us != 0 && now - pr->ready_us >= HEALTHY_FACTOR * c->backoff_min_us;

	return backoff_failed(&pr->backoff, &limits, healthy, now, (uint32_t)random());
}

/*
 * A task process that had tasks died of one of them, which is no reason to wait; but a fork takes as long as many tasks, and those
 * that go to other processes go first, with the end of this turn.
 */
static void replace_task(struct proc *pr, const char *how)
{
	if (pr->was_given_tasks) {
		proc_set_state(pr, PROC_BACKOFF, "replacing in the next turn");
		proc_set_timer(pr, 0);
	} else {
		wait_or_give_up(pr, supervisor_count_failure(pr));
	}
	farm_pool_on_settled(pr, how);
}

/* A member that was to stay is gone: fill its slot again, sooner or later. */
static void replace(struct proc *pr)
{
	wait_or_give_up(pr, supervisor_count_failure(pr));
	scale_settle(pr->primary);
	primary_status(pr->primary);
}

/* --- what children say --- */

static void begin_to_serve(struct proc *pr)
{
	if (pr->role == ROLE_WORKER && pr->bus)
		relay_announce(pr->bus);
	bridge_activate(pr);
	listener_pool_assign(pr->primary->pool, pr->primary);
}

static void on_ready(struct proc *pr, const void *payload, size_t len)
{
	if (pr->state == PROC_READY)
		supervisor_kill(pr, SIGKILL, "broke the protocol: READY twice");
	if (pr->state == PROC_DRAINING &&
		pr->ready_us == 0) { /* told to go while it was starting */
		pr->ready_us = now_us();
		proc_set_timer(pr, pr->gen->config->workers.drain_timeout_us + EXIT_GRACE_US);
	}
	if (pr->state != PROC_STARTING)
		return;
	pr->ready_us = now_us();
	proc_set_state(pr, PROC_READY, "generation %" PRIu64 ", started in %.1f ms",
		pr->gen->number, (double)(pr->ready_us - pr->started_us) / 1e3);
	if (pr->role == ROLE_TASK)
		farm_pool_on_ready(pr);
	else
		begin_to_serve(pr);
	replace_on_ready(pr);
	rollout_on_ready(pr->primary, pr);
	if (pr->role == ROLE_TASK)
		return;
	scale_step(pr->primary);
	primary_status(pr->primary);
}

static void on_failed(struct proc *pr, const void *payload, size_t len)
{
	if (pr->words || pr->ready_us != 0) {
		supervisor_kill(pr, SIGKILL, "broke the protocol: FAILED out of place");
		return;
	}
	pr->words = len > 0 ? strndup(payload, len) : NULL;
	if (pr->state == PROC_STARTING)
		proc_set_timer(pr, EXIT_GRACE_US);
}

static void on_pong(struct proc *pr, const void *payload, size_t len)
{
	health_on_pong(pr);
}

static void on_drained(struct proc *pr, const void *payload, size_t len)
{
	if (pr->state == PROC_DRAINING && !pr->drained)
		proc_set_timer(pr, EXIT_GRACE_US);
	pr->drained = true;
}

/* Somebody sent it SIGTERM: it drains of its own accord. Another takes its place at once. */
static void on_leaving(struct proc *pr, const void *payload, size_t len)
{
	struct primary *p = pr->primary;
	struct proc *next;

	if (pr->state != PROC_READY)
		return;
	supervisor_set_leaving(pr);
	proc_set_state(pr, PROC_DRAINING, "was told to leave, though not by us");
	proc_set_timer(pr, pr->gen->config->workers.drain_timeout_us + EXIT_GRACE_US);
	listener_pool_assign(p->pool, p);
	if (p->rollout)
		rollout_on_exit(p, pr, "left of its own accord");
	if (pr->gen != p->current || p->phase != PRIMARY_SERVING || replace_on_leaving(pr))
		return;
	if (pr->farm && !farm_pool_is_short(pr->farm))
		return;
	next = proctab_take(p, pr->gen, pr->role, pr->index);
	if (!next)
		return;
	if (pr->farm)
		farm_pool_join(next, pr->farm);
	next->backoff =
		pr->backoff; /* one that leaves again and again is no better than one that crashes */
	next->ready_us = pr->ready_us;
	if (next->farm)
		replace_task(next, "left of its own accord");
	else
		replace(next);
}

static void (*const handlers[MSG_TYPE_END])(struct proc *pr, const void *payload, size_t len) = {
	[MSG_READY] = on_ready,
	[MSG_FAILED] = on_failed,
	[MSG_PONG] = on_pong,
	[MSG_DRAINED] = on_drained,
	[MSG_LEAVING] = on_leaving,
};

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	if (f->type == MSG_COMMAND) /* answered with its number */
		admin_command_run(arg, f, payload);
	else
		handlers[f->type](
			arg, payload, f->length); /* the table lets children send no others */
}

static void on_lane_closed(const char *why, void *arg)
{
	struct proc *pr = arg;
	char text[128];

	if (why) {
		snprintf(text, sizeof(text), "broke the protocol: %s", why);
		supervisor_kill(pr, SIGKILL, text);
	} else if (pr->state == PROC_READY || pr->state == PROC_STARTING) {
		proc_set_timer(pr, EXIT_GRACE_US); /* it is about to exit, or to be made to */
	}
}

/* --- deadlines --- */

static void on_start_timeout(struct proc *pr)
{
	if (lane_is_open(pr->control))
		health_on_start_timeout(pr);
	else
		supervisor_kill(pr, SIGKILL, "closed its lane and lives on");
}

static void on_ready_timeout(struct proc *pr)
{
	supervisor_kill(pr, SIGKILL, "closed its lane and lives on");
}

static void on_draining_timeout(struct proc *pr)
{
	supervisor_kill(pr, SIGKILL, "not finished in time");
}

static void on_backoff_timeout(struct proc *pr)
{
	start_again(pr, "back-off is over");
}

static void (*const timeouts[PROC_STATES])(struct proc *pr) = {
	[PROC_STARTING] = on_start_timeout,
	[PROC_READY] = on_ready_timeout,
	[PROC_DRAINING] = on_draining_timeout,
	[PROC_KILLING] = health_on_killing_timeout,
	[PROC_BACKOFF] = on_backoff_timeout,
};

/* The deadline of a child's state has come. */
void supervisor_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct proc *pr = arg;

	timeouts[pr->state](pr);
}

/* --- the end of a child --- */

static bool is_to_stay(const struct proc *pr)
{
	return pr->farm ? farm_pool_needs(pr) : pr->primary->phase != PRIMARY_STOPPING;
}

/* What becomes of the slot of a child that is dead. */
static void settle(struct proc *pr, const char *how)
{
	struct primary *p = pr->primary;

	replace_on_exit(pr, how);
	if (!pr->leaving && p->rollout && !(pr->farm && pr->was_given_tasks))
		rollout_on_exit(p, pr, how); /* may take it out of service */
	if (pr->leaving || !is_to_stay(pr))
		vacate(pr, "not to be replaced");
	else if (pr->farm)
		replace_task(pr, how);
	else
		replace(pr);
}

static void on_gone(evutil_socket_t fd, short what, void *arg)
{
	struct proc *pr = arg;
	struct primary *p = pr->primary;
	struct sb_slot *sb = &p->scoreboard.slots[pr->slot];
	char how[256];

	event_del(&pr->ev_hang);
	lane_read_rest(pr->control); /* its last words may be the best line in the log */
	relay_read_rest(pr->bus);
	farm_process_read_rest(pr->task);
	burial_record(pr, how, sizeof(how));
	burial_salvage(pr);
	clients_clear(&pr->gen->clients, pr->slot);
	admin_commands_cancel(pr);
	bridge_bury(pr);
	pr->control = lane_free(pr->control);
	pr->bus = relay_detach(pr->bus);
	farm_pool_on_gone(pr, how);
	bridge_on_gone(pr);
	event_del(&pr->ev_exit);
	close(pr->pidfd);
	pr->pidfd = -1;
	sb_set(sb->pid, 0);
	history_bury_slot(p->history, sb);
	proc_set_state(pr, PROC_DEAD, "%s", how);
	if (pr->role != ROLE_TASK)
		listener_pool_assign(p->pool, p);
	settle(pr, how);
	replace_step(p); /* the next one's turn, if it was the last one's end */
}

/* --- the beginning of one --- */

static void on_bus_offence(const char *why, void *arg)
{
	char text[128];

	snprintf(text, sizeof(text), "broke the protocol of the bus: %s", why);
	supervisor_kill(arg, SIGKILL, text);
}

/* A task process is not on the bus: on the other end of its lane is its farm. The admin process has no such lane. */
static int join_bus(struct proc *pr, int fd)
{
	const struct conf_bus *c = &pr->gen->config->bus;
	struct relay_peer_options o = {.address = pr->address,
		.role = pr->role,
		.generation = pr->gen->number,
		.fd = fd,
		.queue_high = pr->role == ROLE_BRIDGE ? conf_bridge_high(c) : c->queue_high,
		.queue_low = pr->role == ROLE_BRIDGE ? conf_bridge_low(c) : c->queue_low,
		.max_message = c->max_message,
		.max_subscriptions = c->subscriptions,
		.farms = pr->gen->farms,
		.on_offence = on_bus_offence,
		.arg = pr};

	if (fd < 0)
		return 0;
	if (pr->role == ROLE_TASK)
		return farm_pool_attach(pr, fd);
	return relay_attach(pr->primary->relay, &o, &pr->bus);
}

static int watch(struct proc *pr, int control_fd, int bus_fd)
{
	struct primary *p = pr->primary;
	struct lane_options o = {.base = p->base,
		.fd = control_fd,
		.kind = LANE_CONTROL,
		.peer = pr->role,
		.queue_max = CONTROL_MAX,
		.on_message = on_message,
		.on_closed = on_lane_closed,
		.arg = pr};
	int r = lane_new(&o, &pr->control);

	if (r == 0)
		r = join_bus(pr, bus_fd);
	else if (bus_fd >= 0)
		close(bus_fd);
	event_assign(&pr->ev_exit, p->base, pr->pidfd, EV_READ | EV_PERSIST, on_gone, pr);
	if (event_add(&pr->ev_exit, NULL) < 0)
		r = -ENOMEM;
	return r;
}

/* Forks a child into the slot, whose state allows it. What fails is retried as a crash would be. */
void supervisor_start(struct proc *pr, const char *why)
{
	struct sb_slot *sb = &pr->primary->scoreboard.slots[pr->slot];
	int control_fd, bus_fd, r;

	proc_set_state(pr, PROC_STARTING, "%s", why);
	pr->started_us = now_us();
	recycle_draw_limits(pr);
	pr->ready_us = 0;
	pr->asked_us = 0;
	pr->drained = pr->hung = pr->aborted = pr->late = pr->was_given_tasks = false;
	free(pr->words);
	pr->words = NULL;
	pr->address = relay_next_address(pr->primary->relay, pr->slot);
	if (pr->primary->current)
		farms_feed(pr->primary->current->farms);
	r = spawn(pr, &control_fd, &bus_fd);
	if (r < 0) {
		log_error("%s[%u]: cannot fork: %s", proc_role_name(pr), pr->slot, strerror(-r));
		proc_set_state(pr, PROC_DEAD, "never lived");
		settle(pr, strerror(-r));
		return;
	}
	sb_set(sb->state, PROC_STARTING);
	sb_set(sb->pid, (uint32_t)pr->pid);
	sb_set(sb->generation, pr->gen->number);
	sb_set(sb->started_us, pr->started_us);
	sb_set(sb->failures, pr->backoff.streak);
	proc_set_timer(pr, pr->gen->config->workers.start_timeout_us);
	if (watch(pr, control_fd, bus_fd) < 0)
		supervisor_kill(pr, SIGKILL, "out of memory for its lanes");
}

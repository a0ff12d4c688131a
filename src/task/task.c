/*
 * Set-up, the loop, drain. Runs in a task process, of which each farm has several: it loads the farm's module, and runs what
 * comes as TASK on the lane of the bus, one task after the other, each to its end. While a task runs nothing else happens: the
 * primary knows that, watches over the task's time, and kills the process when that is up. It may send tasks ahead, to be run
 * after the one that runs; before we begin one we look in shared memory whether it has been taken back.
 */
#include "task/task.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/spin.h"
#include "base/turn.h"
#include "ipc/blob.h"
#include "ipc/lane.h"
#include "runtime/bus.h"
#include "runtime/lifeline.h"
#include "runtime/module.h"
#include "runtime/task.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/scoreboard.h"

struct task_process {
	const struct child *child;
	struct event_base *base;
	struct lifeline *lifeline;
	struct lane *lane; /* on which tasks come */
	struct sb_slot *slot;
	struct conf_module conf;
	struct tine_worker module;
	void *state; /* of the module */
	const struct tine_task_function
		*last; /* that was run: the next one is likely to be the same */
	bool done;
	int exit_status;
	unsigned n_in_turn; /* tasks that came */
	struct spin spin;   /* for the next one */
	struct spin_seen seen;
	struct tine_task task;
};

/* --- answers --- */

static void send_done(struct task_process *p, uint64_t id, struct msg_task_done *head,
	const struct iovec *body, int fd)
{
	struct frame f = {.type = MSG_TASK_DONE,
		.src = p->child->address,
		.id = id,
		.flags = fd >= 0 ? FRAME_LARGE | FRAME_FD : 0,
		.length = (uint32_t)(sizeof(*head) + body->iov_len)};
	struct iovec parts[] = {{head, sizeof(*head)}, *body};
	int r = lane_put(p->lane, &f, parts, 2, fd);

	if (r < 0 && fd >= 0) { /* no descriptor for its copy */
		static const char text[] = "too many descriptors are in use for the result";
		struct iovec why = {(void *)(uintptr_t)text, sizeof(text) - 1};

		head->status = r == -EMFILE ? TINE_E_QUOTA : r;
		send_done(p, id, head, &why, -1);
		return;
	}
	lane_flush(p->lane); /* at once, and not when the turn ends: somebody waits */
}

/* Says what became of the task: a result, or an error and a text. */
static void answer(struct task_process *p, uint64_t id, int status)
{
	struct tine_task *t = &p->task;
	struct msg_task_done head = {.status = status, .tries = t->tries + 1};
	struct msg_large large = {.size = t->answer_len};
	struct iovec body = {t->text, t->text_len};

	if (status == 0 && t->blob >= 0)
		body = (struct iovec){&large, sizeof(large)};
	else if (status == 0)
		body = (struct iovec){t->answer, t->answer_len};
	send_done(p, id, &head, &body, status == 0 ? t->blob : -1);
}

/* --- tasks --- */

static const struct tine_task_function *find_function(
	struct task_process *p, const char *name, size_t len)
{
	const struct tine_task_function *f = p->last;

	if (f && strncmp(f->name, name, len) == 0 && f->name[len] == '\0')
		return f;
	for (f = p->module.desc->tasks; f->name; f++) {
		if (strncmp(f->name, name, len) == 0 && f->name[len] == '\0') {
			p->last = f;
			return f;
		}
	}
	return NULL;
}

/* Runs the function of this name; what it answers is in p->task. Returns 0 or -errno. */
static int run_function(struct task_process *p, const char *name, size_t len)
{
	const struct tine_task_function *f = find_function(p, name, len);

	if (f)
		return task_run(&p->task, f, p->state);
	task_say(&p->task, "the module of farm:%s has no function %.*s", p->conf.name, (int)len,
		name);
	return TINE_E_NOBODY;
}

static void run_task(struct task_process *p, const struct frame *f, const struct tine_message *m)
{
	const struct msg_task *head = (const void *)(f + 1);

	task_begin(&p->task, m->data, m->len, head->tries);
	answer(p, f->id, run_function(p, (const char *)(head + 1), head->function));
	task_end(&p->task);
}

/* The argument is in a blob. */
static void run_large(struct task_process *p, const struct frame *f, struct tine_message *m)
{
	const struct msg_task *head = (const void *)(f + 1);
	int r = msg_lost_fd(f, m->fd) ? TINE_E_QUOTA : bus_map_large(m);

	if (r == 0) {
		run_task(p, f, m);
		blob_unmap(m->data, m->len);
		return;
	}
	task_begin(&p->task, "", 0, head->tries);
	task_say(&p->task, "the argument cannot be taken: %s",
		r == TINE_E_QUOTA ? "too many descriptors are in use" : strerror(-r));
	answer(p, f->id, r);
}

/* What became of the task before is out before the next one begins, which may take long, or crash. */
static void finish_answer(struct task_process *p)
{
	static const struct timespec moment = {.tv_nsec = 1000000};

	while (lane_is_open(p->lane) && lane_queued(p->lane) > 0) {
		nanosleep(&moment, NULL);
		lane_flush(p->lane);
	}
}

static void on_task(struct task_process *p, const struct frame *f, const void *payload, int fd)
{
	const struct msg_task *head = payload;
	struct tine_message m = {.fd = fd};

	if (f->length < sizeof(*head) || f->length < task_head(head->function)) {
		lane_reject(p->lane, "malformed task");
		return;
	}
	p->n_in_turn++;
	finish_answer(p);
	if (!scoreboard_begin_task(p->slot, (uint32_t)f->id))
		return; /* another process has it by now */
	m.data = (const char *)payload + task_head(head->function);
	m.len = f->length - task_head(head->function);
	if (f->flags & FRAME_LARGE)
		run_large(p, f, &m);
	else
		run_task(p, f, &m);
}

/* --- what comes --- */

/* What else is said on the bus is for those who send there. */
static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct task_process *p = arg;

	turn_mark();
	if (f->type == MSG_TASK)
		on_task(p, f, payload, fd);
	if (fd >= 0)
		close(fd);
}

static void on_closed(const char *why, void *arg)
{
	struct task_process *p = arg;

	if (why)
		log_error("the bus: %s; exiting", why);
	p->done = true;
}

/* We are told so between two tasks: what has come by then is run still. */
static void on_drain(uint64_t timeout_us, void *arg)
{
	struct task_process *p = arg;

	p->done = true;
}

static void on_quit(void *arg)
{
	on_drain(0, arg);
}

static const lane_message_fn handlers[MSG_TYPE_END] = {0};

/* --- set-up --- */

static int open_lanes(struct task_process *p)
{
	struct lifeline_options o = {.base = p->base,
		.child = p->child,
		.on_drain = on_drain,
		.on_quit = on_quit,
		.handlers = handlers,
		.arg = p};
	struct lane_options lo = {.base = p->base,
		.fd = p->child->bus_fd,
		.kind = LANE_BUS,
		.peer = ROLE_PRIMARY,
		.queue_max = SIZE_MAX, /* there is one answer at a time */
		.on_message = on_message,
		.on_closed = on_closed,
		.arg = p};
	int r = lifeline_new(&o, &p->lifeline);

	return r < 0 ? r : lane_new(&lo, &p->lane);
}

static int start_module(
	struct task_process *p, const struct module_builtin *builtins, char error[MODULE_ERROR_MAX])
{
	const struct config *c = p->child->config;
	const struct tine_module *d;
	int r;

	p->conf = config_farm_module(p->child->farm);
	r = module_load(c, &p->conf, builtins, &p->module, error);
	if (r == 0)
		r = module_check_tasks(&p->module, error);
	if (r < 0)
		return r;
	d = p->module.desc;
	task_init(&p->task, &p->module.config, p->conf.name, p->child->farm->max_result);
	r = d->task_start ? d->task_start(&p->module.config, &p->state) : 0;
	if (r >= 0)
		return 0;
	if (*p->module.config.error)
		snprintf(error, MODULE_ERROR_MAX, "%s", p->module.config.error);
	else
		snprintf(error, MODULE_ERROR_MAX, "%s:%u: farm:%s: cannot start: %s", c->path,
			p->conf.line, p->conf.name, strerror(-r));
	return r;
}

/* Returns whether to look again at once. Where several come at a time the primary is ahead of us: they may gather meanwhile. */
static bool end_turn(struct task_process *p)
{
	if (turn.begun_us != 0)
		scoreboard_end_turn(p->slot);
	p->seen.n += p->n_in_turn;
	p->seen.n_bulk += p->n_in_turn > 1;
	p->n_in_turn = 0;
	return spin_again(&p->spin, &p->seen);
}

static void run(struct task_process *p)
{
	bool spins = false;

	while (!p->done) {
		if (event_base_loop(p->base, spins ? EVLOOP_NONBLOCK : EVLOOP_ONCE) < 0) {
			log_error("event loop: %s; exiting", strerror(errno));
			p->exit_status = EXIT_FAILURE;
			return;
		}
		spins = end_turn(p);
	}
	lane_read_rest(p->lane);
}

/*
 * Runs a task process to its end. Returns the exit status; the process is expected to exit with it, and memory that lives as long as
 * the process is left to that.
 */
int task_main(const struct child *c, const struct module_builtin *builtins)
{
	static struct task_process p;
	char error[MODULE_ERROR_MAX] = "";
	int r;

	p.child = c;
	p.spin.budget_us = c->config->bus.spin_us;
	p.slot = &c->scoreboard->slots[c->slot];
	if (loop_new(&p.base) < 0 || open_lanes(&p) < 0) {
		log_error("out of memory; exiting");
		return EXIT_FAILURE;
	}
	r = start_module(&p, builtins, error);
	if (r < 0) {
		if (!*error)
			snprintf(error, sizeof(error), "task: cannot start: %s", strerror(-r));
		lifeline_say_goodbye(p.lifeline, MSG_FAILED, error);
		return EXIT_FAILURE;
	}
	lifeline_say_ready(p.lifeline);
	run(&p);
	if (p.module.desc->task_stop)
		p.module.desc->task_stop(p.state);
	lifeline_say_goodbye(p.lifeline, MSG_DRAINED, NULL);
	return p.exit_status;
}

/*
 * The processes of a farm, as the other ends of lanes. Runs in the primary.
 * Always holds: a process has one task or none; one that was told to die has none, and its task was dealt with.
 */
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/blob.h"
#include "ipc/lane.h"
#include "primary/farm_parts.h"

#define MAX_ERRNO     4095           /* of the kernel */
#define CLOSED_MAX_US (2 * US_PER_S) /* a process whose lane is closed has ended by then */
#define JITTER        10 /* percent up or down of recycle_after, so that processes do not leave together */

static const char *name_of(const struct farm *f)
{
	return f->conf->name;
}

/* The name of its function, for people. */
static void function_of(const struct farm_task *t, char ret[HISTORY_FUNCTION])
{
	const struct msg_task *m = (const void *)t->payload;
	const char *name = (const char *)(m + 1);

	for (size_t i = 0; i < m->function; i++)
		ret[i] = name[i] >= 0x20 && name[i] <= 0x7e ? name[i] : '?';
	ret[m->function] = '\0';
}

/* --- idle and busy --- */

static void leave_idle(struct farm_process *fp)
{
	if (fp->is_idle)
		TAILQ_REMOVE(&fp->farm->idle, fp, idle_link);
	fp->is_idle = false;
}

static void enter_idle(struct farm_process *fp)
{
	if (!fp->is_ready || fp->is_retired || fp->is_doomed)
		return;
	fp->is_idle = true;
	fp->since_us = now_us();
	TAILQ_INSERT_HEAD(&fp->farm->idle, fp, idle_link);
}

static void set_running(struct farm_process *fp, struct farm_task *t)
{
	fp->farm->n_busy += (t != NULL) - (fp->running != NULL);
	if (fp->running)
		fp->running->process = NULL;
	fp->running = t;
	if (t)
		t->process = fp;
}

/* One timer for many tasks: when it fires too early it is armed anew. */
static void set_deadline(struct farm_process *fp, uint64_t timeout_us)
{
	struct timeval tv = timeval_from_us(timeout_us);

	fp->deadline_us = fp->since_us + timeout_us;
	if (fp->armed_us != 0 && fp->armed_us <= fp->deadline_us)
		return;
	fp->armed_us = fp->deadline_us;
	event_add(&fp->ev_deadline, &tv);
}

/* --- tasks --- */

/* The process is about to be buried, or cannot be given the task: another one may. */
static void put_back(struct farm_process *fp, struct farm_task *t, int r)
{
	if (r == -EPIPE) {
		leave_idle(fp);
		farm_queue_add(t, true);
		return;
	}
	sb_add(t->farm->figures->refused, 1);
	farm_task_fail(t, r == -EMFILE || r == -ENFILE ? -EDQUOT : r, "farm %s: cannot begin: %s",
		name_of(t->farm), strerror(-r));
}

/* Has an idle process begin a task; another one, if that is what it takes. */
void farm_process_begin(struct farm_process *fp, struct farm_task *t)
{
	struct msg_task *m = (void *)t->payload;
	struct frame f = {.length = t->length,
		.type = MSG_TASK,
		.flags = t->fd >= 0 ? FRAME_FD | FRAME_LARGE : 0,
		.dst = fp->o.address,
		.id = fp->n_given + 1};
	struct iovec body = {t->payload, t->length};
	int r;

	m->tries = (uint16_t)(t->tries < UINT16_MAX ? t->tries : UINT16_MAX);
	m->timeout_us = t->timeout_us;
	r = lane_put(fp->lane, &f, &body, 1, t->fd);
	if (r != 0) {
		put_back(fp, t, r);
		return;
	}
	leave_idle(fp);
	fp->n_given++;
	t->tries++;
	set_running(fp, t);
	fp->since_us = now_us();
	set_deadline(fp, t->timeout_us);
}

/* It is not waited for. Its task, if it has one, is the caller's from here on. */
void farm_process_kill(struct farm_process *fp, const char *why)
{
	leave_idle(fp);
	set_running(fp, NULL);
	fp->is_doomed = true;
	fp->o.on_kill(why, fp->o.arg);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct farm_process *fp = arg;
	struct farm_task *t = fp->running;
	char function[HISTORY_FUNCTION], why[HISTORY_FUNCTION + 64];
	uint64_t now = now_us();

	fp->armed_us = 0;
	if (!lane_is_open(fp->lane)) {
		fp->o.on_offence("closed its lane and lives on", fp->o.arg);
		return;
	}
	if (!t)
		return;
	if (now < fp->deadline_us) {
		set_deadline(fp, fp->deadline_us - fp->since_us);
		return;
	}
	function_of(t, function);
	sb_add(fp->farm->figures->timed_out, 1);
	snprintf(why, sizeof(why), "%s did not end within %" PRIu64 " ms", function,
		t->timeout_us / US_PER_MS);
	farm_process_kill(fp, why);
	farm_task_fail(t, -ETIMEDOUT, "farm %s: %s", name_of(fp->farm), why);
	farm_dispatch(fp->farm);
}

/* Looks behind the descriptor of a large result. Returns its size, or 0 when it is not what it has to be. */
static uint64_t check_large(const struct frame *f, int fd)
{
	struct msg_large m;
	uint64_t size = 0;

	if (f->length != sizeof(struct msg_task_done) + sizeof(m) || blob_check(fd, &size) < 0)
		return 0;
	memcpy(&m, (const char *)(f + 1) + sizeof(struct msg_task_done), sizeof(m));
	return m.size == size ? size : 0;
}

/* What is wrong with what the process says; NULL: nothing. */
static const char *malformed(
	const struct farm_process *fp, const struct frame *f, int fd, uint64_t *ret_large)
{
	const struct msg_task_done *m = (const void *)(f + 1);

	*ret_large = 0;
	if (f->src != fp->o.address)
		return "wrong sender";
	if (!fp->is_doomed && (!fp->running || f->id != fp->n_given))
		return "result of a task it was not given";
	if (f->length < sizeof(*m) || m->status > 0 || m->status < -MAX_ERRNO ||
		(fd >= 0) != ((f->flags & FRAME_LARGE) != 0))
		return "malformed result";
	if (m->status < 0 && (fd >= 0 || f->length > sizeof(*m) + MSG_FAIL_MAX))
		return "malformed result";
	if (fd >= 0)
		*ret_large = check_large(f, fd);
	return fd >= 0 && *ret_large == 0 ? "malformed large payload" : NULL;
}

static void end_task(struct farm_process *fp, struct frame *f, int fd, uint64_t large)
{
	struct farm_task *t = fp->running;
	const struct msg_task_done *m = (const void *)(f + 1);
	uint64_t size = large ? large : f->length - sizeof(*m);

	set_running(fp, NULL);
	if (m->status == 0 && size > fp->farm->conf->max_result) {
		sb_add(fp->farm->figures->failed, 1);
		farm_task_fail(t, -EMSGSIZE,
			"farm %s: a result of %" PRIu64 " bytes, which is over max_result",
			name_of(fp->farm), size);
		return;
	}
	if (m->status == 0)
		sb_add(fp->farm->figures->done, 1);
	else
		sb_add(fp->farm->figures->failed, 1);
	farm_task_end(t, f, fd, large);
}

/* The next task, if there is one. */
static void go_on(struct farm_process *fp)
{
	if (fp->n_most != 0 && fp->n_given >= fp->n_most && !fp->is_retired)
		fp->o.on_spent(fp->o.arg);
	enter_idle(fp);
	farm_dispatch(fp->farm);
}

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct farm_process *fp = arg;
	uint64_t large;
	const char *why = malformed(fp, f, fd, &large);

	if (why) {
		lane_reject(fp->lane, why);
	} else if (!fp->is_doomed) {
		end_task(fp, (struct frame *)(uintptr_t)f, fd, large);
		go_on(fp);
	}
	if (fd >= 0)
		lane_close_foreign(fd);
}

/* A lane closes when its process ends. The task is dealt with when it is buried. */
static void on_closed(const char *why, void *arg)
{
	const struct timeval soon = timeval_from_us(CLOSED_MAX_US);
	struct farm_process *fp = arg;

	leave_idle(fp);
	if (why)
		fp->o.on_offence(why, fp->o.arg);
	else
		event_add(&fp->ev_deadline, &soon);
}

/* --- coming and going --- */

static uint64_t jittered(uint64_t n)
{
	return n - n * JITTER / 100 + (uint64_t)random() % (n * 2 * JITTER / 100 + 1);
}

/* A process has been forked. It gets no task until it is ready. Returns 0 or -errno. */
int farm_process_new(
	struct farm *f, const struct farm_process_options *o, struct farm_process **ret)
{
	struct farm_process *fp = calloc(1, sizeof(*fp));
	struct lane_options lo = {.base = f->all->o.base,
		.fd = o->fd,
		.kind = LANE_BUS,
		.peer = ROLE_TASK,
		.queue_max = SIZE_MAX, /* one task at a time */
		.on_message = on_message,
		.on_closed = on_closed,
		.arg = fp};
	int r;

	if (!fp) {
		close(o->fd);
		return -ENOMEM;
	}
	fp->farm = f;
	fp->o = *o;
	fp->n_most = jittered(f->conf->recycle_after);
	r = lane_new(&lo, &fp->lane);
	if (r < 0) {
		free(fp);
		return r;
	}
	evtimer_assign(&fp->ev_deadline, f->all->o.base, on_deadline, fp);
	TAILQ_INSERT_TAIL(&f->processes, fp, link);
	*ret = fp;
	return 0;
}

/* It may be given tasks. */
void farm_process_ready(struct farm_process *fp)
{
	if (fp->is_ready)
		return;
	fp->is_ready = true;
	fp->farm->n_ready += !fp->is_retired;
	enter_idle(fp);
	farm_set_broken(fp->farm, NULL);
}

/* It gets no more tasks; one that it has it may finish. */
void farm_process_retire(struct farm_process *fp)
{
	if (fp->is_retired)
		return;
	fp->is_retired = true;
	fp->farm->n_ready -= fp->is_ready;
	leave_idle(fp);
}

/* What it said before it died counts. */
void farm_process_read_rest(struct farm_process *fp)
{
	if (fp)
		lane_read_rest(fp->lane);
}

/* A task that nobody begins again. */
static void quarantine(struct farm_task *t, const char *how)
{
	struct history *h = t->farm->all->o.history;
	struct history_quarantined *q = history_begin_quarantined(h);
	const struct msg_task *m = (const void *)t->payload;

	sb_add(t->farm->figures->quarantined, 1);
	q->realtime_us = clock_us(CLOCK_REALTIME);
	snprintf(q->farm, sizeof(q->farm), "%s", name_of(t->farm));
	q->tries = t->tries;
	q->bytes = t->large ? t->large : t->length - task_head(m->function);
	function_of(t, q->function);
	snprintf(q->how, sizeof(q->how), "%.*s", (int)sizeof(q->how) - 1, how);
	history_end_quarantined(h, q);
}

/* The process that ran the task has died. */
static void on_crash(struct farm_task *t, const char *how)
{
	struct farm *f = t->farm;

	sb_add(f->figures->crashed, 1);
	if (!t->client) {
		sb_add(f->figures->dropped, 1);
		farm_task_free(t);
	} else if (t->tries <= f->conf->retries) {
		sb_add(f->figures->retried, 1);
		farm_queue_add(t, true);
	} else {
		quarantine(t, how);
		farm_task_fail(t, -EOWNERDEAD, "farm %s: its process died: %s; tried %u time%s",
			name_of(f), how, t->tries, t->tries == 1 ? "" : "s");
	}
}

/* It has died, as said by how. Returns NULL. */
struct farm_process *farm_process_bury(struct farm_process *fp, const char *how)
{
	struct farm_task *t;
	struct farm *f;

	if (!fp)
		return NULL;
	f = fp->farm;
	t = fp->running;
	set_running(fp, NULL);
	farm_process_retire(fp);
	TAILQ_REMOVE(&f->processes, fp, link);
	event_del(&fp->ev_deadline);
	lane_free(fp->lane);
	free(fp);
	if (t)
		on_crash(t, how);
	farm_dispatch(f);
	return NULL;
}

/* How many tasks it has been given. */
uint64_t farm_process_given(const struct farm_process *fp)
{
	return fp ? fp->n_given : 0;
}

/*
 * The processes of a farm, as the other ends of lanes. Runs in the primary.
 * Always holds: of the tasks that a process was given it runs the first one, or has just ended it; the others it has ahead, and they are
 * taken back when that would delay them. Of one that was told to die, what it says is of no interest, and its task was dealt with.
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

/* Tasks given to a process before it has ended the one it runs. */
#define AHEAD_NEAR  1  /* of them, when results come fast */
#define AHEAD_FAR   16 /* when they do not, or we are about to be held up */
#define AHEAD_LOW   1  /* it is given more when it has no more than that, the first one included */
#define AHEAD_BYTES 4096 /* of the largest */
#define BELIEVED_US \
	(1 * US_PER_S) /* that it is beyond its first one, though it has not said what became of it */

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

/* The task that it runs, as far as we know; NULL: none. */
static struct farm_task *first(const struct farm_process *fp)
{
	return TAILQ_FIRST(&fp->given);
}

/* Does nothing to one that is busy, or idle already: what a process says of itself may make it look so. */
static void enter_idle(struct farm_process *fp)
{
	if (!fp->is_ready || fp->is_retired || fp->is_doomed || fp->is_idle || first(fp))
		return;
	fp->is_idle = true;
	fp->since_us = now_us();
	TAILQ_INSERT_HEAD(&fp->farm->idle, fp, idle_link);
}

static void add_given(struct farm_process *fp, struct farm_task *t)
{
	struct farm *f = fp->farm;

	if (first(fp)) {
		f->n_ahead[t->priority]++;
		f->n_ahead_all++;
	} else {
		f->n_busy++;
	}
	TAILQ_INSERT_TAIL(&fp->given, t, link);
	fp->n_given_now++;
	t->process = fp;
}

/* The next one is its first one then. */
static void remove_given(struct farm_process *fp, struct farm_task *t)
{
	struct farm *f = fp->farm;
	bool was_first = t == first(fp);
	const struct farm_task *ahead;

	TAILQ_REMOVE(&fp->given, t, link);
	fp->n_given_now--;
	t->process = NULL;
	ahead = was_first ? first(fp) : t;
	if (ahead) {
		f->n_ahead[ahead->priority]--;
		f->n_ahead_all--;
	} else {
		f->n_busy--;
	}
}

static void wait_for_deadline(struct farm_process *fp, uint64_t now)
{
	uint64_t us = fp->deadline_us > now ? fp->deadline_us - now : US_PER_MS;
	struct timeval tv = timeval_from_us(us);

	fp->armed_us = now + us;
	event_add(&fp->ev_deadline, &tv);
}

/* One timer for many tasks: when it fires too early it is armed anew. */
static void set_deadline(struct farm_process *fp, uint64_t timeout_us)
{
	fp->deadline_us = fp->since_us + timeout_us;
	if (fp->armed_us == 0 || fp->armed_us > fp->deadline_us)
		wait_for_deadline(fp, fp->since_us);
}

/* --- tasks --- */

/* Whether the process has begun a task that it was given, as it says. */
static bool has_begun(uint32_t begun, const struct farm_task *t)
{
	return (int32_t)(begun - t->number) >= 0;
}

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

/* Returns whether the process has the task now; else it is dealt with. */
static bool give(struct farm_process *fp, struct farm_task *t)
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
		return false;
	}
	t->number = (uint32_t)++fp->n_given;
	t->tries++;
	add_given(fp, t);
	return true;
}

static void on_first(struct farm_process *fp, uint64_t now)
{
	fp->since_us = now;
	set_deadline(fp, first(fp)->timeout_us);
}

/* Has an idle process begin a task; another one, if that is what it takes. */
void farm_process_begin(struct farm_process *fp, struct farm_task *t)
{
	if (!give(fp, t))
		return;
	leave_idle(fp);
	on_first(fp, now_us());
}

/* --- ahead --- */

static bool may_have_more(const struct farm_process *fp)
{
	return !fp->is_retired && !fp->is_doomed && lane_is_open(fp->lane) &&
		(fp->n_most == 0 || fp->n_given < fp->n_most);
}

/* Gives a busy process some of those that wait, until it has so many ahead; not more than its share. */
static void give_ahead(struct farm_process *fp, unsigned max)
{
	struct farm *f = fp->farm;
	struct timeval tv = timeval_from_us(f->ahead_us);
	uint64_t n = f->n_waiting / (f->n_ready ? f->n_ready : 1);
	struct farm_task *t;

	for (; n > 0 && fp->n_given_now <= max && may_have_more(fp); n--) {
		t = farm_queue_peek(f);
		if (!t || t->fd >= 0 || t->length > AHEAD_BYTES)
			break;
		if (!give(fp, farm_queue_next(f)))
			break;
	}
	if (f->n_ahead_all > 0 && !event_pending(&f->ev_ahead, EV_TIMEOUT, NULL))
		event_add(&f->ev_ahead, &tv);
}

/* Where tasks take no longer than it takes to wake a process, it is given some before it asks. */
static bool runs_short_ones(const struct farm_process *fp)
{
	return first(fp) && fp->took_us < fp->farm->short_us;
}

/*
 * How many. A process that was awake answers at once: the next task is enough. From one that had gone to sleep, or waited for a CPU, a
 * result comes so much later that it and we would take turns in waiting for one another, with CPUs idle. Tasks that take that long
 * themselves look the same, and are few enough to be taken back when others want them.
 */
static unsigned usual_ahead(const struct farm_process *fp)
{
	return fp->took_us < fp->farm->far_us ? AHEAD_NEAR : AHEAD_FAR;
}

static void feed(struct farm_process *fp, uint64_t now)
{
	if (!runs_short_ones(fp) || now - fp->since_us >= fp->farm->short_us)
		return;
	give_ahead(fp, AHEAD_FAR);
	lane_flush(fp->lane);
}

/*
 * The primary is about to fork, which holds it up for as long as a hundred short tasks take: processes that run such ones get more
 * ahead than usual, and have something to do meanwhile.
 */
void farms_feed(struct farms *all)
{
	uint64_t now = now_us();
	struct farm_process *fp;

	for (size_t i = 0; i < farms_count(all); i++)
		TAILQ_FOREACH (fp, &farms_at(all, i)->processes, link)
			feed(fp, now);
}

/* A task that it has not begun. */
static void return_task(struct farm_process *fp, struct farm_task *t)
{
	remove_given(fp, t);
	fp->n_most += fp->n_most != 0; /* it has a number that is not used again */
	t->tries--;
	if (t->client) {
		farm_queue_add(t, true);
		return;
	}
	sb_add(t->farm->figures->dropped, 1);
	farm_task_free(t);
}

/* Takes back what the process has ahead, but for what it has come to by now. It may be idle then. */
void farm_process_take_back(struct farm_process *fp)
{
	struct farm_task *t;
	uint32_t begun;

	if (fp->n_given_now < 2)
		return;
	begun = scoreboard_revoke_tasks(fp->o.slot, (uint32_t)fp->n_given);
	while ((t = TAILQ_LAST(&fp->given, farm_tasks)) && !has_begun(begun, t))
		return_task(fp, t);
	enter_idle(fp);
}

/* The same of all. */
void farm_take_back(struct farm *f)
{
	struct farm_process *fp;

	TAILQ_FOREACH (fp, &f->processes, link)
		farm_process_take_back(fp);
}

/* None is to wait for long behind one that takes longer than those before it, whether another process is free or not. */
void farm_on_ahead(evutil_socket_t fd, short what, void *arg)
{
	struct farm *f = arg;
	const struct timeval again = timeval_from_us(f->ahead_us);
	uint64_t now = now_us();
	struct farm_process *fp;

	TAILQ_FOREACH (fp, &f->processes, link) {
		if (fp->n_given_now > 1 && now - fp->since_us >= f->ahead_us)
			farm_process_take_back(fp);
	}
	farm_dispatch(f);
	if (f->n_ahead_all > 0)
		event_add(&f->ev_ahead, &again);
}

/* --- ending a process for its task's sake --- */

/* What it had ahead was taken back. Its first task is the caller's from here on. */
static void kill_process(struct farm_process *fp, const char *why, bool is_late)
{
	fp->is_doomed = true;
	leave_idle(fp);
	function_of(first(fp), fp->killed_in);
	remove_given(fp, first(fp));
	fp->o.on_kill(why, is_late, fp->o.arg);
}

/* The same, as nobody wants the task any more. */
void farm_process_kill(struct farm_process *fp, const char *why)
{
	kill_process(fp, why, false);
}

/* Whether the process is beyond a task: what became of it is on its way. */
static bool is_beyond(const struct farm_process *fp, const struct farm_task *t)
{
	return has_begun(scoreboard_begun_task(fp->o.slot) - 1, t);
}

/*
 * Ends a task that a process was given and nobody wants any more. Returns true when that is done, and the task is the caller's; false
 * when the process is at another one: this one is over, or its turn comes.
 */
bool farm_process_stop(struct farm_process *fp, struct farm_task *t, const char *why)
{
	if (t == first(fp) && !is_beyond(fp, t)) {
		farm_process_kill(fp, why);
		return true;
	}
	t->is_canceled = true;
	return false;
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct farm_process *fp = arg;
	struct farm_task *t = first(fp);
	char function[HISTORY_FUNCTION], why[HISTORY_FUNCTION + 64];
	uint64_t now = now_us();

	fp->armed_us = 0;
	if (!lane_is_open(fp->lane)) {
		fp->o.on_offence("closed its lane and lives on", fp->o.arg);
		return;
	}
	if (!t)
		return;
	if (now >= fp->deadline_us)
		farm_process_take_back(fp);
	if (t != first(fp)) {
		farm_dispatch(fp->farm);
		return;
	}
	if (now < fp->deadline_us || (is_beyond(fp, t) && now < fp->deadline_us + BELIEVED_US)) {
		wait_for_deadline(fp, now);
		return;
	}
	function_of(t, function);
	sb_add(fp->farm->figures->timed_out, 1);
	snprintf(why, sizeof(why), "%s did not end within %" PRIu64 " ms", function,
		t->timeout_us / US_PER_MS);
	kill_process(fp, why, true);
	farm_task_fail(t, -ETIMEDOUT, "farm %s: %s", name_of(fp->farm), why);
	farm_dispatch(fp->farm);
}

/* --- results --- */

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
	bool has_fd = msg_has_fd(f), is_large = f->flags & FRAME_LARGE;

	*ret_large = 0;
	if (f->src != fp->o.address)
		return "wrong sender";
	if (!fp->is_doomed && (!first(fp) || (uint32_t)f->id != first(fp)->number))
		return "result of a task it was not given";
	if (f->length < sizeof(*m) || m->status > 0 || m->status < -MAX_ERRNO || has_fd != is_large)
		return "malformed result";
	if (m->status < 0 && (has_fd || f->length > sizeof(*m) + MSG_FAIL_MAX))
		return "malformed result";
	if (fd >= 0)
		*ret_large = check_large(f, fd);
	return fd >= 0 && *ret_large == 0 ? "malformed large payload" : NULL;
}

static void end_task(struct farm_process *fp, struct frame *f, int fd, uint64_t large)
{
	struct farm_task *t = first(fp);
	const struct msg_task_done *m = (const void *)(f + 1);
	uint64_t size = large ? large : f->length - sizeof(*m);
	bool is_over = m->status == 0 && size > fp->farm->conf->max_result;

	remove_given(fp, t);
	if (m->status == 0 && !is_over && !msg_lost_fd(f, fd))
		sb_add(fp->farm->figures->done, 1);
	else
		sb_add(fp->farm->figures->failed, 1);
	if (msg_lost_fd(f, fd))
		farm_task_fail(t, -EDQUOT,
			"farm %s: the result cannot be passed on: too many descriptors are in use",
			name_of(fp->farm));
	else if (is_over)
		farm_task_fail(t, -EMSGSIZE,
			"farm %s: a result of %" PRIu64 " bytes, which is over max_result",
			name_of(fp->farm), size);
	else
		farm_task_end(t, f, fd, large);
}

/* It has come to one that was canceled meanwhile, unless it is beyond it already. */
static void end_canceled(struct farm_process *fp)
{
	struct farm_task *t = first(fp);

	farm_process_take_back(fp);
	if (t != first(fp) || is_beyond(fp, t))
		return;
	farm_process_kill(fp, "its task was canceled");
	farm_task_free(t);
}

/* It was at a task for so long; what it has ahead was given to it because those before took less. */
static void note_time(struct farm_process *fp, uint64_t took_us)
{
	if (took_us > fp->worst_us)
		fp->worst_us = took_us;
	if (took_us >= fp->farm->short_us)
		farm_process_take_back(fp);
}

/* It has ended all it was given but one. Of results that come together only the first one shows how long they took. */
static void replenish(struct farm_process *fp)
{
	fp->took_us = fp->worst_us;
	fp->worst_us = 0;
	if (runs_short_ones(fp))
		give_ahead(fp, usual_ahead(fp));
}

/* The next task, if there is one. */
static void go_on(struct farm_process *fp)
{
	uint64_t now = now_us();

	note_time(fp, now - fp->since_us);
	if (first(fp) && first(fp)->is_canceled)
		end_canceled(fp);
	if (first(fp))
		on_first(fp, now);
	else if (!fp->is_doomed && !may_have_more(fp) && !fp->is_retired)
		fp->o.on_spent(fp->o.arg);
	enter_idle(fp);
	farm_dispatch(fp->farm);
	if (fp->n_given_now <= AHEAD_LOW)
		replenish(fp);
}

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct farm_process *fp = arg;
	uint64_t large;
	const char *why = malformed(fp, f, fd, &large);

	fp->farm->all->n_results++;
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
	event_del(&fp->ev_deadline);
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
		.queue_max = SIZE_MAX, /* a few tasks at a time */
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
	fp->took_us = UINT64_MAX; /* nobody knows yet */
	fp->n_most = jittered(f->conf->recycle_after);
	r = lane_new(&lo, &fp->lane);
	if (r < 0) {
		free(fp);
		return r;
	}
	TAILQ_INIT(&fp->given);
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
	farm_process_take_back(fp);
}

/* What it said before it died counts. */
void farm_process_read_rest(struct farm_process *fp)
{
	if (fp)
		lane_read_rest(fp->lane);
}

/* A task that nobody begins again. */
static void quarantine(struct farm_task *t, const char *how, pid_t pid)
{
	struct history *h = t->farm->all->o.history;
	struct history_quarantined *q = history_begin_quarantined(h);
	const struct msg_task *m = (const void *)t->payload;

	sb_add(t->farm->figures->quarantined, 1);
	q->realtime_us = clock_us(CLOCK_REALTIME);
	snprintf(q->farm, sizeof(q->farm), "%s", name_of(t->farm));
	q->tries = t->tries;
	q->pid = (uint32_t)pid;
	q->bytes = t->large ? t->large : t->length - task_head(m->function);
	function_of(t, q->function);
	snprintf(q->how, sizeof(q->how), "%.*s", (int)sizeof(q->how) - 1, how);
	history_end_quarantined(h, q);
}

/* The process that ran the task has died. */
static void on_crash(struct farm_task *t, const char *how, pid_t pid)
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
		quarantine(t, how, pid);
		farm_task_fail(t, -EOWNERDEAD, "farm %s: its process died: %s; tried %u time%s",
			name_of(f), how, t->tries, t->tries == 1 ? "" : "s");
	}
}

/* Those that it has not come to are as they were; the last ones first, for they go to the front. */
static void return_given(struct farm_process *fp, const char *how)
{
	uint32_t begun = scoreboard_begun_task(fp->o.slot);
	struct farm_task *t;

	while ((t = TAILQ_LAST(&fp->given, farm_tasks))) {
		if (t != first(fp) && !has_begun(begun, t)) {
			return_task(fp, t);
			continue;
		}
		remove_given(fp, t);
		on_crash(t, how, fp->o.pid);
	}
}

/* It has died, as said by how. Returns NULL. */
struct farm_process *farm_process_bury(struct farm_process *fp, const char *how)
{
	struct farm *f;

	if (!fp)
		return NULL;
	f = fp->farm;
	fp->is_doomed = true;
	farm_process_retire(fp);
	return_given(fp, how);
	TAILQ_REMOVE(&f->processes, fp, link);
	event_del(&fp->ev_deadline);
	lane_free(fp->lane);
	free(fp);
	farm_dispatch(f);
	return NULL;
}

/* How many tasks it has been given. */
uint64_t farm_process_given(const struct farm_process *fp)
{
	return fp ? fp->n_given : 0;
}

/* Of the task that it runs, or was killed in; for people; fp NULL, or none: "". */
void farm_process_function(const struct farm_process *fp, char ret[HISTORY_FUNCTION])
{
	*ret = '\0';
	if (fp && first(fp))
		function_of(first(fp), ret);
	else if (fp)
		memcpy(ret, fp->killed_in, HISTORY_FUNCTION);
}

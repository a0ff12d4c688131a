/*
 * What workers want of farms, and what they are told. Runs in the primary.
 * Always holds: for each task that a worker has submitted it is told once what became of it. A worker that takes none of its results
 * has as many of them held for it as tasks of its were with processes, and no more of its tasks are given to any.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ipc/blob.h"
#include "ipc/lane.h"
#include "primary/farm_parts.h"
#include "primary/relay_peer.h"

#define TIMEOUT_MAX_US (24 * 3600 * US_PER_S)
#define WHY_MAX        160 /* bytes of a refusal */

/* A TASK_DONE of our own making. */
union done {
	struct frame frame;
	char space[sizeof(struct frame) + sizeof(struct msg_task_done) + MSG_FAIL_MAX + 8];
};

/* --- telling a worker --- */

/* It cannot be told: it would wait for ever. */
static void give_up(struct farm_client *c)
{
	lane_reject(c->peer->lane, "no memory for its answers");
}

static struct frame *make_failure(
	union done *d, const struct frame *like, int status, unsigned tries, const char *text)
{
	size_t len = strnlen(text, MSG_FAIL_MAX);
	struct msg_task_done m = {.status = status, .tries = tries};

	memset(d, 0, sizeof(*d));
	d->frame = (struct frame){.length = (uint32_t)(sizeof(m) + len),
		.type = MSG_TASK_DONE,
		.dst = like->dst,
		.id = like->id};
	memcpy(d->space + sizeof(struct frame), &m, sizeof(m));
	memcpy(d->space + sizeof(struct frame) + sizeof(m), text, len);
	return &d->frame;
}

/* What is told of a result with a descriptor, when there is none for it here. */
static struct frame *make_unpassable(union done *d, const struct frame *f)
{
	const struct msg_task_done *m = (const void *)(f + 1);

	return make_failure(d, f, -EDQUOT, m->tries,
		"the result cannot be passed on: too many descriptors are in use");
}

static void hold(struct farm_client *c, const struct frame *f, int fd, uint64_t large)
{
	int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
	struct farm_held *h;
	union done d;

	if (fd >= 0 && copy < 0) {
		f = make_unpassable(&d, f);
		large = 0;
	}
	h = malloc(sizeof(*h) - sizeof(*f) + frame_space(f->length));
	if (!h) {
		if (copy >= 0)
			lane_close_foreign(copy);
		give_up(c);
		return;
	}
	h->fd = copy;
	h->large = large;
	memcpy(&h->frame, f, frame_space(f->length));
	if (STAILQ_EMPTY(&c->held))
		farm_queue_pause(c);
	STAILQ_INSERT_TAIL(&c->held, h, link);
}

/* Puts a result into the worker's queue. Returns 0, -EAGAIN for want of room, or another -errno. */
static int put_whole(struct farm_client *c, const struct frame *f, int fd, uint64_t large)
{
	struct iovec body = {(void *)(uintptr_t)(f + 1), f->length};
	uint64_t n = frame_space(f->length) + large;
	struct relay_peer *p = c->peer;
	int r;

	if (!outlet_takes(&p->outlet, n))
		return -EAGAIN;
	r = fd < 0 ? outlet_append(&p->outlet, f, frame_space(f->length))
		   : outlet_put_fd(&p->outlet, f, &body, fd, large);
	if (r == 0) {
		p->figures.received++;
		p->figures.received_bytes += n;
	}
	return r;
}

/* The same; without a descriptor to be had it says so instead: waiting for one might be waiting for ever. */
static int put(struct farm_client *c, const struct frame *f, int fd, uint64_t large)
{
	int r = put_whole(c, f, fd, large);
	union done d;

	return r == -EDQUOT ? put_whole(c, make_unpassable(&d, f), -1, 0) : r;
}

static void tell(struct farm_client *c, const struct frame *f, int fd, uint64_t large)
{
	int r = STAILQ_EMPTY(&c->held) ? put(c, f, fd, large) : -EAGAIN;

	if (r == -EAGAIN)
		hold(c, f, fd, large);
	else if (r < 0 && r != -EPIPE) /* one that has ended needs not be told */
		give_up(c);
}

static void forget_held(struct farm_client *c, struct farm_held *h)
{
	STAILQ_REMOVE_HEAD(&c->held, link);
	if (h->fd >= 0)
		lane_close_foreign(h->fd);
	free(h);
}

/* Some of the worker's queue has been written. */
void farm_on_written(struct relay_peer *p)
{
	struct farm_client *c = p->farm_client;
	struct farm_held *h;

	if (!c || STAILQ_EMPTY(&c->held))
		return;
	while ((h = STAILQ_FIRST(&c->held))) {
		int r = put(c, &h->frame, h->fd, h->large);

		if (r == -EAGAIN) /* tried again as more is written */
			return;
		forget_held(c, h);
		if (r < 0 && r != -EPIPE)
			give_up(c);
	}
	farm_queue_resume(c);
}

/* --- the end of a task --- */

static void leave_client(struct farm_task *t)
{
	if (t->client)
		HASH_DEL(t->client->tasks, t);
	t->client = NULL;
}

/* Passes the TASK_DONE of a process on to the worker; the frame is made over for that. The task is gone. */
void farm_task_end(struct farm_task *t, struct frame *f, int fd, uint64_t large)
{
	struct farm_client *c = t->client;
	struct msg_task_done *m = (void *)(f + 1);

	if (!c) {
		sb_add(t->farm->figures->dropped, 1);
		farm_task_free(t);
		return;
	}
	f->src = 0;
	f->dst = c->peer->o.address;
	f->id = t->id;
	m->tries = t->tries;
	leave_client(t);
	farm_task_free(t);
	tell(c, f, fd, large);
}

/* Tells the worker why there is no result. The task is gone. */
void farm_task_fail(struct farm_task *t, int status, const char *fmt, ...)
{
	char text[MSG_FAIL_MAX + 1];
	struct frame like = {0};
	union done d;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	farm_task_end(t, make_failure(&d, &like, status, t->tries, text), -1, 0);
}

/* --- what workers send --- */

/*
 * Answers at once, whether there is room or not: who sends and does not take its answers is read no further (relay.c). So what
 * it has us keep is bounded.
 */
static void refuse(struct farm_client *c, uint64_t id, int status, unsigned tries, const char *fmt,
	...) __attribute__((format(printf, 5, 6)));

static void refuse(
	struct farm_client *c, uint64_t id, int status, unsigned tries, const char *fmt, ...)
{
	struct frame like = {.dst = c->peer->o.address, .id = id};
	char text[MSG_FAIL_MAX + 1];
	const struct frame *f;
	union done d;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	f = make_failure(&d, &like, status, tries, text);
	if (lane_append(c->peer->lane, f, frame_space(f->length)) == -ENOMEM)
		give_up(c);
}

/* NULL: out of memory. */
static struct farm_client *client_of(struct relay_peer *p)
{
	struct farms *all = p->o.farms;
	struct farm_client *c = p->farm_client;

	if (c)
		return c;
	c = calloc(1, sizeof(*c) + all->n * sizeof(c->lines[0]));
	if (!c)
		return NULL;
	c->peer = p;
	c->all = all;
	STAILQ_INIT(&c->held);
	p->farm_client = c;
	return c;
}

/* What is wrong with the message itself; NULL: nothing. */
static const char *malformed(const struct relay_peer *p, const struct frame *f)
{
	const struct msg_task *m = (const void *)(f + 1);
	bool has_fd = f->flags & FRAME_FD, is_large = f->flags & FRAME_LARGE;

	if (has_fd != is_large)
		return "descriptor with a task";
	if (f->length < sizeof(*m) || m->function == 0 || m->function > TASK_FUNCTION_MAX ||
		f->length < task_head(m->function) ||
		f->length > task_head(m->function) + MSG_PAYLOAD_MAX)
		return "malformed task";
	if (is_large && f->length != task_head(m->function) + sizeof(struct msg_large))
		return "malformed large payload";
	if (!p->o.farms || m->farm >= p->o.farms->n)
		return "task for a farm that is not there";
	if (m->priority >= PRIORITIES || m->timeout_us > TIMEOUT_MAX_US || m->tries != 0)
		return "malformed task";
	return NULL;
}

/* Looks behind the descriptor of a large argument. Returns 0, or -EPROTO when it is not what it has to be. */
static int check_argument(const struct frame *f, int fd, uint64_t *ret_size)
{
	const struct msg_task *task = (const void *)(f + 1);
	struct msg_large m;
	int r = blob_check(fd, ret_size);

	memcpy(&m, (const char *)task + task_head(task->function), sizeof(m));
	return r < 0 || *ret_size != m.size || m.size == 0 ? -EPROTO : 0;
}

/* The payload is copied: it is needed once more when the process dies. NULL: out of memory. */
static struct farm_task *task_new(struct farm_client *c, const struct frame *f, uint64_t large)
{
	const struct msg_task *m = (const void *)(f + 1);
	struct farm_task *t = malloc(sizeof(*t) + f->length);

	if (!t)
		return NULL;
	memset(t, 0, sizeof(*t));
	t->farm = &c->all->farms[m->farm];
	t->client = c;
	t->id = f->id;
	t->submitted_us = now_us();
	t->timeout_us = m->timeout_us ? m->timeout_us : t->farm->conf->timeout_us;
	t->large = large;
	t->fd = -1;
	t->fds_left = &c->peer->relay->fds_left;
	t->priority = (enum msg_priority)m->priority;
	t->length = f->length;
	memcpy(t->payload, f + 1, f->length);
	return t;
}

/* Whether there is room for one more task. Returns 0, or the status and the text of the refusal. */
static int check_room(const struct farm *f, uint64_t bytes, bool lacks_fd, char ret_why[WHY_MAX])
{
	const struct conf_farm *conf = f->conf;

	if (bytes > conf->queue_memory) {
		snprintf(ret_why, WHY_MAX,
			"with its argument it takes %" PRIu64
			" bytes, more than queue_memory, which is %" PRIu64,
			bytes, conf->queue_memory);
		return -EMSGSIZE;
	}
	if (f->n_waiting + f->n_ahead_all >= conf->queue_max) {
		snprintf(ret_why, WHY_MAX,
			"the queue is full: %" PRIu64 " tasks wait, and queue_max is as many",
			f->n_waiting + f->n_ahead_all);
		return -EAGAIN;
	}
	if (f->bytes_waiting + bytes > conf->queue_memory) {
		snprintf(ret_why, WHY_MAX,
			"the queue is full: its tasks have %" PRIu64 " bytes; with %" PRIu64
			" more it were over queue_memory, which is %" PRIu64,
			(uint64_t)f->bytes_waiting, bytes, conf->queue_memory);
		return -EAGAIN;
	}
	if (lacks_fd) {
		snprintf(ret_why, WHY_MAX,
			"too many descriptors are in use for another large argument");
		return -EDQUOT;
	}
	return 0;
}

static void queue(struct farm_client *c, struct farm_task *t)
{
	HASH_ADD(hh, c->tasks, id, sizeof(t->id), t);
	if (!t->hh.tbl ||
		!farm_line_of(c, t->farm)) { /* the table could not grow, or there is none */
		if (t->hh.tbl)
			HASH_DEL(c->tasks, t);
		refuse(c, t->id, -ENOMEM, 0, "out of memory");
		farm_task_free(t);
		return;
	}
	farm_queue_add(t, false);
	farm_dispatch(t->farm);
}

/* Takes the task in, or says why not. The descriptor is ours if the task is. Returns whether it is. */
static bool take(struct farm_client *c, const struct frame *f, int fd, uint64_t large)
{
	const struct msg_task *m = (const void *)(f + 1);
	struct farm *farm = &c->all->farms[m->farm];
	uint64_t bytes = sizeof(struct farm_task) + f->length + large;
	char why[WHY_MAX];
	bool lacks_fd = msg_lost_fd(f, fd) || (fd >= 0 && c->peer->relay->fds_left == 0);
	int r = check_room(farm, bytes, lacks_fd, why);
	struct farm_task *t = r == 0 ? task_new(c, f, large) : NULL;

	sb_add(farm->figures->submitted, 1);
	if (!t) {
		sb_add(farm->figures->refused, 1);
		refuse(c, f->id, r ? r : -ENOMEM, 0, "farm %s: %s", farm->conf->name,
			r ? why : "out of memory");
		return false;
	}
	t->fd = fd;
	if (fd >= 0)
		--*t->fds_left;
	queue(c, t);
	return fd >= 0;
}

/* A worker submits a task. fd: ours. */
void farm_on_task(struct relay_peer *p, struct frame *f, int fd)
{
	const char *why = malformed(p, f);
	struct farm_client *c = why ? NULL : client_of(p);
	struct farm_task *t = NULL;
	uint64_t large = 0;

	if (!why && !c)
		why = "no memory for its tasks";
	if (c)
		HASH_FIND(hh, c->tasks, &f->id, sizeof(f->id), t);
	if (t)
		why = "two tasks of one number";
	if (!why && fd >= 0 && check_argument(f, fd, &large) < 0)
		why = "malformed large payload";
	if (why)
		lane_reject(p->lane, why);
	else if (take(c, f, fd, large))
		return;
	if (fd >= 0)
		lane_close_foreign(fd);
}

/* It has no use for a task any more. One that runs is stopped with its process; of one that has ended it has been told. */
void farm_on_cancel(struct relay_peer *p, const struct frame *f)
{
	struct farm_client *c = p->farm_client;
	struct farm_task *t = NULL;
	struct farm *farm;
	bool has_begun;

	if (c)
		HASH_FIND(hh, c->tasks, &f->id, sizeof(f->id), t);
	if (!t)
		return;
	sb_add(t->farm->figures->canceled, 1);
	farm = t->farm;
	if (t->process)
		farm_process_take_back(t->process);
	has_begun = t->process;
	if (!has_begun)
		farm_queue_remove(t);
	leave_client(t);
	refuse(c, f->id, -ECANCELED, t->tries, "canceled %s",
		has_begun ? "while it ran" : "before it was begun");
	if (!has_begun || farm_process_stop(t->process, t, "its task was canceled"))
		farm_task_free(t);
	farm_dispatch(farm);
}

/* A worker has gone: its tasks that wait are dropped, those that run are nobody's. */
void farm_forget(struct relay_peer *p)
{
	struct farm_client *c = p->farm_client;
	struct farms *all = p->o.farms;
	struct farm_task *t, *next;
	struct farm_held *h;

	if (!c)
		return;
	HASH_ITER(hh, c->tasks, t, next)
	{
		if (t->process)
			farm_process_take_back(t->process);
		if (!t->process)
			farm_queue_remove(t);
		leave_client(t);
		if (t->process)
			continue;
		sb_add(t->farm->figures->dropped, 1);
		farm_task_free(t);
	}
	while ((h = STAILQ_FIRST(&c->held)))
		forget_held(c, h);
	for (size_t i = 0; i < c->all->n; i++)
		free(c->lines[i]);
	free(c);
	p->farm_client = NULL;
	for (size_t i = 0; i < all->n; i++)
		farm_dispatch(&all->farms[i]);
}

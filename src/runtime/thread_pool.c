/*
 * A pool of worker threads. Each has a seat, in which another one is started when it ends.
 *
 * Always: a task is in the queue or at one seat, until its on_result is called, once. The number of a task is never used again, so what a thread
 * answers twice, or too late, finds nothing.
 */
#include "runtime/thread_pool.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/turn.h"
#include "runtime/thread.h"
#include "runtime/thread_buffer.h"

TAILQ_HEAD(task_list, task);

struct task {
	TAILQ_ENTRY(task) link;
	uint64_t id;
	struct tine_thread_send send; /* data of its own, when it is copied */
	tine_thread_result_fn on_result;
	void *arg;
};

struct seat {
	struct tine_thread_pool *pool;
	struct tine_thread *thread; /* NULL: the next one waits for its time */
	struct task_list tasks;     /* that it has */
	unsigned n_tasks;
	bool blocked;    /* it takes no more for now */
	int error;       /* of the thread that is about to end */
	bool has_worked; /* it has answered a task */
	struct backoff backoff;
	struct event restart;
};

/* The public opaque type. */
struct tine_thread_pool {
	struct threads *threads;
	struct threads_user user;
	const void *module;
	struct tine_thread_pool_options o; /* name and data are copies */
	struct task_list queue;
	size_t n_queued;
	uint64_t last_task;
	bool refused; /* somebody waits for room in the queue */
	bool stopping;
	struct mail mail; /* there is something to be done that is not done within a call */
	struct seat seats[];
};

static const struct backoff_limits restarts = {.min_us = 10 * US_PER_MS, .max_us = 5 * US_PER_S};

/* --- tasks --- */

static struct tine_thread_pool *of_mail(struct mail *m)
{
	return (struct tine_thread_pool *)((char *)m - offsetof(struct tine_thread_pool, mail));
}

/* What the task has and has not given away. */
static void task_free(struct task *t)
{
	if (t->send.release)
		t->send.release((void *)t->send.data);
	buffer_unref(t->send.buffer);
	free(t);
}

/* The last of it: status, and with 0 the answer. */
static void task_end(struct task *t, int status, struct tine_thread_message *m)
{
	tine_thread_result_fn on_result = t->on_result;
	void *arg = t->arg;

	task_free(t);
	if (on_result)
		on_result(status, status == 0 ? m : NULL, arg);
}

static void list_end(struct task_list *list, int status)
{
	struct task *t;

	while ((t = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, t, link);
		task_end(t, status, NULL);
	}
}

/* The task waits: what is to be sent is its own from now on. Returns 0 or -ENOMEM. */
static int task_keep(struct task *t, const struct tine_thread_send *send)
{
	void *data;

	if (!send->buffer && !send->release && send->len > 0) {
		data = malloc(send->len);
		if (!data)
			return -ENOMEM;
		memcpy(data, send->data, send->len);
		t->send =
			(struct tine_thread_send){.data = data, .len = send->len, .release = free};
		return 0;
	}
	t->send = *send;
	buffer_ref(send->buffer);
	return 0;
}

/* --- giving them out --- */

/* The one with the fewest that may have another; NULL: none. */
static struct seat *least_busy(struct tine_thread_pool *p)
{
	struct seat *best = NULL;

	for (unsigned i = 0; i < p->o.n_threads; i++) {
		struct seat *s = &p->seats[i];

		if (s->thread && !s->blocked && s->n_tasks < p->o.n_tasks &&
			(!best || s->n_tasks < best->n_tasks))
			best = s;
	}
	return best;
}

/* Returns 0, or why this thread cannot have it now: no room, or it has ended, which will be heard of. */
static int give(struct seat *s, struct task *t, const struct tine_thread_send *send)
{
	int r = thread_send(s->thread, send, t->id);

	s->blocked = r == TINE_E_FULL || r == TINE_E_CLOSED;
	if (r < 0)
		return r;
	TAILQ_INSERT_TAIL(&s->tasks, t, link);
	s->n_tasks++;
	return 0;
}

/* Gives out what waits, in its order. */
static void give_out(struct tine_thread_pool *p)
{
	struct seat *s;
	struct task *t;
	int r = 0;

	while (r != -ENOMEM && (t = TAILQ_FIRST(&p->queue)) && (s = least_busy(p))) {
		TAILQ_REMOVE(&p->queue, t, link);
		r = give(s, t, &t->send);
		if (r < 0) {
			TAILQ_INSERT_HEAD(&p->queue, t, link);
			continue;
		}
		t->send.release = NULL; /* it was moved */
		p->n_queued--;
	}
}

/* To a thread at once, or into the queue. Returns 0 or -ENOMEM. */
static int hand_in(struct tine_thread_pool *p, struct task *t, const struct tine_thread_send *send)
{
	struct seat *s = p->n_queued == 0 ? least_busy(p) : NULL;
	int r;

	r = s ? give(s, t, send) : TINE_E_FULL;
	if (r == 0 || r == -ENOMEM)
		return r;
	r = task_keep(t, send);
	if (r < 0)
		return r;
	TAILQ_INSERT_TAIL(&p->queue, t, link);
	p->n_queued++;
	give_out(p);
	return 0;
}

/* There may be room: for what waits, then for who was refused. */
static void go_on(struct tine_thread_pool *p)
{
	if (p->stopping)
		return;
	give_out(p);
	if (!p->refused || p->n_queued > p->o.queue_max / 2)
		return;
	p->refused = false;
	if (p->o.on_writable)
		p->o.on_writable(p, p->o.arg);
}

/* Returns as tine_thread_pool_submit(). */
int thread_pool_submit(struct tine_thread_pool *p, const struct tine_thread_send *send,
	tine_thread_result_fn on_result, void *arg)
{
	size_t len = send->buffer ? send->buffer->size : send->len;
	struct task *t;
	int r;

	if (p->stopping)
		return TINE_E_CLOSED;
	if (len > p->o.max_bytes - PORT_OVERHEAD)
		return TINE_E_TOO_LARGE;
	if (p->n_queued >= p->o.queue_max) {
		p->refused = true;
		return TINE_E_FULL;
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->id = ++p->last_task;
	t->on_result = on_result;
	t->arg = arg;
	r = hand_in(p, t, send);
	if (r < 0)
		free(t);
	return r;
}

/* --- what threads say --- */

static struct task *find(struct seat *s, uint64_t id)
{
	struct task *t;

	TAILQ_FOREACH (t, &s->tasks, link) {
		if (t->id == id)
			return t;
	}
	return NULL;
}

static void on_answer(struct tine_thread *thread, int status, struct tine_thread_message *m)
{
	struct seat *s = thread->o.arg;
	struct task *t = find(s, m->task);

	if (!t)
		return;
	TAILQ_REMOVE(&s->tasks, t, link);
	s->n_tasks--;
	s->has_worked = true;
	s->blocked = false;
	give_out(s->pool); /* before the callback, so that the thread is busy meanwhile */
	task_end(t, status, m);
	go_on(s->pool);
}

static void on_message(struct tine_thread *thread, struct tine_thread_message *m, void *arg)
{
	struct tine_thread_pool *p = ((struct seat *)arg)->pool;

	if (p->o.on_message)
		p->o.on_message(p, m, p->o.arg);
}

/* The thread's port has room, which a task may be waiting for. */
static void on_writable(struct tine_thread *thread, void *arg)
{
	struct seat *s = arg;

	s->blocked = false;
	go_on(s->pool);
}

static void complain(struct tine_thread_pool *p, int error, const char *text)
{
	if (p->o.on_error)
		p->o.on_error(p, error, text, p->o.arg);
}

static void on_error(struct tine_thread *thread, int error, const char *text, void *arg)
{
	struct seat *s = arg;

	s->error = error;
	complain(s->pool, error, text);
}

static void on_overdue(struct tine_thread *thread, void *arg)
{
	complain(((struct seat *)arg)->pool, TINE_E_TIMEOUT, "a thread does not end");
}

/* --- seats --- */

static void wait_for_restart(struct seat *s)
{
	uint64_t now = now_us();
	uint64_t us = backoff_failed(&s->backoff, &restarts, s->has_worked, now, (uint32_t)now);
	struct timeval tv = timeval_from_us(us);

	s->has_worked = false;
	if (event_add(&s->restart, &tv) < 0)
		event_active(&s->restart, EV_TIMEOUT, 0); /* no memory for a delay */
}

/* What the thread had not read is the task's again. Returns 0 or -ENOMEM. */
static int recover(struct task *t, struct tine_thread_message *m)
{
	struct tine_thread_send s = {.data = m->data, .len = m->len, .release = m->release};
	int r;

	if (m->buffer) {
		buffer_unref(t->send.buffer);
		t->send = (struct tine_thread_send){.buffer = m->buffer};
		m->buffer = NULL;
		return 0;
	}
	r = task_keep(t, &s);
	if (r == 0)
		m->release = NULL;
	return r;
}

/* A thread has ended, which makes us the reader of its port: the tasks that it has not begun go back to the head of the queue. */
static void take_back(struct seat *s, struct tine_thread *thread)
{
	struct tine_thread_pool *p = s->pool;
	struct task_list back = TAILQ_HEAD_INITIALIZER(back);
	struct tine_thread_message m;
	struct task *t;
	int status;

	while (port_take(&thread->down, &m, &status)) {
		t = find(s, m.task);
		if (t && recover(t, &m) == 0) {
			TAILQ_REMOVE(&s->tasks, t, link);
			TAILQ_INSERT_TAIL(&back, t, link);
			p->n_queued++;
		}
		port_done(&thread->down, &m);
	}
	TAILQ_CONCAT(&back, &p->queue, link);
	TAILQ_CONCAT(&p->queue, &back, link);
}

static void on_exit_of(struct tine_thread *thread, int code, void *arg)
{
	struct seat *s = arg;
	struct tine_thread_pool *p = s->pool;
	struct task_list lost = TAILQ_HEAD_INITIALIZER(lost);
	int status = p->stopping ? TINE_E_CANCELED : s->error < 0 ? s->error : TINE_E_CLOSED;

	if (!p->stopping)
		take_back(s, thread);
	TAILQ_CONCAT(&lost, &s->tasks, link);
	s->thread = NULL;
	s->n_tasks = 0;
	s->blocked = false;
	s->error = 0;
	if (!p->stopping)
		wait_for_restart(s);
	list_end(&lost, status);
	go_on(p);
	if (p->stopping)
		mailbox_post(p->threads->o.mailbox, &p->mail);
}

static int seat_start(struct seat *s)
{
	const struct tine_thread_pool_options *o = &s->pool->o;
	struct tine_thread_options t = {.size = sizeof(t),
		.name = o->name,
		.data = o->data,
		.len = o->len,
		.stack_size = o->stack_size,
		.max_bytes = o->max_bytes,
		.main = o->main,
		.on_message = on_message,
		.on_writable = on_writable,
		.on_error = on_error,
		.on_overdue = on_overdue,
		.on_exit = on_exit_of,
		.arg = s};
	int r = thread_start(s->pool->threads, s->pool->module, &t, &s->thread);

	if (r == 0)
		s->thread->on_answer = on_answer;
	return r;
}

static void on_restart(evutil_socket_t fd, short what, void *arg)
{
	struct seat *s = arg;
	int r;

	turn_mark();
	r = seat_start(s);
	if (r == 0)
		return go_on(s->pool);
	wait_for_restart(s);
	complain(s->pool, r, "a thread cannot be started");
}

/* --- the pool --- */

static void thread_pool_free(struct tine_thread_pool *p)
{
	for (unsigned i = 0; i < p->o.n_threads; i++)
		event_del(&p->seats[i].restart);
	free((void *)p->o.name);
	free((void *)p->o.data);
	free(p);
}

static bool is_deserted(const struct tine_thread_pool *p)
{
	for (unsigned i = 0; i < p->o.n_threads; i++) {
		if (p->seats[i].thread)
			return false;
	}
	return true;
}

/* It is stopping: what is not done within calls. */
static void on_mail(struct mail *m)
{
	struct tine_thread_pool *p = of_mail(m);

	p->n_queued = 0;
	list_end(&p->queue, TINE_E_CANCELED);
	if (!is_deserted(p))
		return;
	TAILQ_REMOVE(&p->threads->users, &p->user, link);
	if (p->o.on_stopped)
		p->o.on_stopped(p, p->o.arg);
	thread_pool_free(p);
}

static void stop(struct tine_thread_pool *p)
{
	p->stopping = true;
	for (unsigned i = 0; i < p->o.n_threads; i++)
		event_del(&p->seats[i].restart);
	mailbox_post(p->threads->o.mailbox, &p->mail);
}

void thread_pool_stop(struct tine_thread_pool *p, uint64_t timeout_us)
{
	if (!p->stopping)
		stop(p);
	for (unsigned i = 0; i < p->o.n_threads; i++) {
		if (p->seats[i].thread)
			thread_terminate(p->seats[i].thread, timeout_us);
	}
}

/* All threads are about to be told. */
static void on_end(struct threads_user *u)
{
	struct tine_thread_pool *p =
		(struct tine_thread_pool *)((char *)u - offsetof(struct tine_thread_pool, user));

	if (!p->stopping)
		stop(p);
}

static void *copy(const void *data, size_t len)
{
	void *p = malloc(len + 1);

	if (p && len > 0)
		memcpy(p, data, len);
	return p;
}

static struct tine_thread_pool *pool_new(
	struct threads *ts, const void *module, const struct tine_thread_pool_options *o)
{
	struct tine_thread_pool *p = calloc(1, sizeof(*p) + o->n_threads * sizeof(p->seats[0]));

	if (!p)
		return NULL;
	p->threads = ts;
	p->module = module;
	p->user.on_end = on_end;
	p->mail.fn = on_mail;
	p->o = *o;
	p->o.n_tasks = o->n_tasks ? o->n_tasks : 1;
	p->o.queue_max = o->queue_max ? o->queue_max : THREAD_POOL_QUEUE;
	p->o.max_bytes = o->max_bytes ? o->max_bytes : THREAD_BYTES;
	p->o.name = o->name ? strdup(o->name) : NULL;
	p->o.data = copy(o->data, o->len);
	TAILQ_INIT(&p->queue);
	for (unsigned i = 0; i < o->n_threads; i++) {
		p->seats[i].pool = p;
		TAILQ_INIT(&p->seats[i].tasks);
		evtimer_assign(&p->seats[i].restart, ts->o.base, on_restart, &p->seats[i]);
	}
	if (p->o.data && (p->o.name || !o->name))
		return p;
	thread_pool_free(p);
	return NULL;
}

/* One of them cannot be started: the others end, of which nobody is told. */
static void give_up(struct tine_thread_pool *p)
{
	p->o.on_message = NULL;
	p->o.on_error = NULL;
	p->o.on_stopped = NULL;
	thread_pool_stop(p, 0);
}

/* Returns as tine_thread_pool_start(). */
int thread_pool_start(struct threads *ts, const void *module,
	const struct tine_thread_pool_options *o, struct tine_thread_pool **ret)
{
	struct tine_thread_pool *p;
	int r = 0;

	if (o->n_threads > TINE_THREADS_MAX - ts->n)
		return TINE_E_QUOTA;
	p = pool_new(ts, module, o);
	if (!p)
		return -ENOMEM;
	TAILQ_INSERT_TAIL(&ts->users, &p->user, link);
	for (unsigned i = 0; i < o->n_threads && r == 0; i++)
		r = seat_start(&p->seats[i]);
	if (r < 0)
		give_up(p);
	else
		*ret = p;
	return r;
}

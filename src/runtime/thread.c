/*
 * Worker threads as the worker's loop sees them: their start, what comes up from them, their end. Any process that runs modules.
 *
 * A thread is told of by one mail: while its bell is asleep nothing of it is there and the mail is with us; else the mail is on its way, or
 * being handled. All that a thread says is in its port, or in its stage, which is read before the port is looked into: so its messages
 * come after on_online and before on_exit.
 *
 * Always: a thread that was started is joined before it is freed; who does not end is never freed, and keeps what it uses.
 */
#include "runtime/thread.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/turn.h"
#include "runtime/thread_self.h"
#include "runtime/thread_spawn.h"

#define BATCH      256 /* messages of a thread before others in the loop get their turn */
#define FEW        2   /* messages at a time; more are masses */
#define DATA_ALIGN 16

/* --- what comes up --- */

/* The mail is to come (again). */
static void post(struct tine_thread *t)
{
	mailbox_post(t->threads->o.mailbox, &t->mail);
}

/* On the thread. */
static void ring(struct bell *b)
{
	post((struct tine_thread *)((char *)b - offsetof(struct tine_thread, bell)));
}

static void deliver(struct tine_thread *t, struct tine_thread_message *m, int status)
{
	if (m->task != 0 && t->on_answer)
		t->on_answer(t, status, m);
	else if (t->o.on_message)
		t->o.on_message(t, m, t->o.arg);
}

/* Returns whether there may be more. */
static bool take_messages(struct tine_thread *t)
{
	struct tine_thread_message m;
	struct spin_seen *seen = &t->threads->seen;
	unsigned n = 0;
	int status;

	while (n < BATCH && port_take(&t->up, &m, &status)) {
		deliver(t, &m, status);
		port_done(&t->up, &m);
		n++;
	}
	if (n > 0 && port_pass_room(&t->up))
		bell_call(&t->self.bell);
	seen->n += n;
	seen->n_bulk += n > FEW;
	return n == BATCH;
}

static void thread_free(struct tine_thread *t)
{
	port_free(&t->down);
	port_free(&t->up);
	free(t->self.data);
	free(t);
}

/* It has said so; what is left of it takes no time. */
static void finish(struct tine_thread *t)
{
	struct threads *ts = t->threads;

	pthread_join(t->pthread, NULL);
	event_del(&t->overdue);
	self_close(&t->self);
	TAILQ_REMOVE(&ts->list, t, link);
	ts->n--;
	t->ended = true;
	if (t->self.error < 0 && t->o.on_error)
		t->o.on_error(t, t->self.error, t->self.text, t->o.arg);
	if (t->o.on_exit)
		t->o.on_exit(t, t->self.code, t->o.arg);
	thread_free(t);
}

static void begin(struct tine_thread *t)
{
	t->said_online = true;
	if (t->o.on_online)
		t->o.on_online(t, t->o.arg);
}

/* Returns whether nothing is there, so that whoever brings something has the mail sent. */
static bool rest(struct tine_thread *t, int stage)
{
	bell_sleep(&t->bell);
	if (port_is_empty(&t->up) && !atomic_load(&t->down.writable) &&
		atomic_load(&t->stage) == stage)
		return true;
	return !bell_wake(&t->bell);
}

static void on_mail(struct mail *m)
{
	struct tine_thread *t =
		(struct tine_thread *)((char *)m - offsetof(struct tine_thread, mail));
	int stage = atomic_load(&t->stage);

	if (!t->said_online && stage >= THREAD_ONLINE)
		begin(t);
	if (port_take_room(&t->down) && t->o.on_writable && !t->told)
		t->o.on_writable(t, t->o.arg);
	if (take_messages(t))
		post(t);
	else if (stage == THREAD_ENDED)
		finish(t);
	else if (!rest(t, stage))
		post(t);
}

/* --- start --- */

static void on_overdue(evutil_socket_t fd, short what, void *arg)
{
	struct tine_thread *t = arg;

	turn_mark();
	if (t->o.on_overdue)
		t->o.on_overdue(t, t->o.arg);
}

static void set_options(struct tine_thread *t, const struct tine_thread_options *o)
{
	t->o = *o;
	t->o.name = NULL; /* not ours */
	t->o.data = NULL;
	if (t->o.max_messages == 0)
		t->o.max_messages = THREAD_MESSAGES;
	if (t->o.max_bytes == 0)
		t->o.max_bytes = THREAD_BYTES;
	if (t->o.stack_size == 0)
		t->o.stack_size = THREAD_STACK;
	t->up.max_messages = t->down.max_messages = t->o.max_messages;
	t->up.max_bytes = t->down.max_bytes = t->o.max_bytes;
}

static int set_data(struct tine_thread *t, const struct tine_thread_options *o)
{
	if (o->len > SIZE_MAX - DATA_ALIGN)
		return -ENOMEM;
	t->self.data = aligned_alloc(
		DATA_ALIGN, (o->len / DATA_ALIGN + 1) * DATA_ALIGN); /* never nothing */
	if (!t->self.data)
		return -ENOMEM;
	if (o->len > 0)
		memcpy(t->self.data, o->data, o->len);
	t->self.len = o->len;
	return 0;
}

static int spawn(struct tine_thread *t, const char *name)
{
	char own[THREAD_NAME_MAX];

	snprintf(own, sizeof(own), "tined-thread-%llu", (unsigned long long)t->id);
	return thread_spawn(&t->pthread, name ? name : own, t->o.stack_size, self_main, &t->self);
}

static struct tine_thread *thread_new(
	struct threads *ts, const void *module, const struct tine_thread_options *o)
{
	struct tine_thread *t = aligned_alloc(_Alignof(struct tine_thread), sizeof(*t));

	if (!t)
		return NULL;
	memset(t, 0, sizeof(*t));
	t->threads = ts;
	t->module = module;
	t->mail.fn = on_mail;
	t->bell.ring = ring;
	bell_sleep(&t->bell);
	evtimer_assign(&t->overdue, ts->o.base, on_overdue, t);
	set_options(t, o);
	return t;
}

/* Returns as tine_thread_start(). */
int thread_start(struct threads *ts, const void *module, const struct tine_thread_options *o,
	struct tine_thread **ret)
{
	struct tine_thread *t;
	int r;

	if (ts->ending)
		return -ESHUTDOWN;
	if (ts->n >= TINE_THREADS_MAX)
		return TINE_E_QUOTA;
	t = thread_new(ts, module, o);
	if (!t)
		return -ENOMEM;
	t->id = ts->last_id + 1;
	r = set_data(t, o);
	if (r < 0)
		goto fail;
	r = self_open(&t->self, t);
	if (r < 0)
		goto fail;
	threads_count(ts, 1);
	r = spawn(t, o->name);
	if (r < 0) {
		threads_count(ts, -1);
		self_close(&t->self);
		goto fail;
	}
	ts->last_id++;
	ts->n++;
	TAILQ_INSERT_TAIL(&ts->list, t, link);
	*ret = t;
	return 0;
fail:
	thread_free(t);
	return r;
}

/* Returns as tine_thread_send(). task: not 0 for one of a pool. */
int thread_send(struct tine_thread *t, const struct tine_thread_send *send, uint64_t task)
{
	struct port_letter l = {.send = send, .task = task};
	int r;

	if (t->ended || t->told ||
		atomic_load_explicit(&t->stage, memory_order_relaxed) == THREAD_ENDED)
		return TINE_E_CLOSED;
	r = port_put(&t->down, &l);
	if (r == 0)
		bell_call(&t->self.bell);
	return r;
}

/* --- end --- */

static void tell(struct tine_thread *t)
{
	t->told = true;
	atomic_store(&t->stop, true);
	bell_call(&t->self.bell);
}

/* Has it end; timeout_us: until on_overdue() is called, 0: never. */
void thread_terminate(struct tine_thread *t, uint64_t timeout_us)
{
	struct timeval tv = timeval_from_us(timeout_us);

	if (t->ended)
		return;
	tell(t);
	event_del(&t->overdue);
	if (timeout_us > 0)
		event_add(&t->overdue, &tv);
}

/* On any thread: one is about to run, or has ended. */
void threads_count(struct threads *ts, int n)
{
	pthread_mutex_lock(&ts->lock);
	ts->n_running += (unsigned)n;
	pthread_cond_signal(&ts->less);
	pthread_mutex_unlock(&ts->lock);
}

/* Waits until none runs, or until then. */
static void wait_until(struct threads *ts, uint64_t deadline_us)
{
	struct timespec at = {.tv_sec = (time_t)(deadline_us / US_PER_S),
		.tv_nsec = (long)(deadline_us % US_PER_S) * 1000};
	int r = 0;

	pthread_mutex_lock(&ts->lock);
	while (ts->n_running > 0 && r == 0)
		r = pthread_cond_clockwait(&ts->less, &ts->lock, CLOCK_MONOTONIC, &at);
	pthread_mutex_unlock(&ts->lock);
}

/* Who runs on might never stop posting, and is not waited for. */
static bool has_more_to_say(const struct threads *ts)
{
	const struct tine_thread *t;

	TAILQ_FOREACH (t, &ts->list, link) {
		if (atomic_load(&t->stage) == THREAD_ENDED)
			return true;
	}
	return ts->n == 0 && !TAILQ_EMPTY(&ts->users);
}

/*
 * Ends all threads, outside of the loop, which is not run any more: tells them, waits for at most timeout_us, and has everything called that is
 * left to be called. None can be started from here on. Returns how many did not end; they run on, and the process must end
 * without freeing what they may use.
 */
unsigned threads_end(struct threads *ts, uint64_t timeout_us)
{
	struct threads_user *u, *next;
	struct tine_thread *t;

	ts->ending = true;
	for (u = TAILQ_FIRST(&ts->users); u; u = next) {
		next = TAILQ_NEXT(u, link);
		u->on_end(u);
	}
	TAILQ_FOREACH (t, &ts->list, link)
		tell(t);
	wait_until(ts, now_us() + timeout_us);
	while (has_more_to_say(ts) && mailbox_run(ts->o.mailbox))
		;
	return ts->n;
}

/* Whether one of a module's threads is left. */
bool threads_has(const struct threads *ts, const void *module)
{
	const struct tine_thread *t;

	TAILQ_FOREACH (t, &ts->list, link) {
		if (t->module == module)
			return true;
	}
	return false;
}

/* Returns 0 or -ENOMEM. */
int threads_new(const struct threads_options *o, struct threads **ret)
{
	struct threads *ts = calloc(1, sizeof(*ts));

	if (!ts)
		return -ENOMEM;
	ts->o = *o;
	TAILQ_INIT(&ts->list);
	TAILQ_INIT(&ts->users);
	pthread_mutex_init(&ts->lock, NULL);
	pthread_cond_init(&ts->less, NULL);
	*ret = ts;
	return 0;
}

/* After threads_end(), which has left none; otherwise it does nothing. NULL is fine. Returns NULL. */
struct threads *threads_free(struct threads *ts)
{
	if (!ts || ts->n > 0)
		return NULL;
	pthread_cond_destroy(&ts->less);
	pthread_mutex_destroy(&ts->lock);
	free(ts);
	return NULL;
}

/*
 * The thread's own half: its loop, what comes down, what goes up.
 *
 * The port is looked at after each turn of the loop. Its loop sleeps only when nothing was there at the last look that it took after
 * saying so (struct bell); the eventfd is watched for edges and never read.
 */
#include "runtime/thread_self.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/loop.h"
#include "runtime/thread.h"

#define BATCH     256 /* messages before the events of the loop get their turn */
#define FEW       2   /* messages in a turn; more are masses */
#define ALT_STACK (64u << 10)
#define BASE_FDS  3 /* of an event_base: epoll, and two for signals */

/* --- made and freed by the worker's loop --- */

static struct tine_thread_self *of_bell(struct bell *b)
{
	return (struct tine_thread_self *)((char *)b - offsetof(struct tine_thread_self, bell));
}

/* On the worker's loop. */
static void ring(struct bell *b)
{
	uint64_t one = 1;
	ssize_t n;

	do {
		n = write(of_bell(b)->wake_fd, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
}

/* It is enough that the loop does not sleep. */
static void on_wake(evutil_socket_t fd, short what, void *arg)
{
}

/* libevent ends the process when it gets no descriptor for its signals: look whether there are enough first. Returns 0 or -errno. */
static int look_for_descriptors(int any)
{
	int fds[BASE_FDS], n = 0, r = 0;

	while (n < BASE_FDS && (fds[n] = fcntl(any, F_DUPFD_CLOEXEC, 0)) >= 0)
		n++;
	if (n < BASE_FDS)
		r = -errno;
	while (n > 0)
		close(fds[--n]);
	return r;
}

static int watch(struct tine_thread_self *self)
{
	if (!(event_base_get_features(self->base) & EV_FEATURE_ET))
		return -ENOTSUP;
	event_assign(&self->wake, self->base, self->wake_fd, EV_READ | EV_PERSIST | EV_ET, on_wake,
		NULL);
	return event_add(&self->wake, NULL) < 0 ? -ENOMEM : 0;
}

/* Returns 0 or a negative errno, with nothing left open. */
int self_open(struct tine_thread_self *self, struct tine_thread *t)
{
	int r;

	self->thread = t;
	self->bell.ring = ring;
	self->spin.budget_us = t->threads->o.spin_us;
	self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (self->wake_fd < 0)
		return -errno;
	r = look_for_descriptors(self->wake_fd);
	if (r == 0)
		r = loop_new(&self->base);
	if (r == 0)
		r = watch(self);
	if (r < 0)
		self_close(self);
	return r;
}

/* The thread has ended, or was never started. */
void self_close(struct tine_thread_self *self)
{
	if (self->base)
		event_base_free(self->base);
	self->base = NULL;
	free(self->tasks);
	self->tasks = NULL;
	close(self->wake_fd);
}

/* --- on the thread --- */

static bool is_over(const struct tine_thread_self *self)
{
	return self->over || atomic_load_explicit(&self->thread->stop, memory_order_relaxed);
}

static int put(struct tine_thread_self *self, const struct port_letter *l)
{
	struct tine_thread *t = self->thread;
	int r = port_put(&t->up, l);

	if (r == 0)
		bell_call(&t->bell);
	return r;
}

/* send: NULL for an answer without content. */
static int put_answer(struct tine_thread_self *self, uint64_t task, int status,
	const struct tine_thread_send *send)
{
	static const struct tine_thread_send none;

	return put(self,
		&(struct port_letter){.send = send ? send : &none,
			.task = task,
			.status = status,
			.always = true});
}

/* Notes that a task waits for its answer. Returns 0 or -ENOMEM. */
static int note_task(struct tine_thread_self *self, uint64_t task)
{
	uint64_t *grown;

	if (self->n_tasks == self->tasks_size) {
		grown = realloc(self->tasks, (2 * self->tasks_size + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		self->tasks = grown;
		self->tasks_size = 2 * self->tasks_size + 1;
	}
	self->tasks[self->n_tasks++] = task;
	return 0;
}

/* Of a task that nobody takes at least its sender hears. */
static void hand_over(struct tine_thread_self *self, struct tine_thread_message *m)
{
	int r = !self->handlers.on_message ? -ENOSYS : m->task != 0 ? note_task(self, m->task) : 0;

	if (r == 0)
		self->handlers.on_message(self, m, self->handlers.arg);
	else if (m->task != 0)
		put_answer(self, m->task, r, NULL);
}

/* Returns how many there were. */
static unsigned take_messages(struct tine_thread_self *self)
{
	struct port *down = &self->thread->down;
	struct tine_thread_message m;
	unsigned n = 0;
	int status;

	while (n < BATCH && !is_over(self) && port_take(down, &m, &status)) {
		hand_over(self, &m);
		port_done(down, &m);
		n++;
	}
	return n;
}

/* Returns whether there may be more. */
static bool take_turn(struct tine_thread_self *self)
{
	struct tine_thread *t = self->thread;
	unsigned n;

	if (port_take_room(&t->up) && self->handlers.on_writable && !is_over(self))
		self->handlers.on_writable(self, self->handlers.arg);
	n = take_messages(self);
	if (n > 0 && port_pass_room(&t->down))
		bell_call(&t->bell);
	self->seen.n += n;
	self->seen.n_bulk += n > FEW;
	return n == BATCH || spin_again(&self->spin, &self->seen);
}

/* Returns whether nothing is to be done, so that whoever brings something rings. */
static bool rest(struct tine_thread_self *self)
{
	struct tine_thread *t = self->thread;

	bell_sleep(&self->bell);
	if (port_is_empty(&t->down) && !atomic_load(&t->up.writable) && !atomic_load(&t->stop))
		return true;
	bell_wake(&self->bell);
	return false;
}

static void run(struct tine_thread_self *self)
{
	int flags;

	while (!is_over(self)) {
		flags = take_turn(self) || is_over(self) || !rest(self) ? EVLOOP_NONBLOCK
									: EVLOOP_ONCE;
		if (event_base_loop(self->base, flags) < 0)
			return self_exit(self, 1);
		atomic_store_explicit(&self->bell.asleep, false, memory_order_relaxed);
	}
}

/* For the handlers of signals, when what overflowed is the stack. A sanitizer may have been here before. Returns NULL when there is none of ours. */
static void *alt_stack_new(void)
{
	stack_t stack = {.ss_size = ALT_STACK}, before;

	if (sigaltstack(NULL, &before) < 0 || !(before.ss_flags & SS_DISABLE))
		return NULL;
	stack.ss_sp =
		mmap(NULL, ALT_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack.ss_sp == MAP_FAILED)
		return NULL;
	sigaltstack(&stack, NULL);
	return stack.ss_sp;
}

static void alt_stack_free(void *memory)
{
	stack_t none = {.ss_flags = SS_DISABLE};

	if (!memory)
		return;
	sigaltstack(&none, NULL);
	munmap(memory, ALT_STACK);
}

static void fail(struct tine_thread_self *self, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void fail(struct tine_thread_self *self, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	self_fail(self, error, fmt, ap);
	va_end(ap);
}

static void live(struct tine_thread_self *self)
{
	char text[128];
	int r = self->thread->o.main(self, self->data, self->len);

	if (r < 0)
		fail(self, r, "%s", strerror_r(-r, text, sizeof(text)));
	run(self);
	if (!self->over)
		self->code = 1; /* it was told to */
	if (self->handlers.on_stop)
		self->handlers.on_stop(self, self->handlers.arg);
	event_del(&self->wake);
}

/* The thread. Its last act is to say that it has ended; from then on its half is the loop's. */
void *self_main(void *arg)
{
	struct tine_thread_self *self = arg;
	struct tine_thread *t = self->thread;
	void *stack = alt_stack_new();

	atomic_store(&t->stage, THREAD_ONLINE);
	bell_call(&t->bell);
	live(self);
	alt_stack_free(stack);
	atomic_store(&t->stage, THREAD_ENDED);
	bell_call(&t->bell);
	threads_count(t->threads, -1);
	return NULL;
}

/* The first word counts. */
void self_exit(struct tine_thread_self *self, int code)
{
	if (self->over)
		return;
	self->over = true;
	self->code = code;
}

void self_fail(struct tine_thread_self *self, int error, const char *fmt, va_list ap)
{
	if (self->over)
		return;
	self_exit(self, 1);
	self->error = error;
	vsnprintf(self->text, sizeof(self->text), fmt, ap);
}

/* Returns as tine_parent_send(). */
int self_send(struct tine_thread_self *self, const struct tine_thread_send *send)
{
	return put(self, &(struct port_letter){.send = send});
}

/* send: NULL for an answer without content. Returns 0, -ENOMEM, TINE_E_TOO_LARGE, or -EINVAL when no such task waits. */
int self_answer(struct tine_thread_self *self, uint64_t task, int status,
	const struct tine_thread_send *send)
{
	unsigned i = 0;
	int r;

	while (i < self->n_tasks && self->tasks[i] != task)
		i++;
	if (i == self->n_tasks)
		return -EINVAL;
	r = put_answer(self, task, status, send);
	if (r == 0)
		self->tasks[i] = self->tasks[--self->n_tasks];
	return r;
}

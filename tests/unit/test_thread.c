/* tine/thread.h, on a loop as the worker has it: messages both ways, bounds, ends of all kinds, pools. */
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <tine/thread.h>

#include "base/clock.h"
#include "base/loop.h"
#include "run.h"
#include "runtime/module.h"
#include "runtime/thread.h"

#define END_US (20 * US_PER_S) /* a thread that is to end has until then */

static struct event_base *base;
static struct mailbox mailbox;
static struct tine_worker worker;

static void setup(void)
{
	struct threads_options o = {.mailbox = &mailbox, .spin_us = 50};

	ck_assert_int_eq(loop_new(&base), 0);
	ck_assert_int_eq(mailbox_open(&mailbox, base), 0);
	o.base = base;
	ck_assert_int_eq(threads_new(&o, &worker.threads), 0);
}

/* While what their callbacks use is there. */
static void end_threads(void)
{
	ck_assert_uint_eq(threads_end(worker.threads, END_US), 0);
}

static void teardown(void)
{
	worker.threads = threads_free(worker.threads);
	mailbox_close(&mailbox);
	event_base_free(base);
}

/* --- what a thread has said so far --- */

struct watch {
	struct tine_thread *thread;
	char events
		[16]; /* "o" online, "m" message, "e" error, "w" writable, "d" overdue, "x" exit; the first few */
	unsigned n, n_messages, n_writable, n_overdue, n_exits;
	uint64_t sum;
	uint32_t next; /* number of the next message */
	int code, error;
	char text[256];
	struct tine_thread_message last; /* what it pointed to is gone */
};

static void note(struct watch *w, char event)
{
	if (w->n < sizeof(w->events) - 1)
		w->events[w->n++] = event;
}

static void on_online(struct tine_thread *thread, void *arg)
{
	note(arg, 'o');
}

static void on_message(struct tine_thread *thread, struct tine_thread_message *m, void *arg)
{
	struct watch *w = arg;

	note(w, 'm');
	w->n_messages++;
	w->last = *m;
	if (m->len >= sizeof(uint32_t))
		ck_assert_uint_eq(*(uint32_t *)m->data, w->next++);
	for (size_t i = 0; i < m->len; i++)
		w->sum += ((unsigned char *)m->data)[i];
}

static void on_writable(struct tine_thread *thread, void *arg)
{
	note(arg, 'w');
	((struct watch *)arg)->n_writable++;
}

static void on_error(struct tine_thread *thread, int error, const char *text, void *arg)
{
	struct watch *w = arg;

	note(w, 'e');
	w->error = error;
	snprintf(w->text, sizeof(w->text), "%s", text);
}

static void on_overdue(struct tine_thread *thread, void *arg)
{
	note(arg, 'd');
	((struct watch *)arg)->n_overdue++;
}

static void on_exit_of(struct tine_thread *thread, int code, void *arg)
{
	struct watch *w = arg;

	note(w, 'x');
	ck_assert_ptr_eq(thread, w->thread);
	ck_assert_int_eq(tine_thread_post(thread, "late", 4), TINE_E_CLOSED);
	tine_thread_terminate(thread, 1);
	w->code = code;
	w->n_exits++;
	w->thread = NULL;
}

static struct tine_thread_options options(struct watch *w, tine_thread_main_fn fn)
{
	return (struct tine_thread_options){.size = sizeof(struct tine_thread_options),
		.main = fn,
		.on_online = on_online,
		.on_message = on_message,
		.on_writable = on_writable,
		.on_error = on_error,
		.on_overdue = on_overdue,
		.on_exit = on_exit_of,
		.arg = w};
}

static void start_with(struct watch *w, const struct tine_thread_options *o)
{
	ck_assert_int_eq(tine_thread_start(&worker, o, &w->thread), 0);
}

static void start(struct watch *w, tine_thread_main_fn fn)
{
	struct tine_thread_options o = options(w, fn);

	start_with(w, &o);
}

static void turn_loop(void)
{
	ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
}

#define until(condition)             \
	do {                         \
		while (!(condition)) \
			turn_loop(); \
	} while (0)

static int idle_main(struct tine_thread_self *self, void *data, size_t len)
{
	return 0;
}

/* --- echo --- */

static void echo(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
	int r;

	if (m->len == 0)
		return tine_thread_exit(self, 7);
	r = tine_parent_post(self, m->data, m->len);
	if (r < 0)
		tine_thread_fail(self, r, "echo: %s", strerror(-r));
}

static int echo_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_message = echo};

	return tine_thread_listen(self, &h);
}

START_TEST(test_bad_arguments)
{
	struct watch w = {0};
	struct tine_thread_options o = options(&w, NULL);
	struct tine_thread_pool_options p = {.size = sizeof(p), .main = idle_main};
	struct tine_thread_pool *pool;
	struct tine_buffer *b;
	struct tine_thread_send s = {.size = sizeof(s)};

	ck_assert_int_eq(tine_thread_start(&worker, &o, &w.thread), -EINVAL);
	o.main = idle_main;
	ck_assert_int_eq(tine_thread_start(NULL, &o, &w.thread), -EINVAL);
	ck_assert_int_eq(tine_thread_start(&worker, NULL, &w.thread), -EINVAL);
	ck_assert_int_eq(tine_thread_start(&worker, &o, NULL), -EINVAL);
	o.len = 1;
	ck_assert_int_eq(tine_thread_start(&worker, &o, &w.thread), -EINVAL);
	o.len = 0;
	o.stack_size = 1;
	ck_assert_int_eq(tine_thread_start(&worker, &o, &w.thread), -EINVAL);
	o.size = 1;
	ck_assert_int_eq(tine_thread_start(&worker, &o, &w.thread), -EINVAL);
	ck_assert_int_eq(tine_thread_pool_start(&worker, &p, &pool), -EINVAL);
	p.n_threads = TINE_THREADS_MAX + 1;
	ck_assert_int_eq(tine_thread_pool_start(&worker, &p, &pool), TINE_E_QUOTA);
	ck_assert_int_eq(tine_buffer_new(0, &b), -EINVAL);
	ck_assert_int_eq(tine_buffer_new(SIZE_MAX, &b), -ENOMEM);
	ck_assert_int_eq(tine_thread_post(NULL, "", 0), -EINVAL);
	start(&w, idle_main);
	ck_assert_int_eq(tine_thread_post(w.thread, NULL, 1), -EINVAL);
	s.len = 1;
	ck_assert_int_eq(tine_thread_send(w.thread, &s), -EINVAL);
	s.size = 0;
	ck_assert_int_eq(tine_thread_send(w.thread, &s), -EINVAL);
	tine_thread_terminate(NULL, 0);
	tine_thread_pool_stop(NULL, 0);
	tine_buffer_unref(tine_buffer_ref(NULL));
	end_threads();
}
END_TEST

/* Sizes around those at which a message is stored otherwise. */
START_TEST(test_echo)
{
	static const size_t sizes[] = {4, 5, 64, 2047, 2048, 2049, 16384, 100000, 8};
	static unsigned char data[100000];
	struct watch w = {0};
	uint64_t sum = 0;
	uint32_t n = 0;

	start(&w, echo_main);
	for (unsigned k = 0; k < 100; k++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
			memset(data, (int)(k + i), sizes[i]);
			memcpy(data, &n, sizeof(n));
			n++;
			for (size_t j = 0; j < sizes[i]; j++)
				sum += data[j];
			ck_assert_int_eq(tine_thread_post(w.thread, data, sizes[i]), 0);
		}
		until(w.n_messages == n);
	}
	ck_assert_uint_eq(w.sum, sum);
	ck_assert_int_eq(tine_thread_post(w.thread, NULL, 0), 0);
	until(w.n_exits);
	ck_assert_int_eq(w.code, 7);
	ck_assert_int_eq(w.error, 0);
	end_threads();
}
END_TEST

/* What main() is given and sees. */
static int look_main(struct tine_thread_self *self, void *data, size_t len)
{
	sigset_t set;
	char name[16];

	pthread_sigmask(SIG_SETMASK, NULL, &set);
	pthread_getname_np(pthread_self(), name, sizeof(name));
	if (len != 5 || memcmp(data, "start", 5) != 0 || (uintptr_t)data % 16 != 0)
		return -EINVAL;
	if (!sigismember(&set, SIGTERM) || sigismember(&set, SIGSEGV))
		return -EPERM;
	tine_parent_post(self, &(uint32_t){0}, 4);
	if (tine_thread_self_id(self) == 0 || !tine_thread_base(self))
		return -ENOENT;
	tine_thread_exit(self, 3);
	tine_thread_exit(self, 4);
	return 0;
}

START_TEST(test_life)
{
	struct watch a = {0}, b = {0};
	struct tine_thread_options o = options(&a, look_main);
	char data[] = "start";

	o.data = data;
	o.len = 5;
	o.name = "a name that is too long";
	start_with(&a, &o);
	memset(data, 'x', 5);
	start(&b, idle_main);
	ck_assert_uint_eq(tine_thread_id(a.thread), 1);
	ck_assert_uint_eq(tine_thread_id(b.thread), 2);
	until(a.n_exits);
	ck_assert_str_eq(a.events, "omx");
	ck_assert_int_eq(a.code, 3);
	tine_thread_terminate(b.thread, END_US);
	until(b.n_exits);
	ck_assert_str_eq(b.events, "ox");
	ck_assert_int_eq(b.code, 1);
	end_threads();
}
END_TEST

static atomic_uint n_stopped;

static void count_stop(struct tine_thread_self *self, void *arg)
{
	atomic_fetch_add(&n_stopped, 1);
	tine_parent_post(self, &(uint32_t){0}, 4); /* still goes out */
}

static int failing_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_stop = count_stop};

	tine_thread_listen(self, &h);
	if (len > 0)
		tine_thread_fail(self, -EIO, "disk %d is broken", 7);
	return -ENODEV;
}

START_TEST(test_failure)
{
	struct watch a = {0}, b = {0};
	struct tine_thread_options o = options(&a, failing_main);

	atomic_store(&n_stopped, 0);
	o.data = "x";
	o.len = 1;
	start_with(&a, &o);
	start(&b, failing_main);
	until(a.n_exits && b.n_exits);
	ck_assert_str_eq(a.events, "omex");
	ck_assert_int_eq(a.error, -EIO);
	ck_assert_str_eq(a.text, "disk 7 is broken");
	ck_assert_int_eq(a.code, 1);
	ck_assert_str_eq(b.events, "omex");
	ck_assert_int_eq(b.error, -ENODEV);
	ck_assert_str_eq(b.text, strerror(ENODEV));
	ck_assert_uint_eq(atomic_load(&n_stopped), 2);
	end_threads();
}
END_TEST

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct tine_thread_self *self = arg;

	tine_parent_post(self, &(uint32_t){0}, 4);
	tine_thread_exit(self, 6);
}

static void free_tick(struct tine_thread_self *self, void *arg)
{
	event_free(arg);
}

/* A timer of its own, on a loop of its own. */
static int tick_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct event *tick = evtimer_new(tine_thread_base(self), on_tick, self);
	struct tine_thread_handlers h = {.size = sizeof(h), .on_stop = free_tick, .arg = tick};

	tine_thread_listen(self, &h);
	return event_add(tick, &(struct timeval){.tv_usec = 1000});
}

START_TEST(test_timer)
{
	struct watch w = {0};

	start(&w, tick_main);
	until(w.n_exits);
	ck_assert_str_eq(w.events, "omx");
	ck_assert_int_eq(w.code, 6);
	end_threads();
}
END_TEST

/* --- moved and shared --- */

static atomic_int n_out; /* pieces of moved memory that were not released */

static void *piece_new(uint32_t number)
{
	uint32_t *p = malloc(64);

	*p = number;
	atomic_fetch_add(&n_out, 1);
	return p;
}

static void piece_free(void *data)
{
	free(data);
	atomic_fetch_sub(&n_out, 1);
}

/* Sends on what it gets: the same memory, the same buffer. */
static void pass(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
	struct tine_thread_send s = {
		.size = sizeof(s), .data = m->data, .len = m->len, .release = m->release};

	if (m->buffer) {
		(*(atomic_uint *)((char *)m->data + 4))++;
		s = (struct tine_thread_send){.size = sizeof(s), .buffer = m->buffer};
	}
	if (tine_parent_send(self, &s) < 0)
		return tine_thread_fail(self, -EIO, "not sent");
	m->release = NULL;
}

static int pass_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_message = pass};

	return tine_thread_listen(self, &h);
}

START_TEST(test_moved)
{
	struct watch w = {0};
	struct tine_thread_send s = {.size = sizeof(s), .len = 4, .release = piece_free};
	void *piece = piece_new(0);

	start(&w, pass_main);
	s.data = piece;
	ck_assert_int_eq(tine_thread_send(w.thread, &s), 0);
	until(w.n_messages == 1);
	ck_assert_ptr_eq(w.last.data, piece); /* it was moved twice, and never copied */
	ck_assert_int_eq(atomic_load(&n_out), 0);
	for (uint32_t i = 1; i <= 1000; i++) {
		s.data = piece_new(i);
		ck_assert_int_eq(tine_thread_send(w.thread, &s), 0);
	}
	until(w.n_messages == 1001);
	ck_assert_int_eq(atomic_load(&n_out), 0);
	s.data = piece_new(0);
	s.len = THREAD_BYTES + 1;
	ck_assert_int_eq(tine_thread_send(w.thread, &s), TINE_E_TOO_LARGE);
	s.len = SIZE_MAX - 10; /* with what each message counts more it begins at 0 again */
	ck_assert_int_eq(tine_thread_send(w.thread, &s), TINE_E_TOO_LARGE);
	ck_assert_int_eq(atomic_load(&n_out), 1);
	piece_free((void *)s.data);
	end_threads();
}
END_TEST

static void on_buffer(struct tine_thread *thread, struct tine_thread_message *m, void *arg)
{
	struct watch *w = arg;

	w->n_messages++;
	if (w->n_messages == 1) {
		w->last = *m;
		m->buffer = NULL; /* kept */
	}
}

START_TEST(test_shared)
{
	struct watch w[4];
	struct tine_thread_options o;
	struct tine_thread_send s = {.size = sizeof(s)};
	uint32_t *data;

	memset(w, 0, sizeof(w));
	ck_assert_int_eq(tine_buffer_new(4096, &s.buffer), 0);
	ck_assert_uint_eq(tine_buffer_size(s.buffer), 4096);
	data = tine_buffer_data(s.buffer);
	ck_assert_uint_eq((uintptr_t)data % 64, 0);
	ck_assert_uint_eq(data[1023], 0);
	for (unsigned i = 0; i < 4; i++) {
		o = options(&w[i], pass_main);
		o.on_message = on_buffer;
		start_with(&w[i], &o);
	}
	for (unsigned k = 0; k < 500; k++) {
		for (unsigned i = 0; i < 4; i++)
			ck_assert_int_eq(tine_thread_send(w[i].thread, &s), 0);
	}
	s.data = "no";
	ck_assert_int_eq(tine_thread_send(w[0].thread, &s), -EINVAL);
	tine_buffer_unref(s.buffer);
	for (unsigned i = 0; i < 4; i++)
		until(w[i].n_messages == 500);
	ck_assert_uint_eq(data[1], 2000); /* we have kept four references */
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_ptr_eq(w[i].last.data, data);
		tine_buffer_unref(w[i].last.buffer);
	}
	end_threads();
}
END_TEST

/* --- bounds --- */

struct gate {
	sem_t at, go;
};

/* Waits at the gate; then the messages that it has are read. */
static int gate_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct gate *g = *(struct gate **)data;

	sem_post(&g->at);
	sem_wait(&g->go);
	return 0;
}

static void gate_init(struct gate *g)
{
	sem_init(&g->at, 0, 0);
	sem_init(&g->go, 0, 0);
}

START_TEST(test_full)
{
	struct watch w = {0};
	struct tine_thread_options o = options(&w, gate_main);
	struct gate gate, *g = &gate;
	char big[1000 - 24] = "";

	gate_init(g);
	o.data = &g;
	o.len = sizeof(g);
	o.max_messages = 10;
	o.max_bytes = 1000;
	start_with(&w, &o);
	sem_wait(&g->at);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(tine_thread_post(w.thread, "x", 1), 0);
	ck_assert_int_eq(tine_thread_post(w.thread, "x", 1), TINE_E_FULL);
	ck_assert_int_eq(tine_thread_post(w.thread, "x", 1), TINE_E_FULL);
	sem_post(&g->go);
	until(w.n_writable == 1);
	ck_assert_int_eq(tine_thread_post(w.thread, big, sizeof(big) + 1), TINE_E_TOO_LARGE);
	while (tine_thread_post(w.thread, big, sizeof(big)) == TINE_E_FULL)
		turn_loop(); /* half is free, which it needs all of */
	end_threads();
}
END_TEST

/* Posts numbers, as many as it is told to, as there is room. */
struct source {
	uint32_t next, end;
	unsigned n_refused;
};

static void produce(struct tine_thread_self *self, void *arg)
{
	struct source *s = arg;
	int r = 0;

	while (s->next < s->end && (r = tine_parent_post(self, &s->next, 4)) == 0)
		s->next++;
	s->n_refused += r == TINE_E_FULL;
	if (s->next == s->end)
		tine_thread_exit(self, s->n_refused > 0 ? 9 : 0);
	else if (r != TINE_E_FULL)
		tine_thread_fail(self, r, "post");
}

static int source_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_writable = produce, .arg = data};

	tine_thread_listen(self, &h);
	produce(self, data);
	return 0;
}

START_TEST(test_full_upwards)
{
	struct watch w = {0};
	struct tine_thread_options o = options(&w, source_main);
	struct source s = {.end = 5000};

	o.data = &s;
	o.len = sizeof(s);
	o.max_messages = 10;
	start_with(&w, &o);
	until(w.n_exits);
	ck_assert_uint_eq(w.n_messages, 5000);
	ck_assert_int_eq(w.code, 9);
	end_threads();
}
END_TEST

/* --- floods --- */

#define N_FLOODS  6
#define PER_FLOOD 20000

/* Posts as long as there is room; what is refused waits for on_writable. */
struct flood {
	struct watch w; /* first */
	uint32_t next, end;
	int last;
	bool moved;
};

static void flood(struct flood *f)
{
	struct tine_thread_send s = {.size = sizeof(s), .len = 4};
	int r = 0;

	while (f->next < f->end && r == 0) {
		s.data = f->moved ? piece_new(f->next) : (void *)&f->next;
		s.release = f->moved ? piece_free : NULL;
		r = tine_thread_send(f->w.thread, &s);
		if (r < 0 && f->moved)
			piece_free((void *)s.data);
		f->next += r == 0;
	}
	f->last = r;
}

static void flood_on(struct tine_thread *thread, void *arg)
{
	struct flood *f = arg;

	f->w.n_writable++;
	flood(f);
}

/* Wants all numbers in their order, and says so every thousand. */
static void sink(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
	uint32_t number = *(uint32_t *)m->data, *next = arg, thousands = *next / 1000;

	if (number != (*next)++)
		return tine_thread_fail(self, -EBADMSG, "%u instead of %u", number, *next - 1);
	if (*next % 1000 == 0 && tine_parent_post(self, &thousands, sizeof(thousands)) < 0)
		tine_thread_fail(self, -EIO, "not sent");
}

static int sink_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_message = sink, .arg = data};

	return tine_thread_listen(self, &h);
}

static void start_sink(struct flood *f, size_t max_messages, bool moved)
{
	struct tine_thread_options o = options(&f->w, sink_main);
	uint32_t first = 0;

	o.data = &first;
	o.len = sizeof(first);
	o.on_writable = flood_on;
	o.max_messages = max_messages;
	f->end = PER_FLOOD;
	f->moved = moved;
	start_with(&f->w, &o);
}

static void flood_all(unsigned spin_us)
{
	static struct flood f[N_FLOODS];
	unsigned n_refused = 0;

	memset(f, 0, sizeof(f));
	worker.threads->o.spin_us = spin_us;
	for (unsigned i = 0; i < N_FLOODS; i++)
		start_sink(&f[i], 100 + 1000 * i, i % 2);
	for (unsigned i = 0; i < N_FLOODS; i++)
		flood(&f[i]);
	for (unsigned i = 0; i < N_FLOODS; i++) {
		until(f[i].w.n_messages == PER_FLOOD / 1000 || f[i].w.n_exits);
		ck_assert_str_eq(f[i].w.text, "");
		n_refused += f[i].w.n_writable;
	}
	ck_assert_uint_gt(n_refused, 0);
	for (unsigned i = 0; i < N_FLOODS; i++)
		tine_thread_terminate(f[i].w.thread, END_US);
	for (unsigned i = 0; i < N_FLOODS; i++)
		until(f[i].w.n_exits);
	ck_assert_int_eq(atomic_load(&n_out), 0);
}

START_TEST(test_floods)
{
	flood_all(0);
	flood_all(50);
	end_threads();
}
END_TEST

/* Posts without end. */
static void gush(struct tine_thread_self *self, void *arg)
{
	struct tine_thread_send s = {.size = sizeof(s), .len = 4, .release = piece_free};
	int r = 0;

	while (r == 0 && !tine_thread_stopping(self)) {
		s.data = piece_new((*(uint32_t *)arg)++);
		r = tine_parent_send(self, &s);
		if (r < 0) {
			(*(uint32_t *)arg)--;
			piece_free((void *)s.data);
		}
	}
}

static void drop(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
}

static int gush_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {
		.size = sizeof(h), .on_message = drop, .on_writable = gush, .arg = data};

	tine_thread_listen(self, &h);
	gush(self, data);
	return 0;
}

static void start_gush(struct flood *f)
{
	struct tine_thread_options o = options(&f->w, gush_main);
	uint32_t first = 0;

	o.data = &first;
	o.len = sizeof(first);
	o.on_writable = flood_on;
	f->end = UINT32_MAX;
	f->moved = true;
	start_with(&f->w, &o);
}

/* Both sides flood; the thread is told to end in the midst of it. */
START_TEST(test_terminated_in_a_flood)
{
	for (unsigned k = 0; k < 20; k++) {
		struct flood f = {0};

		start_gush(&f);
		flood(&f);
		until(f.w.n_messages > 100 * k);
		tine_thread_terminate(f.w.thread, END_US);
		ck_assert_int_eq(tine_thread_post(f.w.thread, "x", 1), TINE_E_CLOSED);
		until(f.w.n_exits);
		ck_assert_uint_eq(f.w.n_overdue, 0);
		ck_assert_int_eq(f.w.code, 1);
		ck_assert_int_eq(atomic_load(&n_out), 0);
	}
	end_threads();
}
END_TEST

static void exit_at(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
	if (*(uint32_t *)m->data == *(uint32_t *)arg)
		tine_thread_exit(self, 5);
}

static int exit_at_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_message = exit_at, .arg = data};

	return tine_thread_listen(self, &h);
}

/* It ends by itself while we send; on_exit finds us sending on. */
START_TEST(test_exit_while_we_send)
{
	for (uint32_t at = 0; at < 3000; at += 300) {
		struct flood f = {.end = UINT32_MAX, .moved = true};
		struct tine_thread_options o = options(&f.w, exit_at_main);

		o.data = &at;
		o.len = sizeof(at);
		o.on_writable = flood_on;
		start_with(&f.w, &o);
		flood(&f);
		until(f.w.n_exits);
		ck_assert_int_eq(f.w.code, 5);
		ck_assert_int_eq(atomic_load(&n_out), 0);
	}
	end_threads();
}
END_TEST

/* The worker ends while all threads send. */
START_TEST(test_end_in_a_flood)
{
	static struct flood f[N_FLOODS];

	memset(f, 0, sizeof(f));
	for (unsigned i = 0; i < N_FLOODS; i++) {
		start_gush(&f[i]);
		flood(&f[i]);
	}
	until(f[0].w.n_messages > 1000);
	ck_assert_uint_eq(threads_end(worker.threads, END_US), 0);
	for (unsigned i = 0; i < N_FLOODS; i++) {
		ck_assert_uint_eq(f[i].w.n_exits, 1);
		ck_assert_uint_eq(f[i].w.n_messages, f[i].w.next);
	}
	ck_assert_int_eq(atomic_load(&n_out), 0);
	ck_assert_int_eq(
		tine_thread_start(&worker,
			&(struct tine_thread_options){
				.size = sizeof(struct tine_thread_options), .main = idle_main},
			&f[0].w.thread),
		-ESHUTDOWN);
	end_threads();
}
END_TEST

/* --- who does not end --- */

START_TEST(test_overdue)
{
	struct watch w = {0};
	struct tine_thread_options o = options(&w, gate_main);
	struct gate gate, *g = &gate;

	gate_init(g);
	o.data = &g;
	o.len = sizeof(g);
	start_with(&w, &o);
	sem_wait(&g->at);
	tine_thread_terminate(w.thread, 1000);
	until(w.n_overdue);
	ck_assert_uint_eq(w.n_exits, 0);
	ck_assert_uint_eq(threads_end(worker.threads, 1000), 1);
	ck_assert(threads_has(worker.threads, &worker));
	ck_assert(!threads_has(worker.threads, &w));
	ck_assert_ptr_null(threads_free(worker.threads)); /* which it is not */
	sem_post(&g->go);
	ck_assert_uint_eq(threads_end(worker.threads, END_US), 0);
	ck_assert_uint_eq(w.n_exits, 1);
	ck_assert_uint_eq(w.n_overdue, 1);
	end_threads();
}
END_TEST

/* --- limits --- */

START_TEST(test_quota)
{
	struct watch w = {0};
	struct tine_thread_options o = options(&w, idle_main);
	unsigned n = worker.threads->n;

	worker.threads->n = TINE_THREADS_MAX;
	ck_assert_int_eq(tine_thread_start(&worker, &o, &w.thread), TINE_E_QUOTA);
	worker.threads->n = n;
	start_with(&w, &o);
	end_threads();
}
END_TEST

static int next_descriptor(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

/* With descriptors for some of what a thread needs: nothing of it is left. */
START_TEST(test_no_descriptors)
{
	struct watch w = {0};
	struct tine_thread_options o = options(&w, idle_main);
	struct rlimit old, few;
	int next = next_descriptor(), n_refused = 0, r = -EMFILE;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (; r == -EMFILE && n_refused < 100; n_refused++) {
		ck_assert_int_eq(next_descriptor(), next);
		few = (struct rlimit){(rlim_t)(next + n_refused), old.rlim_max};
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
		r = tine_thread_start(&worker, &o, &w.thread);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	}
	ck_assert_int_eq(r, 0);
	ck_assert_int_ge(n_refused, 4);
	end_threads();
	ck_assert_int_eq(next_descriptor(), next);
}
END_TEST

/* The system has no thread with a stack like that: nothing is left of the attempt. */
START_TEST(test_no_thread)
{
	struct watch w = {0};
	struct tine_thread_options o = options(&w, idle_main);
	int next = next_descriptor(), r;

	o.stack_size = (size_t)1 << 50;
	r = tine_thread_start(&worker, &o, &w.thread);
	ck_assert(r == -EAGAIN || r == -EINVAL); /* the latter under Valgrind */
	ck_assert_uint_eq(worker.threads->n, 0);
	ck_assert_int_eq(next_descriptor(), next);
	o.stack_size = 0;
	start_with(&w, &o);
	ck_assert_uint_eq(tine_thread_id(w.thread), 1);
	end_threads();
}
END_TEST

/* --- pools --- */

struct results {
	struct tine_thread_pool *pool;
	unsigned n, n_ok, n_writable, n_errors, n_stopped;
	int last;
	uint64_t sum;
};

static struct results results;

static void on_result(int status, struct tine_thread_message *m, void *arg)
{
	results.n++;
	results.last = status;
	ck_assert((status == 0) == (m != NULL));
	if (status < 0)
		return;
	results.n_ok++;
	ck_assert_uint_eq(m->len, sizeof(uint32_t));
	ck_assert_uint_eq(*(uint32_t *)m->data, 2 * (uint32_t)(uintptr_t)arg);
	results.sum += *(uint32_t *)m->data;
}

static void on_none(int status, struct tine_thread_message *m, void *arg)
{
	results.n++;
	results.last = status;
}

static void on_pool_writable(struct tine_thread_pool *pool, void *arg)
{
	results.n_writable++;
}

static void on_pool_error(struct tine_thread_pool *pool, int error, const char *text, void *arg)
{
	results.n_errors++;
}

static void on_stopped(struct tine_thread_pool *pool, void *arg)
{
	ck_assert_ptr_eq(pool, results.pool);
	results.n_stopped++;
}

/* Doubles numbers. 13: fails; 14: ends; 15: an error for an answer; 16: no answer. */
static void work(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
	uint32_t n = *(uint32_t *)m->data, twice = 2 * n;
	struct tine_thread_send s = {.size = sizeof(s), .data = &twice, .len = sizeof(twice)};

	if (n == 13)
		return tine_thread_fail(self, -EIO, "13");
	if (n == 14)
		return tine_thread_exit(self, 0);
	if (n == 16)
		return;
	if (tine_parent_answer(self, m->task, n == 15 ? -EDOM : 0, &s) < 0)
		abort();
	if (n == 17 && tine_parent_answer(self, m->task, 0, &s) != -EINVAL)
		abort();
}

static int work_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_message = work};

	return tine_thread_listen(self, &h);
}

static void start_pool(unsigned n_threads, unsigned n_tasks, size_t queue_max)
{
	struct tine_thread_pool_options o = {.size = sizeof(o),
		.name = "worker",
		.n_threads = n_threads,
		.n_tasks = n_tasks,
		.queue_max = queue_max,
		.main = work_main,
		.on_writable = on_pool_writable,
		.on_error = on_pool_error,
		.on_stopped = on_stopped};

	memset(&results, 0, sizeof(results));
	ck_assert_int_eq(tine_thread_pool_start(&worker, &o, &results.pool), 0);
}

static int submit(uint32_t n)
{
	struct tine_thread_send s = {.size = sizeof(s), .data = &n, .len = sizeof(n)};

	return tine_thread_pool_submit(results.pool, &s, on_result, (void *)(uintptr_t)n);
}

static void stop_pool(void)
{
	tine_thread_pool_stop(results.pool, END_US);
	ck_assert_int_eq(submit(1), TINE_E_CLOSED);
	until(results.n_stopped);
	ck_assert_uint_eq(worker.threads->n, 0);
}

START_TEST(test_pool)
{
	uint64_t sum = 0;
	uint32_t n = 100;

	start_pool(4, 3, 50);
	for (unsigned k = 0; k < 5000; k++) {
		while (submit(n) == TINE_E_FULL)
			turn_loop();
		sum += 2 * n++;
	}
	until(results.n == 5000);
	ck_assert_uint_eq(results.n_ok, 5000);
	ck_assert_uint_eq(results.sum, sum);
	ck_assert_uint_gt(results.n_writable, 0);
	ck_assert_int_eq(submit(15), 0);
	until(results.n == 5001);
	ck_assert_int_eq(results.last, -EDOM);
	ck_assert_int_eq(submit(17), 0);
	until(results.n == 5002);
	stop_pool();
	end_threads();
}
END_TEST

/* Waits for the second task; answers the first one again and again, then the second. */
static void answer_often(struct tine_thread_self *self, struct tine_thread_message *m, void *arg)
{
	static uint64_t first;
	int r = 0;

	if (first == 0) {
		first = m->task;
		return;
	}
	for (int i = 0; i < 3; i++)
		r |= (tine_parent_answer(self, first, -EDOM, NULL) == 0) << i;
	r |= (tine_parent_answer(self, m->task + 1, -EDOM, NULL) == 0) << 3;
	if (r != 1)
		abort();
	tine_parent_answer(self, m->task, -EDOM, NULL);
}

static int often_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct tine_thread_handlers h = {.size = sizeof(h), .on_message = answer_often};

	return tine_thread_listen(self, &h);
}

/* An answer that is none for any task takes nothing from the others. */
START_TEST(test_pool_answered_too_often)
{
	struct tine_thread_pool_options o = {.size = sizeof(o),
		.n_threads = 1,
		.n_tasks = 2,
		.main = often_main,
		.on_stopped = on_stopped};

	memset(&results, 0, sizeof(results));
	ck_assert_int_eq(tine_thread_pool_start(&worker, &o, &results.pool), 0);
	ck_assert_int_eq(submit(1), 0);
	ck_assert_int_eq(submit(2), 0);
	until(results.n == 2);
	ck_assert_int_eq(results.last, -EDOM);
	stop_pool();
	end_threads();
}
END_TEST

/* Every tenth task ends its thread: it fails, all others succeed. */
START_TEST(test_pool_with_failures)
{
	start_pool(2, 1, 2000);
	for (unsigned k = 0; k < 400; k++)
		ck_assert_int_eq(submit(k % 10 != 0 ? 100 + k : k % 20 ? 13 : 14), 0);
	until(results.n == 400);
	ck_assert_uint_eq(results.n_ok, 360);
	ck_assert_uint_eq(results.n_errors, 20);
	stop_pool();
	end_threads();
}
END_TEST

/* Threads that have several tasks: only those that they have begun fail with them. */
START_TEST(test_pool_fails_what_was_begun)
{
	start_pool(2, 8, 2000);
	for (unsigned k = 0; k < 400; k++)
		ck_assert_int_eq(submit(k % 10 != 0 ? 100 + k : 13), 0);
	until(results.n == 400);
	ck_assert_uint_eq(results.n_ok, 360);
	ck_assert_uint_eq(results.n_errors, 40);
	stop_pool();
	end_threads();
}
END_TEST

/* Ends before it has read a message. */
static int once_main(struct tine_thread_self *self, void *data, size_t len)
{
	struct gate *g = *(struct gate **)data;

	sem_post(&g->at);
	sem_wait(&g->go);
	tine_thread_exit(self, 0);
	return 0;
}

/* Turns the loop until a thread is at the gate. */
static void arrive(struct gate *g)
{
	while (sem_trywait(&g->at) < 0) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		sched_yield();
	}
}

/* Tasks of all kinds that nobody has begun are given to the next thread, and the next. */
START_TEST(test_pool_takes_back)
{
	struct gate gate, *g = &gate;
	struct tine_thread_pool_options o = {.size = sizeof(o),
		.n_threads = 1,
		.n_tasks = 3,
		.data = &g,
		.len = sizeof(g),
		.main = once_main,
		.on_stopped = on_stopped};
	struct tine_thread_send moved = {.size = sizeof(moved), .len = 4, .release = piece_free},
				shared = {.size = sizeof(shared)},
				copied = {.size = sizeof(copied), .data = "text", .len = 4};

	memset(&results, 0, sizeof(results));
	gate_init(g);
	ck_assert_int_eq(tine_buffer_new(64, &shared.buffer), 0);
	ck_assert_int_eq(tine_thread_pool_start(&worker, &o, &results.pool), 0);
	moved.data = piece_new(0);
	ck_assert_int_eq(tine_thread_pool_submit(results.pool, &moved, on_none, NULL), 0);
	ck_assert_int_eq(tine_thread_pool_submit(results.pool, &shared, on_none, NULL), 0);
	ck_assert_int_eq(tine_thread_pool_submit(results.pool, &copied, on_none, NULL), 0);
	tine_buffer_unref(shared.buffer);
	for (unsigned k = 0; k < 3; k++) { /* the same again and again */
		arrive(g);
		sem_post(&g->go);
	}
	arrive(g);
	ck_assert_uint_eq(results.n, 0);
	tine_thread_pool_stop(results.pool, END_US);
	sem_post(&g->go);
	until(results.n_stopped);
	ck_assert_uint_eq(results.n, 3);
	ck_assert_int_eq(atomic_load(&n_out), 0);
	end_threads();
}
END_TEST

START_TEST(test_pool_stopped)
{
	start_pool(2, 1, 10);
	for (unsigned k = 0; k < 12; k++)
		ck_assert_int_eq(submit(16), 0);
	ck_assert_int_eq(submit(16), TINE_E_FULL);
	tine_thread_pool_stop(results.pool, END_US);
	ck_assert_uint_eq(results.n, 0);
	tine_thread_pool_stop(results.pool, END_US);
	until(results.n_stopped);
	ck_assert_uint_eq(results.n, 12);
	ck_assert_uint_eq(results.n_ok, 0);
	ck_assert_int_eq(results.last, TINE_E_CANCELED);
	end_threads();
}
END_TEST

/* Moved memory and a shared buffer as tasks: to a thread at once, through the queue, and not at all. Nobody listens to them. */
START_TEST(test_pool_takes_all_kinds)
{
	struct tine_thread_pool_options o = {
		.size = sizeof(o), .n_threads = 1, .main = idle_main, .on_stopped = on_stopped};
	struct tine_thread_send moved = {.size = sizeof(moved), .len = 4, .release = piece_free},
				shared = {.size = sizeof(shared)};

	memset(&results, 0, sizeof(results));
	ck_assert_int_eq(tine_buffer_new(64, &shared.buffer), 0);
	ck_assert_int_eq(tine_thread_pool_start(&worker, &o, &results.pool), 0);
	for (unsigned k = 0; k < 100; k++) {
		moved.data = piece_new(k);
		ck_assert_int_eq(tine_thread_pool_submit(results.pool, &moved, on_none, NULL), 0);
		ck_assert_int_eq(tine_thread_pool_submit(results.pool, &shared, on_none, NULL), 0);
	}
	tine_buffer_unref(shared.buffer);
	until(results.n >= 50);
	ck_assert_int_eq(results.last, -ENOSYS);
	tine_thread_pool_stop(results.pool, END_US);
	until(results.n_stopped);
	ck_assert_uint_eq(results.n, 200);
	ck_assert_int_eq(atomic_load(&n_out), 0);
	end_threads();
}
END_TEST

static unsigned n_starts;

static int refuse_main(struct tine_thread_self *self, void *data, size_t len)
{
	return -EACCES;
}

static void on_start_error(struct tine_thread_pool *pool, int error, const char *text, void *arg)
{
	ck_assert_int_eq(error, -EACCES);
	n_starts++;
}

/* Threads that never come up: tasks wait, the pool tries again and again, and can be stopped. */
START_TEST(test_pool_that_never_starts)
{
	struct tine_thread_pool_options o = {.size = sizeof(o),
		.n_threads = 2,
		.main = refuse_main,
		.on_error = on_start_error,
		.on_stopped = on_stopped};
	struct tine_thread_send s = {.size = sizeof(s)};

	memset(&results, 0, sizeof(results));
	n_starts = 0;
	ck_assert_int_eq(tine_thread_pool_start(&worker, &o, &results.pool), 0);
	for (unsigned k = 0; k < 10; k++)
		ck_assert_int_eq(tine_thread_pool_submit(results.pool, &s, on_none, NULL), 0);
	until(n_starts >= 6);
	ck_assert_uint_eq(results.n, 0);
	tine_thread_pool_stop(results.pool, END_US);
	until(results.n_stopped);
	ck_assert_uint_eq(results.n, 10);
	ck_assert_int_eq(results.last, TINE_E_CANCELED);
	end_threads();
}
END_TEST

/* For libevent: loops and timers. */
static atomic_bool no_memory;

static void *loop_malloc(size_t n)
{
	return atomic_load(&no_memory) ? NULL : malloc(n);
}

static void *loop_realloc(void *p, size_t n)
{
	return atomic_load(&no_memory) ? NULL : realloc(p, n);
}

static int once_refused_main(struct tine_thread_self *self, void *data, size_t len)
{
	return n_starts++ == 0 ? -EACCES : work_main(self, data, len);
}

/* The thread that failed, then the next one, which cannot be started. */
static void on_memory_error(struct tine_thread_pool *pool, int error, const char *text, void *arg)
{
	ck_assert_int_eq(error, results.n_errors++ == 0 ? -EACCES : -ENOMEM);
	atomic_store(&no_memory, error == -EACCES);
}

/* No memory for the next thread, nor for the timer of its start: it is tried until there is. */
START_TEST(test_pool_without_memory)
{
	struct tine_thread_pool_options o = {.size = sizeof(o),
		.n_threads = 1,
		.main = once_refused_main,
		.on_error = on_memory_error,
		.on_stopped = on_stopped};

	memset(&results, 0, sizeof(results));
	n_starts = 0;
	ck_assert_int_eq(tine_thread_pool_start(&worker, &o, &results.pool), 0);
	ck_assert_int_eq(submit(100), 0);
	until(results.n == 1);
	ck_assert_uint_eq(results.n_ok, 1);
	ck_assert_uint_eq(results.n_errors, 2);
	stop_pool();
	end_threads();
}
END_TEST

/* The worker ends. */
START_TEST(test_pool_at_the_end)
{
	start_pool(3, 1, 10);
	for (unsigned k = 0; k < 13; k++)
		ck_assert_int_eq(submit(k < 3 ? 16 : 100 + k), 0);
	ck_assert_uint_eq(threads_end(worker.threads, END_US), 0);
	ck_assert_uint_eq(results.n, 13);
	ck_assert_int_eq(results.last, TINE_E_CANCELED);
	ck_assert_uint_eq(results.n_stopped, 1);
	end_threads();
}
END_TEST

/* Some threads, and then no descriptors: no pool, and nothing of it. */
START_TEST(test_half_a_pool)
{
	struct tine_thread_pool_options o = {
		.size = sizeof(o), .n_threads = 4, .main = work_main, .on_stopped = on_stopped};
	struct rlimit old, few;
	int next = next_descriptor(), r;

	memset(&results, 0, sizeof(results));
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = (struct rlimit){(rlim_t)next + 9, old.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	r = tine_thread_pool_start(&worker, &o, &results.pool);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	ck_assert_int_eq(r, -EMFILE);
	ck_assert_ptr_null(results.pool);
	until(worker.threads->n == 0 && TAILQ_EMPTY(&worker.threads->users));
	ck_assert_uint_eq(results.n_stopped, 0);
	end_threads();
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_bad_arguments);
	tcase_add_test(tc, test_life);
	tcase_add_test(tc, test_failure);
	tcase_add_test(tc, test_timer);
	tcase_add_test(tc, test_echo);
	tcase_add_test(tc, test_moved);
	tcase_add_test(tc, test_shared);
	tcase_add_test(tc, test_full);
	tcase_add_test(tc, test_full_upwards);
	tcase_add_test(tc, test_floods);
	tcase_add_test(tc, test_terminated_in_a_flood);
	tcase_add_test(tc, test_exit_while_we_send);
	tcase_add_test(tc, test_end_in_a_flood);
	tcase_add_test(tc, test_overdue);
	tcase_add_test(tc, test_quota);
	tcase_add_test(tc, test_no_descriptors);
	tcase_add_test(tc, test_no_thread);
	tcase_add_test(tc, test_pool);
	tcase_add_test(tc, test_pool_answered_too_often);
	tcase_add_test(tc, test_pool_with_failures);
	tcase_add_test(tc, test_pool_fails_what_was_begun);
	tcase_add_test(tc, test_pool_takes_back);
	tcase_add_test(tc, test_pool_stopped);
	tcase_add_test(tc, test_pool_takes_all_kinds);
	tcase_add_test(tc, test_pool_that_never_starts);
	tcase_add_test(tc, test_pool_without_memory);
	tcase_add_test(tc, test_pool_at_the_end);
	tcase_add_test(tc, test_half_a_pool);
}

int main(void)
{
	event_set_mem_functions(loop_malloc, loop_realloc, free);
	return run_tests("thread", add);
}

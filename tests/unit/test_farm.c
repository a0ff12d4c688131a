/* Farms over real socketpairs, without processes: turns, priorities, deaths, deadlines, cancels, results that nobody takes, offences. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/blob.h"
#include "ipc/lane.h"
#include "primary/farm_parts.h"
#include "primary/relay_peer.h"
#include "run.h"
#include "shared/scoreboard.h"

#define HIGH      (256u << 10)
#define LOW       (64u << 10)
#define WORKERS   2
#define PROCESSES 3
#define FRAME_MAX (sizeof(struct frame) + MSG_LENGTH_MAX + 8)

static const char text[] = "[listener:web]\naddress = 127.0.0.1:80\n"
			   "[farm:f]\nmodule = builtin:f\nqueue_max = 8\nqueue_memory = 1M\n"
			   "max_result = 100K\nretries = 1\ntimeout = 1h\n"
			   "[farm:spent]\nmodule = builtin:f\nrecycle_after = 3\n";

static struct event_base *base;
static struct scoreboard sb;
static struct history *history;
static struct config *config;
static struct relay *relay;
static struct farms *farms;
static struct farm *farm;
static unsigned n_wanted;

/* The other end of a lane, played by the test. */
struct end {
	int fd;
	uint32_t address;
	const char *offence;
};

static struct worker {
	struct end end;
	struct relay_peer *peer;
} workers[WORKERS];

static struct process {
	struct end end;
	struct farm_process *fp;
	unsigned n_kills, n_late, n_spent;
} processes[PROCESSES];

static void on_worker_offence(const char *why, void *arg)
{
	((struct worker *)arg)->end.offence = why;
}

static void on_kill(const char *why, bool is_late, void *arg)
{
	((struct process *)arg)->n_kills++;
	((struct process *)arg)->n_late += is_late;
}

static void on_offence(const char *why, void *arg)
{
	((struct process *)arg)->end.offence = why;
}

static void on_spent(void *arg)
{
	struct process *p = arg;

	p->n_spent++;
	farm_process_retire(p->fp);
}

static void on_want(struct farm *f, void *arg)
{
	n_wanted++;
}

static int open_lane(struct end *e, unsigned slot, bool small)
{
	int fds[2], size = 16 << 10;

	ck_assert_int_eq(lane_pair(LANE_CONTROL, fds), 0);
	if (small)
		setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	e->address = relay_next_address(relay, slot);
	e->fd = fds[1];
	e->offence = NULL;
	return fds[0];
}

static void attach(unsigned i)
{
	struct worker *w = &workers[i];
	struct relay_peer_options o = {.role = ROLE_WORKER,
		.queue_high = HIGH,
		.queue_low = LOW,
		.max_message = 1u << 20,
		.max_subscriptions = 1,
		.farms = farms,
		.on_offence = on_worker_offence,
		.arg = w};

	o.fd = open_lane(&w->end, i, true);
	o.address = w->end.address;
	ck_assert_int_eq(relay_attach(relay, &o, &w->peer), 0);
}

static void start_in(struct farm *f, unsigned i)
{
	struct process *p = &processes[i];
	struct farm_process_options o = {.slot = &sb.slots[WORKERS + i],
		.on_kill = on_kill,
		.on_offence = on_offence,
		.on_spent = on_spent,
		.arg = p};

	memset(p, 0, sizeof(*p));
	sb_set(sb.slots[WORKERS + i].task_word, 0);
	o.fd = open_lane(&p->end, WORKERS + i, false);
	o.address = p->end.address;
	ck_assert_int_eq(farm_process_new(f, &o, &p->fp), 0);
	farm_process_ready(p->fp);
}

static void start(unsigned i)
{
	start_in(farm, i);
}

static void die(unsigned i, const char *how)
{
	close(processes[i].end.fd);
	farm_process_read_rest(processes[i].fp);
	processes[i].fp = farm_process_bury(processes[i].fp, how);
}

static void detach(unsigned i)
{
	workers[i].peer = relay_detach(workers[i].peer);
	close(workers[i].end.fd);
}

static void on_error(const char *line, void *arg)
{
	ck_abort_msg("%s", line);
}

static void set_up(void)
{
	struct farms_options o = {.on_want = on_want};

	base = event_base_new();
	if (!sb.slots)
		ck_assert_int_eq(scoreboard_new(1u << ADDRESS_SLOT_BITS, &sb), 0);
	ck_assert_int_eq(history_new(&history), 0);
	ck_assert_int_eq(
		config_load_text("t", NULL, text, strlen(text), on_error, NULL, &config), 0);
	ck_assert_int_eq(relay_new(base, &sb, &relay), 0);
	o.base = base;
	o.config = config;
	o.history = history;
	ck_assert_int_eq(farms_new(&o, &farms), 0);
	farm = farms_at(farms, 0);
	farm->short_us =
		0; /* nothing is given ahead, but where a test wants it: it must not depend on how fast we are */
	farm->far_us = UINT64_MAX;
	farm->ahead_us = 3600 * US_PER_S;
	n_wanted = 0;
	for (unsigned i = 0; i < WORKERS; i++)
		attach(i);
}

/* Nothing may be left: no memory (the sanitizer says so), no descriptor. */
static void tear_down(void)
{
	size_t all = relay->fds_left;

	for (unsigned i = 0; i < WORKERS; i++) {
		if (workers[i].peer)
			detach(i);
	}
	for (unsigned i = 0; i < PROCESSES; i++) {
		if (processes[i].fp)
			die(i, "over");
	}
	ck_assert_uint_ge(relay->fds_left, all);
	ck_assert_uint_eq(farm->n_waiting, 0);
	ck_assert_uint_eq(farm->bytes_waiting, 0);
	ck_assert_uint_eq(farm->n_busy, 0);
	farms = farms_free(farms);
	relay = relay_free(relay);
	config = config_free(config);
	munmap(history, sizeof(*history));
	event_base_free(base);
}

static void turn(void)
{
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

/* --- writing --- */

static void put_bytes(const struct end *e, const void *bytes, size_t n, int fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)bytes, n};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		mh.msg_control = &control;
		mh.msg_controllen = sizeof(control);
		control.align = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	}
	while (n > 0) {
		ssize_t r = sendmsg(e->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (r < 0 && errno == EPIPE)
			return;
		if (r > 0) {
			n -= (size_t)r;
			iov = (struct iovec){(char *)iov.iov_base + r, n};
			mh.msg_control = NULL;
			mh.msg_controllen = 0;
		}
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	turn();
}

/* A frame with a head of n bytes and a body. */
static void put(const struct end *e, struct frame f, const void *head, size_t n, const void *body,
	size_t len, int fd)
{
	static char bytes[FRAME_MAX] __attribute__((aligned(8)));

	f.length = (uint32_t)(n + len);
	memset(bytes, 0, frame_space(f.length));
	memcpy(bytes, &f, sizeof(f));
	memcpy(bytes + sizeof(f), head, n);
	memcpy(bytes + sizeof(f) + n, body, len);
	put_bytes(e, bytes, frame_space(f.length), fd);
}

struct submission {
	uint64_t id;
	struct msg_task task;
	const char *function, *argument;
	size_t len; /* of the argument; 0: it is a text */
	int fd;     /* of a large one */
	uint16_t flags;
};

static void submit_as(unsigned worker, const struct submission *s)
{
	char head[sizeof(struct msg_task) + 256] = {0};
	struct msg_task m = s->task;
	struct frame f = {.type = MSG_TASK,
		.flags = s->flags,
		.src = workers[worker].end.address,
		.id = s->id};

	if (!m.function)
		m.function = (uint8_t)strlen(s->function);
	memcpy(head, &m, sizeof(m));
	memcpy(head + sizeof(m), s->function, strlen(s->function));
	put(&workers[worker].end, f, head, task_head(m.function), s->argument,
		s->len ? s->len : strlen(s->argument), s->flags & FRAME_FD ? s->fd : -1);
}

static void submit(unsigned worker, uint64_t id, const char *argument)
{
	submit_as(worker, &(struct submission){.id = id, .function = "run", .argument = argument});
}

static void submit_first(unsigned worker, uint64_t id, enum msg_priority priority)
{
	submit_as(worker,
		&(struct submission){.id = id,
			.function = "run",
			.argument = "",
			.task = {.priority = (uint8_t)priority}});
}

static void cancel(unsigned worker, uint64_t id)
{
	struct frame f = {.type = MSG_TASK_CANCEL, .src = workers[worker].end.address, .id = id};

	put(&workers[worker].end, f, "", 0, "", 0, -1);
}

static void answer(unsigned process, uint64_t id, int status, const char *result)
{
	struct msg_task_done m = {.status = status};
	struct frame f = {.type = MSG_TASK_DONE, .src = processes[process].end.address, .id = id};

	put(&processes[process].end, f, &m, sizeof(m), result, strlen(result), -1);
}

/* --- reading --- */

struct got {
	struct frame f;
	union {
		char body[MSG_LENGTH_MAX + 8];
		struct msg_task task;
		struct msg_task_done done;
	};
	int fd;
};

static bool next(const struct end *e, struct got *ret)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {&ret->f, sizeof(ret->f)};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	size_t n;

	turn();
	memset(ret, 0, sizeof(*ret));
	ret->fd = -1;
	if (recvmsg(e->fd, &mh, MSG_DONTWAIT) != sizeof(ret->f))
		return false;
	if (mh.msg_controllen > 0 && CMSG_FIRSTHDR(&mh))
		memcpy(&ret->fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(ret->fd));
	n = frame_space(ret->f.length) - sizeof(ret->f);
	for (size_t at = 0; at < n;) {
		ssize_t r = recv(e->fd, ret->body + at, n - at, MSG_DONTWAIT);

		if (r > 0)
			at += (size_t)r;
		else
			turn();
	}
	return true;
}

/* The next one but for acknowledgements. */
static struct got take(const struct end *e, unsigned type)
{
	static struct got g;

	do
		ck_assert_msg(next(e, &g), "no %s", msg_name(type));
	while (g.f.type == MSG_ACK && type != MSG_ACK);
	ck_assert_str_eq(msg_name(g.f.type), msg_name(type));
	return g;
}

static void take_nothing(const struct end *e)
{
	static struct got g;

	while (next(e, &g)) {
		if (g.f.type != MSG_ACK)
			ck_abort_msg("%s %lu", msg_name(g.f.type), (unsigned long)g.f.id);
	}
}

/* The next task that a process may begin, which it does. */
static struct got take_begun(unsigned process)
{
	struct got g;

	do
		g = take(&processes[process].end, MSG_TASK);
	while (!scoreboard_begin_task(&sb.slots[WORKERS + process], (uint32_t)g.f.id));
	return g;
}

/* The argument of the task that a process begins. Returns the number. */
static uint64_t take_task(unsigned process, const char *argument, unsigned tries)
{
	struct got g = take_begun(process);

	ck_assert_uint_eq(g.f.dst, processes[process].end.address);
	ck_assert_uint_eq(g.task.tries, tries);
	ck_assert_str_eq(g.body + task_head(g.task.function), argument);
	return g.f.id;
}

/* What a worker is told of a task; how: part of the text, or of the result. */
static void take_done(unsigned worker, uint64_t id, int status, unsigned tries, const char *how)
{
	struct got g = take(&workers[worker].end, MSG_TASK_DONE);

	ck_assert_uint_eq(g.f.id, id);
	ck_assert_uint_eq(g.f.dst, workers[worker].end.address);
	ck_assert_int_eq(g.done.status, status);
	ck_assert_uint_eq(g.done.tries, tries);
	ck_assert_msg(strstr(g.body + sizeof(g.done), how) != NULL, "%s", g.body + sizeof(g.done));
}

/* --- tests --- */

START_TEST(test_a_task_goes_to_a_process_and_its_result_back)
{
	struct got g;

	set_up();
	start(0);
	submit(0, 77, "two");
	g = take_begun(0);
	ck_assert_uint_eq(g.task.timeout_us, 3600 * US_PER_S);
	ck_assert_uint_eq(g.task.function, 3);
	ck_assert_mem_eq(&g.task + 1, "run\0\0\0\0\0two", 11);
	ck_assert(farm->n_busy == 1);
	answer(0, g.f.id, 0, "four");
	take_done(0, 77, 0, 1, "four");
	take_nothing(&workers[0].end);
	take_nothing(&workers[1].end);
	submit(1, 77, "again"); /* numbers are each worker's own, and may be used again */
	answer(0, take_task(0, "again", 0), -EDOM, "no such thing");
	take_done(1, 77, -EDOM, 1, "no such thing");
	ck_assert_uint_eq(sb_get(farm->figures->submitted), 2);
	ck_assert_uint_eq(sb_get(farm->figures->done), 1);
	ck_assert_uint_eq(sb_get(farm->figures->failed), 1);
	ck_assert_uint_eq(n_wanted, 0);
	tear_down();
}
END_TEST

START_TEST(test_a_long_task_does_not_delay_those_of_other_processes)
{
	uint64_t id;

	set_up();
	start(0);
	start(1);
	submit(0, 1, "long");
	take_task(1, "long", 0);
	for (uint64_t i = 2; i < 6; i++)
		submit(0, i, "short");
	for (uint64_t i = 2; i < 6; i++) {
		id = take_task(0, "short", 0);
		answer(0, id, 0, "");
		take_done(0, i, 0, 1, "");
	}
	take_nothing(&processes[1].end);
	tear_down();
}
END_TEST

START_TEST(test_priorities_and_turns)
{
	static const struct {
		unsigned worker;
		uint64_t id;
	} wanted[] = {{1, 21}, {0, 12}, {1, 20}, {0, 13}, {0, 11}};

	set_up();
	submit_first(0, 11, PRIORITY_LOW);
	submit_first(0, 12, PRIORITY_NORMAL);
	submit_first(0, 13, PRIORITY_NORMAL);
	submit_first(1, 20, PRIORITY_NORMAL);
	submit_first(1, 21, PRIORITY_HIGH);
	ck_assert_uint_eq(farm->n_waiting, 5);
	ck_assert_uint_ne(farm_queue_oldest_us(farm), 0);
	ck_assert_uint_gt(n_wanted, 0);
	start(0);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		answer(0, take_task(0, "", 0), 0, "");
		take_done(wanted[i].worker, wanted[i].id, 0, 1, "");
	}
	ck_assert_uint_eq(farm_queue_oldest_us(farm), 0);
	tear_down();
}
END_TEST

START_TEST(test_the_queue_is_bounded)
{
	static char large[60000];

	set_up();
	for (uint64_t i = 0; i < 8; i++)
		submit(0, i, "");
	take_nothing(&workers[0].end);
	submit(1, 0, "");
	take_done(1, 0, -EAGAIN, 0, "queue_max");
	ck_assert_uint_eq(sb_get(farm->figures->refused), 1);
	cancel(0, 3);
	take_done(0, 3, -ECANCELED, 0, "before");
	submit(1, 0, "");
	take_nothing(&workers[1].end);
	detach(0);
	ck_assert_uint_eq(farm->n_waiting, 1);
	for (uint64_t i = 1; i < 6; i++)
		submit_as(1,
			&(struct submission){.id = i,
				.function = "run",
				.argument = large,
				.len = sizeof(large)});
	take_nothing(&workers[1].end);
	ck_assert_uint_gt(farm->bytes_waiting, 5 * sizeof(large));
	tear_down();
}
END_TEST

static int sealed(size_t size)
{
	static char zeros[2 << 20];
	int fd;

	ck_assert_int_eq(blob_new(zeros, size, &fd), 0);
	return fd;
}

static void submit_large(unsigned worker, uint64_t id, int fd, uint64_t size)
{
	struct msg_large m = {.size = size};

	submit_as(worker,
		&(struct submission){.id = id,
			.function = "run",
			.argument = (const char *)&m,
			.len = sizeof(m),
			.fd = fd,
			.flags = FRAME_FD | FRAME_LARGE});
}

START_TEST(test_large_arguments_and_results)
{
	struct msg_task_done m = {0};
	struct msg_large large = {.size = 90000};
	struct frame f = {.type = MSG_TASK_DONE, .flags = FRAME_FD | FRAME_LARGE};
	int fd = sealed(400000), result = sealed(90000);
	char body[sizeof(m) + sizeof(large)];
	uint64_t size, id;
	struct got g;
	size_t left;

	set_up();
	left = relay->fds_left;
	submit_large(0, 1, fd, 400000);
	submit_large(0, 2, fd, 400000);
	ck_assert_uint_eq(relay->fds_left, left - 2);
	submit_large(0, 3, fd, 400000);
	take_done(0, 3, -EAGAIN, 0, "queue_memory");
	start(0);
	g = take_begun(0);
	ck_assert_int_ge(g.fd, 0);
	ck_assert_int_eq(blob_check(g.fd, &size), 0);
	ck_assert_uint_eq(size, 400000);
	close(g.fd);
	die(0, "killed"); /* the argument is there for the next try */
	start(0);
	g = take_begun(0);
	ck_assert_uint_eq(g.task.tries, 1);
	ck_assert_int_eq(blob_check(g.fd, &size), 0);
	close(g.fd);
	id = g.f.id;
	memcpy(body, &m, sizeof(m));
	memcpy(body + sizeof(m), &large, sizeof(large));
	f.src = processes[0].end.address;
	f.id = id;
	put(&processes[0].end, f, body, sizeof(body), "", 0, result);
	g = take(&workers[0].end, MSG_TASK_DONE);
	ck_assert_uint_eq(g.f.flags, FRAME_FD | FRAME_LARGE);
	ck_assert_int_eq(blob_check(g.fd, &size), 0);
	ck_assert_uint_eq(size, 90000);
	ck_assert_uint_eq(g.done.tries, 2);
	close(g.fd);
	detach(0);
	die(0, "over");
	ck_assert_uint_eq(relay->fds_left, left);
	close(fd);
	close(result);
	tear_down();
}
END_TEST

START_TEST(test_an_argument_larger_than_the_queue)
{
	int fd = sealed(2 << 20);

	set_up();
	submit_large(0, 1, fd, 2 << 20);
	take_done(0, 1, -EMSGSIZE, 0, "queue_memory");
	relay->fds_left = 0;
	close(fd);
	fd = sealed(100000);
	submit_large(0, 2, fd, 100000);
	take_done(0, 2, -EDQUOT, 0, "descriptors");
	close(fd);
	tear_down();
}
END_TEST

START_TEST(test_results_over_their_limit)
{
	struct msg_task_done m = {0};
	struct msg_large large = {.size = 200000};
	struct frame f = {.type = MSG_TASK_DONE, .flags = FRAME_FD | FRAME_LARGE};
	char body[sizeof(m) + sizeof(large)];
	int result = sealed(200000);

	set_up();
	start(0);
	submit(0, 1, "");
	f.id = take_task(0, "", 0);
	f.src = processes[0].end.address;
	memcpy(body, &m, sizeof(m));
	memcpy(body + sizeof(m), &large, sizeof(large));
	put(&processes[0].end, f, body, sizeof(body), "", 0, result);
	take_done(0, 1, -EMSGSIZE, 1, "200000 bytes");
	submit(0, 2, ""); /* the process serves on */
	answer(0, take_task(0, "", 0), 0, "");
	take_done(0, 2, 0, 1, "");
	close(result);
	tear_down();
}
END_TEST

START_TEST(test_a_death_is_tried_again_and_then_given_up)
{
	struct history_quarantined q;

	set_up();
	start(0);
	submit(0, 1, "bad");
	submit(0, 2, "good");
	submit(1, 3, "good");
	take_task(0, "bad", 0);
	die(0, "killed by signal 11");
	take_nothing(&workers[0].end);
	start(0);
	take_task(0, "bad", 1); /* in front of the others */
	die(0, "killed by signal 6");
	take_done(0, 1, -EOWNERDEAD, 2, "killed by signal 6; tried 2 times");
	start(0);
	answer(0, take_task(0, "good", 0), 0, "");
	answer(0, take_task(0, "good", 0), 0, "");
	take_done(0, 2, 0, 1, "");
	take_done(1, 3, 0, 1, "");
	ck_assert_uint_eq(sb_get(farm->figures->crashed), 2);
	ck_assert_uint_eq(sb_get(farm->figures->retried), 1);
	ck_assert_uint_eq(sb_get(farm->figures->quarantined), 1);
	ck_assert(history_read_quarantined(history, 1, &q));
	ck_assert_str_eq(q.farm, "f");
	ck_assert_str_eq(q.function, "run");
	ck_assert_str_eq(q.how, "killed by signal 6");
	ck_assert_uint_eq(q.tries, 2);
	ck_assert_uint_eq(q.bytes, 3);
	tear_down();
}
END_TEST

START_TEST(test_last_words_count)
{
	uint64_t id;

	set_up();
	start(0);
	submit(0, 1, "");
	id = take_task(0, "", 0);
	{
		struct msg_task_done m = {0};
		struct frame f = {.length = sizeof(m),
			.type = MSG_TASK_DONE,
			.src = processes[0].end.address,
			.id = id};

		ck_assert_int_eq(write(processes[0].end.fd, &f, sizeof(f)), sizeof(f));
		ck_assert_int_eq(write(processes[0].end.fd, &m, sizeof(m)), sizeof(m));
	}
	die(0, "exited");
	take_done(0, 1, 0, 1, "");
	ck_assert_uint_eq(sb_get(farm->figures->crashed), 0);
	tear_down();
}
END_TEST

START_TEST(test_a_deadline_ends_the_process_and_no_other_task)
{
	char function[HISTORY_FUNCTION];

	set_up();
	start(0);
	start(1);
	submit(0, 2, "other");
	take_task(1, "other", 0);
	submit_as(0,
		&(struct submission){
			.id = 1, .function = "spin", .argument = "", .task = {.timeout_us = 2000}});
	take_task(0, "", 0);
	while (processes[0].n_kills == 0)
		event_base_loop(base, EVLOOP_ONCE);
	take_done(0, 1, -ETIMEDOUT, 1, "spin did not end within 2 ms");
	ck_assert_uint_eq(processes[0].n_kills, 1);
	ck_assert_uint_eq(processes[0].n_late, 1);
	ck_assert_uint_eq(processes[1].n_kills, 0);
	farm_process_function(processes[0].fp, function);
	ck_assert_str_eq(function, "spin");
	answer(0, 1, 0, "too late"); /* it may have written that before it died */
	ck_assert_ptr_null(processes[0].end.offence);
	die(0, "killed by signal 9");
	take_nothing(&workers[0].end);
	ck_assert_uint_eq(sb_get(farm->figures->timed_out), 1);
	ck_assert_uint_eq(sb_get(farm->figures->crashed), 0);
	tear_down();
}
END_TEST

/* One timer serves many tasks: one that was armed for an earlier task must not hit a later one, nor miss it. */
START_TEST(test_deadlines_of_tasks_one_after_the_other)
{
	const uint64_t timeouts_us[] = {400 * US_PER_MS, 3600 * US_PER_S, 5000};
	uint64_t id;

	set_up();
	start(0);
	for (uint64_t i = 0; i < 2; i++) {
		submit_as(0,
			&(struct submission){.id = i,
				.function = "run",
				.argument = "",
				.task = {.timeout_us = timeouts_us[i]}});
		id = take_task(0, "", 0);
		if (i == 0)
			answer(0, id, 0, "");
	}
	take_done(0, 0, 0, 1, "");
	event_base_loop(base, EVLOOP_ONCE); /* that of the first one fires */
	ck_assert_uint_eq(processes[0].n_kills, 0);
	answer(0, id, 0, "");
	take_done(0, 1, 0, 1, "");
	submit_as(0,
		&(struct submission){.id = 2,
			.function = "run",
			.argument = "",
			.task = {.timeout_us = timeouts_us[2]}});
	take_task(0, "", 0);
	while (processes[0].n_kills == 0)
		event_base_loop(base, EVLOOP_ONCE);
	take_done(0, 2, -ETIMEDOUT, 1, "5 ms");
	ck_assert_uint_eq(processes[0].n_kills, 1);
	tear_down();
}
END_TEST

START_TEST(test_cancel)
{
	set_up();
	start(0);
	submit(0, 1, "runs");
	submit(0, 2, "waits");
	submit(1, 1, "another's");
	take_task(0, "runs", 0);
	cancel(0, 2);
	take_done(0, 2, -ECANCELED, 0, "before it was begun");
	cancel(0, 2); /* once is enough, and who never was is nobody */
	cancel(0, 99);
	take_nothing(&workers[0].end);
	cancel(0, 1);
	take_done(0, 1, -ECANCELED, 1, "while it ran");
	ck_assert_uint_eq(processes[0].n_kills, 1);
	take_nothing(&processes[0].end);
	die(0, "killed by signal 9");
	start(0);
	answer(0, take_task(0, "another's", 0), 0, "");
	take_done(1, 1, 0, 1, "");
	take_nothing(&workers[0].end);
	ck_assert_ptr_null(workers[0].end.offence);
	ck_assert_uint_eq(sb_get(farm->figures->canceled), 2);
	tear_down();
}
END_TEST

START_TEST(test_tasks_of_a_worker_that_has_gone)
{
	uint64_t id;

	set_up();
	start(0);
	submit(0, 1, "runs");
	submit(0, 2, "waits");
	submit(1, 1, "stays");
	id = take_task(0, "runs", 0);
	detach(0);
	ck_assert_uint_eq(farm->n_waiting, 1);
	answer(0, id, 0, "for nobody");
	answer(0, take_task(0, "stays", 0), 0, "");
	take_done(1, 1, 0, 1, "");
	ck_assert_uint_eq(sb_get(farm->figures->dropped), 2);
	attach(0); /* the next one in the slot hears nothing of it */
	submit(0, 1, "crashes");
	take_task(0, "crashes", 0);
	detach(0);
	die(0, "killed");
	ck_assert_uint_eq(farm->n_waiting, 0);
	ck_assert_uint_eq(sb_get(farm->figures->dropped), 3);
	tear_down();
}
END_TEST

/* It does not read: what runs is held for it, and no more is begun; others are served; when it reads it gets everything. */
START_TEST(test_a_worker_that_takes_no_results)
{
	static char result[50001];
	unsigned n = 0;
	uint64_t id, ids[100] = {0};
	struct got g;

	set_up();
	memset(result, 'x', sizeof(result) - 1);
	start(0);
	do {
		ck_assert_uint_lt(n, 50);
		submit(0, n++, "");
		id = take_task(0, "", 0);
		answer(0, id, 0, result);
	} while (STAILQ_EMPTY(&workers[0].peer->farm_client->held));
	ck_assert_uint_gt(n, 3);
	submit(0, n++, "later");
	take_nothing(&processes[0].end);
	ck_assert_uint_eq(farm->n_waiting, 1);
	submit(1, 1, "other");
	answer(0, take_task(0, "other", 0), 0, "");
	take_done(1, 1, 0, 1, "");
	take_nothing(&processes[0].end);
	for (unsigned i = 0; i + 1 < n; i++) {
		g = take(&workers[0].end, MSG_TASK_DONE);
		ck_assert_uint_eq(g.f.length, sizeof(g.done) + sizeof(result) - 1);
		ck_assert_uint_lt(g.f.id, n);
		ck_assert_uint_eq(ids[g.f.id]++, 0);
	}
	answer(0, take_task(0, "later", 0), 0, "");
	take_done(0, n - 1, 0, 1, "");
	take_nothing(&workers[0].end);
	tear_down();
}
END_TEST

/* A result of 90000 bytes, which are behind the descriptor. */
static void answer_large(unsigned process, uint64_t id, int fd)
{
	struct msg_large large = {.size = 90000};
	struct frame f = {.type = MSG_TASK_DONE,
		.flags = FRAME_FD | FRAME_LARGE,
		.src = processes[process].end.address,
		.id = id};
	char body[sizeof(struct msg_task_done) + sizeof(large)] = "";

	memcpy(body + sizeof(struct msg_task_done), &large, sizeof(large));
	put(&processes[process].end, f, body, sizeof(body), "", 0, fd);
}

/* Fills the way to a worker, by results, until one of 90000 bytes is held. Returns how many there are before that one. */
static unsigned fill(unsigned worker)
{
	static char result[50001];
	unsigned n = 0;

	memset(result, 'x', sizeof(result) - 1);
	while (outlet_has_room(&workers[worker].peer->outlet, 90000)) {
		ck_assert_uint_lt(n, 50);
		submit(worker, n++, "");
		answer(0, take_task(0, "", 0), 0, result);
	}
	submit(worker, n, "");
	return n;
}

static void take_filled(unsigned worker, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		ck_assert_uint_eq(take(&workers[worker].end, MSG_TASK_DONE).f.id, i);
}

/* When its turn comes there is no descriptor for it; nobody need send this worker anything more for it to hear of that. */
START_TEST(test_a_held_result_for_which_there_is_no_descriptor)
{
	int fd = sealed(90000);
	size_t left;
	unsigned n;

	set_up();
	start(0);
	n = fill(0);
	answer_large(0, take_task(0, "", 0), fd);
	ck_assert(!STAILQ_EMPTY(&workers[0].peer->farm_client->held));
	submit(0, n + 1, "later");
	left = relay->fds_left;
	relay->fds_left = 0;
	take_filled(0, n);
	take_done(0, n, -EDQUOT, 1, "descriptors");
	relay->fds_left = left;
	answer(0, take_task(0, "later", 0), 0, "");
	take_done(0, n + 1, 0, 1, "");
	close(fd);
	tear_down();
}
END_TEST

/* There is none for the copy that is held. The worker hears of it, and serves on. */
START_TEST(test_no_descriptor_to_hold_a_result)
{
	int fd = sealed(90000), next_fd;
	struct rlimit all, few;
	unsigned n;
	uint64_t id;

	set_up();
	start(0);
	n = fill(0);
	id = take_task(0, "", 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &all), 0);
	next_fd = dup(fd);
	close(next_fd);
	few = (struct rlimit){(rlim_t)next_fd + 1, all.rlim_max}; /* one, with which it comes */
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	answer_large(0, id, fd);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &all), 0);
	ck_assert_ptr_null(workers[0].end.offence);
	take_filled(0, n);
	take_done(0, n, -EDQUOT, 1, "descriptors");
	close(fd);
	tear_down();
}
END_TEST

START_TEST(test_a_farm_that_has_no_process_that_starts)
{
	set_up();
	submit(0, 1, "");
	submit(1, 1, "");
	farm_set_broken(farm, "it does not load");
	take_done(0, 1, -ENOENT, 0, "it does not load");
	take_done(1, 1, -ENOENT, 0, "it does not load");
	submit(0, 2, "");
	take_done(0, 2, -ENOENT, 0, "it does not load");
	n_wanted = 0;
	start(0); /* somebody had it restarted */
	submit(0, 3, "");
	answer(0, take_task(0, "", 0), 0, "");
	take_done(0, 3, 0, 1, "");
	tear_down();
}
END_TEST

START_TEST(test_a_process_is_spent)
{
	struct submission s = {.function = "run", .argument = "", .task = {.farm = 1}};

	set_up();
	start_in(farms_at(farms, 1), 0);
	for (s.id = 0; s.id < 3; s.id++) {
		ck_assert_uint_eq(processes[0].n_spent, 0);
		submit_as(0, &s);
		answer(0, take_task(0, "", 0), 0, "");
		take_done(0, s.id, 0, 1, "");
	}
	ck_assert_uint_eq(processes[0].n_spent, 1);
	submit_as(0, &s);
	take_nothing(&processes[0].end);
	ck_assert_uint_eq(n_wanted, 1);
	tear_down();
}
END_TEST

/* One that was taken back was not run. */
START_TEST(test_a_process_is_not_spent_by_what_is_taken_back)
{
	struct submission s = {.function = "run", .argument = "", .task = {.farm = 1}};
	uint64_t id;

	set_up();
	start_in(farms_at(farms, 1), 0);
	farms_at(farms, 1)->short_us = UINT64_MAX;
	farms_at(farms, 1)->ahead_us = 3600 * US_PER_S;
	for (s.id = 1; s.id <= 3; s.id++)
		submit_as(0, &s);
	answer(0, take_task(0, "", 0), 0, "");
	take_done(0, 1, 0, 1, "");
	id = take_task(0, "", 0);
	ck_assert_uint_eq(farms_at(farms, 1)->n_ahead_all, 1);
	farm_take_back(farms_at(farms, 1));
	answer(0, id, 0, "");
	take_done(0, 2, 0, 1, "");
	ck_assert_uint_eq(processes[0].n_spent, 0);
	answer(0, take_task(0, "", 0), 0, "");
	take_done(0, 3, 0, 1, "");
	ck_assert_uint_eq(processes[0].n_spent, 1);
	tear_down();
}
END_TEST

START_TEST(test_a_process_told_to_leave_ends_its_task)
{
	uint64_t id;

	set_up();
	start(0);
	submit(0, 1, "");
	submit(0, 2, "");
	id = take_task(0, "", 0);
	farm_process_retire(processes[0].fp);
	answer(0, id, 0, "");
	take_done(0, 1, 0, 1, "");
	take_nothing(&processes[0].end);
	ck_assert_uint_eq(farm->n_waiting, 1);
	tear_down();
}
END_TEST

/* --- offences --- */

static void check_cut_off(unsigned worker, const char *why)
{
	turn();
	ck_assert_ptr_nonnull(workers[worker].end.offence);
	ck_assert_str_eq(workers[worker].end.offence, why);
	detach(worker);
	attach(worker);
}

START_TEST(test_offences_of_workers)
{
	static const struct {
		struct submission s;
		const char *why;
	} offences[] = {
		{{.task = {.farm = 2}}, "task for a farm that is not there"},
		{{.task = {.farm = UINT32_MAX}}, "task for a farm that is not there"},
		{{.task = {.function = 64}}, "malformed task"},
		{{.task = {.function = 60}, .function = ""}, NULL},
		{{.function = ""}, "malformed task"},
		{{.task = {.priority = PRIORITIES}}, "malformed task"},
		{{.task = {.tries = 1}}, "malformed task"},
		{{.task = {.timeout_us = 24 * 3600 * US_PER_S + 1}}, "malformed task"},
		{{.flags = FRAME_FD, .fd = STDIN_FILENO}, "descriptor with a task"},
		{{.flags = FRAME_FD | FRAME_LARGE, .fd = STDIN_FILENO}, "malformed large payload"},
		{{.flags = FRAME_FD | FRAME_LARGE, .fd = STDIN_FILENO, .argument = "12345678"},
			"malformed large payload"},
	};

	set_up();
	for (size_t i = 0; i < sizeof(offences) / sizeof(*offences); i++) {
		struct submission s = offences[i].s;

		s.function = s.function ? s.function : "run";
		s.argument = s.argument ? s.argument : "";
		submit_as(0, &s);
		if (offences[i].why)
			check_cut_off(0, offences[i].why);
		ck_assert_ptr_null(workers[1].end.offence);
	}
	tear_down();
}
END_TEST

START_TEST(test_two_tasks_of_one_number)
{
	set_up();
	submit(0, 1, "");
	submit(1, 1, "");
	submit(0, 1, "");
	check_cut_off(0, "two tasks of one number");
	ck_assert_uint_eq(farm->n_waiting, 1);
	tear_down();
}
END_TEST

START_TEST(test_a_memfd_that_can_still_change)
{
	int fd = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	set_up();
	ck_assert_int_eq(ftruncate(fd, 100000), 0);
	submit_large(0, 1, fd, 100000);
	check_cut_off(0, "malformed large payload");
	close(fd);
	fd = sealed(100000);
	submit_large(0, 1, fd, 99999);
	check_cut_off(0, "malformed large payload");
	close(fd);
	tear_down();
}
END_TEST

struct lie {
	uint64_t id; /* added to the right one */
	uint32_t src;
	int32_t status;
	size_t len; /* of the text; 0: none */
	uint16_t type, flags;
	const char *why;
};

START_TEST(test_offences_of_processes)
{
	static const struct lie lies[] = {
		{.id = 1, .why = "result of a task it was not given"},
		{.src = 1, .why = "wrong sender"},
		{.status = 1, .why = "malformed result"},
		{.status = INT32_MIN, .why = "malformed result"},
		{.status = -EDOM, .len = MSG_FAIL_MAX + 1, .why = "malformed result"},
		{.flags = FRAME_FD, .why = "malformed result"},
		{.flags = FRAME_FD | FRAME_LARGE, .why = "malformed large payload"},
		{.flags = FRAME_FD | FRAME_LARGE, .len = 8, .why = "malformed large payload"},
		{.flags = FRAME_FD | FRAME_LARGE,
			.status = -EDOM,
			.len = 8,
			.why = "malformed result"},
		{.type = MSG_SEND, .why = "message its sender may not send"},
		{.type = MSG_TASK, .why = "message its sender may not send"},
		{.type = MSG_PUBLISH, .why = "message its sender may not send"},
	};
	static char long_text[MSG_FAIL_MAX + 1];

	set_up();
	submit(0, 1, "");
	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		const struct lie *lie = &lies[i];
		struct msg_task_done m = {.status = lie->status};
		struct frame f = {
			.type = lie->type ? lie->type : MSG_TASK_DONE, .flags = lie->flags};

		if (i % 2 == 0 && i > 0) /* it was given up the second time */
			submit(0, 1, "");
		start(0);
		f.id = take_task(0, "", i % 2) + lie->id;
		f.src = processes[0].end.address + lie->src;
		put(&processes[0].end, f, &m, sizeof(m), long_text, lie->len,
			lie->flags & FRAME_FD ? STDIN_FILENO : -1);
		ck_assert_ptr_nonnull(processes[0].end.offence);
		ck_assert_str_eq(processes[0].end.offence, lie->why);
		die(0, "killed for that");
		if (i % 2 == 1)
			take_done(0, 1, -EOWNERDEAD, 2, "killed for that");
	}
	tear_down();
}
END_TEST

START_TEST(test_a_result_nobody_asked_for)
{
	set_up();
	start(0);
	answer(0, 0, 0, "");
	ck_assert_str_eq(processes[0].end.offence, "result of a task it was not given");
	submit(0, 1, ""); /* it is given no more */
	take_nothing(&processes[0].end);
	tear_down();
}
END_TEST

START_TEST(test_a_lane_that_is_closed_by_one_that_lives_on)
{
	set_up();
	start(0);
	ck_assert_int_eq(shutdown(processes[0].end.fd, SHUT_RDWR), 0);
	submit(0, 1, "");
	take_nothing(&workers[0].end);
	ck_assert_uint_eq(farm->n_waiting, 1);
	while (!processes[0].end.offence)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_str_eq(processes[0].end.offence, "closed its lane and lives on");
	tear_down();
}
END_TEST

/* --- tasks that a process has ahead --- */

/* Has the first process end a short task, so that it is given some ahead; of worker 0, numbered from 1. */
static void give_ahead(unsigned n)
{
	uint64_t id;

	farm->short_us = UINT64_MAX;
	submit(0, 0, "");
	id = take_task(0, "", 0);
	for (uint64_t i = 1; i <= n; i++)
		submit(0, i, "");
	answer(0, id, 0, "");
	take_done(0, 0, 0, 1, "");
}

/* Has the first process run those of worker 0 from one to another. */
static void run(uint64_t from, uint64_t to)
{
	for (uint64_t id = from; id <= to; id++) {
		answer(0, take_task(0, "", 0), 0, "");
		take_done(0, id, 0, 1, "");
	}
}

START_TEST(test_short_tasks_are_given_ahead)
{
	set_up();
	start(0);
	give_ahead(6);
	ck_assert_uint_eq(farm->n_ahead_all, 1);
	ck_assert_uint_eq(farm->n_waiting, 4);
	ck_assert_uint_eq(farm->n_busy, 1);
	run(1, 6);
	ck_assert_uint_eq(farm->n_ahead_all, 0);
	tear_down();
}
END_TEST

START_TEST(test_more_are_given_ahead_where_results_come_late)
{
	set_up();
	start(0);
	farm->far_us = 0;
	give_ahead(6);
	ck_assert_uint_eq(farm->n_ahead_all, 5);
	run(1, 6);
	tear_down();
}
END_TEST

/* The word in which it says so is its own to write; what it says must not make it idle twice. */
START_TEST(test_one_that_says_it_had_not_begun_after_all)
{
	uint64_t id;

	set_up();
	start(0);
	farm->far_us = 0;
	give_ahead(3);
	id = take_task(0, "", 0);
	sb_set(sb.slots[WORKERS].task_word, id + 2);
	cancel(0, 2);
	take_done(0, 2, -ECANCELED, 1, "");
	sb_set(sb.slots[WORKERS].task_word, id - 1);
	answer(0, id, 0, "");
	take_done(0, 1, 0, 1, "");
	ck_assert(TAILQ_EMPTY(&farm->idle));
	die(0, "killed by signal 9");
	start(1);
	answer(1, take_task(1, "", 1), 0, "");
	take_done(0, 3, 0, 2, "");
	ck_assert_ptr_eq(TAILQ_FIRST(&farm->idle), processes[1].fp);
	ck_assert_ptr_null(TAILQ_NEXT(processes[1].fp, idle_link));
	tear_down();
}
END_TEST

/* Those behind it may be given to others, whatever those before it took. */
START_TEST(test_what_is_ahead_is_taken_back_after_a_long_one)
{
	set_up();
	start(0);
	farm->far_us = 0;
	give_ahead(6);
	answer(0, take_task(0, "", 0), 0, "");
	take_done(0, 1, 0, 1, "");
	ck_assert_uint_eq(farm->n_ahead_all, 4);
	farm->short_us = 0;
	answer(0, take_task(0, "", 0), 0, "");
	take_done(0, 2, 0, 1, "");
	ck_assert_uint_eq(farm->n_ahead_all, 0);
	ck_assert_uint_eq(farm->n_waiting, 3);
	for (unsigned i = 0; i < WORKERS; i++)
		detach(i);
	tear_down();
}
END_TEST

/* It is no new one: it comes back as its process has died. */
START_TEST(test_a_higher_priority_that_comes_back_goes_before_what_is_ahead)
{
	uint64_t id;

	set_up();
	start(1);
	submit_first(1, 1, PRIORITY_HIGH);
	take_task(1, "", 0);
	start(0);
	farm->far_us = 0;
	give_ahead(3);
	ck_assert_uint_gt(farm->n_ahead_all, 0);
	id = take_task(0, "", 0);
	die(1, "killed by signal 11");
	ck_assert_uint_eq(farm->n_ahead_all, 0);
	answer(0, id, 0, "");
	take_done(0, 1, 0, 1, "");
	answer(0, take_task(0, "", 1), 0, "");
	take_done(1, 1, 0, 2, "");
	run(2, 3);
	tear_down();
}
END_TEST

START_TEST(test_before_a_fork_more_are_given_ahead)
{
	set_up();
	start(0);
	give_ahead(6);
	farms_feed(farms);
	ck_assert_uint_eq(farm->n_ahead_all, 5);
	ck_assert_uint_eq(farm->n_waiting, 0);
	run(1, 6);
	tear_down();
}
END_TEST

/* Neither one that runs a long one, nor one of which nothing is known yet; and none is given more than its share. */
START_TEST(test_before_a_fork_not_all_are_given_more)
{
	set_up();
	start(0);
	give_ahead(1);
	answer(0, take_task(0, "", 0), 0, "");
	take_done(0, 1, 0, 1, "");
	start(1);
	for (uint64_t i = 2; i <= 7; i++)
		submit(0, i, "");
	ck_assert_uint_eq(farm->n_waiting, 4);
	farm->short_us = 0;
	farms_feed(farms);
	ck_assert_uint_eq(farm->n_ahead_all, 0);
	farm->short_us = UINT64_MAX;
	farms_feed(farms);
	ck_assert_uint_eq(processes[0].fp->n_given_now, 3);
	ck_assert_uint_eq(processes[1].fp->n_given_now, 1);
	for (unsigned i = 0; i < WORKERS; i++)
		detach(i);
	tear_down();
}
END_TEST

START_TEST(test_what_is_ahead_goes_to_one_that_is_free)
{
	uint64_t id;

	set_up();
	start(0);
	give_ahead(2);
	id = take_task(0, "", 0); /* a long one, as it turns out */
	start(1);
	answer(1, take_task(1, "", 0), 0, "");
	take_done(0, 2, 0, 1, "");
	answer(0, id, 0, "");
	take_done(0, 1, 0, 1, "");
	submit(0, 3, "");
	ck_assert_uint_eq(farm->n_busy, 1);
	tear_down();
}
END_TEST

START_TEST(test_what_is_ahead_of_a_long_one_is_taken_back)
{
	set_up();
	start(0);
	farm->ahead_us = 1000;
	give_ahead(6);
	while (farm->n_ahead_all > 0)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_uint_eq(farm->n_waiting, 5);
	cancel(0, 4);
	take_done(0, 4, -ECANCELED, 0, "before");
	ck_assert_uint_eq(processes[0].n_kills, 0);
	tear_down();
}
END_TEST

START_TEST(test_a_higher_priority_goes_before_what_is_ahead)
{
	uint64_t id;

	set_up();
	start(0);
	give_ahead(3);
	answer(0, take_task(0, "", 0), 0, "");
	take_done(0, 1, 0, 1, "");
	submit_first(1, 1, PRIORITY_LOW);
	answer(0, take_task(0, "", 0), 0, "");
	take_done(0, 2, 0, 1, "");
	id = take_task(0, "", 0);
	submit_first(1, 2, PRIORITY_HIGH);
	answer(0, id, 0, "");
	take_done(0, 3, 0, 1, "");
	answer(0, take_task(0, "", 0), 0, "");
	take_done(1, 2, 0, 1, "");
	answer(0, take_task(0, "", 0), 0, "");
	take_done(1, 1, 0, 1, "");
	tear_down();
}
END_TEST

START_TEST(test_a_death_costs_no_task_that_is_ahead)
{
	set_up();
	start(0);
	give_ahead(4);
	take_task(0, "", 0);
	die(0, "killed by signal 11");
	ck_assert_uint_eq(sb_get(farm->figures->crashed), 1);
	start(0);
	answer(0, take_task(0, "", 1), 0, "");
	take_done(0, 1, 0, 2, "");
	run(2, 4);
	tear_down();
}
END_TEST

/* It has begun the next one, and what became of the one before is on its way. */
START_TEST(test_cancel_one_that_is_over_and_the_one_after_it)
{
	uint64_t first, second;

	set_up();
	start(0);
	give_ahead(3);
	first = take_task(0, "", 0);
	second = take_task(0, "", 0);
	cancel(0, 1);
	take_done(0, 1, -ECANCELED, 1, "");
	ck_assert_uint_eq(processes[0].n_kills, 0);
	cancel(0, 2);
	take_done(0, 2, -ECANCELED, 1, "");
	ck_assert_uint_eq(processes[0].n_kills, 0); /* not yet: it might hit the first one */
	answer(0, first, 0, "");
	ck_assert_uint_eq(processes[0].n_kills, 1);
	answer(0, second, 0, "");
	die(0, "killed by signal 9");
	start(0);
	answer(0, take_task(0, "", 0), 0, "");
	take_done(0, 3, 0, 1, "");
	take_nothing(&workers[0].end);
	tear_down();
}
END_TEST

START_TEST(test_what_is_ahead_of_a_worker_that_has_gone)
{
	uint64_t id;

	set_up();
	start(0);
	give_ahead(3);
	id = take_task(0, "", 0);
	submit(1, 1, "stays");
	detach(0);
	answer(0, id, 0, "");
	answer(0, take_task(0, "stays", 0), 0, "");
	take_done(1, 1, 0, 1, "");
	ck_assert_uint_eq(sb_get(farm->figures->dropped), 3);
	tear_down();
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_a_task_goes_to_a_process_and_its_result_back);
	tcase_add_test(tc, test_a_long_task_does_not_delay_those_of_other_processes);
	tcase_add_test(tc, test_priorities_and_turns);
	tcase_add_test(tc, test_the_queue_is_bounded);
	tcase_add_test(tc, test_large_arguments_and_results);
	tcase_add_test(tc, test_an_argument_larger_than_the_queue);
	tcase_add_test(tc, test_results_over_their_limit);
	tcase_add_test(tc, test_a_death_is_tried_again_and_then_given_up);
	tcase_add_test(tc, test_last_words_count);
	tcase_add_test(tc, test_a_deadline_ends_the_process_and_no_other_task);
	tcase_add_test(tc, test_deadlines_of_tasks_one_after_the_other);
	tcase_add_test(tc, test_cancel);
	tcase_add_test(tc, test_tasks_of_a_worker_that_has_gone);
	tcase_add_test(tc, test_a_worker_that_takes_no_results);
	tcase_add_test(tc, test_a_held_result_for_which_there_is_no_descriptor);
	tcase_add_test(tc, test_no_descriptor_to_hold_a_result);
	tcase_add_test(tc, test_a_farm_that_has_no_process_that_starts);
	tcase_add_test(tc, test_a_process_is_spent);
	tcase_add_test(tc, test_a_process_is_not_spent_by_what_is_taken_back);
	tcase_add_test(tc, test_a_process_told_to_leave_ends_its_task);
	tcase_add_test(tc, test_short_tasks_are_given_ahead);
	tcase_add_test(tc, test_more_are_given_ahead_where_results_come_late);
	tcase_add_test(tc, test_one_that_says_it_had_not_begun_after_all);
	tcase_add_test(tc, test_what_is_ahead_is_taken_back_after_a_long_one);
	tcase_add_test(tc, test_a_higher_priority_that_comes_back_goes_before_what_is_ahead);
	tcase_add_test(tc, test_before_a_fork_more_are_given_ahead);
	tcase_add_test(tc, test_before_a_fork_not_all_are_given_more);
	tcase_add_test(tc, test_what_is_ahead_goes_to_one_that_is_free);
	tcase_add_test(tc, test_what_is_ahead_of_a_long_one_is_taken_back);
	tcase_add_test(tc, test_a_higher_priority_goes_before_what_is_ahead);
	tcase_add_test(tc, test_a_death_costs_no_task_that_is_ahead);
	tcase_add_test(tc, test_cancel_one_that_is_over_and_the_one_after_it);
	tcase_add_test(tc, test_what_is_ahead_of_a_worker_that_has_gone);
	tcase_add_test(tc, test_offences_of_workers);
	tcase_add_test(tc, test_two_tasks_of_one_number);
	tcase_add_test(tc, test_a_memfd_that_can_still_change);
	tcase_add_test(tc, test_offences_of_processes);
	tcase_add_test(tc, test_a_result_nobody_asked_for);
	tcase_add_test(tc, test_a_lane_that_is_closed_by_one_that_lives_on);
}

int main(void)
{
	return run_tests("farm", add);
}

/* Tasks as a worker submits them, over a real socketpair: what goes out, whom what comes back is told to, and the end of the lane. */
#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <unistd.h>

#include "ipc/blob.h"
#include "ipc/lane.h"
#include "run.h"
#include "runtime/bus.h"
#include "runtime/farm_client.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/scoreboard.h"

#define MANY 500

static const char text[] = "[listener:web]\naddress = 127.0.0.1:80\n"
			   "[farm:f]\nmodule = builtin:f\n[farm:g]\nmodule = builtin:g\n";

static struct event_base *base;
static struct scoreboard sb;
static struct config *config;
static struct bus *bus;
static volatile struct {
	struct event_base *base;
	struct bus *bus;
} kept[32]; /* of tests before: a bus lives as long as its process. Nobody reads it but those who look for leaks. */
static unsigned n_kept;
static struct farm_client *client;
static struct farm_port *port;
static struct lane *primary;

/* What the primary's end got last. */
static struct {
	unsigned n_tasks, n_cancels;
	struct frame f;
	struct msg_task task;
	char function[64];
	char data[64];
	size_t len;
	uint64_t large; /* bytes behind the descriptor */
	uint64_t ids[MANY];
} got;

/* What on_done was told last. */
static struct {
	unsigned n;
	struct tine_farm_result r;
	char data[64], error[1100];
	char first, last; /* bytes of the data */
	uint64_t arg;
} told;

static void on_task(const struct frame *f, const void *payload, int fd)
{
	const struct msg_task *m = payload;
	const char *data = (const char *)payload + task_head(m->function);

	got.ids[got.n_tasks++ % MANY] = f->id;
	got.task = *m;
	memcpy(got.function, m + 1, m->function);
	got.function[m->function] = '\0';
	got.len = f->length - task_head(m->function);
	memcpy(got.data, data, got.len < sizeof(got.data) ? got.len : sizeof(got.data));
	got.large = 0;
	if (f->flags & FRAME_LARGE)
		ck_assert_int_eq(blob_check(fd, &got.large), 0);
}

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	got.f = *f;
	if (f->type == MSG_TASK)
		on_task(f, payload, fd);
	got.n_cancels += f->type == MSG_TASK_CANCEL;
	if (fd >= 0)
		close(fd);
}

static void on_closed(const char *why, void *arg)
{
	ck_assert_ptr_null(why);
}

static void on_done(const struct tine_farm_result *r, void *arg)
{
	told.n++;
	told.r = *r;
	told.arg = (uintptr_t)arg;
	ck_assert_uint_eq(r->size, sizeof(*r));
	ck_assert_uint_eq((uintptr_t)r->data % 8, 0);
	if (r->len > 0) {
		memcpy(told.data, r->data, r->len < sizeof(told.data) ? r->len : sizeof(told.data));
		told.first = *(const char *)r->data;
		told.last = ((const char *)r->data)[r->len - 1];
	}
	strcpy(told.error, r->error);
}

static void turn(void)
{
	for (int i = 0; i < 10; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

static void set_up(void)
{
	static struct child child;
	struct lane_options o = {.kind = LANE_BUS,
		.peer = ROLE_WORKER,
		.queue_max = SIZE_MAX,
		.on_message = on_message,
		.on_closed = on_closed};
	int fds[2];

	memset(&got, 0, sizeof(got));
	memset(&told, 0, sizeof(told));
	base = event_base_new();
	ck_assert_int_eq(scoreboard_new(8, &sb), 0);
	ck_assert_int_eq(
		config_load_text("t.ini", "/", text, strlen(text), NULL, NULL, &config), 0);
	ck_assert_int_eq(lane_pair(LANE_BUS, fds), 0);
	o.base = base;
	o.fd = fds[0];
	ck_assert_int_eq(lane_new(&o, &primary), 0);
	child = (struct child){
		.slot = 1, .address = 4097, .config = config, .scoreboard = &sb, .bus_fd = fds[1]};
	ck_assert_int_eq(bus_new(base, &child, &bus), 0);
	ck_assert_int_eq(farm_client_new(bus, config, &client), 0);
	ck_assert_int_eq(farm_port_new(client, &port), 0);
}

static void tear_down(void)
{
	client = farm_client_free(client);
	primary = lane_free(primary);
	config = config_free(config);
	kept[n_kept].base = base;
	kept[n_kept++].bus = bus;
}

static int submit(const char *farm, const void *data, size_t len, uint64_t arg, tine_task_id *ret)
{
	struct tine_farm_task t = {.size = sizeof(t),
		.farm = farm,
		.function = "work",
		.data = data,
		.len = len,
		.priority = TINE_FARM_LOW,
		.timeout_us = 12345,
		.on_done = on_done,
		.arg = (void *)(uintptr_t)arg};

	return farm_port_submit(port, &t, ret);
}

/* The primary's answer. */
static void done(uint64_t id, int status, unsigned tries, const void *body, size_t len, int fd)
{
	struct msg_task_done m = {.status = status, .tries = tries};
	struct iovec parts[] = {{&m, sizeof(m)}, {(void *)(uintptr_t)body, len}};
	struct frame f = {.type = MSG_TASK_DONE,
		.flags = fd >= 0 ? FRAME_FD | FRAME_LARGE : 0,
		.id = id,
		.length = (uint32_t)(sizeof(m) + len)};

	ck_assert_int_eq(lane_put(primary, &f, parts, 2, fd), 0);
	turn();
}

START_TEST(test_there_and_back)
{
	tine_task_id id = 0;

	ck_assert_int_eq(submit("g", "argument", 8, 7, &id), 0);
	turn();
	ck_assert_uint_ne(id, 0);
	ck_assert_uint_eq(got.n_tasks, 1);
	ck_assert_uint_eq(got.f.id, id);
	ck_assert_uint_eq(got.f.src, 4097);
	ck_assert_uint_eq(got.task.farm, 1);
	ck_assert_uint_eq(got.task.priority, PRIORITY_LOW);
	ck_assert_uint_eq(got.task.timeout_us, 12345);
	ck_assert_uint_eq(got.task.tries, 0);
	ck_assert_str_eq(got.function, "work");
	ck_assert_mem_eq(got.data, "argument", 8);
	ck_assert_uint_eq(told.n, 0);
	done(id, 0, 2, "result", 6, -1);
	ck_assert_uint_eq(told.n, 1);
	ck_assert_int_eq(told.r.status, 0);
	ck_assert_uint_eq(told.r.tries, 2);
	ck_assert_uint_eq(told.r.len, 6);
	ck_assert_mem_eq(told.data, "result", 6);
	ck_assert_str_eq(told.error, "");
	ck_assert_uint_eq(told.arg, 7);
}
END_TEST

START_TEST(test_only_once)
{
	tine_task_id id, next;

	ck_assert_int_eq(submit("f", NULL, 0, 1, &id), 0);
	done(id, 0, 1, "", 0, -1);
	done(id, 0, 1, "", 0, -1); /* it is over */
	done(id + 1, 0, 1, "", 0, -1);
	done(UINT64_MAX, 0, 1, "", 0, -1);
	done(0, 0, 1, "", 0, -1);
	ck_assert_uint_eq(told.n, 1);
	ck_assert_int_eq(
		submit("f", NULL, 0, 2, &next), 0); /* the place is used again, the number is not */
	ck_assert_uint_eq((uint32_t)next, (uint32_t)id);
	ck_assert_uint_ne(next, id);
	done(id, 0, 1, "", 0, -1);
	ck_assert_uint_eq(told.n, 1);
	done(next, 0, 1, "", 0, -1);
	ck_assert_uint_eq(told.n, 2);
}
END_TEST

START_TEST(test_errors)
{
	char longer[1500];
	tine_task_id id;

	ck_assert_int_eq(submit("nobody", NULL, 0, 1, NULL), TINE_E_NOBODY);
	turn();
	ck_assert_uint_eq(got.n_tasks, 0);
	ck_assert_int_eq(submit("f", NULL, 0, 1, &id), 0);
	done(id, TINE_E_CRASHED, 2, "killed by signal 9", 18, -1);
	ck_assert_int_eq(told.r.status, TINE_E_CRASHED);
	ck_assert_str_eq(told.error, "killed by signal 9");
	ck_assert_uint_eq(told.r.len, 0);
	ck_assert_ptr_null(told.r.data);
	ck_assert_int_eq(submit("f", NULL, 0, 1, &id), 0);
	done(id, TINE_E_TIMEOUT, 1, "", 0, -1); /* without words */
	ck_assert_str_eq(told.error, "the task ran longer than it may");
	ck_assert_int_eq(submit("f", NULL, 0, 1, &id), 0);
	done(id, -EPERM, 1, "", 0, -1);
	ck_assert_str_eq(told.error, strerror(EPERM));
	memset(longer, 'x', sizeof(longer));
	ck_assert_int_eq(submit("f", NULL, 0, 1, &id), 0);
	done(id, -EIO, 1, longer, sizeof(longer), -1);
	ck_assert_uint_eq(strlen(told.error), 1024);
	ck_assert_uint_eq(told.n, 4);
}
END_TEST

START_TEST(test_large)
{
	static char data[200000];
	struct msg_large large = {.size = sizeof(data)};
	tine_task_id id;
	int fd;

	memset(data, 'a', sizeof(data));
	data[sizeof(data) - 1] = 'z';
	ck_assert_int_eq(submit("f", data, sizeof(data), 1, &id), 0);
	turn();
	ck_assert_uint_eq(got.f.flags, FRAME_FD | FRAME_LARGE | FRAME_SYNC);
	ck_assert_uint_eq(got.large, sizeof(data));
	ck_assert_uint_eq(got.len, sizeof(large));
	ck_assert_int_eq(blob_new(data, sizeof(data), &fd), 0);
	done(id, 0, 1, &large, sizeof(large), fd);
	close(fd);
	ck_assert_int_eq(told.r.status, 0);
	ck_assert_uint_eq(told.r.len, sizeof(data));
	ck_assert_int_eq(told.first, 'a');
	ck_assert_int_eq(told.last, 'z');
}
END_TEST

/* It cannot be mapped: an error, and not silence. */
START_TEST(test_large_that_is_none)
{
	struct msg_large large = {.size = 4096};
	tine_task_id id;
	int fd;

	ck_assert_int_eq(submit("f", NULL, 0, 1, &id), 0);
	ck_assert_int_eq(blob_new("abc", 3, &fd), 0);
	done(id, 0, 1, &large, sizeof(large), fd);
	close(fd);
	ck_assert_uint_eq(told.n, 1);
	ck_assert_int_lt(told.r.status, 0);
	ck_assert_uint_eq(told.r.len, 0);
	ck_assert_str_ne(told.error, "");
}
END_TEST

START_TEST(test_cancel)
{
	tine_task_id id;

	ck_assert_int_eq(farm_port_cancel(port, 0), TINE_E_GONE);
	ck_assert_int_eq(submit("f", NULL, 0, 1, &id), 0);
	ck_assert_int_eq(farm_port_cancel(port, id + 1), TINE_E_GONE);
	ck_assert_int_eq(farm_port_cancel(port, id), 0);
	ck_assert_int_eq(farm_port_cancel(port, id), 0);
	turn();
	ck_assert_uint_eq(got.n_cancels, 1); /* asked for once */
	ck_assert_uint_eq(got.f.id, id);
	ck_assert_uint_eq(told.n, 0);
	done(id, TINE_E_CANCELED, 0, "canceled", 8, -1);
	ck_assert_int_eq(told.r.status, TINE_E_CANCELED);
	ck_assert_int_eq(farm_port_cancel(port, id), TINE_E_GONE);
	turn();
	ck_assert_uint_eq(got.n_cancels, 1);
}
END_TEST

/* The table grows while tasks are in it; they end in another order. */
START_TEST(test_many)
{
	tine_task_id ids[MANY];

	for (unsigned i = 0; i < MANY; i++)
		ck_assert_int_eq(submit("f", &i, sizeof(i), i, &ids[i]), 0);
	turn();
	ck_assert_uint_eq(got.n_tasks, MANY);
	for (unsigned i = MANY; i-- > 0;) {
		ck_assert_uint_eq(got.ids[i], ids[i]);
		done(ids[i], 0, 1, "", 0, -1);
		ck_assert_uint_eq(told.arg, i);
	}
	ck_assert_uint_eq(told.n, MANY);
}
END_TEST

static unsigned n_writable;

static void on_writable(void *arg)
{
	ck_assert_ptr_eq(arg, port);
	n_writable++;
}

/* The window is full until the primary has acknowledged something. */
START_TEST(test_full)
{
	static char data[60000];
	struct msg_ack ack = {0};
	int r = 0;

	n_writable = 0;
	farm_port_watch(port, on_writable, port);
	while (ack.n < MANY && (r = submit("f", data, sizeof(data), ack.n, NULL)) == 0)
		ack.n++;
	ck_assert_int_eq(r, TINE_E_FULL);
	turn();
	ck_assert_uint_eq(got.n_tasks, ack.n);
	ck_assert_uint_eq(got.f.type, MSG_SYNC); /* it asks */
	ck_assert_uint_eq(n_writable, 0);
	ack.bytes = ack.n * frame_space(task_head(4) + sizeof(data)) + frame_space(0);
	ack.n++;
	ck_assert_int_eq(lane_send(primary, MSG_ACK, 0, &ack, sizeof(ack)), 0);
	turn();
	ck_assert_uint_eq(n_writable, 1);
	ck_assert_int_eq(submit("f", data, sizeof(data), 0, NULL), 0);
	farm_port_watch(port, NULL, NULL);
}
END_TEST

/* Each is told so once; and nothing can be submitted from within. */
START_TEST(test_lane_closes)
{
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(submit("f", NULL, 0, i, NULL), 0);
	turn();
	primary = lane_free(primary);
	turn();
	ck_assert_uint_eq(told.n, 3);
	ck_assert_int_eq(told.r.status, TINE_E_CLOSED);
	ck_assert_str_ne(told.error, "");
	ck_assert_int_eq(submit("f", NULL, 0, 1, NULL), TINE_E_CLOSED);
	turn();
	ck_assert_uint_eq(told.n, 3);
}
END_TEST

/* After worker_stop nobody is called. */
START_TEST(test_end)
{
	tine_task_id id;

	ck_assert_int_eq(submit("f", NULL, 0, 1, &id), 0);
	client = farm_client_free(client);
	done(id, 0, 1, "", 0, -1);
	primary = lane_free(primary);
	turn();
	ck_assert_uint_eq(told.n, 0);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_there_and_back);
	tcase_add_test(tc, test_only_once);
	tcase_add_test(tc, test_errors);
	tcase_add_test(tc, test_large);
	tcase_add_test(tc, test_large_that_is_none);
	tcase_add_test(tc, test_cancel);
	tcase_add_test(tc, test_many);
	tcase_add_test(tc, test_full);
	tcase_add_test(tc, test_lane_closes);
	tcase_add_test(tc, test_end);
}

int main(void)
{
	return run_tests("farm_client", add);
}

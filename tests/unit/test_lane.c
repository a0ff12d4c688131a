/* Lanes over a real socketpair: framing however the bytes are split, bounds, descriptors, a peer that breaks rules. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "ipc/lane.h"
#include "run.h"

static struct event_base *base;
static struct lane *lane;
static int peer; /* the other end, raw */
static unsigned n_messages, n_closed;
static struct frame last;
static char last_payload[MSG_FAIL_MAX + 1];
static int last_fd;
static const char *closed_why;
static bool free_in_callback;

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	n_messages++;
	last = *f;
	memcpy(last_payload, payload, f->length);
	last_payload[f->length] = '\0';
	last_fd = fd;
	if (free_in_callback)
		lane = lane_free(lane);
}

static void on_closed(const char *why, void *arg)
{
	n_closed++;
	closed_why = why;
}

static void set_up(enum msg_role sender, size_t queue_max)
{
	int fds[2];
	struct lane_options o = {.kind = LANE_CONTROL,
		.peer = sender,
		.queue_max = queue_max,
		.on_message = on_message,
		.on_closed = on_closed};

	n_messages = n_closed = 0;
	last_fd = -1;
	closed_why = "not closed";
	free_in_callback = false;
	base = event_base_new();
	ck_assert_int_eq(lane_pair(LANE_CONTROL, fds), 0);
	o.base = base;
	o.fd = fds[0];
	peer = fds[1];
	ck_assert_int_eq(lane_new(&o, &lane), 0);
}

static void tear_down(void)
{
	lane = lane_free(lane);
	close(peer);
	event_base_free(base);
}

static void turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static void put(const void *data, size_t len)
{
	ck_assert_int_eq(write(peer, data, len), (ssize_t)len);
}

START_TEST(test_frames_arrive_however_they_are_split)
{
	struct frame f = {.type = MSG_FAILED, .length = 5, .id = 77};
	char bytes[2 * (sizeof(f) + 8)];

	memcpy(bytes, &f, sizeof(f));
	memcpy(bytes + sizeof(f), "hello\0\0\0", 8);
	memcpy(bytes + sizeof(f) + 8, bytes, sizeof(f) + 8);
	for (size_t step = 1; step <= sizeof(bytes); step++) {
		set_up(ROLE_WORKER, 4096);
		for (size_t at = 0; at < sizeof(bytes); at += step) {
			put(bytes + at, sizeof(bytes) - at < step ? sizeof(bytes) - at : step);
			turn();
		}
		ck_assert_uint_eq(n_messages, 2);
		ck_assert_uint_eq(last.id, 77);
		ck_assert_str_eq(last_payload, "hello");
		ck_assert_uint_eq(n_closed, 0);
		tear_down();
	}
}
END_TEST

static const struct {
	struct frame f;
	const char *why;
} offences[] = {
	{{.type = 999}, "unknown message number"},
	{{.type = MSG_PING}, "message its sender may not send"},
	{{.type = MSG_FAILED, .length = UINT32_MAX}, "wrong payload length"},
	{{.type = MSG_READY, .flags = 3}, "undefined flags"},
};

START_TEST(test_offences_close_the_lane_before_the_payload_is_waited_for)
{
	set_up(ROLE_WORKER, 4096);
	put(&offences[_i].f, sizeof(struct frame));
	turn();
	ck_assert_uint_eq(n_closed, 1);
	ck_assert_str_eq(closed_why, offences[_i].why);
	ck_assert_uint_eq(n_messages, 0);
	ck_assert_int_eq(lane_send(lane, MSG_PING, 0, NULL, 0), -EPIPE);
	tear_down();
}
END_TEST

START_TEST(test_end_of_file_is_told_once_after_the_last_words)
{
	struct frame f = {.type = MSG_READY};

	set_up(ROLE_WORKER, 4096);
	put(&f, sizeof(f));
	close(peer);
	peer = -1;
	lane_read_rest(lane);
	turn();
	ck_assert_uint_eq(n_messages, 1);
	ck_assert_uint_eq(n_closed, 1);
	ck_assert_ptr_null(closed_why);
	lane = lane_free(lane);
	event_base_free(base);
}
END_TEST

START_TEST(test_a_handler_may_free_its_lane)
{
	struct frame f[2] = {{.type = MSG_READY}, {.type = MSG_READY}};

	set_up(ROLE_WORKER, 4096);
	free_in_callback = true;
	put(f, sizeof(f));
	turn();
	ck_assert_uint_eq(n_messages, 1);
	tear_down();
}
END_TEST

START_TEST(test_a_peer_that_does_not_read_fills_only_the_bound)
{
	unsigned sent = 0;
	int r;

	set_up(ROLE_WORKER, 1000);
	do {
		r = lane_send(lane, MSG_PING, sent, NULL, 0);
		sent += r == 0;
		turn();
	} while (r == 0 && sent < 1000000);
	ck_assert_int_eq(r, LANE_E_FULL);
	for (unsigned i = 0; i < sent; i++) { /* all that was accepted arrives, in order */
		struct frame f;

		while (read(peer, &f, sizeof(f)) < 0)
			turn();
		ck_assert_uint_eq(f.type, MSG_PING);
		ck_assert_uint_eq(f.id, i);
	}
	ck_assert_int_eq(lane_send(lane, MSG_PING, 0, NULL, 0), 0); /* there is room again */
	tear_down();
}
END_TEST

START_TEST(test_descriptors_arrive_with_their_message)
{
	struct msg_listen m = {7, 8};
	struct lane_options o = {.kind = LANE_CONTROL,
		.peer = ROLE_PRIMARY,
		.queue_max = 4096,
		.on_message = on_message,
		.on_closed = on_closed};
	struct lane *receiver;
	int pipe_fds[2];
	char c;

	set_up(ROLE_WORKER, 4096);
	o.base = base;
	o.fd = peer;
	ck_assert_int_eq(lane_new(&o, &receiver), 0);
	ck_assert_int_eq(pipe(pipe_fds), 0);
	ck_assert_int_eq(lane_send(lane, MSG_PING, 1, NULL, 0), 0);
	ck_assert_int_eq(lane_send_fd(lane, MSG_LISTEN, &m, sizeof(m), pipe_fds[1]), 0);
	ck_assert_int_eq(lane_send(lane, MSG_UNLISTEN, 0, &m, sizeof(m)), 0);
	ck_assert_int_eq(lane_send_fd(lane, MSG_LOG_REOPEN, NULL, 0, pipe_fds[1]), 0);
	turn();
	turn();
	ck_assert_uint_eq(n_messages, 4);
	ck_assert_uint_eq(last.type, MSG_LOG_REOPEN);
	ck_assert_int_ge(last_fd, 0);
	ck_assert_int_eq(fcntl(last_fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(write(last_fd, "x", 1), 1);
	ck_assert_int_eq(read(pipe_fds[0], &c, 1), 1);
	close(last_fd);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	lane_free(receiver);
	lane = lane_free(lane);
	event_base_free(base);
}
END_TEST

static void put_with_fds(const struct frame *f, unsigned n)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(64 * sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)f, sizeof(*f)};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(n * sizeof(int))};

	control.align = (struct cmsghdr){CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
	memset(CMSG_DATA(&control.align), 0, n * sizeof(int)); /* descriptor 0, n times */
	ck_assert_int_eq(sendmsg(peer, &mh, 0), sizeof(*f));
}

static const struct {
	unsigned type, n_fds;
	const char *why;
} smuggled[] = {
	{MSG_READY, 1, "too many descriptors"}, /* none is allowed here */
	{MSG_READY, 60, "too many descriptors"},
};

START_TEST(test_descriptors_nobody_asked_for_close_the_lane)
{
	struct frame f = {.type = (uint16_t)smuggled[_i].type};
	int before = dup(0);

	close(before);
	set_up(ROLE_WORKER, 4096);
	put_with_fds(&f, smuggled[_i].n_fds);
	turn();
	ck_assert_uint_eq(n_closed, 1);
	ck_assert_str_eq(closed_why, smuggled[_i].why);
	tear_down();
	ck_assert_int_eq(dup(0), before); /* none has leaked */
	close(before);
}
END_TEST

/* Who has the kernel limit our descriptors: were we to do it, Valgrind would not tell the kernel. */
static int limiter;

#define AS_BEFORE \
	UINT_MAX /* Valgrind, which has descriptors of its own above them all, could not go on with fewer */

static void limiter_main(int fd)
{
	struct rlimit before, l;
	unsigned n;

	prlimit(getppid(), RLIMIT_NOFILE, NULL, &before);
	while (read(fd, &n, sizeof(n)) == sizeof(n)) {
		l = before;
		if (n != AS_BEFORE)
			l.rlim_cur = n;
		if (prlimit(getppid(), RLIMIT_NOFILE, &l, NULL) < 0 || write(fd, "", 1) != 1)
			break;
	}
	_exit(0);
}

static void start_limiter(void)
{
	int fds[2];
	pid_t pid;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		close(fds[0]);
		limiter_main(fds[1]);
	}
	close(fds[1]);
	limiter = fds[0];
}

static void limit_descriptors(unsigned n)
{
	char done;

	ck_assert_int_eq(write(limiter, &n, sizeof(n)), sizeof(n));
	ck_assert_int_eq(read(limiter, &done, 1), 1);
}

static void stop_limiter(void)
{
	limit_descriptors(AS_BEFORE);
	close(limiter);
	wait(NULL);
}

/* Leaves room for so many more. Returns the lowest number that is free. */
static int leave_room_for(unsigned n)
{
	int lowest = dup(0);

	ck_assert_int_ge(lowest, 0);
	close(lowest);
	limit_descriptors((unsigned)lowest + n);
	return lowest;
}

static unsigned n_kept;

static void on_kept(const struct frame *f, const void *payload, int fd, void *arg)
{
	ck_assert_uint_eq(f->id, ++n_messages);
	ck_assert(msg_lost_fd(f, fd) == (f->id == 4 || f->id == 5));
	ck_assert((fd >= 0) == (f->id == 2 || f->id == 7));
	if (f->id == 5)
		limit_descriptors(AS_BEFORE);
	n_kept += fd >= 0;
}

START_TEST(test_a_descriptor_there_is_no_room_for_is_missing_from_its_own_message_only)
{
	struct lane_options o = {.kind = LANE_CONTROL,
		.peer = ROLE_PRIMARY,
		.queue_max = 4096,
		.on_message = on_kept,
		.on_closed = on_closed};
	struct lane *receiver;
	int lowest;

	start_limiter();
	set_up(ROLE_WORKER, 4096);
	n_kept = 0;
	o.base = base;
	o.fd = peer;
	ck_assert_int_eq(lane_new(&o, &receiver), 0);
	for (uint64_t id = 1; id <= 8; id++) {
		bool with_fd = id == 2 || id == 4 || id == 5 || id == 7;
		struct frame f = {.type = with_fd ? MSG_LOG_REOPEN : MSG_PING, .id = id};

		ck_assert_int_eq(lane_put(lane, &f, NULL, 0, with_fd ? 0 : -1), 0);
	}
	lane_flush(lane);
	lowest = leave_room_for(1);
	turn();
	turn();
	ck_assert_uint_eq(n_messages, 8);
	ck_assert_uint_eq(n_closed, 0);
	ck_assert_uint_eq(n_kept, 2);
	ck_assert_int_eq(close(lowest), 0);
	ck_assert_int_eq(close(lowest + 1), 0);
	lane_free(receiver);
	lane = lane_free(lane);
	event_base_free(base);
	stop_limiter();
}
END_TEST

static const struct {
	unsigned type, n_fds;
	unsigned n_messages; /* before it is cut off */
	const char *why;
} unexcused[] = {
	{MSG_LOG_REOPEN, 0, 0, "descriptor missing"},
	{MSG_PING, 1, 1, "descriptor without its message"},
	{MSG_LOG_REOPEN, 3, 1, "descriptor missing"}, /* of the second message */
};

START_TEST(test_want_of_room_is_no_excuse)
{
	struct frame f = {.type = (uint16_t)unexcused[_i].type};

	start_limiter();
	set_up(ROLE_PRIMARY, 4096);
	if (unexcused[_i].n_fds > 0)
		put_with_fds(&f, unexcused[_i].n_fds);
	put(&f, sizeof(f));
	leave_room_for(0);
	turn();
	stop_limiter();
	ck_assert_uint_eq(n_messages, unexcused[_i].n_messages);
	ck_assert_uint_eq(n_closed, 1);
	ck_assert_str_eq(closed_why, unexcused[_i].why);
	tear_down();
}
END_TEST

/* --- what the bus needs --- */

static unsigned n_bursts, n_written, yield_after;
static struct lane *inner; /* is read from within a callback of the other lane */
static unsigned n_inner;

static void on_frame(const struct frame *f, const void *payload, int fd, void *arg)
{
	ck_assert_ptr_eq(payload, f + 1);
	ck_assert_uint_eq((uintptr_t)f % 8, 0);
	ck_assert_uint_eq(f->id, n_messages);
	n_messages++;
	if (yield_after && n_messages % yield_after == 0)
		lane_yield(lane);
	if (inner)
		lane_read_rest(inner);
	ck_assert_uint_eq(f->length, 5);
	ck_assert(memcmp(payload, "hello", 5) == 0); /* the inner one has not spoilt it */
}

static void on_inner(const struct frame *f, const void *payload, int fd, void *arg)
{
	n_inner++;
}

static void on_burst(void *arg)
{
	n_bursts++;
}

static void on_written(void *arg)
{
	n_written++;
}

static void set_up_bus(void)
{
	int fds[2];
	struct lane_options o = {.kind = LANE_BUS,
		.peer = ROLE_WORKER,
		.queue_max = 1u << 20,
		.on_message = on_frame,
		.on_closed = on_closed,
		.on_burst = on_burst,
		.on_written = on_written};

	n_messages = n_closed = n_bursts = n_written = yield_after = n_inner = 0;
	inner = NULL;
	base = event_base_new();
	ck_assert_int_eq(lane_pair(LANE_BUS, fds), 0);
	o.base = base;
	o.fd = fds[0];
	peer = fds[1];
	ck_assert_int_eq(lane_new(&o, &lane), 0);
}

static void put_frames_from(unsigned first, unsigned n)
{
	struct {
		struct frame f;
		char body[8];
	} frames[100] = {0};

	ck_assert_uint_le(n, 100);
	for (unsigned i = 0; i < n; i++) {
		frames[i].f = (struct frame){.length = 5, .type = MSG_SEND, .id = first + i};
		memcpy(frames[i].body, "hello", 5);
	}
	put(frames, n * sizeof(*frames));
}

static void put_frames(unsigned n)
{
	put_frames_from(0, n);
}

START_TEST(test_frames_are_aligned_and_come_in_bursts)
{
	set_up_bus();
	put_frames(100);
	turn();
	ck_assert_uint_eq(n_messages, 100);
	ck_assert_uint_eq(n_bursts, 1);
	tear_down();
}
END_TEST

START_TEST(test_who_yields_goes_on_in_the_next_turn)
{
	set_up_bus();
	yield_after = 10;
	put_frames(95);
	for (unsigned i = 1; i <= 9; i++) {
		event_base_loop(base, EVLOOP_ONCE);
		ck_assert_uint_eq(n_messages, 10 * i);
	}
	event_base_loop(base, EVLOOP_ONCE);
	ck_assert_uint_eq(n_messages, 95);
	tear_down();
}
END_TEST

START_TEST(test_last_words_are_taken_though_the_handler_yields)
{
	set_up_bus();
	yield_after = 10;
	put_frames(95);
	close(peer);
	peer = -1;
	lane_read_rest(lane);
	ck_assert_uint_eq(n_messages, 95);
	ck_assert_uint_eq(n_closed, 1);
	lane = lane_free(lane);
	event_base_free(base);
}
END_TEST

START_TEST(test_a_deaf_lane_is_not_read)
{
	set_up_bus();
	lane_set_reading(lane, false);
	put_frames(3);
	turn();
	ck_assert_uint_eq(n_messages, 0);
	lane_set_reading(lane, true);
	turn();
	ck_assert_uint_eq(n_messages, 3);
	tear_down();
}
END_TEST

START_TEST(test_who_yields_and_turns_deaf_is_not_read)
{
	set_up_bus();
	yield_after = 10;
	put_frames(15);
	event_base_loop(base, EVLOOP_ONCE);
	lane_set_reading(lane, false);
	put_frames_from(15, 3);
	turn();
	turn();
	ck_assert_uint_eq(n_messages, 15); /* what was read is handed up nevertheless */
	lane_set_reading(lane, true);
	turn();
	ck_assert_uint_eq(n_messages, 18);
	tear_down();
}
END_TEST

START_TEST(test_last_words_are_taken_though_it_is_deaf)
{
	set_up_bus();
	lane_set_reading(lane, false);
	put_frames(95);
	close(peer);
	peer = -1;
	lane_read_rest(lane);
	ck_assert_uint_eq(n_messages, 95);
	lane = lane_free(lane);
	event_base_free(base);
}
END_TEST

START_TEST(test_one_lane_may_be_read_within_another)
{
	struct frame f = {.type = MSG_SEND};
	struct lane_options o = {.kind = LANE_BUS,
		.peer = ROLE_WORKER,
		.queue_max = 4096,
		.on_message = on_inner,
		.on_closed = on_closed};
	int fds[2];

	set_up_bus();
	ck_assert_int_eq(lane_pair(LANE_BUS, fds), 0);
	o.base = base;
	o.fd = fds[0];
	ck_assert_int_eq(lane_new(&o, &inner), 0);
	put_frames(2);
	ck_assert_int_eq(write(fds[1], &f, sizeof(f)), sizeof(f));
	turn();
	ck_assert_uint_eq(n_messages, 2);
	ck_assert_uint_eq(n_inner, 1);
	inner = lane_free(inner);
	close(fds[1]);
	tear_down();
}
END_TEST

START_TEST(test_parts_are_put_together)
{
	struct frame f = {.length = 7, .type = MSG_SEND, .id = 9}, got;
	struct iovec parts[] = {{(void *)"abc", 3}, {NULL, 0}, {(void *)"defg", 4}};
	char body[8];

	set_up_bus();
	ck_assert_int_eq(lane_put(lane, &f, parts, 3, -1), 0);
	ck_assert_int_eq(lane_append(lane, &f, sizeof(f)), 0);
	ck_assert_uint_eq(lane_queued(lane), 2 * sizeof(f) + 8);
	turn();
	ck_assert_uint_eq(lane_queued(lane), 0);
	ck_assert_uint_eq(n_written, 1);
	ck_assert_int_eq(read(peer, &got, sizeof(got)), sizeof(got));
	ck_assert_int_eq(read(peer, body, sizeof(body)), sizeof(body));
	ck_assert(memcmp(body, "abcdefg\0", 8) == 0);
	tear_down();
}
END_TEST

/* Reads one frame and the descriptor that came along. False: there is nothing. */
static bool read_with_fd(struct frame *ret)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {ret, sizeof(*ret)};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	int fd;

	if (recvmsg(peer, &mh, MSG_DONTWAIT) != sizeof(*ret))
		return false;
	ck_assert_uint_eq(mh.msg_controllen, CMSG_SPACE(sizeof(int)));
	memcpy(&fd, CMSG_DATA(&control.align), sizeof(fd));
	close(fd);
	return true;
}

/* The kernel counts those that nobody has read against a limit of all processes together. */
START_TEST(test_few_descriptors_are_in_flight_to_who_does_not_read)
{
	struct frame f = {.type = MSG_SEND, .flags = FRAME_FD}, got;
	uint64_t end = now_us() + 10 * US_PER_S, n = 0;

	set_up_bus();
	for (f.id = 0; f.id < 100; f.id++)
		ck_assert_int_eq(lane_put(lane, &f, NULL, 0, 0), 0);
	turn();
	ck_assert_uint_eq(lane_queued_fds(lane), 100 - 16);
	lane_flush(lane);
	ck_assert_uint_eq(lane_queued_fds(lane), 100 - 16);
	for (; n < 100 && now_us() < end; turn()) {
		while (read_with_fd(&got))
			ck_assert_uint_eq(got.id, n++);
	}
	ck_assert_uint_eq(n, 100);
	tear_down();
}
END_TEST

/* Whoever has much to send does not keep it to the end of the turn, nor asks a peer again and again that takes no more. */
START_TEST(test_masses_are_written_as_they_gather)
{
	static const char data[16 << 10];
	unsigned n = 0;
	int size = 0;

	set_up_bus();
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(lane_send(lane, MSG_ACK, 0, data, sizeof(struct msg_ack)), 0);
	ck_assert_int_eq(ioctl(peer, FIONREAD, &size), 0);
	ck_assert_int_eq(size, 0);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(lane_send(lane, MSG_SEND, 0, data, sizeof(data)), 0);
	ck_assert_int_eq(ioctl(peer, FIONREAD, &size), 0);
	ck_assert_int_ge(size, 64 << 10);
	while (lane_send(lane, MSG_SEND, 0, data, sizeof(data)) == 0)
		n++;
	ck_assert_uint_gt(lane_queued(lane), 512 << 10); /* nobody reads */
	ck_assert_uint_lt(n, 1000);
	tear_down();
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_few_descriptors_are_in_flight_to_who_does_not_read);
	tcase_add_test(tc, test_frames_are_aligned_and_come_in_bursts);
	tcase_add_test(tc, test_who_yields_goes_on_in_the_next_turn);
	tcase_add_test(tc, test_last_words_are_taken_though_the_handler_yields);
	tcase_add_test(tc, test_a_deaf_lane_is_not_read);
	tcase_add_test(tc, test_who_yields_and_turns_deaf_is_not_read);
	tcase_add_test(tc, test_last_words_are_taken_though_it_is_deaf);
	tcase_add_test(tc, test_one_lane_may_be_read_within_another);
	tcase_add_test(tc, test_parts_are_put_together);
	tcase_add_test(tc, test_masses_are_written_as_they_gather);
	tcase_add_test(tc, test_frames_arrive_however_they_are_split);
	tcase_add_loop_test(tc, test_offences_close_the_lane_before_the_payload_is_waited_for, 0,
		sizeof(offences) / sizeof(*offences));
	tcase_add_test(tc, test_end_of_file_is_told_once_after_the_last_words);
	tcase_add_test(tc, test_a_handler_may_free_its_lane);
	tcase_add_test(tc, test_a_peer_that_does_not_read_fills_only_the_bound);
	tcase_add_test(tc, test_descriptors_arrive_with_their_message);
	tcase_add_loop_test(tc, test_descriptors_nobody_asked_for_close_the_lane, 0,
		sizeof(smuggled) / sizeof(*smuggled));
	tcase_add_test(
		tc, test_a_descriptor_there_is_no_room_for_is_missing_from_its_own_message_only);
	tcase_add_loop_test(
		tc, test_want_of_room_is_no_excuse, 0, sizeof(unexcused) / sizeof(*unexcused));
}

int main(void)
{
	return run_tests("lane", add);
}

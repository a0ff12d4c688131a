/*
 * What a worker may say of tasks, and a task process of their results: any bytes at all on both lanes, in turns: a byte (0: the
 * worker's lane, 1: the process's, 2: the word in shared memory that says which task it has begun), the number of bytes that
 * follow (two bytes), these. The worker is at address 0x1000, the process at 0x1001. Each may
 * be cut off, once; what the primary says to the worker is legal; no more is said of tasks than there were; and neither
 * descriptors nor memory are left.
 */
#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/lane.h"
#include "primary/farm_parts.h"
#include "primary/relay.h"
#include "shared/config.h"
#include "shared/history.h"
#include "shared/scoreboard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "[listener:web]\naddress = 127.0.0.1:80\n"
			   "[farm:f]\nmodule = builtin:f\nqueue_max = 4\nqueue_memory = 64K\n"
			   "max_result = 1K\nretries = 1\n"
			   "[farm:g]\nmodule = builtin:g\n";

static struct event_base *base;
static struct scoreboard sb;
static struct history *history;
static struct config *config;
static unsigned n_offences[2];

static void on_offence(const char *why, void *arg)
{
	unsigned *n = arg;

	assert(why);
	++*n;
}

static void on_kill(const char *why, bool is_late, void *arg)
{
	assert(why);
}

static void on_spent(void *arg)
{
}

static void on_want(struct farm *f, void *arg)
{
}

static void on_error(const char *line, void *arg)
{
	abort();
}

static void set_up(void)
{
	if (base)
		return;
	base = event_base_new();
	if (scoreboard_new(1u << ADDRESS_SLOT_BITS, &sb) < 0 || history_new(&history) < 0 ||
		config_load_text("t", NULL, text, strlen(text), on_error, NULL, &config) < 0)
		abort();
}

static struct relay_peer *attach_worker(struct relay *relay, struct farms *farms, int fd)
{
	struct relay_peer_options o = {.address = relay_next_address(relay, 0),
		.role = ROLE_WORKER,
		.fd = fd,
		.queue_high = 4096,
		.queue_low = 1024,
		.max_message = 65536,
		.max_subscriptions = 8,
		.farms = farms,
		.on_offence = on_offence,
		.arg = &n_offences[0]};
	struct relay_peer *p;

	if (relay_attach(relay, &o, &p) < 0)
		abort();
	sb_set(sb.slots[0].state, PROC_READY);
	relay_announce(p);
	return p;
}

static struct farm_process *attach_process(struct relay *relay, struct farms *farms, int fd)
{
	struct farm_process_options o = {.address = relay_next_address(relay, 1),
		.slot = &sb.slots[1],
		.fd = fd,
		.on_kill = on_kill,
		.on_offence = on_offence,
		.on_spent = on_spent,
		.arg = &n_offences[1]};
	struct farm_process *fp;

	scoreboard_clear_slot(&sb.slots[1]);
	if (farm_process_new(farms_at(farms, 0), &o, &fp) < 0)
		abort();
	farm_process_ready(fp);
	return fp;
}

/* What the primary said to the worker is whole and legal. */
static void check_answers(int fd)
{
	static char said[1u << 20] __attribute__((aligned(8)));
	ssize_t n = recv(fd, said, sizeof(said), MSG_DONTWAIT);

	for (ssize_t at = 0; at < n;) {
		const struct frame *f = (const void *)(said + at);
		const char *why;

		assert(n - at >= (ssize_t)sizeof(*f));
		assert(msg_validate(f, LANE_BUS, ROLE_PRIMARY, &why) == 0);
		at += (ssize_t)frame_space(f->length);
		assert(at <= n);
	}
}

/* In memory that the process shares with the primary. */
static void set_word(const uint8_t *data, size_t n)
{
	uint64_t word = 0;

	memcpy(&word, data, n < sizeof(word) ? n : sizeof(word));
	atomic_store(&sb.slots[1].task_word, word);
}

/* fds: the worker's end, and the process's. */
static void feed(const int fds[2], const uint8_t *data, size_t size)
{
	while (size >= 3) {
		size_t n = data[1] | (size_t)data[2] << 8;

		n = n < size - 3 ? n : size - 3;
		if (data[0] & 2)
			set_word(data + 3, n);
		else if (n > 0)
			(void)!send(fds[data[0] & 1], data + 3, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		event_base_loop(base, EVLOOP_NONBLOCK);
		event_base_loop(base, EVLOOP_NONBLOCK);
		check_answers(fds[0]);
		data += 3 + n;
		size -= 3 + n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct farms_options fo = {.on_want = on_want};
	int worker[2], process[2];
	struct farm_process *fp;
	struct relay_peer *p;
	struct relay *relay;
	struct farms *farms;

	if (size > 65536)
		return 0;
	set_up();
	fo.base = base;
	fo.config = config;
	fo.history = history;
	n_offences[0] = n_offences[1] = 0;
	if (relay_new(base, &sb, &relay) < 0 || farms_new(&fo, &farms) < 0 ||
		lane_pair(LANE_CONTROL, worker) < 0 || lane_pair(LANE_CONTROL, process) < 0)
		abort();
	farms_at(farms, 0)->short_us = UINT64_MAX; /* many ahead, however fast we are */
	farms_at(farms, 0)->far_us = 0;
	p = attach_worker(relay, farms, worker[0]);
	fp = attach_process(relay, farms, process[0]);
	feed((const int[]){worker[1], process[1]}, data, size);
	close(process[1]);
	farm_process_read_rest(fp);
	farm_process_bury(fp, "it is over");
	event_base_loop(base, EVLOOP_NONBLOCK);
	close(worker[1]);
	relay_read_rest(p);
	relay_detach(p);
	event_base_loop(base, EVLOOP_NONBLOCK);
	farms_free(farms);
	relay_free(relay);
	assert(n_offences[0] <= 1 && n_offences[1] <= 1);
	return 0;
}

/*
 * What a child may write to its lane: any bytes at all. The first byte chooses lane and sender, the rest is sent in
 * two parts. The lane must hand up legal messages only, and either live on or close once.
 */
#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/lane.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event_base *base;
static enum msg_role sender;
static enum msg_lane kind;
static unsigned n_closed;

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	const struct msg_rule *r = msg_rule(f->type);

	assert(r && r->lane == kind && (r->senders & (unsigned)sender) && f->length <= r->payload);
	assert(!msg_lost_fd(f, fd)); /* none was sent */
	assert(n_closed == 0);
	if (fd >= 0)
		close(fd);
}

static void on_closed(const char *why, void *arg)
{
	n_closed++;
}

static void feed(int fd, const uint8_t *data, size_t size)
{
	if (size > 0 && send(fd, data, size, MSG_NOSIGNAL) < 0)
		return; /* the lane has closed its end */
	event_base_loop(base, EVLOOP_NONBLOCK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lane_options o = {
		.queue_max = 4096, .on_message = on_message, .on_closed = on_closed};
	struct lane *lane;
	int fds[2];

	if (size < 1 || size > 65536)
		return 0;
	if (!base)
		base = event_base_new();
	if (lane_pair(LANE_CONTROL, fds) < 0)
		abort();
	kind = data[0] & 1 ? LANE_BUS : LANE_CONTROL;
	sender = data[0] & 2 ? ROLE_PRIMARY : ROLE_WORKER;
	n_closed = 0;
	o.base = base;
	o.fd = fds[0];
	o.kind = kind;
	o.peer = sender;
	if (lane_new(&o, &lane) < 0)
		abort();
	feed(fds[1], data + 1, (size - 1) / 2);
	feed(fds[1], data + 1 + (size - 1) / 2, size - 1 - (size - 1) / 2);
	close(fds[1]);
	event_base_loop(base, EVLOOP_NONBLOCK);
	assert(n_closed == 1);
	lane_free(lane);
	return 0;
}

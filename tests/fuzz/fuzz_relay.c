/*
 * What a process may write to its lane of the bus: any bytes at all, in two parts. It is at address 0x1000, another one at 0x1001
 * has subscribed to everything. What that one gets must be whole, legal and from the first; the first may be cut off, once; and
 * neither descriptors nor memory are left.
 */
#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/lane.h"
#include "primary/relay.h"
#include "shared/scoreboard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event_base *base;
static struct scoreboard sb;
static unsigned n_offences;

static void on_offence(const char *why, void *arg)
{
	assert(why && arg == &n_offences);
	n_offences++;
}

static void on_other_offence(const char *why, void *arg)
{
	abort();
}

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	const struct msg_rule *r = msg_rule(f->type);

	assert(r && r->lane == LANE_BUS && (r->senders & ROLE_PRIMARY) && fd < 0);
	assert(f->src == 0x1000 || f->src == 0);
}

static void on_closed(const char *why, void *arg)
{
	assert(!why);
}

static struct relay_peer *attach(struct relay *relay, unsigned slot, int fd)
{
	struct relay_peer_options o = {.address = relay_next_address(relay, slot),
		.role = ROLE_WORKER,
		.fd = fd,
		.queue_high = 4096,
		.queue_low = 1024,
		.max_message = 65536,
		.max_subscriptions = 8,
		.on_offence = slot == 0 ? on_offence : on_other_offence,
		.arg = &n_offences};
	struct relay_peer *p;

	if (relay_attach(relay, &o, &p) < 0)
		abort();
	sb_set(sb.slots[slot].state, PROC_READY);
	relay_announce(p);
	return p;
}

static void subscribe(struct lane *l, const char *pattern)
{
	struct msg_subscribe m = {
		.number = (uint32_t)(pattern[0] == '$'), .pattern = (uint8_t)strlen(pattern)};
	struct iovec parts[] = {{&m, sizeof(m)}, {(void *)(uintptr_t)pattern, m.pattern}};
	struct frame f = {
		.length = (uint32_t)(sizeof(m) + m.pattern), .type = MSG_SUBSCRIBE, .src = 0x1001};

	if (lane_put(l, &f, parts, 2, -1) < 0)
		abort();
}

static void feed(int fd, const uint8_t *data, size_t size)
{
	if (size > 0 && send(fd, data, size, MSG_NOSIGNAL) < 0)
		return; /* it has been cut off */
	event_base_loop(base, EVLOOP_NONBLOCK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lane_options o = {.kind = LANE_BUS,
		.peer = ROLE_PRIMARY,
		.queue_max = SIZE_MAX,
		.on_message = on_message,
		.on_closed = on_closed};
	struct relay_peer *p, *q;
	struct relay *relay;
	struct lane *other;
	int fds[2], other_fds[2];

	if (size > 65536)
		return 0;
	if (!base) {
		base = event_base_new();
		if (scoreboard_new(1u << ADDRESS_SLOT_BITS, &sb) < 0)
			abort();
	}
	n_offences = 0;
	if (relay_new(base, &sb, &relay) < 0 || lane_pair(LANE_CONTROL, fds) < 0 ||
		lane_pair(LANE_CONTROL, other_fds) < 0)
		abort();
	p = attach(relay, 0, fds[0]);
	q = attach(relay, 1, other_fds[0]);
	o.base = base;
	o.fd = other_fds[1];
	if (lane_new(&o, &other) < 0)
		abort();
	subscribe(other, ">");
	subscribe(other, "$tine.>");
	event_base_loop(base, EVLOOP_NONBLOCK);
	feed(fds[1], data, size / 2);
	feed(fds[1], data + size / 2, size - size / 2);
	close(fds[1]);
	relay_read_rest(p);
	relay_detach(p);
	event_base_loop(base, EVLOOP_NONBLOCK);
	relay_detach(q);
	event_base_loop(base, EVLOOP_NONBLOCK);
	lane_free(other);
	relay_free(relay);
	assert(n_offences <= 1);
	return 0;
}

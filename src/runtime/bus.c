/*
 * The client of the bus. Runs in processes that run modules. Its lane needs no bound of its own: no more than the window allows
 * may be unheard of, but for what there are other bounds of (subscriptions), and for one message that is larger.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/turn.h"
#include "ipc/lane.h"
#include "ipc/subject.h"
#include "runtime/bus_internal.h"
#include "runtime/inbox.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/scoreboard.h"

#define FEW         4               /* messages in a burst: they may be a conversation */
#define LOOK_EVERY  16              /* messages, at the clock */
#define TURN_MAX_US (2 * US_PER_MS) /* for messages that modules take their time with */
#define FINISH_MS   1000            /* for what is still to be written when the process ends */

/* --- what became of what was sent --- */

static void on_fate(const struct fate *f, int status, void *arg)
{
	struct bus *b = arg;

	if (f->on_done)
		f->on_done(status, f->arg);
	if (f->is_request && status < 0)
		inbox_fail(b->inbox, f->request, status);
}

/* Calls those who were told that something is full. resumed: which of the two reasons is over. */
static void call_writable(struct bus *b, bool resumed)
{
	struct bus_port *p;

	SLIST_FOREACH (p, &b->ports, link) {
		bool *wants = resumed ? &p->wants_resume : &p->wants_window;

		if (!*wants)
			continue;
		*wants = false;
		if (p->service.on_writable)
			p->service.on_writable(p->service.arg);
	}
}

static void on_ack(struct bus *b, const struct frame *f, const void *payload, int fd)
{
	const struct msg_ack *m = payload;

	b->sync_asked = false;
	b->n_acked = m->n;
	window_ack(&b->window, m);
	if (window_is_half_empty(&b->window))
		call_writable(b, false);
}

static void on_nak(struct bus *b, const struct frame *f, const void *payload, int fd)
{
	const struct msg_nak *m = payload;

	sb_add(b->slot->bus_failed, m->n);
	window_nak(&b->window, m);
}

static void on_pause(struct bus *b, const struct frame *f, const void *payload, int fd)
{
	const struct msg_pause *m = payload;

	window_pause(&b->window, m->key);
}

static void on_resume(struct bus *b, const struct frame *f, const void *payload, int fd)
{
	const struct msg_pause *m = payload;

	window_resume(&b->window, m->key);
	call_writable(b, true);
}

/* --- what comes --- */

static void on_task_done(struct bus *b, const struct frame *f, const void *payload, int fd)
{
	b->n_in_burst++;
	if (b->tasks.on_done)
		b->tasks.on_done(f, payload, fd, b->tasks.arg);
	else if (fd >= 0)
		close(fd);
}

static void (*const handlers[MSG_TYPE_END])(
	struct bus *b, const struct frame *f, const void *payload, int fd) = {
	[MSG_SEND] = bus_on_delivery,
	[MSG_PUBLISH] = bus_on_delivery,
	[MSG_ANSWER] = bus_on_delivery,
	[MSG_ACK] = on_ack,
	[MSG_NAK] = on_nak,
	[MSG_PAUSE] = on_pause,
	[MSG_RESUME] = on_resume,
	[MSG_ENDED] = bus_on_ended,
	[MSG_TASK_DONE] = on_task_done,
};

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct bus *b = arg;

	handlers[f->type](b, f, payload, fd);
	if (++b->n_taken % LOOK_EVERY == 0 && now_us() > turn_mark() + TURN_MAX_US)
		lane_yield(b->lane); /* others wait, clients and heartbeats among them */
}

static void on_burst(void *arg)
{
	struct bus *b = arg;

	b->seen.n += b->n_in_burst > 0;
	b->seen.n_bulk += b->n_in_burst > FEW;
	b->n_in_burst = 0;
}

/* The primary is gone, or has had enough of us: nothing comes any more. */
static void on_closed(const char *why, void *arg)
{
	struct bus *b = arg;

	if (b->finished)
		return;
	window_end(&b->window, TINE_E_CLOSED);
	inbox_end(b->inbox, TINE_E_CLOSED);
	if (b->tasks.on_end)
		b->tasks.on_end(b->tasks.arg);
	bus_end_subscriptions(b, TINE_E_CLOSED);
}

/* --- ports --- */

/* That is open; NULL: there is none. */
struct bus_port *bus_find_port(const struct bus *b, uint32_t key)
{
	struct bus_port *p;

	SLIST_FOREACH (p, &b->ports, link) {
		if (p->key == key && p->open)
			return p;
	}
	return NULL;
}

/* What a module has of the bus. Returns 0, -ENOMEM. */
int bus_port_new(struct bus *b, const char *module, struct bus_port **ret)
{
	struct bus_port *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->bus = b;
	p->key = (uint32_t)subject_key(module, strlen(module)) | 1;
	SLIST_INSERT_HEAD(&b->ports, p, link);
	*ret = p;
	return 0;
}

/* Returns 0, or -EEXIST when it, or one with the same key, is open. */
int bus_port_open(struct bus_port *p, const struct tine_bus_service *service)
{
	if (p->open || bus_find_port(p->bus, p->key))
		return -EEXIST;
	p->service = *service;
	p->open = true;
	return 0;
}

/* Of a port that is not opened: what is called when there is room again; NULL: nothing. */
void bus_port_watch(struct bus_port *p, void (*on_writable)(void *arg), void *arg)
{
	p->service.on_writable = on_writable;
	p->service.arg = arg;
}

/* Who is told what became of tasks; NULL: nobody any more. */
void bus_set_tasks(struct bus *b, const struct bus_tasks *tasks)
{
	b->tasks = tasks ? *tasks : (struct bus_tasks){0};
}

/* --- peers --- */

tine_peer bus_self(const struct bus *b)
{
	return b->address;
}

/* As the scoreboard shows them. Returns how many there are; fills in at most `max`. */
size_t bus_peers(const struct bus *b, struct tine_peer_info *ret, size_t max)
{
	size_t n = 0, n_used = atomic_load(b->scoreboard->n_used);

	for (size_t i = 0; i < n_used && i < b->scoreboard->n_slots; i++) {
		const struct sb_slot *s = &b->scoreboard->slots[i];
		uint32_t state = sb_get(s->state), address = sb_get(s->address);

		if (sb_get(s->role) != ROLE_WORKER || address == 0 ||
			(state != PROC_READY && state != PROC_DRAINING))
			continue;
		if (n < max)
			ret[n] = (struct tine_peer_info){
				address, (uint32_t)i, sb_get(s->generation)};
		n++;
	}
	return n;
}

/* --- set-up --- */

/* Takes the child's descriptor over, in any case. Returns 0 or -errno. */
int bus_new(struct event_base *base, const struct child *c, struct bus **ret)
{
	const struct conf_bus *conf = &c->config->bus;
	struct bus *b = calloc(1, sizeof(*b));
	struct lane_options o = {.base = base,
		.fd = c->bus_fd,
		.kind = LANE_BUS,
		.peer = ROLE_PRIMARY,
		.queue_max = SIZE_MAX,
		.on_message = on_message,
		.on_closed = on_closed,
		.on_burst = on_burst,
		.arg = b};
	int r;

	if (!b) {
		close(c->bus_fd);
		return -ENOMEM;
	}
	b->base = base;
	b->slot = &c->scoreboard->slots[c->slot];
	b->scoreboard = c->scoreboard;
	b->address = c->address;
	b->window = (struct window){.size = msg_window(conf->queue_high, conf->queue_low),
		.on_fate = on_fate,
		.arg = b};
	b->max_message = conf->max_message;
	b->subs_max = conf->subscriptions;
	SLIST_INIT(&b->ports);
	r = inbox_new(base, &b->inbox);
	if (r < 0)
		close(c->bus_fd);
	else
		r = lane_new(&o, &b->lane);
	*ret = b;
	return r;
}

/* What has come so far, for a loop that may wait for more. */
const struct spin_seen *bus_seen(const struct bus *b)
{
	return &b->seen;
}

/*
 * The process is about to end: takes its subscriptions back, and what was on its way to them is still handed to the modules.
 * Returns whether that is all; else call it again.
 */
bool bus_leave(struct bus *b)
{
	if (b->n_subs == 0 || !lane_is_open(b->lane))
		return true;
	if (!b->leaving) {
		b->leaving = true;
		bus_take_back(b);
		b->sync_asked = false;
		bus_ask_for_ack(b);
		b->left_at = b->window.n_sent;
	}
	return b->n_acked >= b->left_at;
}

/*
 * The process ends, and nothing of its modules is called any more: what was sent is written. The primary reads all the time, so
 * this takes no time unless it is gone.
 */
void bus_finish(struct bus *b)
{
	uint64_t end = now_us() + FINISH_MS * US_PER_MS;

	b->finished = true;
	lane_flush(b->lane);
	while (lane_is_open(b->lane) && lane_queued(b->lane) > 0 && now_us() < end) {
		lane_wait(b->lane, 10);
		lane_flush(b->lane);
	}
}

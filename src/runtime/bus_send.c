/*
 * What a process puts on the bus: messages, publications, requests, answers, tasks. A small one is a frame, put together from where
 * its parts are; a large one is in a blob.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/blob.h"
#include "ipc/subject.h"
#include "runtime/bus_internal.h"
#include "runtime/inbox.h"
#include "shared/scoreboard.h"

const struct bus_extras bus_nothing = {.fd = -1};

/* Sends a frame, whatever the window says. */
int bus_put(struct bus *b, struct frame *f, const struct iovec *parts, size_t n,
	const struct bus_extras *x)
{
	int r;

	f->src = b->address;
	r = lane_put(b->lane, f, parts, n, x->fd);
	if (r == 0)
		window_note(&b->window, frame_space(f->length), x->fate);
	return r;
}

/* Asks what became of it all: the primary would otherwise wait for more. */
void bus_ask_for_ack(struct bus *b)
{
	struct frame f = {.type = MSG_SYNC};

	if (!b->sync_asked)
		b->sync_asked = bus_put(b, &f, NULL, 0, &bus_nothing) == 0;
}

/*
 * Whether there is room for a message of so many bytes; if not, the port is called when there is. key: what it is for; 0: the
 * primary.
 */
int bus_check_room(struct bus_port *p, uint64_t bytes, uint64_t key, bool has_fd)
{
	struct bus *b = p->bus;

	if (window_is_paused(&b->window, key)) {
		p->wants_resume = true;
		return TINE_E_FULL;
	}
	if (window_has_room(&b->window, bytes, has_fd))
		return 0;
	p->wants_window = true;
	bus_ask_for_ack(b);
	return TINE_E_FULL;
}

/* The parts of a frame, and where they go. */
struct draft {
	struct frame f;
	struct iovec parts[4];
	size_t n;
	uint64_t key;
	struct msg_publish head;
	struct msg_task task;
	struct msg_large large;
	int fd;   /* the caller's */
	int blob; /* ours; -1: none */
};

/* Sets what every draft needs, and no more: most messages are small. */
static void draft_begin(struct draft *d, enum msg_type type, uint32_t dst, uint64_t id)
{
	d->f = (struct frame){.type = (uint16_t)type, .dst = dst, .id = id};
	d->n = 0;
	d->key = dst;
	d->fd = d->blob = -1;
}

static void draft_add(struct draft *d, const void *data, size_t len)
{
	d->parts[d->n++] = (struct iovec){(void *)(uintptr_t)data, len};
	d->f.length += (uint32_t)len;
}

static int draft_subject(struct draft *d, const char *subject, uint32_t to)
{
	static const char zeros[8];
	size_t len = strlen(subject);
	const char *why;

	if (subject_check(subject, len, SUBJECT_PLAIN, &why) < 0 ||
		!subject_is_publishable(subject, len) || (to != 0 && to < TINE_PEER_OTHERS))
		return -EINVAL;
	d->f.type = MSG_PUBLISH;
	d->f.dst = to ? to : TINE_PEER_ALL;
	d->head = (struct msg_publish){.subject = (uint16_t)len};
	d->key = subject_key(subject, len);
	draft_add(d, &d->head, sizeof(d->head));
	draft_add(d, subject, len);
	draft_add(d, zeros, publish_head(len) - sizeof(d->head) - len);
	return 0;
}

/* Whether there can be such a message: what there cannot be is not to wait for room. */
static int draft_check(const struct draft *d, const struct bus *b, size_t len)
{
	if (len <= MSG_PAYLOAD_MAX)
		return 0;
	return len > b->max_message ? TINE_E_TOO_LARGE : d->fd >= 0 ? -EINVAL : 0;
}

/* The body: in the frame, or in a blob. */
static int draft_body(struct draft *d, const void *data, size_t len)
{
	int r;

	if (len <= MSG_PAYLOAD_MAX) {
		if (len > 0)
			draft_add(d, data, len);
		return 0;
	}
	r = blob_new(data, len, &d->blob);
	if (r < 0)
		return r == -EMFILE || r == -ENFILE ? TINE_E_QUOTA : r;
	d->large.size = len;
	d->f.flags |= FRAME_LARGE | FRAME_FD;
	draft_add(d, &d->large, sizeof(d->large));
	return 0;
}

static void on_peer_left(struct tine_message *m, void *arg)
{
	const struct msg_peer *peer = m->data;
	struct bus *b = arg;

	if (m->len == sizeof(*peer) && m->from == 0)
		inbox_peer_left(b->inbox, peer->address);
}

/* Who asks a peer wants to know when it dies. If that is not possible there is still the deadline. */
static void watch_peers(struct bus_port *p)
{
	const struct tine_subscribe s = {.pattern = SUBJECT_PEER_LEAVE,
		.policy = TINE_BUS_DROP_OLDEST,
		.on_message = on_peer_left,
		.arg = p->bus};

	if (!p->bus->peer_watch)
		bus_subscribe(p, &s, &p->bus->peer_watch);
}

static int draft_request(struct draft *d, struct bus *b, const struct tine_send *s, uint32_t *ret)
{
	struct inbox_request r = {.on_answer = s->on_answer,
		.arg = s->arg,
		.to = s->subject ? 0 : s->to,
		.timeout_us = s->timeout_us ? s->timeout_us : BUS_ANSWER_TIMEOUT_US};
	/* of what is sent the upper half is the module's key; what is published has no use for it */
	int e = inbox_add(b->inbox, &r, s->subject ? 0 : (uint32_t)(d->f.id >> 32), &d->f.id);

	if (e < 0)
		return e;
	*ret = (uint32_t)d->f.id;
	d->f.flags |= FRAME_ANSWERED;
	return 0;
}

/* Sends a draft that there is room for. */
static int draft_put(struct draft *d, struct bus *b, const struct tine_send *s)
{
	int fd = d->blob >= 0 ? d->blob : d->fd;
	struct fate fate = {.on_done = s->on_done,
		.arg = s->arg,
		.is_request = s->on_answer != NULL,
		.large = d->blob >= 0 ? s->len : 0,
		.has_fd = fd >= 0};
	bool awaited = s->on_done || s->on_answer || fd >= 0;
	struct bus_extras x = {.fd = fd, .fate = awaited ? &fate : NULL};
	int r = awaited ? window_reserve(&b->window) : 0;

	if (r == 0 && s->on_answer)
		r = draft_request(d, b, s, &fate.request);
	if (r < 0)
		return r;
	if (s->on_done || fd >= 0)
		d->f.flags |= FRAME_SYNC;
	r = bus_put(b, &d->f, d->parts, d->n, &x);
	if (r < 0 && s->on_answer)
		inbox_forget(b->inbox, fate.request);
	return r;
}

static int draft_send(struct draft *d, struct bus_port *p, const struct tine_send *s)
{
	int r = draft_check(d, p->bus, s->len);

	if (r < 0)
		return r;
	if (s->on_answer && !s->subject)
		watch_peers(p);
	r = bus_check_room(p, frame_space(d->f.length + s->len), d->key,
		d->fd >= 0 || s->len > MSG_PAYLOAD_MAX);
	if (r == 0)
		r = draft_body(d, s->data, s->len);
	if (r == 0)
		r = draft_put(d, p->bus, s);
	if (d->blob >= 0)
		close(d->blob);
	if (r == 0 && d->f.type != MSG_TASK)
		sb_add(p->bus->slot->bus_sent, 1);
	return r == -EMFILE || r == -ENFILE ? TINE_E_QUOTA : r;
}

/* Sends or publishes; the arguments' shapes are checked. Returns 0 or an error of tine/bus.h. */
int bus_send(struct bus_port *p, const struct tine_send *s)
{
	struct draft d;
	int r = 0;

	draft_begin(&d, MSG_SEND, s->to, (uint64_t)p->key << 32);
	if (s->fd)
		d.fd = *s->fd;
	if (s->subject)
		r = draft_subject(&d, s->subject, s->to);
	if (r == 0 && d.fd >= 0)
		d.f.flags |= FRAME_FD;
	return r < 0 ? r : draft_send(&d, p, s);
}

int bus_answer(struct bus_port *p, tine_peer to, uint64_t request, int status, const void *data,
	size_t len)
{
	struct msg_error error = {.error = status};
	struct tine_send s = {.data = status < 0 ? (const void *)&error : data,
		.len = status < 0 ? sizeof(error) : len};
	struct draft d;

	draft_begin(&d, MSG_ANSWER, to, request);
	if (status < 0)
		d.f.flags |= FRAME_ERROR;
	return draft_send(&d, p, &s);
}

/* --- tasks --- */

static void draft_task(struct draft *d, uint32_t farm, const struct tine_farm_task *t)
{
	static const char zeros[8];
	size_t len = strlen(t->function);

	d->task = (struct msg_task){.farm = farm,
		.function = (uint8_t)len,
		.priority = (uint8_t)t->priority,
		.timeout_us = t->timeout_us};
	draft_add(d, &d->task, sizeof(d->task));
	draft_add(d, t->function, len);
	draft_add(d, zeros, task_head(len) - sizeof(d->task) - len);
}

/* Sends a task under this number; its shape is checked. Returns 0 or an error of tine/farm.h. */
int bus_submit(struct bus_port *p, uint32_t farm, uint64_t id, const struct tine_farm_task *t)
{
	const struct tine_send s = {.data = t->data, .len = t->len};
	struct draft d;

	draft_begin(&d, MSG_TASK, 0, id);
	draft_task(&d, farm, t);
	return draft_send(&d, p, &s);
}

/* Whatever the window says: there is one for each task at most. Returns 0 or -errno. */
int bus_cancel(struct bus *b, uint64_t id)
{
	struct frame f = {.type = MSG_TASK_CANCEL, .id = id};

	return bus_put(b, &f, NULL, 0, &bus_nothing);
}

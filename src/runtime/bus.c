/*
 * The client of the bus. Runs in processes that run modules. Its lane needs no bound of its own: no more than the window allows
 * may be unheard of, but for what there are other bounds of (subscriptions), and for one message that is larger.
 */
#include "runtime/bus.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/spin.h"
#include "base/turn.h"
#include "ipc/blob.h"
#include "ipc/lane.h"
#include "ipc/subject.h"
#include "runtime/inbox.h"
#include "runtime/window.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/scoreboard.h"

#define ANSWER_TIMEOUT_US (5 * US_PER_S)
#define FEW               4               /* messages in a burst: they may be a conversation */
#define LOOK_EVERY        16              /* messages, at the clock */
#define TURN_MAX_US       (2 * US_PER_MS) /* for messages that modules take their time with */
#define FINISH_MS         1000 /* for what is still to be written when the process ends */

struct tine_subscription {
	struct bus *bus;
	uint32_t number;
	tine_message_fn on_message;
	void (*on_end)(int status, void *arg);
	void *arg;
};

struct bus_port {
	SLIST_ENTRY(bus_port) link;
	struct bus *bus;
	uint32_t key; /* of the module's name; never 0 */
	struct tine_bus_service service;
	bool open;
	bool wants_window, wants_resume; /* it was told that something is full */
};

struct bus {
	struct event_base *base;
	struct lane *lane;
	struct sb_slot *slot;
	const struct scoreboard *scoreboard;
	uint32_t address;
	uint64_t max_message;
	SLIST_HEAD(, bus_port) ports;
	struct inbox *inbox;
	struct bus_tasks tasks;
	struct tine_subscription *peer_watch; /* made with the first request to a peer */

	struct window window;
	bool sync_asked;
	uint64_t n_acked; /* frames */
	uint64_t n_taken;
	unsigned n_in_burst;   /* messages */
	struct spin_seen seen; /* bursts of them */
	bool leaving;
	uint64_t
		left_at; /* when so many frames are dealt with, nothing of a subscription comes any more */

	struct tine_subscription **subs; /* by their index */
	uint16_t *births;                /* how often an index was used */
	size_t n_subs, subs_size, subs_max;
	size_t next_index; /* where to look first for a free one */
};

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

/* --- sending --- */

/* What goes along with a frame. */
struct extras {
	int fd;                  /* -1: none */
	const struct fate *fate; /* NULL: nobody wants to know */
};

static const struct extras nothing = {.fd = -1};

/* Sends a frame, whatever the window says. */
static int put(
	struct bus *b, struct frame *f, const struct iovec *parts, size_t n, const struct extras *x)
{
	int r;

	f->src = b->address;
	r = lane_put(b->lane, f, parts, n, x->fd);
	if (r == 0)
		window_note(&b->window, frame_space(f->length), x->fate);
	return r;
}

/* Asks what became of it all: the primary would otherwise wait for more. */
static void ask_for_ack(struct bus *b)
{
	struct frame f = {.type = MSG_SYNC};

	if (!b->sync_asked)
		b->sync_asked = put(b, &f, NULL, 0, &nothing) == 0;
}

/*
 * Whether there is room for a message of so many bytes; if not, the port is called when there is. key: what it is for; 0: the
 * primary.
 */
static int check_room(struct bus_port *p, uint64_t bytes, uint64_t key, bool has_fd)
{
	struct bus *b = p->bus;

	if (window_is_paused(&b->window, key)) {
		p->wants_resume = true;
		return TINE_E_FULL;
	}
	if (window_has_room(&b->window, bytes, has_fd))
		return 0;
	p->wants_window = true;
	ask_for_ack(b);
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
		subject_is_reserved(subject, len) || (to != 0 && to < TINE_PEER_OTHERS))
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

/* The body: in the frame, or in a blob. */
static int draft_body(struct draft *d, const struct bus *b, const void *data, size_t len)
{
	int r;

	if (len <= MSG_PAYLOAD_MAX) {
		if (len > 0)
			draft_add(d, data, len);
		return 0;
	}
	if (len > b->max_message)
		return TINE_E_TOO_LARGE;
	if (d->fd >= 0)
		return -EINVAL;
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
		.timeout_us = s->timeout_us ? s->timeout_us : ANSWER_TIMEOUT_US};
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
	struct extras x = {.fd = fd, .fate = awaited ? &fate : NULL};
	int r = awaited ? window_reserve(&b->window) : 0;

	if (r == 0 && s->on_answer)
		r = draft_request(d, b, s, &fate.request);
	if (r < 0)
		return r;
	if (s->on_done || fd >= 0)
		d->f.flags |= FRAME_SYNC;
	r = put(b, &d->f, d->parts, d->n, &x);
	if (r < 0 && s->on_answer)
		inbox_forget(b->inbox, fate.request);
	return r;
}

static int draft_send(struct draft *d, struct bus_port *p, const struct tine_send *s)
{
	int r;

	if (s->on_answer && !s->subject)
		watch_peers(p);
	r = check_room(p, frame_space(d->f.length + s->len), d->key,
		d->fd >= 0 || s->len > MSG_PAYLOAD_MAX);
	if (r == 0)
		r = draft_body(d, p->bus, s->data, s->len);
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

	return put(b, &f, NULL, 0, &nothing);
}

/* Who is told what became of tasks; NULL: nobody any more. */
void bus_set_tasks(struct bus *b, const struct bus_tasks *tasks)
{
	b->tasks = tasks ? *tasks : (struct bus_tasks){0};
}

/* --- receiving --- */

static struct bus_port *find_port(const struct bus *b, uint32_t key)
{
	struct bus_port *p;

	SLIST_FOREACH (p, &b->ports, link) {
		if (p->key == key && p->open)
			return p;
	}
	return NULL;
}

/* Nobody here takes it; who waits for an answer is told. */
static void say_nobody(struct bus *b, const struct frame *f)
{
	struct bus_port any = {.bus = b};

	if (f->flags & FRAME_ANSWERED)
		bus_answer(&any, f->src, f->id, TINE_E_NOBODY, NULL, 0);
}

static struct tine_subscription *find_subscription(const struct bus *b, uint32_t number)
{
	size_t index = SUBSCRIPTION_INDEX(number);
	struct tine_subscription *sub = index < b->subs_size ? b->subs[index] : NULL;

	return sub && sub->number == number ? sub : NULL;
}

static void take_message(struct bus *b, const struct frame *f, struct tine_message *m)
{
	struct bus_port *p = find_port(b, (uint32_t)(f->id >> 32));

	if (p && p->service.on_message)
		p->service.on_message(m, p->service.arg);
	else
		say_nobody(b, f);
}

static void take_publication(struct bus *b, const struct frame *f, struct tine_message *m)
{
	struct tine_subscription *sub = find_subscription(b, f->dst);

	if (sub)
		sub->on_message(m, sub->arg);
}

static void take_answer(struct bus *b, const struct frame *f, struct tine_message *m)
{
	int status = 0;

	if (f->flags & FRAME_ERROR) {
		const struct msg_error *e = m->data;

		status = m->len == sizeof(*e) && e->error < 0 ? e->error : -EPROTO;
	}
	inbox_answer(b->inbox, f->id, status, m);
}

static void (*const takers[MSG_TYPE_END])(
	struct bus *b, const struct frame *f, struct tine_message *m) = {
	[MSG_SEND] = take_message,
	[MSG_PUBLISH] = take_publication,
	[MSG_ANSWER] = take_answer,
};

/* Maps a payload that is in a blob: m->fd, described by m->data, which it replaces. Returns 0 or -errno. */
int bus_map_large(struct tine_message *m)
{
	struct msg_large large;
	uint64_t size;
	int r;

	if (m->len != sizeof(large))
		return -EPROTO;
	memcpy(&large, m->data, sizeof(large));
	r = blob_check(m->fd, &size);
	if (r == 0 && size != large.size)
		r = -EPROTO;
	if (r == 0)
		r = blob_map(m->fd, size, &m->data);
	m->len = size;
	return r;
}

static void take_large(struct bus *b, const struct frame *f, struct tine_message *m)
{
	CLEANUP(closep) int fd = m->fd;
	const void *data;
	size_t len;
	int r = bus_map_large(m);

	(void)fd; /* it is only there to be closed in the end */
	if (r < 0) {
		log_warning("bus: cannot map a message: %s; dropping it", strerror(-r));
		return;
	}
	data = m->data;
	len = m->len;
	m->fd = -1;
	takers[f->type](b, f, m);
	blob_unmap(data, len);
}

/* Splits the subject from the body. */
static void take_subject(struct tine_message *m)
{
	const struct msg_publish *head = m->data;
	size_t n = publish_head(head->subject);

	m->subject = (struct tine_text){(const char *)(head + 1), head->subject};
	m->data = (const char *)m->data + n;
	m->len -= n;
}

static void on_delivery(struct bus *b, const struct frame *f, const void *payload, int fd)
{
	struct tine_message m = {.data = payload,
		.len = f->length,
		.from = f->src,
		.fd = fd,
		.request = f->flags & FRAME_ANSWERED ? f->id : 0};

	sb_add(b->slot->bus_received, 1);
	b->n_in_burst++;
	if (f->type == MSG_PUBLISH)
		take_subject(&m);
	if (f->flags & FRAME_LARGE)
		take_large(b, f, &m);
	else
		takers[f->type](b, f, &m);
	if (m.fd >= 0)
		close(m.fd);
}

static void forget_subscription(struct tine_subscription *sub)
{
	if (sub == sub->bus->peer_watch)
		sub->bus->peer_watch = NULL;
	sub->bus->subs[SUBSCRIPTION_INDEX(sub->number)] = NULL;
	sub->bus->n_subs--;
}

static void end_subscription(struct tine_subscription *sub, int status)
{
	forget_subscription(sub);
	if (sub->on_end)
		sub->on_end(status, sub->arg);
	free(sub);
}

static void on_ended(struct bus *b, const struct frame *f, const void *payload, int fd)
{
	const struct msg_unsubscribe *m = payload;
	struct tine_subscription *sub = find_subscription(b, m->number);

	if (sub)
		end_subscription(sub, m->error);
}

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
	[MSG_SEND] = on_delivery,
	[MSG_PUBLISH] = on_delivery,
	[MSG_ANSWER] = on_delivery,
	[MSG_ACK] = on_ack,
	[MSG_NAK] = on_nak,
	[MSG_PAUSE] = on_pause,
	[MSG_RESUME] = on_resume,
	[MSG_ENDED] = on_ended,
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

	window_end(&b->window, TINE_E_CLOSED);
	inbox_end(b->inbox, TINE_E_CLOSED);
	if (b->tasks.on_end)
		b->tasks.on_end(b->tasks.arg);
	for (size_t i = 0; i < b->subs_size; i++) {
		if (b->subs[i])
			end_subscription(b->subs[i], TINE_E_CLOSED);
	}
}

/* --- subscriptions --- */

/* A free index. Returns -EDQUOT when there is none, or -ENOMEM. */
static ssize_t find_index(struct bus *b)
{
	size_t size = b->subs_size ? 2 * b->subs_size : 16;
	struct tine_subscription **subs;
	uint16_t *births;

	if (b->n_subs == b->subs_max)
		return TINE_E_QUOTA;
	while (b->n_subs < b->subs_size) { /* so there is one */
		size_t i = b->next_index++ % b->subs_size;

		if (!b->subs[i])
			return (ssize_t)i;
	}
	size = size < b->subs_max ? size : b->subs_max;
	subs = realloc(b->subs, size * sizeof(*subs));
	if (!subs)
		return -ENOMEM;
	b->subs = subs;
	births = realloc(b->births, size * sizeof(*births));
	if (!births)
		return -ENOMEM;
	b->births = births;
	memset(subs + b->subs_size, 0, (size - b->subs_size) * sizeof(*subs));
	memset(births + b->subs_size, 0, (size - b->subs_size) * sizeof(*births));
	b->subs_size = size;
	return (ssize_t)b->n_subs;
}

static int put_subscribe(struct bus *b, const struct tine_subscribe *s, uint32_t number)
{
	struct msg_subscribe m = {.number = number,
		.policy = (uint8_t)s->policy,
		.pattern = (uint8_t)strlen(s->pattern),
		.group = s->group ? (uint8_t)strlen(s->group) : 0};
	struct iovec parts[] = {{&m, sizeof(m)}, {(void *)(uintptr_t)s->pattern, m.pattern},
		{(void *)(uintptr_t)s->group, m.group}};
	struct frame f = {
		.type = MSG_SUBSCRIBE, .length = (uint32_t)(sizeof(m) + m.pattern + m.group)};

	return put(b, &f, parts, 3, &nothing);
}

/* The policy and the group are checked. Returns 0 or an error of tine/bus.h. */
int bus_subscribe(
	struct bus_port *p, const struct tine_subscribe *s, struct tine_subscription **ret)
{
	struct bus *b = p->bus;
	struct tine_subscription *sub;
	const char *why;
	ssize_t index;
	int r = subject_check(s->pattern, strlen(s->pattern), SUBJECT_PATTERN, &why);

	if (r < 0)
		return r;
	index = find_index(b);
	if (index < 0)
		return (int)index;
	sub = calloc(1, sizeof(*sub));
	if (!sub)
		return -ENOMEM;
	*sub = (struct tine_subscription){.bus = b,
		.number = (uint32_t)index | (uint32_t)b->births[index]++ << 16,
		.on_message = s->on_message,
		.on_end = s->on_end,
		.arg = s->arg};
	r = put_subscribe(b, s, sub->number);
	if (r < 0) {
		free(sub);
		return r;
	}
	b->subs[index] = sub;
	b->n_subs++;
	*ret = sub;
	return 0;
}

void bus_unsubscribe(struct tine_subscription *sub)
{
	struct msg_unsubscribe m = {.number = sub->number};
	struct iovec part = {&m, sizeof(m)};
	struct frame f = {.type = MSG_UNSUBSCRIBE, .length = sizeof(m)};

	put(sub->bus, &f, &part, 1, &nothing);
	forget_subscription(sub);
	free(sub);
}

int bus_count(struct bus_port *p, const char *subject,
	void (*on_count)(int status, uint64_t n, void *arg), void *arg)
{
	struct bus *b = p->bus;
	struct inbox_request request = {
		.on_count = on_count, .arg = arg, .timeout_us = ANSWER_TIMEOUT_US};
	struct iovec part = {(void *)(uintptr_t)subject, strlen(subject)};
	struct frame f = {.type = MSG_COUNT, .length = (uint32_t)part.iov_len};
	const char *why;
	int r = subject_check(subject, part.iov_len, SUBJECT_PLAIN, &why);

	if (r == 0)
		r = check_room(p, frame_space(f.length), 0, false);
	if (r == 0)
		r = inbox_add(b->inbox, &request, 0, &f.id);
	if (r < 0)
		return r;
	r = put(b, &f, &part, 1, &nothing);
	if (r < 0)
		inbox_forget(b->inbox, (uint32_t)f.id);
	return r;
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
	if (p->open || find_port(p->bus, p->key))
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

/* What has come so far, for a loop that may wait for more. */
const struct spin_seen *bus_seen(const struct bus *b)
{
	return &b->seen;
}

static void take_back(struct bus *b)
{
	for (size_t i = 0; i < b->subs_size; i++) {
		struct msg_unsubscribe m = {.number = b->subs[i] ? b->subs[i]->number : 0};
		struct iovec part = {&m, sizeof(m)};
		struct frame f = {.type = MSG_UNSUBSCRIBE, .length = sizeof(m)};

		if (b->subs[i])
			put(b, &f, &part, 1, &nothing);
	}
	b->sync_asked = false;
	ask_for_ack(b);
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
		take_back(b);
		b->left_at = b->window.n_sent;
	}
	return b->n_acked >= b->left_at;
}

/* The process ends: what was sent is written. The primary reads all the time, so this takes no time unless it is gone. */
void bus_finish(struct bus *b)
{
	uint64_t end = now_us() + FINISH_MS * US_PER_MS;

	lane_flush(b->lane);
	while (lane_is_open(b->lane) && lane_queued(b->lane) > 0 && now_us() < end) {
		lane_wait(b->lane, 10);
		lane_flush(b->lane);
	}
}

/*
 * The relay's senders and receivers. Runs in the primary.
 *
 * Nothing of a message is allocated or looked into: frames are checked where they were read, and copied once, to the end of
 * the queue of the process they are for; neighbours of one way in one piece. So what a sender sends to a receiver
 * arrives in order. Each frame ends as put into a queue or as failed; an ACK says how many are dealt with, NAKs before it which
 * of them failed. Answers (ACK, NAK, PAUSE, RESUME, ENDED) are queued in any case; who lets too many of them lie is not read
 * until it has taken them.
 */
#include "primary/relay.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "ipc/blob.h"
#include "ipc/lane.h"
#include "ipc/subject.h"
#include "primary/farm.h"
#include "primary/relay_peer.h"
#include "primary/remote.h"
#include "shared/scoreboard.h"

#define FEW               4              /* frames in a burst: they may be a conversation */
#define CLOSED_MAX_US     (2 * US_PER_S) /* a process whose lane is closed has ended by then */
#define WORK_MAX          20000          /* steps for one sender in one turn of the loop */
#define RUN_MIN           4 /* frames of one run, however many subscriptions it goes to */
#define ANSWERS_MAX       (256u << 10) /* bytes above queue_high */
#define DESCRIPTORS_SHARE 4 /* of all that the primary may have are the most that wait in queues */

int relay_new(struct event_base *base, const struct scoreboard *sb, struct relay **ret)
{
	struct relay *r = calloc(1, sizeof(*r));
	unsigned limit;

	if (!r)
		return -ENOMEM;
	r->base = base;
	r->scoreboard = sb;
	r->fds_left = fd_raise_limit(&limit) < 0 ? OUTLET_FDS : limit / DESCRIPTORS_SHARE;
	TAILQ_INIT(&r->peers);
	r->subjects = subjects_new();
	if (!r->subjects || remote_new(r, &r->remote) < 0) {
		relay_free(r);
		return -ENOMEM;
	}
	*ret = r;
	return 0;
}

/* Nobody is attached any more, and no tap is left. */
struct relay *relay_free(struct relay *r)
{
	if (!r)
		return NULL;
	remote_free(r->remote);
	subjects_free(r->subjects);
	free(r->targets);
	free(r);
	return NULL;
}

/* The address of the next process in a slot. */
uint32_t relay_next_address(struct relay *r, unsigned slot)
{
	r->births[slot] = r->births[slot] % ADDRESS_BIRTH_MAX + 1;
	return r->births[slot] << ADDRESS_SLOT_BITS | slot;
}

/* --- answers --- */

/* Without its answers a process would wait for ever. */
static void answer(struct relay_peer *p, enum msg_type type, const void *m, size_t len)
{
	if (lane_send(p->lane, type, 0, m, len) == -ENOMEM)
		lane_reject(p->lane, "no memory for its answers");
}

static void send_nak(struct relay_peer *p)
{
	struct msg_nak m = p->nak;

	p->nak.n = 0;
	if (m.n > 0)
		answer(p, MSG_NAK, &m, sizeof(m));
}

/* These frames came to nothing. Said once for neighbours that failed alike. p NULL: they were the primary's own. */
void relay_fail(struct relay_peer *p, uint64_t first, uint64_t n, int error)
{
	if (!p)
		return;
	p->figures.failed += n;
	if (p->nak.n > 0 && p->nak.error == error && p->nak.first + p->nak.n == first) {
		p->nak.n += n;
		return;
	}
	send_nak(p);
	p->nak = (struct msg_nak){.first = first, .n = n, .error = error};
}

static void send_ack(struct relay_peer *p)
{
	struct msg_ack m = {.n = p->n_handled, .bytes = p->bytes_handled};
	uint64_t due = msg_window(p->o.queue_high, p->o.queue_low) / 4;

	if (!p->ack_wanted && p->bytes_handled - p->bytes_acked < due)
		return;
	answer(p, MSG_ACK, &m, sizeof(m));
	p->bytes_acked = p->bytes_handled;
	p->ack_wanted = false;
}

/* --- runs: what goes the same way --- */

static void publish_run(struct relay_peer *p, const struct relay_run *run)
{
	struct publication m = {.sender = p,
		.frames = (char *)(uintptr_t)run->start,
		.len = run->len,
		.n = run->n,
		.first = p->n_handled - run->n,
		.dst = run->dst,
		.subject = run->subject,
		.subject_len = run->subject_len,
		.fd = -1};

	publish(p->relay, &m);
}

/* Sends what was collected. It may not outlive the burst it came with. */
static void end_run(struct relay_peer *p)
{
	struct relay_run run = p->run;

	if (!run.start)
		return;
	p->run.start = NULL;
	if (run.subject)
		publish_run(p, &run);
	else
		direct_run(p, &run);
}

/* The run ends before the frame that is being handled. */
static void end_run_before(struct relay_peer *p)
{
	p->n_handled--;
	end_run(p);
	p->n_handled++;
}

static bool goes_on(
	const struct relay_run *run, const struct frame *f, const char *subject, size_t len)
{
	return run->start && run->start + run->len == (const char *)f && run->dst == f->dst &&
		(run->subject != NULL) == (subject != NULL) && run->subject_len == len &&
		(len == 0 || memcmp(run->subject, subject, len) == 0);
}

/*
 * How many frames of one subject may go together: not more than there are steps, when each of them is kept or dropped by itself
 * for each subscription, or chosen for in each group. Else a burst would hold up the loop before anybody could yield.
 */
static uint64_t run_max(struct relay_peer *p)
{
	const struct relay_run *run = &p->run;
	const struct subject_match *m;

	if (!run->subject ||
		subjects_match(p->relay->subjects, run->subject, run->subject_len, &m) < 0)
		return UINT64_MAX;
	p->work += m->cost;
	return WORK_MAX / (m->n + 1);
}

/* Adds a frame to the run, or begins the next one. subject: NULL when it goes to frame.dst. */
static void collect(struct relay_peer *p, const struct frame *f, const char *subject, size_t len)
{
	struct relay_run *run = &p->run;

	if (!goes_on(run, f, subject, len) || run->n >= run->max) {
		end_run_before(p);
		*run = (struct relay_run){.start = (const char *)f,
			.max = UINT64_MAX,
			.dst = f->dst,
			.subject = subject,
			.subject_len = len};
	}
	run->len += frame_space(f->length);
	if (++run->n == RUN_MIN) /* of fewer it is not worth looking */
		run->max = run_max(p);
}

/* --- one frame by itself --- */

static void publish_alone(struct relay_peer *p, struct frame *f, const struct relay_extra *x)
{
	const struct msg_publish *m = (const void *)(f + 1);
	struct publication one = {.sender = p,
		.frames = (char *)f,
		.len = frame_space(f->length),
		.n = 1,
		.first = p->n_handled - 1,
		.dst = f->dst,
		.subject = (const char *)(m + 1),
		.subject_len = m->subject,
		.fd = x->fd,
		.large = x->large};

	publish(p->relay, &one);
}

/* Looks behind the descriptor of a large payload. Returns 0, -EPROTO when it is not what it has to be, or -EMSGSIZE. */
static int check_large(
	const struct relay_peer *p, const struct frame *f, size_t head, struct relay_extra *x)
{
	struct msg_large m;
	int r;

	if (f->length != head + sizeof(m))
		return -EPROTO;
	memcpy(&m, (const char *)(f + 1) + head, sizeof(m));
	r = blob_check(x->fd, &x->large);
	if (r == 0 && (x->large != m.size || x->large == 0)) /* nothing is no memory to map */
		r = -EPROTO;
	return r == 0 && x->large > p->o.max_message ? -EMSGSIZE : r;
}

static void handle_alone(struct relay_peer *p, struct frame *f, int fd, size_t head)
{
	struct relay_extra x = {.fd = fd};
	int r = 0;

	if (msg_lost_fd(f, fd))
		r = -EDQUOT;
	else if (f->flags & FRAME_LARGE)
		r = check_large(p, f, head, &x);
	end_run_before(p);
	if (r == -EPROTO)
		lane_reject(p->lane, "malformed large payload");
	else if (r < 0)
		relay_fail(p, p->n_handled - 1, 1, r);
	else if (f->type == MSG_PUBLISH)
		publish_alone(p, f, &x);
	else
		direct_alone(p, f, &x);
	if (fd >= 0)
		lane_close_foreign(fd);
}

/* --- what processes send --- */

static void on_send(struct relay_peer *p, struct frame *f, int fd)
{
	if (msg_has_fd(f) || f->dst >= ADDRESS_ANY)
		handle_alone(p, f, fd, 0);
	else
		collect(p, f, NULL, 0);
}

/* Whoever asked is one process. */
static void on_answer(struct relay_peer *p, struct frame *f, int fd)
{
	if (f->dst < ADDRESS_ANY) {
		on_send(p, f, fd);
		return;
	}
	lane_reject(p->lane, "answer to more than one");
	if (fd >= 0)
		lane_close_foreign(fd);
}

static void on_publish(struct relay_peer *p, struct frame *f, int fd)
{
	const struct msg_publish *m = (const void *)(f + 1);
	const char *subject = (const char *)(m + 1), *why;
	struct relay_run *run = &p->run;

	if (f->length < sizeof(*m) || m->subject == 0 || m->subject > SUBJECT_MAX ||
		f->length < publish_head(m->subject) ||
		f->length > publish_head(m->subject) + MSG_PAYLOAD_MAX) {
		lane_reject(p->lane, "malformed publication");
	} else if (!msg_has_fd(f) && goes_on(run, f, subject, m->subject)) {
		collect(p, f, subject, m->subject);
	} else if (subject_check(subject, m->subject, SUBJECT_PLAIN, &why) < 0 ||
		!subject_is_publishable(subject, m->subject)) {
		lane_reject(p->lane, "malformed subject");
	} else if (msg_has_fd(f)) {
		handle_alone(p, f, fd, publish_head(m->subject));
		return;
	} else {
		collect(p, f, subject, m->subject);
	}
	if (fd >= 0)
		lane_close_foreign(fd);
}

static bool is_subscription_sound(const struct relay_peer *p, const struct frame *f)
{
	const struct msg_subscribe *m = (const void *)(f + 1);
	const char *pattern = (const char *)(m + 1), *why;

	if (f->length < sizeof(*m) || f->length != sizeof(*m) + m->pattern + m->group ||
		m->policy >= POLICIES || m->group > SUBJECT_GROUP_MAX ||
		SUBSCRIPTION_INDEX(m->number) >= p->o.max_subscriptions)
		return false;
	if (SUBSCRIPTION_INDEX(m->number) < p->subs_size && p->subs[SUBSCRIPTION_INDEX(m->number)])
		return false;
	return subject_check(pattern, m->pattern, SUBJECT_PATTERN, &why) == 0;
}

static int make_subs_room(struct relay_peer *p, size_t index)
{
	size_t size = p->subs_size ? p->subs_size : 16;
	struct subscription **grown;

	while (size <= index)
		size *= 2;
	if (size == p->subs_size)
		return 0;
	grown = realloc(p->subs, size * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memset(grown + p->subs_size, 0, (size - p->subs_size) * sizeof(*grown));
	p->subs = grown;
	p->subs_size = size;
	return 0;
}

static int subscribe(struct relay_peer *p, const struct msg_subscribe *m)
{
	const char *pattern = (const char *)(m + 1);
	size_t index = SUBSCRIPTION_INDEX(m->number);
	struct subscription *sub;
	int r = make_subs_room(p, index);

	if (r < 0)
		return r;
	sub = calloc(1, sizeof(*sub));
	if (!sub)
		return -ENOMEM;
	sub->owner = p;
	sub->number = m->number;
	sub->policy = (enum msg_policy)m->policy;
	r = subjects_add(
		p->relay->subjects, pattern, m->pattern, pattern + m->pattern, m->group, sub);
	if (r == 0)
		r = remote_add(
			p->relay->remote, pattern, m->pattern, pattern + m->pattern, m->group, sub);
	if (r < 0) {
		subjects_remove(p->relay->subjects, sub);
		free(sub);
		return r;
	}
	p->subs[index] = sub;
	p->n_subs++;
	return 0;
}

static void unsubscribe(struct relay_peer *p, struct subscription *sub)
{
	p->subs[SUBSCRIPTION_INDEX(sub->number)] = NULL;
	p->n_subs--;
	remote_remove(p->relay->remote, sub);
	subjects_remove(p->relay->subjects, sub);
	free(sub);
}

static struct subscription *find_subscription(const struct relay_peer *p, uint32_t number)
{
	size_t index = SUBSCRIPTION_INDEX(number);
	struct subscription *sub = index < p->subs_size ? p->subs[index] : NULL;

	return sub && sub->number == number ? sub : NULL;
}

/* Takes a subscription away from its owner, who is told why. */
void relay_end_subscription(struct subscription *sub, int error)
{
	struct relay_peer *p = sub->owner;
	struct msg_unsubscribe m = {.number = sub->number, .error = error};

	unsubscribe(p, sub);
	answer(p, MSG_ENDED, &m, sizeof(m));
}

static void on_subscribe(struct relay_peer *p, struct frame *f, int fd)
{
	const struct msg_subscribe *m = (const void *)(f + 1);
	int r;

	end_run_before(p);
	if (!is_subscription_sound(p, f)) {
		lane_reject(p->lane, "malformed subscription");
		return;
	}
	p->work += SUBJECT_TOKENS;
	r = subscribe(p, m);
	if (r == 0)
		return;
	answer(p, MSG_ENDED, &(struct msg_unsubscribe){m->number, r},
		sizeof(struct msg_unsubscribe));
	relay_fail(p, p->n_handled - 1, 1, r);
}

/* One that we have ended meanwhile is not there any more. */
static void on_unsubscribe(struct relay_peer *p, struct frame *f, int fd)
{
	const struct msg_unsubscribe *m = (const void *)(f + 1);
	struct subscription *sub;

	end_run_before(p);
	sub = find_subscription(p, m->number);
	if (sub)
		unsubscribe(p, sub);
}

/* How many subscriptions does a subject fit? */
static void on_count(struct relay_peer *p, struct frame *f, int fd)
{
	const char *subject = (const char *)(f + 1), *why;
	struct frame answer = {
		.length = sizeof(uint64_t), .type = MSG_ANSWER, .dst = f->src, .id = f->id};
	const struct subject_match *m;
	uint64_t n = 0;
	struct iovec body = {&n, sizeof(n)};

	end_run_before(p);
	if (subject_check(subject, f->length, SUBJECT_PLAIN, &why) < 0) {
		lane_reject(p->lane, "malformed subject");
		return;
	}
	if (subjects_match(p->relay->subjects, subject, f->length, &m) == 0) {
		n = m->n - remote_wants(p->relay->remote, m);
		p->work += m->cost;
	}
	lane_put(p->lane, &answer, &body, 1, -1);
}

static void on_sync(struct relay_peer *p, struct frame *f, int fd)
{
	end_run_before(p);
	p->ack_wanted = true;
	p->n_seen++; /* it is about masses, and no message */
}

static void on_task(struct relay_peer *p, struct frame *f, int fd)
{
	end_run_before(p);
	p->n_seen++; /* however many: results come one by one */
	p->relay->seen.n++;
	farm_on_task(p, f, fd);
}

static void on_task_cancel(struct relay_peer *p, struct frame *f, int fd)
{
	end_run_before(p);
	farm_on_cancel(p, f);
}

static void (*const handlers[MSG_TYPE_END])(struct relay_peer *p, struct frame *f, int fd) = {
	[MSG_SEND] = on_send,
	[MSG_PUBLISH] = on_publish,
	[MSG_ANSWER] = on_answer,
	[MSG_SUBSCRIBE] = on_subscribe,
	[MSG_UNSUBSCRIBE] = on_unsubscribe,
	[MSG_COUNT] = on_count,
	[MSG_SYNC] = on_sync,
	[MSG_TASK] = on_task,
	[MSG_TASK_CANCEL] = on_task_cancel,
};

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct relay_peer *p = arg;

	if (f->src != p->o.address) {
		if (fd >= 0)
			lane_close_foreign(fd);
		lane_reject(p->lane, "wrong sender");
		return;
	}
	p->n_handled++;
	p->bytes_handled += frame_space(f->length);
	p->ack_wanted |= (f->flags & FRAME_SYNC) != 0;
	handlers[f->type](p, (struct frame *)(uintptr_t)f, fd);
	if (p->work > WORK_MAX) {
		p->work = 0;
		lane_yield(p->lane);
	}
}

static void on_burst(void *arg)
{
	struct relay_peer *p = arg;

	p->relay->seen.n += p->n_handled > p->n_seen;
	p->relay->seen.n_bulk += p->n_handled > p->n_seen + FEW;
	p->n_seen = p->n_handled;
	end_run(p);
	send_nak(p);
	send_ack(p);
	if (lane_queued(p->lane) > p->o.queue_high + ANSWERS_MAX)
		lane_set_reading(p->lane, false);
}

static void on_written(void *arg)
{
	struct relay_peer *p = arg;

	outlet_on_written(&p->outlet);
	farm_on_written(p);
	remote_go_on(p->relay->remote, p);
	if (lane_queued(p->lane) <= p->o.queue_high)
		lane_set_reading(p->lane, true);
}

static void on_closed(const char *why, void *arg)
{
	struct relay_peer *p = arg;

	end_run(p); /* what it sent before it broke the rule */
	if (why)
		p->o.on_offence(why, p->o.arg);
}

/* --- coming and going --- */

static void on_drop(const struct frame *f, void *arg)
{
	struct relay_peer *p = arg;
	struct subscription *sub = find_subscription(p, f->dst);

	p->figures.dropped++;
	if (!sub)
		return;
	sub->figures.dropped++;
	subject_node_figures(sub->node)->dropped++;
}

/* Puts a process on the bus: it may send and subscribe. Returns 0 or -errno. */
int relay_attach(struct relay *r, const struct relay_peer_options *o, struct relay_peer **ret)
{
	struct relay_peer *p = calloc(1, sizeof(*p));
	struct lane_options lo = {.base = r->base,
		.fd = o->fd,
		.kind = LANE_BUS,
		.peer = o->role,
		.queue_max = SIZE_MAX,
		.on_message = on_message,
		.on_closed = on_closed,
		.on_burst = on_burst,
		.on_written = on_written,
		.arg = p};
	int e;

	if (!p) {
		close(o->fd);
		return -ENOMEM;
	}
	p->relay = r;
	p->o = *o;
	outlet_init(&p->outlet, o->queue_high, o->queue_low, on_drop, p);
	e = lane_new(&lo, &p->lane);
	if (e < 0) {
		free(p);
		return e;
	}
	p->outlet.lane = p->lane;
	p->outlet.fds_left = &r->fds_left;
	TAILQ_INSERT_TAIL(&r->peers, p, link);
	r->by_slot[ADDRESS_SLOT(o->address)] = p;
	*ret = p;
	return 0;
}

static void announce(const struct relay_peer *p, const char *subject)
{
	struct msg_peer m = {.address = p->o.address,
		.slot = ADDRESS_SLOT(p->o.address),
		.generation = p->o.generation};

	relay_publish(p->relay, subject, &m, sizeof(m));
}

/* It is ready: others may find it, and are told. */
void relay_announce(struct relay_peer *p)
{
	if (p->announced)
		return;
	direct_welcome(p);
	p->announced = true;
	announce(p, SUBJECT_PEER_JOIN);
}

/* Neither starting, nor on trial, nor about to leave: such a one is the better choice, where there is a choice. */
bool relay_serves(const struct relay_peer *p)
{
	const struct sb_slot *s = &p->relay->scoreboard->slots[ADDRESS_SLOT(p->o.address)];

	return sb_get(s->state) == PROC_READY && !sb_get(s->on_trial) && !sb_get(s->leaving);
}

/* Takes it off the bus, with its subscriptions. */
struct relay_peer *relay_detach(struct relay_peer *p)
{
	struct relay_peer *other;

	if (!p)
		return NULL;
	for (size_t i = 0; i < p->subs_size; i++) {
		if (p->subs[i])
			unsubscribe(p, p->subs[i]);
	}
	remote_deactivate(p->relay->remote, p);
	farm_forget(p);
	p->relay->by_slot[ADDRESS_SLOT(p->o.address)] = NULL;
	TAILQ_REMOVE(&p->relay->peers, p, link);
	TAILQ_FOREACH (other, &p->relay->peers, link)
		outlet_forget(&other->outlet, p->lane);
	outlet_forget(&p->outlet, p->lane);
	outlet_clear(&p->outlet);
	lane_free(p->lane);
	if (p->announced)
		announce(p, SUBJECT_PEER_LEAVE);
	free(p->subs);
	free(p);
	return NULL;
}

/* What it sent before it died is delivered. */
void relay_read_rest(struct relay_peer *p)
{
	if (p)
		lane_read_rest(p->lane);
}

/* A lane closes when its process ends. One that lives on without would count as a receiver for ever. */
static void watch_lane(struct relay_peer *p, uint64_t now_us)
{
	if (lane_is_open(p->lane))
		return;
	if (p->closed_us == 0)
		p->closed_us = now_us;
	if (now_us - p->closed_us >= CLOSED_MAX_US)
		p->o.on_offence("closed its lane", p->o.arg);
}

/* Shows on the scoreboard what waits, and looks for lanes that were left. */
void relay_heartbeat(struct relay *r, uint64_t now_us)
{
	struct relay_peer *p, *next;

	for (p = TAILQ_FIRST(&r->peers); p; p = next) {
		next = TAILQ_NEXT(p, link);
		watch_lane(p, now_us);
	}
	TAILQ_FOREACH (p, &r->peers, link) {
		struct sb_slot *s = &r->scoreboard->slots[ADDRESS_SLOT(p->o.address)];

		sb_set(s->bus_queued, outlet_load(&p->outlet));
		sb_set(s->bus_dropped, p->figures.dropped);
		sb_set(s->subscriptions, (uint32_t)p->n_subs);
	}
}

/* What has come so far, for a loop that may wait for more. */
const struct spin_seen *relay_seen(const struct relay *r)
{
	return &r->seen;
}

struct relay_figures relay_peer_figures(const struct relay_peer *p)
{
	struct relay_figures f = p->figures;

	f.sent = p->n_handled;
	f.sent_bytes = p->bytes_handled;
	f.queued = outlet_load(&p->outlet);
	f.n_subscriptions = p->n_subs;
	f.n_waiting = p->outlet.n_waiters;
	f.full = p->outlet.full;
	return f;
}

const struct subjects *relay_subjects(const struct relay *r)
{
	return r->subjects;
}

/* Tells a bridge that nothing comes to it any more. */
void relay_send_last(struct relay_peer *p)
{
	lane_send(p->lane, MSG_LAST, 0, NULL, 0);
}

struct remote *relay_remote(const struct relay *r)
{
	return r->remote;
}

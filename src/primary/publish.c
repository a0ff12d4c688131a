/*
 * From what was published to its subscribers. Runs in the primary.
 *
 * Of several frames with one subject all go in one piece to each subscriber, if there is room for them; else one by one. A
 * message is refused as a whole when one of those subscribers has no room that have it refused then: so its sender may send it
 * again and nobody gets it twice.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/lane.h"
#include "ipc/subject.h"
#include "primary/relay_peer.h"
#include "primary/remote.h"

/* A subscription of the primary's own. */
struct relay_tap {
	struct subscription sub; /* first: its owner is NULL */
	struct relay *relay;
	relay_message_fn fn;
	void *arg;
};

static struct outlet *outlet_of(const struct subscription *sub)
{
	struct relay_peer *owner = sub->owner;

	return owner ? &owner->outlet : NULL;
}

static bool has_room(const struct subscription *sub, uint64_t n)
{
	const struct outlet *o = outlet_of(sub);

	return !o || outlet_has_room(o, n);
}

/* --- whom it goes to --- */

static bool is_excluded(const struct publication *p, const struct subscription *sub)
{
	const struct relay_peer *owner = sub->owner;

	return sub->is_export || (p->dst == ADDRESS_OTHERS && p->sender && owner == p->sender) ||
		(owner && !lane_is_open(owner->lane)); /* it is about to be gone */
}

/* How well a member of a queue group would serve: 0 not at all. One that leaves, or is on trial, may not come to what is in its queue. */
unsigned publish_rank(const struct publication *p, const struct subscription *sub)
{
	const struct relay_peer *owner = sub->owner;

	if (is_excluded(p, sub))
		return 0;
	if (!has_room(sub, p->len + p->large))
		return 1;
	return owner && !relay_serves(owner) ? 2 : PUBLISH_BEST;
}

/* The best of a queue group's subscriptions, in turn among equals. NULL: all are excluded. */
static struct subscription *choose(
	const struct publication *p, struct subscription **group, size_t n)
{
	size_t start = subject_group_turn(group[0]->group) % n;
	struct subscription *chosen = NULL;
	unsigned best = 0;

	for (size_t i = 0; i < n && best < PUBLISH_BEST; i++) {
		struct subscription *sub = group[(start + i) % n];
		unsigned r = publish_rank(p, sub);

		if (r > best) {
			best = r;
			chosen = sub;
		}
	}
	return chosen;
}

/* Fills r->targets. Returns how many, or -ENOMEM. */
static ssize_t find_targets(
	struct relay *r, const struct publication *p, const struct subject_match *m)
{
	size_t n = 0;

	if (m->n > r->targets_size) {
		struct subscription **grown = realloc(r->targets, 2 * m->n * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		r->targets = grown;
		r->targets_size = 2 * m->n;
	}
	for (size_t i = 0; i < m->n_alone; i++) {
		if (!is_excluded(p, m->subs[i]))
			r->targets[n++] = m->subs[i];
	}
	for (size_t i = m->n_alone, end; i < m->n; i = end) {
		struct subscription *chosen;

		for (end = i + 1; end < m->n && m->subs[end]->group == m->subs[i]->group; end++)
			;
		chosen = choose(p, m->subs + i, end - i);
		if (chosen)
			r->targets[n++] = chosen;
	}
	return (ssize_t)n;
}

/* --- one subscriber --- */

static void count_delivered(const struct publication *p, struct subscription *sub)
{
	struct relay_peer *owner = sub->owner;

	sub->figures.delivered += p->n;
	subject_node_figures(sub->node)->delivered += p->n;
	if (!owner)
		return;
	owner->figures.received += p->n;
	owner->figures.received_bytes += p->len + p->large;
}

static void count_dropped(struct subscription *sub, uint64_t n)
{
	struct relay_peer *owner = sub->owner;

	sub->figures.dropped += n;
	subject_node_figures(sub->node)->dropped += n;
	owner->figures.dropped += n;
}

static void keep(const struct publication *p, struct subscription *sub)
{
	if (p->fd >= 0) { /* only frames are kept */
		count_dropped(sub, p->n);
		return;
	}
	for (size_t at = 0; at < p->len;) {
		const struct frame *f = (const void *)(p->frames + at);

		outlet_keep(outlet_of(sub), f);
		at += frame_space(f->length);
	}
	if (p->sender)
		p->sender->work += p->n;
}

static void drop(const struct publication *p, struct subscription *sub)
{
	count_dropped(sub, p->n);
}

static void disconnect(const struct publication *p, struct subscription *sub)
{
	count_dropped(sub, p->n);
	sub->doomed = true; /* not now: it is one of the targets */
}

/* What becomes of one message for which there is no room. One that could be refused has been, unless it is ours. */
static void (*const policies[POLICIES])(const struct publication *p, struct subscription *sub) = {
	[POLICY_REFUSE] = drop,
	[POLICY_DROP_OLDEST] = keep,
	[POLICY_DROP_NEWEST] = drop,
	[POLICY_DISCONNECT] = disconnect,
};

static void address_frames(const struct publication *p, uint32_t number)
{
	for (size_t at = 0; at < p->len;) {
		struct frame *f = (void *)(p->frames + at);

		f->dst = number;
		at += frame_space(f->length);
	}
}

static void tell_tap(const struct publication *p, struct subscription *sub)
{
	struct relay_tap *tap = (struct relay_tap *)sub;

	for (size_t at = 0; at < p->len;) {
		const struct frame *f = (const void *)(p->frames + at);
		size_t head = publish_head(p->subject_len);
		bool large = f->flags & FRAME_LARGE;

		tap->fn(p->subject, p->subject_len, large ? NULL : (const char *)(f + 1) + head,
			large ? p->large : f->length - head, tap->arg);
		at += frame_space(f->length);
	}
	count_delivered(p, sub);
}

static int put(const struct publication *p, struct outlet *o)
{
	const struct frame *f = (const void *)p->frames;
	struct iovec body = {p->frames + sizeof(*f), f->length};

	return p->fd < 0 ? outlet_append(o, p->frames, p->len)
			 : outlet_put_fd(o, f, &body, p->fd, p->large);
}

/* Returns 0, or -errno when one that is to be refused rather than lost is lost all the same: for want of memory. */
static int deliver(const struct publication *p, struct subscription *sub)
{
	struct outlet *o = outlet_of(sub);
	const struct frame *f = (const void *)p->frames;
	int r = 0;

	if (!o) {
		tell_tap(p, sub);
		return 0;
	}
	if (f->dst != sub->number)
		address_frames(p, sub->number);
	if (!outlet_takes(o, p->len + p->large))
		policies[sub->policy](p, sub);
	else if ((r = put(p, o)) == 0)
		count_delivered(p, sub);
	else
		count_dropped(sub, p->n);
	if (sub->policy != POLICY_REFUSE)
		return 0;
	if (p->sender)
		outlet_make_wait(o, p->sender->lane, subject_key(p->subject, p->subject_len));
	return r;
}

/* --- all of them --- */

/*
 * Finds one that has no room and wants it refused then. The room is reserved as we go, in the order in which it will be taken and
 * also for those that would rather lose it, so that a process with many subscriptions is judged by all of them. NULL: there is none.
 */
static struct subscription *find_obstacle(
	const struct publication *p, struct subscription **targets, size_t n)
{
	struct subscription *obstacle = NULL;

	for (size_t i = 0; i < n && !obstacle; i++) {
		struct outlet *o = outlet_of(targets[i]);

		if (!o)
			continue;
		if (outlet_has_room(o, p->len + p->large))
			outlet_reserve(o, p->len + p->large, p->fd >= 0);
		else if (targets[i]->policy == POLICY_REFUSE)
			obstacle = targets[i];
	}
	for (size_t i = 0; i < n; i++) {
		if (targets[i]->owner)
			outlet_unreserve(outlet_of(targets[i]));
	}
	return obstacle;
}

/* Says so to the sender, and has him wait; unless the message would not fit into an empty queue either. */
static void refuse(const struct publication *p, struct subscription *obstacle)
{
	struct outlet *o = outlet_of(obstacle);

	obstacle->figures.refused += p->n;
	subject_node_figures(obstacle->node)->refused += p->n;
	if (outlet_load(o) == 0) {
		relay_fail(p->sender, p->first, p->n, -EMSGSIZE);
		return;
	}
	o->full = true;
	outlet_make_wait(o, p->sender->lane, subject_key(p->subject, p->subject_len));
	relay_fail(p->sender, p->first, p->n, -EAGAIN);
}

/* Whether all of them have room for every frame, or none for any. */
static bool may_go_together(const struct publication *p, struct subscription **targets, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!has_room(targets[i], p->len) && !outlet_of(targets[i])->full)
			return false;
	}
	return true;
}

static void end_doomed(struct subscription **targets, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (targets[i]->doomed)
			relay_end_subscription(targets[i], -EAGAIN);
	}
}

/* Delivers to those subscriptions. What has no room for it loses it or ends, as its policy says. */
void publish_to(const struct publication *p, struct subscription **targets, size_t n)
{
	int failure = 0;

	for (size_t i = 0; i < n; i++) {
		int r = deliver(p, targets[i]);

		failure = r < 0 ? r : failure;
		subject_node_figures(targets[i]->node)->messages += p->n;
	}
	if (failure < 0)
		relay_fail(p->sender, p->first, p->n, failure);
	end_doomed(targets, n);
}

bool publish_has_room(const struct subscription *sub, uint64_t n)
{
	return has_room(sub, n);
}

/* Publishes what goes the same way, or finds that it has to go one by one (returns false). */
static bool publish_together(
	struct relay *r, const struct publication *p, const struct subject_match *m)
{
	bool far = remote_wants(r->remote, m);
	ssize_t n = find_targets(r, p, m);
	struct subscription *obstacle;

	if (p->sender)
		p->sender->work += m->n; /* they were looked at, whatever becomes of it */
	if (n < 0 || (n == 0 && !far)) {
		relay_fail(p->sender, p->first, p->n, n < 0 ? (int)n : -ENOENT);
		return true;
	}
	obstacle = p->sender ? find_obstacle(p, r->targets, (size_t)n) : NULL;
	if (p->n > 1 &&
		(obstacle ? !outlet_of(obstacle)->full
			  : !may_go_together(p, r->targets, (size_t)n)))
		return false;
	if (obstacle) {
		refuse(p, obstacle);
		return true;
	}
	if (p->fd >= 0 && p->sender && (size_t)n + far > r->fds_left) {
		relay_fail(p->sender, p->first, p->n, -EDQUOT);
		return true;
	}
	if (far)
		remote_forward(r->remote, p, r->targets, (size_t)n);
	if (p->sender)
		p->sender->work += ((size_t)n + far) * (1 + p->n / 16 + p->len / 4096);
	publish_to(p, r->targets, (size_t)n);
	return true;
}

static void publish_one_by_one(struct relay *r, const struct publication *all)
{
	struct publication p = *all;

	p.n = 1;
	for (size_t at = 0; at < all->len; at += p.len) {
		const struct subject_match *m;
		const struct frame *f = (const void *)(all->frames + at);

		p.frames = all->frames + at;
		p.len = frame_space(f->length);
		if (subjects_match(r->subjects, p.subject, p.subject_len, &m) < 0)
			relay_fail(p.sender, p.first, 1, -ENOMEM);
		else
			publish_together(r, &p, m);
		p.first++;
	}
}

/* Delivers frames with one subject, which is valid; the sender is told what fails. */
void publish(struct relay *r, const struct publication *p)
{
	const struct subject_match *m;

	if (p->sender && p->sender->o.role == ROLE_BRIDGE) {
		remote_deliver(r->remote, p);
		return;
	}
	if (subjects_match(r->subjects, p->subject, p->subject_len, &m) < 0) {
		relay_fail(p->sender, p->first, p->n, -ENOMEM);
		return;
	}
	if (p->sender)
		p->sender->work += m->cost;
	if ((p->n > 1 && m->n > m->n_alone) || !publish_together(r, p, m))
		publish_one_by_one(r, p);
}

/* --- the primary's own --- */

/* Publishes what the primary has to say. Returns 0, -EINVAL or -EMSGSIZE. Who has no room misses it. */
int relay_publish(struct relay *r, const char *subject, const void *body, size_t len)
{
	size_t subject_len = strlen(subject), head = publish_head(subject_len);
	struct publication p = {.n = 1,
		.dst = ADDRESS_ALL,
		.subject = subject,
		.subject_len = subject_len,
		.len = frame_space(head + len),
		.fd = -1};
	struct msg_publish m = {.subject = (uint16_t)subject_len};
	struct frame f = {.length = (uint32_t)(head + len), .type = MSG_PUBLISH};
	const char *why;

	if (subject_check(subject, subject_len, SUBJECT_PLAIN, &why) < 0)
		return -EINVAL;
	if (len > MSG_PAYLOAD_MAX)
		return -EMSGSIZE;
	p.frames = calloc(1, p.len);
	if (!p.frames)
		return -ENOMEM;
	memcpy(p.frames, &f, sizeof(f));
	memcpy(p.frames + sizeof(f), &m, sizeof(m));
	memcpy(p.frames + sizeof(f) + sizeof(m), subject, subject_len);
	if (len > 0)
		memcpy(p.frames + sizeof(f) + head, body, len);
	publish(r, &p);
	free(p.frames);
	return 0;
}

/*
 * Has fn called with each message that fits the pattern; it may neither change subscriptions nor publish. Returns 0, -EINVAL, -ENOMEM.
 */
int relay_tap_new(struct relay *r, const char *pattern, relay_message_fn fn, void *arg,
	struct relay_tap **ret)
{
	struct relay_tap *t;
	const char *why;
	int e = subject_check(pattern, strlen(pattern), SUBJECT_PATTERN, &why);

	if (e < 0)
		return e;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->relay = r;
	t->fn = fn;
	t->arg = arg;
	e = subjects_add(r->subjects, pattern, strlen(pattern), NULL, 0, &t->sub);
	if (e == 0)
		e = remote_add(r->remote, pattern, strlen(pattern), NULL, 0, &t->sub);
	if (e < 0) {
		subjects_remove(r->subjects, &t->sub);
		free(t);
		return e;
	}
	*ret = t;
	return 0;
}

struct relay_tap *relay_tap_free(struct relay_tap *t)
{
	if (!t)
		return NULL;
	remote_remove(t->relay->remote, &t->sub);
	subjects_remove(t->relay->subjects, &t->sub);
	free(t);
	return NULL;
}

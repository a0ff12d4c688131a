/*
 * Interests and exports. Runs in the primary.
 *
 * An interest is a pattern, with or without a queue group, that somebody here subscribes to. The bridge is told which there are,
 * each by a number that is never used again; it is not told of every change, but of how things are, as fast as it reads.
 * What it publishes is for one interest's subscribers, and it is the other machine that found that it fits.
 *
 * An export is a pattern of [bus] nats_subjects: what fits it goes to the bridge, along with the queue groups that have had it
 * here. Those are not to have it once more elsewhere.
 */
#include "primary/remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define HASH_NONFATAL_OOM            1 /* what could not be added has no table */
#define HASH_FUNCTION(key, len, ret) (ret) = (unsigned)keyed_hash(0, key, len)
#include <uthash.h>

#include "base/keyed_hash.h"
#include "ipc/lane.h"
#include "ipc/subject.h"
#include "primary/relay_peer.h"

#define EXPORTS_MAX  16
#define INTEREST_MAX (SUBJECT_MAX + 1 + SUBJECT_GROUP_MAX)
#define QUEUED_MAX   (64u << 10) /* bytes in the bridge's queue, above which interests wait */

struct interest {
	UT_hash_handle hh; /* by its text */
	UT_hash_handle by_number;
	TAILQ_ENTRY(interest) link; /* among those of which the bridge is to be told */
	bool to_tell, told;
	uint32_t number;
	LIST_HEAD(, subscription) subs;
	size_t n_subs, turn;
	uint8_t pattern_len, group_len;
	size_t len;
	char text[]; /* the pattern, a NUL, the group */
};

struct remote {
	struct relay *relay;
	uint64_t machine;
	struct relay_peer *bridge; /* NULL: there is none */
	struct relay_peer *
		next; /* takes its place when it has ended, and has its publications already; NULL: none */
	struct interest *interests, *by_number;
	uint32_t last_number;
	TAILQ_HEAD(, interest) to_tell;
	struct subscription exports[EXPORTS_MAX];
	size_t n_exports;
	struct subscription **targets; /* room for those of one message */
	size_t targets_size;
	struct remote_figures figures;
};

int remote_new(struct relay *r, struct remote **ret)
{
	struct remote *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	if (getrandom(&m->machine, sizeof(m->machine), GRND_NONBLOCK) < 0) {
		free(m);
		return -errno;
	}
	m->relay = r;
	TAILQ_INIT(&m->to_tell);
	*ret = m;
	return 0;
}

/* A number for this daemon among all that NATS joins. */
uint64_t remote_machine(const struct remote *m)
{
	return m->machine;
}

/* --- interests --- */

static void interest_free(struct remote *m, struct interest *in)
{
	if (in->to_tell)
		TAILQ_REMOVE(&m->to_tell, in, link);
	HASH_DEL(m->interests, in);
	HASH_DELETE(by_number, m->by_number, in);
	free(in);
}

static int tell(struct remote *m, const struct interest *in)
{
	struct msg_interest head = {.number = in->number,
		.wanted = in->n_subs > 0,
		.pattern = in->pattern_len,
		.group = in->group_len};
	struct frame f = {.type = MSG_INTEREST,
		.length = (uint32_t)(sizeof(head) + in->pattern_len + in->group_len)};
	struct iovec parts[] = {{&head, sizeof(head)},
		{(void *)(uintptr_t)in->text, in->pattern_len},
		{(void *)(uintptr_t)(in->text + in->pattern_len + 1), in->group_len}};

	return lane_put(m->bridge->lane, &f, parts, 3, -1);
}

/* Tells the bridge how things are, as far as there is room. */
static void tell_all(struct remote *m)
{
	struct interest *in;

	while (m->bridge && (in = TAILQ_FIRST(&m->to_tell)) &&
		lane_queued(m->bridge->lane) < QUEUED_MAX) {
		if (tell(m, in) < 0)
			return;
		TAILQ_REMOVE(&m->to_tell, in, link);
		in->to_tell = false;
		in->told = in->n_subs > 0;
		if (!in->told)
			interest_free(m, in);
	}
}

/* It may be wanted now, or no longer. */
static void note_change(struct remote *m, struct interest *in)
{
	bool differs = (in->n_subs > 0) != in->told;

	if (differs == in->to_tell)
		return;
	in->to_tell = differs;
	if (!differs)
		TAILQ_REMOVE(&m->to_tell, in, link);
	else
		TAILQ_INSERT_TAIL(&m->to_tell, in, link);
	if (in->n_subs == 0 && !in->told)
		interest_free(m, in);
	tell_all(m);
}

/* NULL: out of memory. */
static struct interest *interest_for(
	struct remote *m, const char *text, size_t len, size_t pattern_len)
{
	struct interest *in;

	HASH_FIND(hh, m->interests, text, len, in);
	if (in)
		return in;
	in = calloc(1, sizeof(*in) + len + 1);
	if (!in)
		return NULL;
	memcpy(in->text, text, len);
	in->len = len;
	in->pattern_len = (uint8_t)pattern_len;
	in->group_len = (uint8_t)(len - pattern_len - 1);
	in->number = ++m->last_number;
	LIST_INIT(&in->subs);
	HASH_ADD_KEYPTR(hh, m->interests, in->text, in->len, in);
	if (!in->hh.tbl) {
		free(in);
		return NULL;
	}
	HASH_ADD(by_number, m->by_number, number, sizeof(in->number), in);
	if (in->by_number.tbl)
		return in;
	HASH_DEL(m->interests, in);
	free(in);
	return NULL;
}

/* A subscription has come that is in the tree. What is tined's own is not for others. Returns 0 or -ENOMEM. */
int remote_add(struct remote *m, const char *pattern, size_t len, const char *group,
	size_t group_len, struct subscription *sub)
{
	char text[INTEREST_MAX];
	struct interest *in;

	if (subject_is_reserved(pattern, len))
		return 0;
	memcpy(text, pattern, len);
	text[len] = '\0';
	if (group_len > 0)
		memcpy(text + len + 1, group, group_len);
	in = interest_for(m, text, len + 1 + group_len, len);
	if (!in)
		return -ENOMEM;
	sub->interest = in;
	LIST_INSERT_HEAD(&in->subs, sub, in_interest);
	in->n_subs++;
	note_change(m, in);
	return 0;
}

void remote_remove(struct remote *m, struct subscription *sub)
{
	struct interest *in = sub->interest;

	if (!in)
		return;
	sub->interest = NULL;
	LIST_REMOVE(sub, in_interest);
	in->n_subs--;
	note_change(m, in);
}

/* --- the bridge --- */

static void begin(struct remote *m, struct relay_peer *p)
{
	struct interest *in, *next;

	m->bridge = p;
	HASH_ITER(hh, m->interests, in, next)
	{
		in->told = false;
		if (in->n_subs == 0) {
			interest_free(m, in);
			continue;
		}
		if (!in->to_tell)
			TAILQ_INSERT_TAIL(&m->to_tell, in, link);
		in->to_tell = true;
	}
	tell_all(m);
}

/* What is published goes to another process from here on, or stays here. */
void remote_end(struct remote *m)
{
	if (m->bridge && !m->next)
		relay_send_last(m->bridge);
}

/*
 * This process is to be the bridge: at once, or when the one there is has passed on what it has, and has ended. So nothing
 * overtakes anything, and what comes from elsewhere comes once.
 */
void remote_activate(struct remote *m, struct relay_peer *p)
{
	if (p == m->bridge || p == m->next)
		return;
	if (!m->bridge) {
		begin(m, p);
		return;
	}
	remote_end(m);
	m->next = p;
}

/* It is gone. */
void remote_deactivate(struct remote *m, const struct relay_peer *p)
{
	if (p == m->next)
		m->next = NULL;
	if (p != m->bridge)
		return;
	m->bridge = NULL;
	if (m->next)
		begin(m, m->next);
	m->next = NULL;
}

/* The process that is the bridge now; NULL: none. */
const struct relay_peer *remote_bridge(const struct remote *m)
{
	return m->bridge;
}

/* Some of a process's queue has been written. */
void remote_go_on(struct remote *m, const struct relay_peer *p)
{
	if (m->bridge == p)
		tell_all(m);
}

/* patterns: valid, with blanks between them, none of which overlap; NULL: nothing is carried. Returns 0 or -ENOMEM. */
int remote_set_exports(struct remote *m, const char *patterns)
{
	while (m->n_exports > 0)
		subjects_remove(m->relay->subjects, &m->exports[--m->n_exports]);
	while (patterns && m->n_exports < EXPORTS_MAX) {
		struct subscription *sub = &m->exports[m->n_exports];
		size_t n;
		int r;

		patterns += strspn(patterns, " \t");
		n = strcspn(patterns, " \t");
		if (n == 0)
			break;
		*sub = (struct subscription){.is_export = true};
		r = subjects_add(m->relay->subjects, patterns, n, NULL, 0, sub);
		if (r < 0)
			return r;
		m->n_exports++;
		patterns += n;
	}
	return 0;
}

/* All subscriptions are gone. */
struct remote *remote_free(struct remote *m)
{
	struct interest *in, *next;

	if (!m)
		return NULL;
	remote_set_exports(m, NULL);
	HASH_ITER(hh, m->interests, in, next)
	interest_free(m, in);
	free(m->targets);
	free(m);
	return NULL;
}

/* --- to other machines --- */

/* The groups that have had it. Returns their bytes, or -EMSGSIZE. */
static ssize_t list_groups(char ret[MSG_SERVED_MAX], struct subscription *const *served, size_t n)
{
	size_t used = 0;

	for (size_t i = 0; i < n; i++) {
		const char *name;
		size_t len;

		if (!served[i]->group)
			continue;
		name = subject_group_name(served[i]->group, &len);
		if (used + len + 1 > MSG_SERVED_MAX)
			return -EMSGSIZE;
		memcpy(ret + used, name, len);
		ret[used + len] = '\0';
		used += len + 1;
	}
	return (ssize_t)used;
}

/* What the bridge is to know of the frames: nothing, most of the time. */
static ssize_t make_served(
	char *ret, const struct frame *f, struct subscription *const *served, size_t n)
{
	struct msg_served head = {.here = n > 0};
	ssize_t len = list_groups(ret + sizeof(struct frame) + sizeof(head), served, n);
	struct frame note = {.type = MSG_SERVED};

	if (len < 0 || (len == 0 && !(n > 0 && (f->flags & FRAME_ANSWERED))))
		return len;
	note.length = (uint32_t)(sizeof(head) + (size_t)len);
	memcpy(ret, &note, sizeof(note));
	memcpy(ret + sizeof(note), &head, sizeof(head));
	memset(ret + sizeof(note) + note.length, 0,
		frame_space(note.length) - sizeof(note) - note.length);
	return (ssize_t)frame_space(note.length);
}

static int put(struct outlet *o, const struct publication *p, const struct frame *f, size_t len)
{
	struct iovec body = {(void *)(uintptr_t)(f + 1), f->length};

	return p->fd < 0 ? outlet_append(o, f, len) : outlet_put_fd(o, f, &body, p->fd, p->large);
}

/* Queues frames that are known to be alike, with what is to be known before them. */
static void forward_some(struct remote *m, const struct publication *p, const struct frame *f,
	size_t len, uint64_t n_frames, struct subscription *const *served, size_t n)
{
	_Alignas(
		8) char note[sizeof(struct frame) + sizeof(struct msg_served) + MSG_SERVED_MAX + 8];
	struct relay_peer *to = m->next ? m->next : m->bridge;
	struct outlet *o = &to->outlet;
	ssize_t note_len = make_served(note, f, served, n);

	if (note_len < 0 || !outlet_takes(o, (uint64_t)note_len + len + p->large) ||
		(note_len > 0 && outlet_append(o, note, (size_t)note_len) < 0) ||
		put(o, p, f, len) < 0) {
		m->figures.dropped += n_frames;
		return;
	}
	to->figures.received += n_frames;
	to->figures.received_bytes += len + p->large;
}

static bool has_request(const struct publication *p)
{
	for (size_t at = 0; at < p->len;) {
		const struct frame *f = (const void *)(p->frames + at);

		if (f->flags & FRAME_ANSWERED)
			return true;
		at += frame_space(f->length);
	}
	return false;
}

/* Whether what fits these subscriptions is for other machines, too. */
bool remote_wants(const struct remote *m, const struct subject_match *match)
{
	for (size_t i = 0; i < match->n_alone && m->n_exports > 0; i++) {
		if (match->subs[i]->is_export)
			return true;
	}
	return false;
}

/* Sends what was published here to other machines. served: those that have had it here. A descriptor stays on its machine. */
void remote_forward(
	struct remote *m, const struct publication *p, struct subscription *const *served, size_t n)
{
	const struct frame *first = (const void *)p->frames;

	if (p->fd >= 0 && !(first->flags & FRAME_LARGE))
		return;
	if (!m->bridge) {
		m->figures.missed += p->n;
		return;
	}
	if (p->n == 1 || !has_request(p)) {
		forward_some(m, p, first, p->len, p->n, served, n);
		return;
	}
	for (size_t at = 0; at < p->len;) {
		const struct frame *f = (const void *)(p->frames + at);

		forward_some(m, p, f, frame_space(f->length), 1, served, n);
		at += frame_space(f->length);
	}
}

/* --- from other machines --- */

/* The best of a group's, in turn among equals. NULL: none can have it. */
static struct subscription *choose(struct interest *in, const struct publication *p)
{
	size_t skip = in->turn++ % in->n_subs;
	struct subscription *sub = LIST_FIRST(&in->subs), *chosen = NULL;
	unsigned best = 0;

	while (skip-- > 0)
		sub = LIST_NEXT(sub, in_interest);
	for (size_t i = 0; i < in->n_subs && best < PUBLISH_BEST; i++) {
		unsigned rank = publish_rank(p, sub);

		if (rank > best) {
			best = rank;
			chosen = sub;
		}
		sub = LIST_NEXT(sub, in_interest);
		sub = sub ? sub : LIST_FIRST(&in->subs);
	}
	return chosen;
}

static int make_room(struct remote *m, size_t n)
{
	struct subscription **grown;

	if (n <= m->targets_size)
		return 0;
	grown = realloc(m->targets, 2 * n * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	m->targets = grown;
	m->targets_size = 2 * n;
	return 0;
}

/* Those it is for. Returns how many. */
static size_t find_targets(struct remote *m, struct interest *in, const struct publication *p)
{
	struct subscription *sub;
	size_t n = 0;

	if (in->group_len > 0) {
		m->targets[0] = choose(in, p);
		return m->targets[0] != NULL;
	}
	LIST_FOREACH (sub, &in->subs, in_interest)
		m->targets[n++] = sub;
	return n;
}

/* Whether all frames may go the same way: each of a group's has its own. */
static bool may_go_together(const struct interest *in, const struct publication *p)
{
	const struct subscription *sub;

	if (p->n == 1)
		return true;
	if (in->group_len > 0 && in->n_subs > 1)
		return false;
	LIST_FOREACH (sub, &in->subs, in_interest) {
		if (!publish_has_room(sub, p->len))
			return false;
	}
	return true;
}

/* Delivers to those, and tells the bridge when one's queue grows long who wants its senders to wait: it does so for a while. */
static void hand_over(struct remote *m, const struct publication *p, size_t n, struct lane *bridge)
{
	for (size_t i = 0; i < n; i++) {
		struct relay_peer *owner = m->targets[i]->owner;

		if (owner && m->targets[i]->policy == POLICY_REFUSE)
			outlet_make_wait(&owner->outlet, bridge, owner->o.address);
	}
	publish_to(p, m->targets, n);
}

static void deliver_one_by_one(
	struct remote *m, uint32_t number, const struct publication *all, struct lane *bridge)
{
	struct publication p = *all;
	struct interest *in;

	p.n = 1;
	for (size_t at = 0; at < all->len; at += p.len) {
		const struct frame *f = (const void *)(all->frames + at);

		p.frames = all->frames + at;
		p.len = frame_space(f->length);
		HASH_FIND(by_number, m->by_number, &number, sizeof(number), in);
		if (!in || in->n_subs == 0) /* what came before has ended the last one */
			return;
		hand_over(m, &p, find_targets(m, in, &p), bridge);
	}
}

/*
 * Delivers what the bridge has got. Nobody is refused: who has no room misses it. A bridge that is on its way out has the same
 * messages as the one that has taken its place, but for those of queue groups, of which each has its own.
 */
void remote_deliver(struct remote *m, const struct publication *p)
{
	uint32_t number = p->dst;
	struct publication copy = *p;
	struct interest *in;

	HASH_FIND(by_number, m->by_number, &number, sizeof(number), in);
	if (!in || in->n_subs == 0 || (p->sender != m->bridge && in->group_len == 0) ||
		make_room(m, in->n_subs) < 0)
		return;
	copy.sender = NULL; /* who would be told to wait */
	p->sender->work += in->n_subs * (p->n + p->len / 4096);
	if (may_go_together(in, p))
		hand_over(m, &copy, find_targets(m, in, p), p->sender->lane);
	else
		deliver_one_by_one(m, number, &copy, p->sender->lane);
}

struct remote_figures remote_figures(const struct remote *m)
{
	struct remote_figures f = m->figures;

	f.n_interests = HASH_COUNT(m->interests);
	return f;
}

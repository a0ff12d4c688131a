/*
 * Messages that name their receiver: a process, any, all. Runs in the primary.
 */
#include <errno.h>

#include "ipc/lane.h"
#include "primary/relay_peer.h"
#include "shared/scoreboard.h"

#define GIVEN_MAX 1024 /* then what was given to "any" is half forgotten */

static struct relay_peer *peer_at(const struct relay *r, uint32_t address)
{
	struct relay_peer *p = r->by_slot[ADDRESS_SLOT(address)];

	return p && p->o.address == address ? p : NULL;
}

static void count_received(struct relay_peer *p, uint64_t n, uint64_t bytes)
{
	p->figures.received += n;
	p->figures.received_bytes += bytes;
}

/* Puts as many of the frames as there is room for. Returns how many that are; *ret_bytes: of theirs. */
static uint64_t put_what_fits(struct outlet *o, const char *frames, size_t len, size_t *ret_bytes)
{
	size_t at = 0;
	uint64_t n = 0;

	while (at < len) {
		const struct frame *f = (const void *)(frames + at);
		size_t space = frame_space(f->length);

		if (!outlet_takes(o, space) || outlet_append(o, f, space) < 0)
			break;
		at += space;
		n++;
	}
	*ret_bytes = at;
	return n;
}

/* Sends a run as far as there is room; of the rest the sender is told. */
void direct_run(struct relay_peer *p, const struct relay_run *run)
{
	struct relay_peer *to = peer_at(p->relay, run->dst);
	uint64_t first = p->n_handled - run->n, n = run->n;
	size_t bytes = run->len;

	if (!to) {
		relay_fail(p, first, run->n, -ESRCH);
		return;
	}
	if (!outlet_has_room(&to->outlet, run->len) ||
		outlet_append(&to->outlet, run->start, run->len) < 0)
		n = put_what_fits(&to->outlet, run->start, run->len, &bytes);
	count_received(to, n, bytes);
	if (n < run->n)
		relay_fail(p, first + n, run->n - n, lane_is_open(to->lane) ? -EAGAIN : -ESRCH);
	outlet_make_wait(&to->outlet, p->lane, run->dst);
}

static int put_alone(struct relay_peer *to, const struct frame *f, const struct relay_extra *x)
{
	struct iovec body = {(void *)(uintptr_t)(f + 1), f->length};
	uint64_t n = frame_space(f->length) + x->large;
	int r;

	if (!outlet_takes(&to->outlet, n))
		return lane_is_open(to->lane) ? -EAGAIN : -ESRCH;
	r = x->fd < 0 ? outlet_append(&to->outlet, f, frame_space(f->length))
		      : outlet_put_fd(&to->outlet, f, &body, x->fd, x->large);
	if (r == 0)
		count_received(to, 1, n);
	return r;
}

static int send_to_peer(struct relay_peer *p, const struct frame *f, const struct relay_extra *x)
{
	struct relay_peer *to = peer_at(p->relay, f->dst);
	int r = to ? put_alone(to, f, x) : -ESRCH;

	if (to)
		outlet_make_wait(&to->outlet, p->lane, f->dst);
	return r;
}

/* Everybody who can take it gets it; that somebody could not is an error for the sender. */
static int send_to_all(struct relay_peer *p, const struct frame *f, const struct relay_extra *x)
{
	struct relay_peer *to;
	int r = -ENOENT, e;

	TAILQ_FOREACH (to, &p->relay->peers, link) {
		if (!to->announced || !lane_is_open(to->lane) ||
			(to == p && f->dst == ADDRESS_OTHERS))
			continue;
		e = put_alone(to, f, x);
		r = r == -ENOENT || r == 0 ? e : r;
		p->work++;
	}
	return r;
}

static bool takes_work(const struct relay_peer *p)
{
	return p->announced && p->o.role == ROLE_WORKER && relay_serves(p);
}

/* The fewest connections and messages to "any"; among equals, who has waited longest. */
static bool is_less_loaded(const struct relay_peer *a, const struct relay_peer *b)
{
	const struct sb_slot *slots = a->relay->scoreboard->slots;
	uint64_t x = sb_get(slots[ADDRESS_SLOT(a->o.address)].connections) + a->any_given;
	uint64_t y = sb_get(slots[ADDRESS_SLOT(b->o.address)].connections) + b->any_given;

	return x != y ? x < y : a->any_turn < b->any_turn;
}

static void note_any(struct relay *r, struct relay_peer *chosen)
{
	struct relay_peer *p;

	chosen->any_turn = ++r->any_turns;
	if (++chosen->any_given < GIVEN_MAX)
		return;
	TAILQ_FOREACH (p, &r->peers, link)
		p->any_given /= 2;
}

/* A newcomer is not to make up for what the others were given before. */
void direct_welcome(struct relay_peer *p)
{
	const struct relay_peer *other;
	uint64_t sum = 0, n = 0;

	TAILQ_FOREACH (other, &p->relay->peers, link) {
		sum += other->announced ? other->any_given : 0;
		n += other->announced;
	}
	p->any_given = n > 0 ? sum / n : 0;
}

static int send_to_any(struct relay_peer *p, struct frame *f, const struct relay_extra *x)
{
	uint64_t n = frame_space(f->length) + x->large;
	struct relay_peer *to, *best = NULL;
	int r = -ENOENT;

	TAILQ_FOREACH (to, &p->relay->peers, link) {
		p->work++;
		if (to == p || !takes_work(to))
			continue;
		r = -EAGAIN;
		if (outlet_has_room(&to->outlet, n) && (!best || is_less_loaded(to, best)))
			best = to;
	}
	if (!best)
		return r;
	f->dst = best->o.address;
	note_any(p->relay, best);
	return put_alone(best, f, x);
}

/* Sends one frame to one process, to any or to all. */
void direct_alone(struct relay_peer *p, struct frame *f, const struct relay_extra *x)
{
	int r;

	if (f->dst == ADDRESS_ANY)
		r = send_to_any(p, f, x);
	else if (f->dst == ADDRESS_ALL || f->dst == ADDRESS_OTHERS)
		r = send_to_all(p, f, x);
	else
		r = send_to_peer(p, f, x);
	if (r < 0)
		relay_fail(p, p->n_handled - 1, 1, r);
}

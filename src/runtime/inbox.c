/*
 * A request's number is its index and 16 bits that nobody can foresee; where its id has room for more there are 31 more of them.
 * So neither an answer that comes too late nor one that somebody makes up finds a request that it is not for.
 */
#include "runtime/inbox.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/siphash.h"
#include "base/turn.h"

#define INDEX(number) ((number) & (INBOX_MAX - 1))

struct entry {
	struct inbox *inbox;
	struct event deadline;
	struct inbox_request request;
	uint32_t number; /* changes each time it is taken */
	uint64_t id;     /* that its answer has to have: the number is its lower half */
	bool taken;
	struct entry *next_free;
};

struct inbox {
	struct event_base *base;
	uint64_t secret[2], n_drawn;
	struct entry **entries;
	uint32_t n_entries, size;
	struct entry *free;
};

int inbox_new(struct event_base *base, struct inbox **ret)
{
	struct inbox *in = calloc(1, sizeof(*in));

	if (!in)
		return -ENOMEM;
	if (getrandom(in->secret, sizeof(in->secret), 0) < 0) {
		free(in);
		return -errno;
	}
	in->base = base;
	*ret = in;
	return 0;
}

/* Calls back and forgets; the callback may make another request, in the same entry. */
static void settle(struct entry *e, int status, struct tine_message *answer)
{
	struct inbox_request r = e->request;
	uint64_t n = 0;

	evtimer_del(&e->deadline);
	e->taken = false;
	e->next_free = e->inbox->free;
	e->inbox->free = e;
	if (r.on_answer)
		r.on_answer(status, status == 0 ? answer : NULL, r.arg);
	if (!r.on_count)
		return;
	if (status == 0 && answer && answer->len == sizeof(n))
		memcpy(&n, answer->data, sizeof(n));
	r.on_count(status, n, r.arg);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	turn_mark();
	settle(arg, TINE_E_TIMEOUT, NULL);
}

static struct entry *entry_new(struct inbox *in)
{
	struct entry *e;

	if (in->n_entries == in->size) {
		uint32_t size = in->size ? 2 * in->size : 64;
		struct entry **grown = realloc(in->entries, size * sizeof(*grown));

		if (!grown)
			return NULL;
		in->entries = grown;
		in->size = size;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->inbox = in;
	e->number = in->n_entries;
	evtimer_assign(&e->deadline, in->base, on_deadline, e);
	in->entries[in->n_entries++] = e;
	return e;
}

/* key: 0, or what the upper half of the id is to be instead. */
static void draw_id(struct inbox *in, struct entry *e, uint32_t key)
{
	uint64_t n = in->n_drawn++, random = siphash(in->secret, &n, sizeof(n));
	uint32_t upper = key ? key : (uint32_t)(random >> 32) | 1; /* an id is never 0 */

	e->number += (uint32_t)(1 + random % (INBOX_MAX - 1)) * INBOX_MAX; /* never the last one */
	e->id = (uint64_t)upper << 32 | e->number;
}

/*
 * Returns 0 and the id that its answer will have, with this upper half unless it is 0; -EDQUOT: too many wait; -ENOMEM.
 */
int inbox_add(struct inbox *in, const struct inbox_request *r, uint32_t key, uint64_t *ret_id)
{
	struct timeval tv = timeval_from_us(r->timeout_us);
	struct entry *e = in->free;

	if (e)
		in->free = e->next_free;
	else if (in->n_entries == INBOX_MAX)
		return -EDQUOT;
	else
		e = entry_new(in);
	if (!e)
		return -ENOMEM;
	draw_id(in, e, key);
	if (evtimer_add(&e->deadline, &tv) < 0) {
		e->next_free = in->free;
		in->free = e;
		return -ENOMEM;
	}
	e->request = *r;
	e->taken = true;
	*ret_id = e->id;
	return 0;
}

static struct entry *find(struct inbox *in, uint32_t number)
{
	struct entry *e = INDEX(number) < in->n_entries ? in->entries[INDEX(number)] : NULL;

	return e && e->taken && e->number == number ? e : NULL;
}

/* It did not get to anybody. */
void inbox_fail(struct inbox *in, uint32_t number, int status)
{
	struct entry *e = find(in, number);

	if (e)
		settle(e, status, NULL);
}

/* Whether it was asked. A count is the primary's, which is 0. */
static bool may_answer(const struct inbox_request *r, tine_peer from)
{
	if (r->on_count)
		return from == 0;
	return r->to == 0 || r->to >= TINE_PEER_ANY || r->to == from;
}

/* An answer has come: the outcome of a request, if that still waits for it. */
void inbox_answer(struct inbox *in, uint64_t id, int status, struct tine_message *answer)
{
	struct entry *e = find(in, (uint32_t)id);

	if (e && e->id == id && may_answer(&e->request, answer->from))
		settle(e, status, answer);
}

/* Nobody will answer what was asked of this peer. */
void inbox_peer_left(struct inbox *in, tine_peer peer)
{
	for (uint32_t i = 0; i < in->n_entries; i++) {
		struct entry *e = in->entries[i];

		if (e->taken && e->request.to == peer)
			settle(e, TINE_E_GONE, NULL);
	}
}

/* It was never sent: nothing is called. */
void inbox_forget(struct inbox *in, uint32_t number)
{
	struct entry *e = find(in, number);

	if (!e)
		return;
	e->request = (struct inbox_request){0};
	settle(e, 0, NULL);
}

/* Settles all that wait. */
void inbox_end(struct inbox *in, int status)
{
	for (uint32_t i = 0; i < in->n_entries; i++) {
		if (in->entries[i]->taken)
			settle(in->entries[i], status, NULL);
	}
}

/*
 * A request's number is its index and how often that was used before, so that an answer that comes too late finds nobody.
 */
#include "runtime/inbox.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/turn.h"

#define INDEX(number) ((number) & (INBOX_MAX - 1))

struct entry {
	struct inbox *inbox;
	struct event deadline;
	struct inbox_request request;
	uint32_t number; /* changes each time it is taken */
	bool taken;
	struct entry *next_free;
};

struct inbox {
	struct event_base *base;
	struct entry **entries;
	uint32_t n_entries, size;
	struct entry *free;
};

int inbox_new(struct event_base *base, struct inbox **ret)
{
	struct inbox *in = calloc(1, sizeof(*in));

	if (!in)
		return -ENOMEM;
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

/* Returns 0 and the number that its answer will have; -EDQUOT: too many wait; -ENOMEM. */
int inbox_add(struct inbox *in, const struct inbox_request *r, uint32_t *ret_number)
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
	e->number += INBOX_MAX;
	if (evtimer_add(&e->deadline, &tv) < 0) {
		e->next_free = in->free;
		in->free = e;
		return -ENOMEM;
	}
	e->request = *r;
	e->taken = true;
	*ret_number = e->number;
	return 0;
}

static struct entry *find(struct inbox *in, uint32_t number)
{
	struct entry *e = INDEX(number) < in->n_entries ? in->entries[INDEX(number)] : NULL;

	return e && e->taken && e->number == number ? e : NULL;
}

/* The outcome of a request, if it still waits. */
void inbox_answer(struct inbox *in, uint32_t number, int status, struct tine_message *answer)
{
	struct entry *e = find(in, number);

	if (e)
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

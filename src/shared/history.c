/*
 * The primary's memory. Written by the primary, read by the admin process through the same mapping.
 */
#include "shared/history.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "ipc/msg.h"

static const char *const event_names[N_EVENT_KINDS] = {
#define X(name, text) [EVENT_##name] = text,
	HISTORY_EVENT_TABLE(X)
#undef X
};

/* Maps an empty history, shared with every child forked later. Returns 0 or -errno. */
int history_new(struct history **ret)
{
	struct history *h =
		mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (h == MAP_FAILED)
		return -errno;
	*ret = h;
	return 0;
}

const char *history_event_name(unsigned kind)
{
	return kind < N_EVENT_KINDS ? event_names[kind] : "unknown";
}

/* The oldest record, to be filled in anew; history_end_event() publishes it. */
struct history_event *history_begin_event(struct history *h)
{
	struct history_event *e = &h->event_ring[(sb_get(h->n_events) + 1) % HISTORY_EVENTS];

	sb_set(e->number, 0);
	atomic_thread_fence(memory_order_release);
	return e;
}

/* The same for crashes. */
struct history_crash *history_begin_crash(struct history *h)
{
	struct history_crash *c = &h->crash_ring[(sb_get(h->n_crashes) + 1) % HISTORY_CRASHES];

	sb_set(c->number, 0);
	atomic_thread_fence(memory_order_release);
	return c;
}

/* Returns its number. */
uint64_t history_end_event(struct history *h, struct history_event *e)
{
	uint64_t number = sb_get(h->n_events) + 1;

	atomic_store_explicit(&e->number, number, memory_order_release);
	atomic_store_explicit(&h->n_events, number, memory_order_release);
	return number;
}

uint64_t history_end_crash(struct history *h, struct history_crash *c)
{
	uint64_t number = sb_get(h->n_crashes) + 1;

	atomic_store_explicit(&c->number, number, memory_order_release);
	atomic_store_explicit(&h->n_crashes, number, memory_order_release);
	return number;
}

/* The oldest record, to be filled in anew; history_end_quarantined() publishes it. */
struct history_quarantined *history_begin_quarantined(struct history *h)
{
	struct history_quarantined *q =
		&h->quarantine_ring[(sb_get(h->n_quarantined) + 1) % HISTORY_QUARANTINE];

	sb_set(q->number, 0);
	atomic_thread_fence(memory_order_release);
	return q;
}

uint64_t history_end_quarantined(struct history *h, struct history_quarantined *q)
{
	uint64_t number = sb_get(h->n_quarantined) + 1;

	atomic_store_explicit(&q->number, number, memory_order_release);
	atomic_store_explicit(&h->n_quarantined, number, memory_order_release);
	return number;
}

bool history_read_quarantined(
	const struct history *h, uint64_t number, struct history_quarantined *ret)
{
	const struct history_quarantined *q = &h->quarantine_ring[number % HISTORY_QUARANTINE];

	if (number == 0 || atomic_load_explicit(&q->number, memory_order_acquire) != number)
		return false;
	memcpy((void *)ret, (const void *)q, sizeof(*ret));
	atomic_thread_fence(memory_order_acquire);
	ret->farm[sizeof(ret->farm) - 1] = '\0';
	ret->function[sizeof(ret->function) - 1] = '\0';
	ret->how[sizeof(ret->how) - 1] = '\0';
	return sb_get(q->number) == number;
}

/* For the primary, to add what becomes known later (a backtrace); NULL when it is no longer remembered. */
struct history_crash *history_crash(struct history *h, uint64_t number)
{
	struct history_crash *c = &h->crash_ring[number % HISTORY_CRASHES];

	return number > 0 && sb_get(c->number) == number ? c : NULL;
}

/* Copies a record as it was while `number` stood for it. Returns false when it is not, or no longer, to be had. */
bool history_read_event(const struct history *h, uint64_t number, struct history_event *ret)
{
	const struct history_event *e = &h->event_ring[number % HISTORY_EVENTS];

	if (number == 0 || atomic_load_explicit(&e->number, memory_order_acquire) != number)
		return false;
	memcpy((void *)ret, (const void *)e, sizeof(*ret));
	atomic_thread_fence(memory_order_acquire);
	ret->text[sizeof(ret->text) - 1] = '\0';
	return sb_get(e->number) == number;
}

bool history_read_crash(const struct history *h, uint64_t number, struct history_crash *ret)
{
	const struct history_crash *c = &h->crash_ring[number % HISTORY_CRASHES];

	if (number == 0 || atomic_load_explicit(&c->number, memory_order_acquire) != number)
		return false;
	memcpy((void *)ret, (const void *)c, sizeof(*ret));
	atomic_thread_fence(memory_order_acquire);
	ret->how[sizeof(ret->how) - 1] = '\0';
	ret->request_line[sizeof(ret->request_line) - 1] = '\0';
	ret->backtrace[sizeof(ret->backtrace) - 1] = '\0';
	return sb_get(c->number) == number;
}

static void add_nats(struct nats_counters *t, const struct nats_counters *c)
{
	sb_add(t->in, sb_get(c->in));
	sb_add(t->out, sb_get(c->out));
	sb_add(t->reconnects, sb_get(c->reconnects));
	sb_add(t->unconfirmed, sb_get(c->unconfirmed));
	sb_add(t->dropped_in, sb_get(c->dropped_in));
	sb_add(t->overrun, sb_get(c->overrun));
	sb_add(t->dropped_out, sb_get(c->dropped_out));
	sb_add(t->too_large, sb_get(c->too_large));
	sb_add(t->unsent, sb_get(c->unsent));
}

/* Adds the counters of a child, of those that its role has. They are numbers it wrote: shown, and nothing else. */
void history_add_slot(struct history_totals *t, const struct sb_slot *s)
{
	if (sb_get(s->role) == ROLE_BRIDGE)
		add_nats(&t->nats, &s->nats);
	if (sb_get(s->role) != ROLE_WORKER)
		return;
	sb_add(t->accepted, sb_get(s->accepted));
	sb_add(t->requests, sb_get(s->requests));
	sb_add(t->bytes_in, sb_get(s->bytes_in));
	sb_add(t->bytes_out, sb_get(s->bytes_out));
	sb_add(t->client_errors, sb_get(s->client_errors));
	sb_add(t->server_errors, sb_get(s->server_errors));
	sb_add(t->stepped_back, sb_get(s->stepped_back));
	histogram_merge(&t->latency, &s->latency);
	histogram_merge(&t->loop_lag, &s->loop_lag);
	histogram_merge(&t->pool_wait, &s->pool_wait);
	histogram_merge(&t->pool_run, &s->pool_run);
}

/*
 * Moves what a worker that has ended counted into the totals, and clears it. Who adds both up beside it (report_totals())
 * must see neither of them without the other, or a counter would go back.
 */
void history_bury_slot(struct history *h, struct sb_slot *s)
{
	uint64_t version = sb_get(h->totals_version);

	sb_set(h->totals_version, version + 1);
	atomic_thread_fence(memory_order_seq_cst);
	history_add_slot(&h->totals, s);
	scoreboard_clear_counters(s);
	atomic_store_explicit(&h->totals_version, version + 2, memory_order_release);
}

/* Copies what is known of subjects. Returns false when nothing is, or when it is changing all the time. */
bool history_read_bus(const struct history *h, struct history_bus *ret)
{
	for (int i = 0; i < 100; i++) {
		uint64_t version = atomic_load_explicit(&h->bus.version, memory_order_acquire);

		memcpy((void *)ret, (const void *)&h->bus, sizeof(*ret));
		atomic_thread_fence(memory_order_acquire);
		if (version % 2 == 0 && version == sb_get(h->bus.version))
			return version > 0;
	}
	return false;
}

/*
 * The patterns with the most messages. To find them all are looked at, so this is done only for somebody who looks, and at most
 * so often. Runs in the primary.
 */
#include "primary/bus_figures.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/relay.h"
#include "primary/subjects.h"

#define REFRESH_US (200 * US_PER_MS)
#define LOOKED_US  (60 * US_PER_S) /* after this long nobody looks any more */

static_assert(HISTORY_PATTERN > SUBJECT_MAX, "there is room for every pattern");

static void fill_in(struct history_subject *row, const char *pattern, size_t len,
	size_t n_subscriptions, const struct subject_figures *f)
{
	memset(row, 0, sizeof(*row));
	memcpy(row->pattern, pattern, len);
	row->subscriptions = n_subscriptions;
	row->messages = f->messages;
	row->delivered = f->delivered;
	row->dropped = f->dropped;
	row->refused = f->refused;
}

/* Keeps the rows in order, the one with most messages first; the last one goes when there is no room. */
static void on_subject(const char *pattern, size_t len, size_t n_subscriptions,
	const struct subject_figures *f, void *arg)
{
	struct history_bus *b = arg;
	size_t at = b->n_rows;

	b->n_patterns++;
	if (at == HISTORY_SUBJECTS && f->messages <= b->rows[at - 1].messages)
		return;
	if (at == HISTORY_SUBJECTS)
		at--;
	else
		b->n_rows++;
	for (; at > 0 && b->rows[at - 1].messages < f->messages; at--)
		b->rows[at] = b->rows[at - 1];
	fill_in(&b->rows[at], pattern, len, n_subscriptions, f);
}

/* Who reads beside us takes the version before and after: it is odd while the rows change. */
static void refresh_subjects(struct primary *p, uint64_t now)
{
	struct history_bus *b = &p->history->bus;
	uint64_t version = sb_get(b->version);

	if (b->refreshed_us > 0 && now - b->refreshed_us < REFRESH_US)
		return;
	sb_set(b->version, version + 1);
	atomic_thread_fence(memory_order_seq_cst);
	b->n_rows = b->n_patterns = 0;
	subjects_foreach(relay_subjects(p->relay), on_subject, b);
	b->refreshed_us = now;
	atomic_store_explicit(&b->version, version + 2, memory_order_release);
}

void bus_figures_refresh(struct primary *p)
{
	relay_heartbeat(p->relay, now_us());
	refresh_subjects(p, now_us());
}

/* Somebody looks at the dashboard, or reads the metrics, or did so of late. */
static bool does_anybody_look(const struct primary *p, uint64_t now)
{
	proctab_foreach (p, pr) {
		uint64_t looked_us = sb_get(p->scoreboard.slots[pr->slot].looked_us);

		if (pr->role == ROLE_ADMIN && looked_us > 0 && looked_us <= now &&
			now - looked_us < LOOKED_US)
			return true;
	}
	return false;
}

void bus_figures_heartbeat(struct primary *p)
{
	uint64_t now = now_us();

	if (does_anybody_look(p, now))
		refresh_subjects(p, now);
}

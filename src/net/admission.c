/*
 * Limits of connections over all workers, by client address and in total. Worker only.
 *
 * The figures of other workers are hints that may be a moment old, so a limit may be passed by one or two
 * connections, never by many.
 */
#include "net/admission.h"

#include "net/net.h"
#include "shared/clients.h"
#include "shared/scoreboard.h"

static uint64_t count_total(const struct admission *a)
{
	const struct scoreboard *sb = a->scoreboard;
	size_t n_used = sb_get(*sb->n_used);
	uint64_t sum = 0;

	for (size_t i = 0; i < n_used && i < sb->n_slots; i++) {
		uint64_t n = sb_get(sb->slots[i].connections);

		sum += n <= a->max_worker ? n : 0;
	}
	return sum;
}

/*
 * Counts a connection whose peer is known now, itself counted in the total already. Returns false when it is one too
 * many.
 */
bool admission_enter(struct connection *c)
{
	const struct admission *a = &c->server->admission;
	uint64_t key;

	if (a->max_total > 0 && count_total(a) > a->max_total)
		return false;
	if (a->max_per_client == 0)
		return true;
	key = clients_key(a->clients, &c->peer);
	if (clients_count(a->clients, key, sb_get(*a->scoreboard->n_used)) >= a->max_per_client)
		return false;
	if (clients_add(a->clients, a->slot, key))
		c->client_key = key;
	return true;
}

void admission_leave(struct connection *c)
{
	const struct admission *a = &c->server->admission;

	if (c->client_key != 0)
		clients_remove(a->clients, a->slot, c->client_key);
	c->client_key = 0;
}

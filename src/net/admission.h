/* Whether there is room for one more client: limits over all workers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct clients;
struct connection;
struct scoreboard;

/* All zero: there are none. */
struct admission {
	const struct scoreboard *scoreboard;
	struct clients *clients; /* of max_per_client */
	unsigned slot;           /* our own */
	uint64_t max_per_client; /* connections of one address; 0: no limit */
	uint64_t max_total;      /* connections; 0: no limit */
	uint64_t max_worker; /* that one worker may have; who says it has more is not believed */
};

bool admission_enter(struct connection *c);
void admission_leave(struct connection *c);

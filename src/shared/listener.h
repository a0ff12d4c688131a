/*
 * The sockets of one [listener:NAME], as the primary opened them and its children inherit them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "shared/config.h"

/* accept = shared: every worker takes from each of them; reuseport: one for each worker's index. */
struct socket_set {
	int *fds;
	size_t n_fds;
};

struct listener {
	const struct conf_listener *conf; /* of the generation that holds it */
	const struct socket_set *sockets;
};

/*
 * Event loops. Each process makes its own, after the fork.
 */
#include "base/loop.h"

#include <errno.h>
#include <event2/event.h>

/* Without locks: a loop belongs to one thread. Returns 0 or -ENOMEM. */
int loop_new(struct event_base **ret)
{
	struct event_config *cfg = event_config_new();

	if (!cfg)
		return -ENOMEM;
	event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
	*ret = event_base_new_with_config(cfg);
	event_config_free(cfg);
	return *ret ? 0 : -ENOMEM;
}

/* A module that takes its time to start, or refuses to. */
#include <time.h>

#include <tine/module.h>

static const struct tine_option options[] = {
	{.name = "delay",
		.type = TINE_OPTION_DURATION,
		.def = "1ms",
		.min = "1ms",
		.max = "1h",
		.doc = "How long worker_start takes."},
	{.name = "fail", .doc = "Not empty: worker_start fails and says this."},
	{.name = NULL},
};

static int start(struct tine_worker *worker, void **ret_state)
{
	const struct tine_config *config = tine_worker_config(worker);
	const char *fail = tine_config_string(config, "fail");
	int64_t us = tine_config_number(config, "delay");
	struct timespec delay = {us / 1000000, us % 1000000 * 1000};

	nanosleep(&delay, NULL);
	return *fail ? tine_worker_error(worker, "%s", fail) : 0;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "slow",
	.options = options,
	.worker_start = start,
};

/*
 * work_uv FLIGHT SECONDS - what libuv's thread pool does of what work_module.c asks of tined's: FLIGHT empty tasks at a time, each
 * submitted anew from its callback, in requests that are there from the beginning. Prints "TASKS SECONDS". UV_THREADPOOL_SIZE says how
 * many threads there are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define CHECK_EVERY 64 /* tasks between two looks at the clock */

static unsigned long n_done;
static uint64_t end;
static int over;

static void run_nothing(uv_work_t *work)
{
	(void)work;
}

static void on_done(uv_work_t *work, int status)
{
	(void)status;
	n_done++;
	if (!over && n_done % CHECK_EVERY == 0 && uv_hrtime() >= end)
		over = 1;
	if (!over && uv_queue_work(uv_default_loop(), work, run_nothing, on_done) < 0)
		abort();
}

int main(int argc, char **argv)
{
	unsigned long n = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
	uint64_t begun = uv_hrtime();
	uv_work_t *works = calloc(n + 1, sizeof(*works));

	if (n == 0 || !works) {
		fprintf(stderr, "usage: work_uv FLIGHT SECONDS\n");
		return 1;
	}
	end = begun + strtoul(argv[2], NULL, 10) * 1000000000;
	for (unsigned long i = 0; i < n; i++) {
		if (uv_queue_work(uv_default_loop(), &works[i], run_nothing, on_done) < 0)
			abort();
	}
	uv_run(uv_default_loop(), UV_RUN_DEFAULT);
	printf("%lu %.6f\n", n_done, (double)(uv_hrtime() - begun) / 1e9);
	free(works);
	return 0;
}

/*
 * Handlers that hang or crash in functions whose names the log has to tell; all of them static, which no dynamic symbol table
 * lists. Where they stop is a function of its own, called from another: `stuck_in_…` or `dies_by_…`.
 */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <tine/http.h>

#define OWN __attribute__((noinline, noclone)) /* a frame of its own */

static const struct tine_option options[] = {
	{.name = "start", .def = "", .doc = "`hang`: worker_start never returns."},
	{.name = "scribble", .def = "", .doc = "What /scribble puts in place of the backtrace."},
	{.name = NULL},
};

static volatile unsigned long turns; /* keeps the compiler from ending a loop, or a call, early */

OWN static void stuck_in_loop(void)
{
	while (1)
		turns++;
}

OWN static void stuck_in_sleep(void)
{
	struct timespec left = {60, 0};

	while (nanosleep(&left, &left) < 0)
		;
	turns++;
}

OWN static void stuck_in_start(void)
{
	while (1)
		pause();
}

OWN static void dies_by_null(void)
{
	volatile int *volatile nothing = NULL;

	*nothing = 1;
	turns++;
}

OWN static void dies_by_abort(void)
{
	abort();
}

OWN static int dies_by_overflow(int depth)
{
	volatile char space[4096];

	space[0] = (char)depth;
	if (turns == ULONG_MAX) /* never; or the compiler would see that it does not end */
		return 0;
	return dies_by_overflow(depth + 1) + space[0];
}

static void *dies_in_thread(void *arg)
{
	dies_by_null();
	return arg;
}

static void on_loop(struct tine_request *request, void *arg)
{
	stuck_in_loop();
}

static void on_sleep(struct tine_request *request, void *arg)
{
	stuck_in_sleep();
	turns++;
}

static void on_null(struct tine_request *request, void *arg)
{
	dies_by_null();
	turns++;
}

static void on_abort(struct tine_request *request, void *arg)
{
	dies_by_abort();
}

static void on_overflow(struct tine_request *request, void *arg)
{
	turns = (unsigned long)dies_by_overflow(1);
}

static void on_thread(struct tine_request *request, void *arg)
{
	pthread_t thread;

	pthread_create(&thread, NULL, dies_in_thread, NULL);
	pthread_join(thread, NULL);
}

static void on_call_nowhere(struct tine_request *request, void *arg)
{
	void (*volatile nowhere)(void) = (void (*)(void))(uintptr_t)0x10;

	nowhere();
	turns++;
}

/* --- a liar --- */

/* Our entry of the shared memory, in which a backtrace has just been written: its length, and text in whole lines. */
static uint32_t *entry_in(char *at, char *end)
{
	for (; at + 4096 <= end; at += 4) {
		uint32_t len;

		memcpy(&len, at, sizeof(len));
		if (len > 8 && len <= 4000 && at[4] == '/' && at[4 + len - 1] == '\n' &&
			memmem(at + 4, len, "+0x", 3))
			return (uint32_t *)(void *)at;
	}
	return NULL;
}

static uint32_t *find_entry(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], mode[8];
	unsigned long from, to;
	uint32_t *found = NULL;

	while (maps && !found && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3 && !strcmp(mode, "rw-s"))
			found = entry_in((char *)from, (char *)to);
	}
	if (maps)
		fclose(maps);
	return found;
}

static void on_scribble(struct tine_request *request, void *arg)
{
	const char *what = arg;
	uint32_t *entry;

	raise(SIGRTMIN + 6); /* the request for a backtrace, which is how we find our entry */
	entry = find_entry();
	if (!entry) {
		tine_respond(request, 500, "text/plain", "no entry", 8);
		return;
	}
	*entry = UINT32_MAX;
	for (size_t i = 0; i < 4000; i++)
		((char *)(entry + 1))[i] = what[i % strlen(what)];
	kill(getpid(), SIGKILL);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	static const struct {
		const char *path;
		tine_http_fn fn;
	} routes[] = {{"/loop", on_loop}, {"/sleep", on_sleep}, {"/null", on_null},
		{"/abort", on_abort}, {"/overflow", on_overflow}, {"/thread", on_thread},
		{"/nowhere", on_call_nowhere}, {"/scribble", on_scribble}};
	static const char *const lies[] = {
		"/etc/passwd+0x10\n", "/dev/zero+0x1\n", "++++\n\n+0x\n", "\033[31m\xff\r", "+"};
	const struct tine_config *config = tine_worker_config(worker);
	void *arg = (void *)lies[strtoul(tine_config_string(config, "scribble"), NULL, 10) % 5];

	if (strcmp(tine_config_string(config, "start"), "hang") == 0)
		stuck_in_start();
	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++) {
		int r = tine_http_route(worker, TINE_GET, routes[i].path, routes[i].fn, arg);

		if (r < 0)
			return tine_worker_error(worker, "%s: %s", routes[i].path, strerror(-r));
	}
	return 0;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "hangs",
	.options = options,
	.worker_start = start,
};

/*
 * Uses the functions of the headers as they are not meant to be used, or where they are at their limits. Each path below the mount point
 * is one such use; its answer is what became of it, a word each.
 */
#include <stdarg.h>
#include <stdio.h>

#include <tine/bus.h>

#include "../module.h"

static struct tine_worker *worker;

/* --- what is said, in the answer to the request that is under way --- */

static struct tine_request *asked;
static char said[4096];

static void say(const char *fmt, ...)
{
	size_t n = strlen(said);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(said + n, sizeof(said) - n, fmt, ap);
	va_end(ap);
}

static void finish(void)
{
	answer(asked, said);
	asked = NULL;
}

static void begin(struct tine_request *request)
{
	asked = request;
	said[0] = '\0';
}

/* --- bus --- */

/* There is no room for more, and something that will never have any. */
static void on_too_large(struct tine_request *request, void *arg)
{
	static const char data[1024];
	const int fd = 0;
	struct tine_send s = {.size = sizeof(s), .to = TINE_PEER_ALL, .data = data};
	int r;

	begin(request);
	do {
		r = tine_bus_send(worker, TINE_PEER_ALL, data, sizeof(data));
	} while (r == 0);
	say("%s", status_name(r));
	s.len = (size_t)1 << 40;
	say(" %s", status_name(tine_bus_post(worker, &s)));
	s.len = 65537;
	s.fd = &fd;
	say(" %s", status_name(tine_bus_post(worker, &s)));
	finish();
}

/* --- the module --- */

static const struct handler handlers[] = {{"/too-large", on_too_large}, {NULL, NULL}};

static int start(struct tine_worker *w, void **ret_state)
{
	const struct tine_bus_service service = {.size = sizeof(service)};

	worker = w;
	if (tine_bus_open(w, &service) < 0)
		return tine_worker_error(w, "no bus");
	return add_handlers(w, handlers);
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "misuse",
	.worker_start = start};

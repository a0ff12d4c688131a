/*
 * ratelimit: so many requests per client, whichever worker they come to, for everything on its listener; with counters that all
 * workers share.
 *
 *	cc -shared -fPIC -Iinclude -o examples/ratelimit/ratelimit.so examples/ratelimit/ratelimit.c
 *	build/tined -c examples/ratelimit/ratelimit.ini
 *
 *	for i in 1 2 3 4 5 6 7; do curl -i http://127.0.0.1:8080/hello; done
 *	curl http://127.0.0.1:8080/
 *
 * What was counted outlives workers that crash and reloads; a reload with other numbers in ratelimit.ini goes on from there.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tine/http.h>
#include <tine/shared.h>

static const struct tine_option options[] = {
	{.name = "requests",
		.type = TINE_OPTION_INT,
		.def = "100",
		.min = "1",
		.max = "1000000",
		.doc = "Requests that a client may make in each period."},
	{.name = "period",
		.type = TINE_OPTION_DURATION,
		.def = "1m",
		.min = "1s",
		.max = "366d",
		.doc = "The time that is meant."},
	{.name = "burst",
		.type = TINE_OPTION_INT,
		.def = "20",
		.min = "1",
		.max = "1000000",
		.doc = "How many of them may come at once."},
	{.name = "clients",
		.type = TINE_OPTION_INT,
		.def = "10000",
		.min = "1",
		.max = "16000000",
		.doc = "Clients that are told apart at the same time."},
	{.name = NULL},
};

struct state {
	struct tine_limit *limit;
	struct tine_counter *served, *refused;
};

/* What a client is counted under: of an IPv6 address its network, for everybody has very many addresses in it. */
static size_t make_key(struct tine_text client, unsigned char key[64])
{
	char text[INET6_ADDRSTRLEN];
	size_t len = client.len < 64 ? client.len : 64;

	if (len < sizeof(text)) {
		memcpy(text, client.data, len);
		text[len] = '\0';
		if (inet_pton(AF_INET6, text, key) == 1)
			return 8;
	}
	memcpy(key, client.data, len);
	return len;
}

static void add_number(struct tine_request *request, const char *name, uint64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	tine_respond_header(request, name, text);
}

/* Before every handler. It asks the table in shared memory: no lock, no other process. */
static int check(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	struct tine_limit_answer answer;
	unsigned char key[64];
	size_t len = make_key(tine_request_client(request), key);

	if (tine_limit_take(s->limit, key, len, 1, &answer) == 0) {
		add_number(request, "X-RateLimit-Remaining", answer.left);
		tine_counter_add(s->served, 1);
		return TINE_NEXT;
	}
	tine_counter_add(s->refused, 1);
	add_number(request, "Retry-After", (answer.retry_us + 999999) / 1000000);
	tine_respond_status(request, 429);
	return TINE_TAKEN;
}

static void on_index(struct tine_request *request, void *arg)
{
	const struct state *s = arg;
	char text[128];
	int len = snprintf(text, sizeof(text),
		"%" PRId64 " requests served, %" PRId64 " refused, by all workers\n",
		tine_counter_get(s->served), tine_counter_get(s->refused));

	tine_respond(request, 200, "text/plain", text, (size_t)len);
}

/* The bounds of tine_shared_limit() for these two together. */
static int configure(const struct tine_config *config)
{
	if (tine_config_number(config, "requests") > tine_config_number(config, "period"))
		return tine_config_error(config, "requests", "more than one every microsecond");
	return 0;
}

static int find(struct tine_worker *worker, struct state *s)
{
	const struct tine_config *config = tine_worker_config(worker);
	struct tine_limit_options o = {
		.size = sizeof(o),
		.kind = TINE_LIMIT_BUCKET,
		.amount = (uint64_t)tine_config_number(config, "requests"),
		.period_us = (uint64_t)tine_config_number(config, "period"),
		.burst = (uint64_t)tine_config_number(config, "burst"),
		.keys = (uint64_t)tine_config_number(config, "clients"),
	};
	int r = tine_shared_limit(worker, "ratelimit:clients", &o, &s->limit);

	if (r == 0)
		r = tine_shared_counter(worker, "ratelimit:served", &s->served);
	if (r == 0)
		r = tine_shared_counter(worker, "ratelimit:refused", &s->refused);
	return r;
}

static int start(struct tine_worker *worker, void **ret_state)
{
	struct state *s = calloc(1, sizeof(*s));
	int r = s ? find(worker, s) : -ENOMEM; /* it says itself what is wrong */

	if (r == 0)
		r = tine_http_use(worker, "/", check, s);
	if (r == 0)
		r = tine_http_route(worker, TINE_GET, "/", on_index, s);
	if (r < 0)
		free(s);
	else
		*ret_state = s;
	return r;
}

static void stop(void *state)
{
	free(state);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "ratelimit",
	.options = options,
	.configure = configure,
	.worker_start = start,
	.worker_stop = stop,
};

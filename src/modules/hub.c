/*
 * builtin:hub: publish with POST /SUBJECT, subscribe with GET /SUBJECT as server-sent events or over WebSocket.
 *
 * The messages are in a ring in shared memory (hub/ring.c), which all workers read and any of them adds to; the bus only
 * rings a bell (hub/bell.c). So the order is the same for everybody, and a worker that dies takes nothing with it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "modules/builtin.h"
#include "modules/hub/hub.h"

#define NAME_MAX_LEN 32
#define LAST_ID_MAX  64

static const struct tine_option hub_options[] = {
	{.name = "name",
		.type = TINE_OPTION_STRING,
		.def = "hub",
		.doc = "Hubs of the same name are one, whatever listener they serve."},
	{.name = "history",
		.type = TINE_OPTION_SIZE,
		.def = "1M",
		.min = "64K",
		.max = "1G",
		.doc = "Memory for the latest messages, for those who come back; of [workers] "
		       "shared_memory. Another size begins with none."},
	{.name = "max_message",
		.type = TINE_OPTION_SIZE,
		.def = "16K",
		.min = "1",
		.max = "128K",
		.doc = "Longest message, at most an eighth of `history`."},
	{.name = "subscribers",
		.type = TINE_OPTION_INT,
		.def = "0",
		.doc = "Subscriptions in all workers; 0: no limit but that of connections."},
	{.name = "subscribers_per_client",
		.type = TINE_OPTION_INT,
		.def = "0",
		.doc = "How many from one address in each worker; 0: no limit."},
	{.name = "subjects",
		.type = TINE_OPTION_INT,
		.def = "10000",
		.doc = "Different subjects that are subscribed to in each worker; 0: no limit."},
	{.name = "client_rate",
		.type = TINE_OPTION_INT,
		.def = "100",
		.max = "1000000",
		.doc = "Messages a second from one address, over all workers; 0: no limit."},
	{.name = "subject_rate",
		.type = TINE_OPTION_INT,
		.def = "0",
		.max = "1000000",
		.doc = "Messages a second under one subject, over all workers; 0: no limit."},
	{.name = "secret_file",
		.type = TINE_OPTION_PATH,
		.doc = "File with the secrets that tokens are signed with, one a line; empty: "
		       "there are no tokens."},
	{.name = "anonymous",
		.type = TINE_OPTION_STRING,
		.doc = "What needs no token: none, subscribe, publish, both; empty: none, or both "
		       "when there is no secret_file."},
	{.name = "origins",
		.type = TINE_OPTION_STRING,
		.doc = "Sites whose pages may use it besides its own host's, such as "
		       "https://www.example.org, with commas; *: all."},
	{.name = NULL},
};

/* --- configuration --- */

static int find_anonymous(const struct tine_config *config, bool has_secrets, unsigned *ret)
{
	static const struct {
		const char *text;
		unsigned rights;
	} rows[] = {
		{"none", 0},
		{"subscribe", TOKEN_SUBSCRIBE},
		{"publish", TOKEN_PUBLISH},
		{"both", TOKEN_SUBSCRIBE | TOKEN_PUBLISH},
	};
	const char *text = tine_config_string(config, "anonymous");

	if (!*text)
		text = has_secrets ? "none" : "both";
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].text, text) != 0)
			continue;
		*ret = rows[i].rights;
		if (rows[i].rights != rows[3].rights && !has_secrets)
			return tine_config_error(config, "anonymous",
				"without a secret_file nobody has a token: \"both\", or empty");
		return 0;
	}
	return tine_config_error(config, "anonymous", "none, subscribe, publish or both");
}

static int read_secrets(const struct tine_config *config, struct hub_options *o)
{
	const char *path = tine_config_string(config, "secret_file");
	int r;

	o->has_secrets = *path;
	if (!*path)
		return 0;
	r = token_read_secrets(path, &o->secrets);
	if (r == -EINVAL)
		return tine_config_error(config, "secret_file",
			"%s: no secret of %d to %d bytes a line", path, TOKEN_SECRET_MIN,
			TOKEN_SECRET_MAX);
	if (r == -ENOSPC || r == -EFBIG)
		return tine_config_error(
			config, "secret_file", "%s: more than %d secrets", path, TOKEN_SECRETS);
	if (r < 0)
		return tine_config_error(config, "secret_file", "%s: %s", path, strerror(-r));
	return 0;
}

static int check_name(const struct tine_config *config, const char *name)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t len = strlen(name);

	if (len == 0 || len > NAME_MAX_LEN || strspn(name, allowed) != len)
		return tine_config_error(
			config, "name", "1 to %d letters, digits, - or _", NAME_MAX_LEN);
	return 0;
}

static int check_origins(const struct tine_config *config, const char *origins)
{
	struct tine_text bad;

	if (!access_find_bad_origin(origins, &bad))
		return 0;
	return tine_config_error(config, "origins",
		"\"%.*s\" is no origin: write https://HOST or https://HOST:PORT, with commas, or *",
		(int)bad.len, bad.data);
}

static int read_options(const struct tine_config *config, struct hub_options *o)
{
	const char *origins = tine_config_string(config, "origins");
	int r;

	*o = (struct hub_options){.name = tine_config_string(config, "name"),
		.origins = *origins ? origins : NULL,
		.max_message = (size_t)tine_config_number(config, "max_message"),
		.max_subscribers = (uint64_t)tine_config_number(config, "subscribers"),
		.max_per_client = (uint64_t)tine_config_number(config, "subscribers_per_client"),
		.max_subjects = (uint64_t)tine_config_number(config, "subjects")};
	if (o->max_message > (uint64_t)tine_config_number(config, "history") / 8)
		return tine_config_error(config, "max_message", "more than an eighth of `history`");
	r = check_name(config, o->name);
	if (r == 0)
		r = check_origins(config, origins);
	if (r == 0)
		r = read_secrets(config, o);
	if (r == 0)
		r = find_anonymous(config, o->has_secrets, &o->anonymous);
	return r;
}

static int hub_configure(const struct tine_config *config)
{
	struct hub_options o;

	return read_options(config, &o);
}

/* --- answers --- */

static void answer_text(struct tine_request *request, int status, const char *text)
{
	char line[128];
	int len = snprintf(line, sizeof(line), "%s\n", text);

	tine_respond(request, status, "text/plain", line, (size_t)len);
}

static void retry_after(struct tine_request *request, uint64_t us)
{
	char seconds[24];

	snprintf(seconds, sizeof(seconds), "%" PRIu64, us / 1000000 + 1);
	tine_respond_header(request, "Retry-After", seconds);
}

static void answer_json(struct tine_request *request, struct text *t)
{
	tine_respond_header(request, "Cache-Control", "no-store");
	if (t->failed)
		tine_respond_status(request, 503);
	else
		tine_respond(request, 200, "application/json", t->data, t->len);
	text_free(t);
}

/* --- POST --- */

/* What is compressed would be published as it is. Returns false when it has been answered. */
static bool check_coding(struct tine_request *request)
{
	struct tine_text coding = tine_request_header(request, "content-encoding");

	if (!coding.data || (coding.len == 8 && strncasecmp(coding.data, "identity", 8) == 0))
		return true;
	tine_respond_header(request, "Accept-Encoding", "identity");
	answer_text(request, 415,
		"a message without Content-Encoding, please: it is published as it comes");
	return false;
}

static void publish(struct hub *h, struct tine_request *request, const struct topic *topic)
{
	struct publish_answer answer;
	unsigned char key[HUB_KEY_MAX];
	struct text t = {0};
	struct grant grant;
	char id[RING_ID_MAX];
	size_t len;
	int r;

	if (topic->is_pattern)
		return answer_text(request, 400, "only one subject can be published under");
	if (access_check(h, request, TOKEN_PUBLISH, topic_text(topic), &grant) < 0 ||
		!check_coding(request))
		return;
	len = access_client_key(tine_request_client(request), key);
	r = hub_publish(h, topic, tine_request_body(request), key, len, &answer);
	if (r > 0) {
		if (publish_failures[r].status == 429 || r == PUBLISH_BUSY)
			retry_after(request, answer.retry_us);
		return answer_text(request, publish_failures[r].status, publish_failures[r].text);
	}
	ring_write_id(answer.id, id);
	text_print(&t, "{\"id\":\"%s\"}\n", id);
	answer_json(request, &t);
}

/* --- GET --- */

static void answer_presence(
	struct hub *h, struct tine_request *request, struct tine_text topic, uint64_t n)
{
	struct text t = {0};
	char id[RING_ID_MAX];

	text_put(&t, "{\"subject\":", 11);
	text_put_json(&t, topic);
	ring_write_id(ring_last_id(&h->ring), id);
	text_print(&t, ",\"subscribers\":%" PRIu64 ",\"last_id\":\"%s\"}\n", n, id);
	answer_json(request, &t);
}

static void answer_overview(struct hub *h, struct tine_request *request)
{
	struct text t = {0};
	char id[RING_ID_MAX];

	ring_write_id(ring_last_id(&h->ring), id);
	text_print(&t,
		"{\"name\":\"%s\",\"subscribers\":%" PRId64
		",\"last_id\":\"%s\",\"history_bytes\":%" PRIu64,
		h->o.name, tine_gauge_get(h->subscribers), id,
		ring_head(&h->ring) - ring_tail(&h->ring));
	text_print(&t, ",\"published\":%" PRId64 ",\"refused\":%" PRId64,
		tine_counter_get(h->n_published), tine_counter_get(h->n_refused));
	text_print(&t, ",\"delivered\":%" PRId64 ",\"cut_off\":%" PRId64 "}\n",
		tine_counter_get(h->n_delivered), tine_counter_get(h->n_slow));
	answer_json(request, &t);
}

static void count(struct hub *h, struct tine_request *request, struct tine_text topic)
{
	if (bell_count(h, request, topic, answer_presence) < 0) {
		retry_after(request, 0);
		tine_respond_status(request, 503);
	}
}

/* Where to go on: the browser says it itself, whoever begins by hand says it in the query. */
static struct tine_text find_last_id(struct tine_request *request, char to[LAST_ID_MAX])
{
	struct tine_text id = tine_request_header(request, "last-event-id");
	size_t len;

	if (id.data ||
		!text_query(tine_request_query(request), "last_event_id", to, LAST_ID_MAX, &len))
		return id;
	return (struct tine_text){to, len == SIZE_MAX ? 0 : len};
}

/* *ret: what it is unless the query says something else. Returns false when that is neither of the two there are. */
static bool find_format(struct tine_request *request, bool *ret)
{
	char format[4];
	size_t len;

	if (!text_query(tine_request_query(request), "format", format, sizeof(format), &len))
		return true;
	*ret = len == 4 && memcmp(format, "json", 4) == 0;
	return *ret || (len == 4 && memcmp(format, "text", 4) == 0);
}

static void subscribe(
	struct hub *h, struct tine_request *request, const struct topic *topic, bool upgrade)
{
	/* of a pattern one wants to know which subject a message is of */
	struct subscription_request q = {.topic = topic, .json = upgrade || topic->is_pattern};
	struct tine_text why;
	struct grant grant;
	char last_id[LAST_ID_MAX];
	int r;

	if (access_check(h, request, TOKEN_SUBSCRIBE, topic_text(topic), &grant) < 0)
		return;
	if (!find_format(request, &q.json))
		return answer_text(request, 400, "no such format: there are text and json");
	q.key_len = access_client_key(tine_request_client(request), q.key);
	if (!subscribers_have_room(h, &q, &why)) {
		retry_after(request, 5000000);
		tine_respond(request, 429, "text/plain", why.data, why.len);
		return;
	}
	q.last_id = find_last_id(request, last_id);
	q.may_publish = grant.may_publish;
	q.expires_s = grant.expires_s;
	subscribers_look(h);
	r = upgrade ? subscribers_add_websocket(h, request, &q)
		    : subscribers_add_events(h, request, &q);
	if (r < 0)
		tine_respond_status(request, 503);
}

static void on_get(struct hub *h, struct tine_request *request, const struct topic *topic)
{
	struct grant grant;

	if (text_has_token(tine_request_header(request, "upgrade"), "websocket"))
		return subscribe(h, request, topic, true);
	if (!access_check_origin(h, request))
		return;
	if (text_has_token(tine_request_header(request, "accept"), "text/event-stream"))
		return subscribe(h, request, topic, false);
	if (access_check(h, request, TOKEN_SUBSCRIBE, topic_text(topic), &grant) == 0)
		count(h, request, topic_text(topic));
}

/* The subject that the path is. Returns false when it is none, and has been answered. */
static bool find_topic(struct tine_request *request, struct topic *ret)
{
	struct tine_text sent = tine_request_raw_path(request);
	const char *fault = NULL;
	char text[128];

	/* which the path that is routed by has not any more */
	if (memmem(sent.data, sent.len, "//", 2))
		fault = topic_fault((struct tine_text){"", 0});
	if (!fault && topic_from_path(tine_request_subpath(request), ret, &fault) == 0)
		return true;
	snprintf(text, sizeof(text), "not a subject: %s", fault);
	answer_text(request, 400, text);
	return false;
}

static void on_request(struct tine_request *request, void *arg)
{
	static const struct tine_text all = {">", 1};
	bool is_post = tine_request_method(request) == TINE_POST;
	struct hub *h = arg;
	struct topic topic;
	struct grant grant;

	if (tine_request_method(request) == TINE_OPTIONS)
		return access_answer_preflight(h, request);
	hub_take_ring(h);
	if (tine_request_subpath(request).len == 1 && !is_post) {
		if (access_check_origin(h, request) &&
			access_check(h, request, TOKEN_SUBSCRIBE, all, &grant) == 0)
			answer_overview(h, request);
	} else if (!find_topic(request, &topic)) {
		return;
	} else if (!is_post) {
		on_get(h, request, &topic);
	} else if (access_check_origin(h, request)) {
		publish(h, request, &topic);
	}
}

/* --- starting and stopping --- */

static int open_ring(struct hub *h, uint64_t size)
{
	struct tine_shared *area;
	char name[64];
	int r;

	snprintf(name, sizeof(name), "hub/%s/ring", h->o.name);
	r = tine_shared_area(h->worker, name, sizeof(struct hub_common), &h->common);
	if (r < 0)
		return r;
	/* A binary with another layout, to which this one is upgraded, has memory of its own. */
	snprintf(name, sizeof(name), "hub/%s/ring.%d/%" PRIu64, h->o.name, RING_LAYOUT, size);
	r = tine_shared_area(h->worker, name, (size_t)size, &area);
	if (r < 0)
		return r;
	r = tine_shared_lock(h->common, 1000000);
	if (r < 0)
		return tine_worker_error(
			h->worker, "hub %s: its memory is locked: %s", h->o.name, strerror(-r));
	r = ring_open(&h->ring, tine_shared_data(area), tine_shared_size(area), hub_new_epoch());
	tine_shared_unlock(h->common);
	h->cursor = ring_head(&h->ring);
	return r;
}

static int open_limit(struct hub *h, const char *option, struct tine_limit **ret)
{
	int64_t rate = tine_config_number(tine_worker_config(h->worker), option);
	struct tine_limit_options o = {.size = sizeof(o),
		.kind = TINE_LIMIT_BUCKET,
		.amount = (uint64_t)rate,
		.period_us = 1000000,
		.keys = 10000};
	char name[64];

	if (rate == 0)
		return 0;
	snprintf(name, sizeof(name), "hub/%s/%s", h->o.name, option);
	return tine_shared_limit(h->worker, name, &o, ret);
}

static int open_counters(struct hub *h)
{
	const struct {
		const char *name;
		struct tine_counter **counter;
	} rows[] = {
		{"published", &h->n_published},
		{"delivered", &h->n_delivered},
		{"cut_off", &h->n_slow},
		{"refused", &h->n_refused},
	};
	char name[64];
	int r = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && r == 0; i++) {
		snprintf(name, sizeof(name), "hub/%s/%s", h->o.name, rows[i].name);
		r = tine_shared_counter(h->worker, name, rows[i].counter);
	}
	snprintf(name, sizeof(name), "hub/%s/subscribers", h->o.name);
	return r < 0 ? r : tine_shared_gauge(h->worker, name, &h->subscribers);
}

static int open_all(struct hub *h)
{
	const struct tine_config *config = tine_worker_config(h->worker);
	int r = read_options(config, &h->o);

	if (r == 0)
		r = open_ring(h, (uint64_t)tine_config_number(config, "history"));
	if (r == 0)
		r = open_limit(h, "client_rate", &h->client_rate);
	if (r == 0)
		r = open_limit(h, "subject_rate", &h->subject_rate);
	if (r == 0)
		r = open_counters(h);
	if (r == 0)
		r = bell_start(h);
	return r;
}

static void hub_free(struct hub *h)
{
	bell_stop(h);
	subscribers_free(h);
	ring_close(&h->ring);
	free(h);
}

static int hub_start(struct tine_worker *worker, void **ret_state)
{
	struct tine_route route = {.size = sizeof(route),
		.path = "/",
		.methods = TINE_GET | TINE_POST | TINE_OPTIONS,
		.fn = on_request};
	struct hub *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return tine_worker_error(worker, "out of memory");
	h->worker = worker;
	LIST_INIT(&h->patterns);
	TAILQ_INIT(&h->reading);
	TAILQ_INIT(&h->blocked);
	TAILQ_INIT(&h->ahead);
	r = open_all(h);
	route.arg = h;
	route.max_body = h->o.max_message;
	if (r == 0 && tine_http_route_with(worker, &route) < 0)
		r = tine_worker_error(worker, "the mount point is taken");
	if (r < 0) {
		hub_free(h);
		return r;
	}
	*ret_state = h;
	return 0;
}

static void hub_drain(void *state)
{
	struct hub *h = state;

	h->leaving = true;
}

static void hub_stop(void *state)
{
	hub_free(state);
}

const struct tine_module tine_module_hub = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "hub",
	.options = hub_options,
	.configure = hub_configure,
	.worker_start = hub_start,
	.worker_drain = hub_drain,
	.worker_stop = hub_stop,
};

/*
 * What the hubs of different workers tell each other over the bus: that there is something new in the ring, and how many
 * subscribers they have. Worker only.
 *
 * The bell carries nothing: who hears it reads the ring. So bells may be lost, merged or late without harm as long as one
 * comes after the last message; when a worker dies between its message and its bell, the news of its end serves for one.
 */
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "modules/hub/hub.h"

#define COUNTS_MAX 64      /* at a time */
#define COUNT_US   1000000 /* who has not answered by then is not counted */
#define PEERS_MAX  1024

/* Of this process: the same hub may serve several listeners. */
static LIST_HEAD(, hub) hubs = LIST_HEAD_INITIALIZER(hubs);

static struct hub *next_of_name(struct hub *h, const char *name)
{
	while (h && strcmp(h->o.name, name) != 0)
		h = LIST_NEXT(h, link);
	return h;
}

/* --- the bell --- */

static void on_bell(struct tine_message *message, void *arg)
{
	subscribers_deliver(arg);
}

static void tell_others(struct hub *h)
{
	struct tine_send s = {
		.size = sizeof(s), .to = TINE_PEER_OTHERS, .subject = h->bell_subject};
	int r = tine_bus_post(h->worker, &s);

	h->bell_due = r == TINE_E_FULL || r == -ENOMEM;
}

/* All that was published in this turn is told at once. */
static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct hub *h = arg, *each = LIST_FIRST(&hubs);

	if (h->bell_due)
		tell_others(h);
	while ((each = next_of_name(each, h->o.name))) {
		subscribers_deliver(each);
		each = LIST_NEXT(each, link);
	}
}

/* There is something new in the ring. */
void bell_ring(struct hub *h)
{
	h->bell_due = true;
	event_active(h->turn, 0, 0);
}

/* There is more to be delivered than was done in this turn. */
void bell_continue(struct hub *h)
{
	event_active(h->turn, 0, 0);
}

static void on_writable(void *arg)
{
	struct hub *h = arg;

	if (h->bell_due)
		tell_others(h);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct hub *h = arg;

	if (h->bell_due)
		tell_others(h);
	subscribers_tick(h);
}

/* While there are subscribers they are looked after once a second. */
void bell_need_tick(struct hub *h, bool need)
{
	const struct timeval second = {.tv_sec = 1};

	if (need)
		event_add(h->tick, &second);
	else
		event_del(h->tick);
}

/* --- presence --- */

/* In this worker. */
static uint64_t count_own(const char *name, struct tine_text topic)
{
	struct hub *h = LIST_FIRST(&hubs);
	uint64_t n = 0;

	while ((h = next_of_name(h, name))) {
		n += subscribers_count(h, topic);
		h = LIST_NEXT(h, link);
	}
	return n;
}

struct count {
	struct hub *hub;
	struct tine_request *request;
	unsigned waiting; /* for so many workers, and for ourselves while we ask */
	uint64_t n;
	void (*on_count)(
		struct hub *h, struct tine_request *request, struct tine_text topic, uint64_t n);
	size_t len;
	char topic[];
};

static void count_done(struct count *c)
{
	if (--c->waiting > 0)
		return;
	c->hub->n_counts--;
	c->on_count(c->hub, c->request, (struct tine_text){c->topic, c->len}, c->n);
	free(c);
}

static void on_count_answer(int status, struct tine_message *answer, void *arg)
{
	struct count *c = arg;
	uint64_t n;

	if (status == 0 && answer->len == sizeof(n)) {
		memcpy(&n, answer->data, sizeof(n));
		c->n += n;
	}
	count_done(c);
}

static void ask_others(struct count *c)
{
	struct tine_worker *w = c->hub->worker;
	struct tine_peer_info peers[PEERS_MAX];
	size_t n = tine_bus_peers(w, peers, PEERS_MAX);

	for (size_t i = 0; i < n && i < PEERS_MAX; i++) {
		struct tine_send s = {.size = sizeof(s),
			.to = peers[i].peer,
			.data = c->topic,
			.len = c->len,
			.on_answer = on_count_answer,
			.timeout_us = COUNT_US,
			.arg = c};

		if (s.to != tine_bus_self(w) && tine_bus_post(w, &s) == 0)
			c->waiting++;
	}
}

/*
 * Asks all workers how many subscribers a topic has, and keeps the request, which on_count is to answer. Returns 0; -EBUSY
 * when very many ask already; -ENOMEM.
 */
int bell_count(struct hub *h, struct tine_request *request, struct tine_text topic,
	void (*on_count)(
		struct hub *h, struct tine_request *request, struct tine_text topic, uint64_t n))
{
	struct count *c;

	if (h->n_counts == COUNTS_MAX)
		return -EBUSY;
	c = malloc(sizeof(*c) + topic.len);
	if (!c || tine_defer(request) < 0) {
		free(c);
		return -ENOMEM;
	}
	*c = (struct count){h, request, 1, count_own(h->o.name, topic), on_count, topic.len};
	memcpy(c->topic, topic.data, topic.len);
	h->n_counts++;
	ask_others(c);
	count_done(c);
	return 0;
}

/* Another worker asks. */
static void on_message(struct tine_message *message, void *arg)
{
	struct hub *h = arg;
	struct topic topic;
	uint64_t n;

	if (!message->request)
		return;
	if (topic_parse((struct tine_text){message->data, message->len}, &topic) < 0) {
		tine_bus_answer(h->worker, message->from, message->request, -EINVAL, NULL, 0);
		return;
	}
	n = count_own(h->o.name, topic_text(&topic));
	tine_bus_answer(h->worker, message->from, message->request, 0, &n, sizeof(n));
}

/* --- */

static int subscribe(struct hub *h, const char *pattern, struct tine_subscription **ret)
{
	struct tine_subscribe s = {.size = sizeof(s),
		.pattern = pattern,
		.policy = TINE_BUS_DROP_OLDEST,
		.on_message = on_bell,
		.arg = h};

	return tine_bus_subscribe(h->worker, &s, ret);
}

/* Returns 0 or a negative errno. */
int bell_start(struct hub *h)
{
	struct tine_bus_service service = {.size = sizeof(service),
		.on_message = on_message,
		.on_writable = on_writable,
		.arg = h};
	struct event_base *base = tine_loop_base(h->worker);
	const struct hub *like = next_of_name(LIST_FIRST(&hubs), h->o.name);
	int r;

	if (like && like->ring.memory != h->ring.memory)
		return tine_worker_error(
			h->worker, "another hub \"%s\" has another `history`", h->o.name);
	LIST_INSERT_HEAD(&hubs, h, link);
	h->is_linked = true;

	h->turn = event_new(base, -1, 0, on_turn, h);
	h->tick = event_new(base, -1, EV_PERSIST, on_tick, h);
	if (!h->turn || !h->tick)
		return -ENOMEM;
	snprintf(h->bell_subject, sizeof(h->bell_subject), "$local.hub.%s", h->o.name);
	r = tine_bus_open(h->worker, &service);
	if (r == 0)
		r = subscribe(h, h->bell_subject, &h->bell);
	if (r == 0)
		r = subscribe(h, "$tine.peer.leave", &h->leaves);
	if (r < 0)
		tine_worker_error(h->worker, "hub %s: the bus: %s", h->o.name, strerror(-r));
	return r;
}

void bell_stop(struct hub *h)
{
	if (h->is_linked)
		LIST_REMOVE(h, link);
	tine_bus_unsubscribe(h->bell);
	tine_bus_unsubscribe(h->leaves);
	if (h->turn)
		event_free(h->turn);
	if (h->tick)
		event_free(h->tick);
}

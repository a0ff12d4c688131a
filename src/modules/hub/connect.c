/* How subscribers come: server-sent events and WebSockets. Worker only, on the loop's thread. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "modules/hub/subscriber.h"

#define RETRY_MS 1000 /* how soon clients come back: from half to one and a half of it */

/* Whether one more may subscribe. If not, says why. */
bool subscribers_have_room(
	struct hub *h, const struct subscription_request *q, struct tine_text *ret_why)
{
	static const char
		all[] = "too many subscribers (subscribers)\n",
		client[] = "too many subscriptions from this address (subscribers_per_client)\n",
		subjects[] = "too many different subjects (subjects)\n";
	const struct client *c = client_find(h, q);

	*ret_why = (struct tine_text){NULL, 0};
	if (h->o.max_subscribers && tine_gauge_get(h->subscribers) >= (int64_t)h->o.max_subscribers)
		*ret_why = (struct tine_text){all, sizeof(all) - 1};
	else if (h->o.max_per_client && c && c->n >= h->o.max_per_client)
		*ret_why = (struct tine_text){client, sizeof(client) - 1};
	else if (h->o.max_subjects && h->n_channels >= h->o.max_subjects &&
		!channel_find(h, topic_text(q->topic)))
		*ret_why = (struct tine_text){subjects, sizeof(subjects) - 1};
	return !ret_why->data;
}

/*
 * Where it begins: behind the message that it had last; at the oldest one for "0"; else, with a gap, as far back as
 * possible. Returns whether there is a gap.
 */
static bool find_cursor(struct hub *h, struct tine_text last_id, uint64_t *ret)
{
	struct ring_record m;
	struct ring_id id;

	*ret = ring_head(&h->ring);
	if (!last_id.data)
		return false;
	if (ring_parse_id(last_id, &id) && id.epoch == h->ring.epoch &&
		ring_read(&h->ring, id.position, &m) != RING_LOST) {
		*ret = id.position;
		return false;
	}
	*ret = ring_tail(&h->ring);
	return last_id.len != 1 || last_id.data[0] != '0';
}

/*
 * It begins with its place: who comes back then has one, whether or not there was a message. Over WebSocket a client that
 * wants to come back asks for it.
 */
static void begin(struct subscriber *s, struct tine_text last_id)
{
	bool has_gap = find_cursor(s->hub, last_id, &s->cursor);

	if (has_gap || s->request)
		subscriber_tell(s, s->cursor, has_gap);
	s->told = s->cursor;
	subscriber_begin(s);
}

/* --- server-sent events --- */

static void on_room(struct tine_request *request, void *arg)
{
	subscriber_go_on(arg);
}

static void on_gone(struct tine_request *request, void *arg)
{
	tine_respond_end(request);
	subscriber_free(arg);
}

/* All of them would come back at the same moment, when a worker ends. */
static unsigned retry_ms(void)
{
	return RETRY_MS / 2 + (unsigned)random() % RETRY_MS;
}

/* Answers with a stream of events. Returns 0, or the error of what has not been answered. */
int subscribers_add_events(
	struct hub *h, struct tine_request *request, const struct subscription_request *q)
{
	struct subscriber *s = subscriber_new(h, q, q->json ? FORMAT_EVENTS_JSON : FORMAT_EVENTS);
	char retry[32];
	int r = s ? tine_sse_start(request) : -ENOMEM;

	if (r < 0) {
		if (s)
			subscriber_free(s);
		return r;
	}
	s->request = request;
	tine_on_gone(request, on_gone, s);
	tine_respond_on_room(request, on_room, s);
	tine_respond_write(
		request, retry, (size_t)snprintf(retry, sizeof(retry), "retry: %u\n", retry_ms()));
	begin(s, q->last_id);
	return 0;
}

/* --- WebSocket --- */

static void on_ws_room(struct tine_websocket *ws, void *arg)
{
	on_room(NULL, arg);
}

static void on_ws_close(
	struct tine_websocket *ws, unsigned code, struct tine_text reason, void *arg)
{
	subscriber_free(arg);
}

/* Says why a message was not published: in JSON; where there is none, by closing. */
static void ws_refuse(struct subscriber *s, int status, const char *why, uint64_t retry_us)
{
	char text[160];
	int len = snprintf(text, sizeof(text),
		"{\"error\":%d,\"text\":\"%s\",\"retry_ms\":%" PRIu64 "}", status, why,
		(retry_us + 999) / 1000);

	if (s->format == FORMAT_JSON)
		tine_websocket_send(s->ws, TINE_WEBSOCKET_TEXT, text, (size_t)len);
	else
		subscriber_end(s, 1008, why);
}

static void on_ws_message(struct tine_websocket *ws, enum tine_websocket_type type,
	const void *data, size_t len, void *arg)
{
	struct subscriber *s = arg;
	struct publish_answer answer;
	int r;

	if (s->state == LEFT)
		return;
	if (!s->may_publish)
		return ws_refuse(s, 403, "no right to publish here", 0);
	r = hub_publish(s->hub, &s->channel->topic, (struct tine_text){data, len}, s->client->key,
		s->client->key_len, &answer);
	if (r > 0)
		ws_refuse(s, publish_failures[r].status, publish_failures[r].text, answer.retry_us);
}

/* Answers with an upgrade, or with what is wrong with the handshake. Returns 0, or the error of what has not been answered. */
int subscribers_add_websocket(
	struct hub *h, struct tine_request *request, const struct subscription_request *q)
{
	struct subscriber *s = subscriber_new(h, q, q->json ? FORMAT_JSON : FORMAT_TEXT);
	struct tine_websocket_options o = {.size = sizeof(o),
		.on_message = on_ws_message,
		.on_room = on_ws_room,
		.on_close = on_ws_close,
		.arg = s,
		.origins = access_is_own_page(request) ? NULL : h->o.origins,
		.max_message = h->o.max_message,
		.no_compression = true}; /* it would be done anew for each subscriber */
	int r = s ? tine_websocket_accept(request, &o, &s->ws) : -ENOMEM;

	if (r < 0) {
		if (s)
			subscriber_free(s);
		return r == -EPROTO ? 0 : r;
	}
	begin(s, q->last_id);
	return 0;
}

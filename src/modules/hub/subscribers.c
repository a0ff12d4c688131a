/*
 * Subscribers: server-sent events and WebSockets. Worker only, on the loop's thread.
 *
 * Those of one pattern and format share a feed: a message is put into its bytes once, and these are written to each. Nobody has a
 * queue: who does not take what he is written leaves his feed and reads the ring for himself, from his own cursor, as fast as
 * he takes it, until he is where the others are; when the ring has lost what he is at, he is cut off, and told of the gap when
 * he comes back. So does whoever comes back, or wants what was before.
 *
 * Always: a subscriber in a feed has been given everything up to the hub's cursor; one in `reading` or `blocked` up to his own, which
 * is not beyond it; one in `ahead` has had more than this worker has read yet. What is done in one turn of the loop is
 * bounded, however much there is to be read.
 */
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define HASH_NONFATAL_OOM 1 /* an element that could not be added has no table */
#include <uthash.h>

#include "modules/hub/hub.h"

#define DELIVER_BYTES (32u << 10) /* of the ring, in one turn */
#define READ_BYTES    (64u << 10) /* the same, by one of those who read for themselves... */
#define READERS       8           /* ...of which so many go on in one turn */
#define BATCH_BYTES   (32u << 10) /* written at once, but for a message that is longer */
#define BATCH_MAX     256         /* messages */
#define RETRY_MS      1000 /* how soon clients come back: from half to one and a half of it */

/* The messages of a turn, in the bytes of a format. */
struct feed {
	struct subscriber_queue subscribers;
	struct text batch;
	uint64_t begins[BATCH_MAX]; /* where each message begins in the ring... */
	size_t ends[BATCH_MAX];     /* ...and ends in the batch */
	unsigned n;
};

struct channel {
	UT_hash_handle hh;
	LIST_ENTRY(channel) link; /* of those with wildcards */
	LIST_ENTRY(channel) due;  /* while it has something in a batch */
	struct feed *feeds[FORMATS];
	uint64_t n_subscribers;
	bool is_due;
	struct topic topic;
};

/* Who is at the other end of some of the subscriptions. */
struct client {
	UT_hash_handle hh;
	uint64_t n;
	size_t key_len;
	unsigned char key[HUB_KEY_MAX];
};

enum subscriber_state { LIVE, READING, BLOCKED, AHEAD, LEFT };

struct subscriber {
	TAILQ_ENTRY(subscriber) link; /* of the queue that goes with its state */
	struct hub *hub;
	struct channel *channel;
	struct client *client;
	struct tine_request *request; /* one of these two */
	struct tine_websocket *ws;
	uint64_t cursor; /* unless it is live */
	uint64_t expires_s;
	uint8_t format; /* enum hub_format */
	uint8_t state;  /* enum subscriber_state */
	bool may_publish;
};

/* --- formats --- */

static void put_lines(struct text *t, struct tine_text data)
{
	const char *p = data.data, *end = p + data.len;

	for (;;) {
		const char *stop = p;

		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		text_put(t, "data: ", 6);
		text_put(t, p, (size_t)(stop - p));
		text_put(t, "\n", 1);
		if (stop == end)
			return;
		p = stop + (*stop == '\r' && stop + 1 < end && stop[1] == '\n' ? 2 : 1);
	}
}

static void put_object(struct text *t, const struct ring_record *m, const char *id)
{
	text_print(t, "{\"id\":\"%s\",\"time\":%" PRIu64 ",\"subject\":", id, m->time_ms);
	text_put_json(t, m->subject);
	text_put(t, ",\"data\":", 8);
	text_put_json(t, m->data);
	text_put(t, "}", 1);
}

static void put_events(struct text *t, const struct ring_record *m, const char *id)
{
	text_print(t, "id: %s\n", id);
	put_lines(t, m->data);
	text_put(t, "\n", 1);
}

static void put_events_json(struct text *t, const struct ring_record *m, const char *id)
{
	text_print(t, "id: %s\ndata: ", id);
	put_object(t, m, id);
	text_put(t, "\n\n", 2);
}

static void put_text(struct text *t, const struct ring_record *m, const char *id)
{
	text_put(t, m->data.data, m->data.len);
}

static void (*const put_message[FORMATS])(
	struct text *t, const struct ring_record *m, const char *id) = {
	[FORMAT_EVENTS] = put_events,
	[FORMAT_EVENTS_JSON] = put_events_json,
	[FORMAT_TEXT] = put_text,
	[FORMAT_JSON] = put_object,
};

/* --- clients and channels --- */

static struct client *client_find(struct hub *h, const struct subscription_request *q)
{
	struct client *c;

	HASH_FIND(hh, h->clients, q->key, q->key_len, c);
	return c;
}

static struct client *client_enter(struct hub *h, const struct subscription_request *q)
{
	struct client *c = client_find(h, q);

	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return NULL;
		memcpy(c->key, q->key, q->key_len);
		c->key_len = q->key_len;
		HASH_ADD(hh, h->clients, key, q->key_len, c);
		if (!c->hh.tbl) {
			free(c);
			return NULL;
		}
	}
	c->n++;
	return c;
}

static void client_leave(struct hub *h, struct client *c)
{
	if (!c || --c->n > 0)
		return;
	HASH_DEL(h->clients, c);
	free(c);
}

static struct channel *channel_find(const struct hub *h, struct tine_text pattern)
{
	struct channel *c;

	HASH_FIND(hh, h->channels, pattern.data, pattern.len, c);
	return c;
}

static struct channel *channel_enter(struct hub *h, const struct topic *topic)
{
	struct channel *c = channel_find(h, topic_text(topic));

	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return NULL;
		c->topic = *topic;
		HASH_ADD(hh, h->channels, topic.text, topic->len, c);
		if (!c->hh.tbl) {
			free(c);
			return NULL;
		}
		if (topic->is_pattern)
			LIST_INSERT_HEAD(&h->patterns, c, link);
		h->n_channels++;
	}
	c->n_subscribers++;
	return c;
}

static void channel_leave(struct hub *h, struct channel *c)
{
	if (!c || --c->n_subscribers > 0)
		return;
	HASH_DEL(h->channels, c);
	if (c->topic.is_pattern)
		LIST_REMOVE(c, link);
	if (c->is_due)
		LIST_REMOVE(c, due);
	for (unsigned i = 0; i < FORMATS; i++) {
		if (c->feeds[i])
			text_free(&c->feeds[i]->batch);
		free(c->feeds[i]);
	}
	h->n_channels--;
	free(c);
}

static struct feed *channel_feed(struct channel *c, unsigned format)
{
	struct feed *f = c->feeds[format];

	if (!f) {
		f = c->feeds[format] = calloc(1, sizeof(*f));
		if (f)
			TAILQ_INIT(&f->subscribers);
	}
	return f;
}

/* How many subscribers here get what is published under a subject, or subscribe to nothing but what a pattern stands for. */
uint64_t subscribers_count(const struct hub *h, struct tine_text topic)
{
	uint64_t n = 0;

	for (const struct channel *c = h->channels; c; c = c->hh.next) {
		struct tine_text pattern = topic_text(&c->topic);

		if (topic_covers(pattern, topic) || topic_covers(topic, pattern))
			n += c->n_subscribers;
	}
	return n;
}

/* --- states --- */

static struct subscriber_queue *queue_of(struct subscriber *s)
{
	if (s->state == LIVE)
		return &s->channel->feeds[s->format]->subscribers;
	if (s->state == READING)
		return &s->hub->reading;
	return s->state == BLOCKED ? &s->hub->blocked : &s->hub->ahead;
}

static void subscriber_set_state(struct subscriber *s, enum subscriber_state next)
{
	if (s->state != LEFT)
		TAILQ_REMOVE(queue_of(s), s, link);
	s->state = (uint8_t)next;
	if (next != LEFT)
		TAILQ_INSERT_TAIL(queue_of(s), s, link);
}

/* Nothing more comes to it; a WebSocket is freed when it has closed. */
static void subscriber_leave(struct subscriber *s)
{
	struct hub *h = s->hub;

	if (s->state == LEFT)
		return;
	subscriber_set_state(s, LEFT);
	channel_leave(h, s->channel);
	client_leave(h, s->client);
	s->channel = NULL;
	s->client = NULL;
	tine_gauge_add(h->subscribers, -1);
	if (--h->n_subscribers == 0)
		bell_need_tick(h, false);
}

/* Ends it in good order: its client comes back, from where it was. */
static void subscriber_end(struct subscriber *s, unsigned code, const char *why)
{
	subscriber_leave(s);
	if (s->ws) {
		tine_websocket_close(s->ws, code, why);
		return;
	}
	tine_respond_end(s->request);
	free(s);
}

static int subscriber_write(struct subscriber *s, const void *data, size_t len)
{
	if (s->ws)
		return tine_websocket_send(s->ws, TINE_WEBSOCKET_TEXT, data, len);
	return tine_respond_write(s->request, data, len);
}

/* --- those who read the ring for themselves --- */

static bool wants(const struct subscriber *s, const struct ring_record *m)
{
	return topic_matches(topic_text(&s->channel->topic), m->subject);
}

/* Gives it the message. Returns as subscriber_write(). */
static int subscriber_give(struct subscriber *s, const struct ring_record *m)
{
	struct text *t = &s->hub->scratch;
	char id[RING_ID_MAX];
	int r;

	ring_write_id(&s->hub->ring, m->end, id);
	t->len = 0;
	put_message[s->format](t, m, id);
	if (t->failed) {
		t->failed = false;
		return -EAGAIN;
	}
	r = subscriber_write(s, t->data, t->len);
	if (r == 0)
		tine_counter_add(s->hub->n_delivered, 1);
	return r;
}

/* Reads one message for it. Returns 0; -EAGAIN when it is to be tried again later; RING_LOST. */
static int subscriber_read(struct subscriber *s)
{
	struct ring *ring = &s->hub->ring;
	struct ring_record m;
	int r = ring_peek(ring, s->cursor, &m);

	if (r == 0 && wants(s, &m))
		r = ring_read(ring, s->cursor, &m);
	else if (r == 0)
		r = RING_TORN; /* not for it, so whether it is whole does not matter */
	if (r == RING_LOST)
		return r;
	if (r < 0 || r == RING_END || (r == 0 && subscriber_give(s, &m) == -EAGAIN))
		return -EAGAIN;
	s->cursor = m.end;
	return 0;
}

/*
 * Gives it what the ring has, as far as it takes that and as the hub has read; then it is one of the others again. It may be
 * gone afterwards.
 */
static void subscriber_catch_up(struct subscriber *s)
{
	struct hub *h = s->hub;
	uint64_t stop = s->cursor + READ_BYTES;
	int r = 0;

	while (r == 0 && s->cursor < h->cursor && s->cursor < stop)
		r = subscriber_read(s);
	if (r == RING_LOST) {
		tine_counter_add(h->n_slow, 1);
		return subscriber_end(s, 1013, "too slow");
	}
	if (r < 0)
		return subscriber_set_state(s, BLOCKED);
	if (s->cursor >= h->cursor)
		return subscriber_set_state(s, LIVE);
	subscriber_set_state(s, READING);
	bell_continue(h);
}

/* --- the others --- */

static void count_delivered(struct hub *h, uint64_t n)
{
	if (n > 0)
		tine_counter_add(h->n_delivered, (int64_t)n);
}

/* Writes messages to one subscriber: all at once, or each by itself. Returns how many it took. */
static unsigned feed_write(const struct feed *f, struct subscriber *s)
{
	size_t at = 0;

	if (!s->ws)
		return tine_respond_write(s->request, f->batch.data, f->batch.len) != -EAGAIN ? f->n
											      : 0;
	for (unsigned i = 0; i < f->n; i++) {
		if (tine_websocket_send(s->ws, TINE_WEBSOCKET_TEXT, f->batch.data + at,
			    f->ends[i] - at) == -EAGAIN)
			return i;
		at = f->ends[i];
	}
	return f->n;
}

/* Writes what is in the batch to all subscribers. Who is gone is told of later. */
static void feed_flush(struct hub *h, struct feed *f)
{
	struct subscriber *s, *next;
	uint64_t delivered = 0;

	for (s = TAILQ_FIRST(&f->subscribers); s && f->n > 0; s = next) {
		unsigned n = feed_write(f, s);

		next = TAILQ_NEXT(s, link);
		delivered += n;
		if (n == f->n)
			continue;
		s->cursor = f->begins[n];
		subscriber_set_state(s, BLOCKED);
	}
	count_delivered(h, delivered);
	f->n = 0;
	f->batch.len = 0;
}

static void channel_flush(struct hub *h, struct channel *c)
{
	for (unsigned i = 0; i < FORMATS; i++) {
		if (c->feeds[i])
			feed_flush(h, c->feeds[i]);
	}
}

/* Without memory the message is left out of the batch, and everybody reads on from there for himself. */
static void feed_give_up(struct hub *h, struct feed *f, uint64_t begin)
{
	struct subscriber *s;

	f->batch.failed = false;
	feed_flush(h, f);
	while ((s = TAILQ_FIRST(&f->subscribers))) {
		s->cursor = begin;
		subscriber_set_state(s, BLOCKED);
	}
}

static void feed_put(struct hub *h, struct feed *f, unsigned format, const struct ring_record *m)
{
	char id[RING_ID_MAX];
	size_t before;

	if (f->n == BATCH_MAX || f->batch.len >= BATCH_BYTES)
		feed_flush(h, f);
	before = f->batch.len;
	ring_write_id(&h->ring, m->end, id);
	put_message[format](&f->batch, m, id);
	if (f->batch.failed) {
		f->batch.len = before;
		return feed_give_up(h, f, m->begin);
	}
	f->begins[f->n] = m->begin;
	f->ends[f->n++] = f->batch.len;
}

static void channel_put(
	struct hub *h, struct channel *c, const struct ring_record *m, struct channel_list *due)
{
	for (unsigned i = 0; i < FORMATS; i++) {
		if (c->feeds[i] && !TAILQ_EMPTY(&c->feeds[i]->subscribers))
			feed_put(h, c->feeds[i], i, m);
	}
	if (!c->is_due)
		LIST_INSERT_HEAD(due, c, due);
	c->is_due = true;
}

static void put(struct hub *h, const struct ring_record *m, struct channel_list *due)
{
	struct channel *c = channel_find(h, m->subject);

	if (c)
		channel_put(h, c, m, due);
	LIST_FOREACH (c, &h->patterns, link) {
		if (topic_matches(topic_text(&c->topic), m->subject))
			channel_put(h, c, m, due);
	}
}

/* The ring has lost what we were at, or begun anew: everybody comes back, and is told of the gap. */
static void lose(struct hub *h)
{
	struct channel *c, *next_channel;
	struct subscriber *s;

	tine_log(TINE_LOG_WARNING,
		"hub %s: the messages are ahead of this worker; closing %" PRIu64 " subscriptions",
		h->o.name, h->n_subscribers);
	ring_follow(&h->ring);
	h->cursor = ring_head(&h->ring);
	HASH_ITER(hh, h->channels, c, next_channel)
	{
		c->n_subscribers++; /* it is needed until we are done with it */
		for (unsigned i = 0; i < FORMATS; i++) {
			while (c->feeds[i] && (s = TAILQ_FIRST(&c->feeds[i]->subscribers)))
				subscriber_end(s, 1013, "too slow");
		}
		channel_leave(h, c);
	}
	while ((s = TAILQ_FIRST(&h->reading)) || (s = TAILQ_FIRST(&h->blocked)) ||
		(s = TAILQ_FIRST(&h->ahead)))
		subscriber_end(s, 1013, "too slow");
}

static bool is_wanted(const struct hub *h, struct tine_text subject)
{
	const struct channel *c;

	if (channel_find(h, subject))
		return true;
	LIST_FOREACH (c, &h->patterns, link) {
		if (topic_matches(topic_text(&c->topic), subject))
			return true;
	}
	return false;
}

/* Reads on in the ring. Returns 0 when there is more, else why it has stopped: as ring_read(). */
static int read_on(struct hub *h, struct channel_list *due)
{
	uint64_t stop = h->cursor + DELIVER_BYTES;
	struct ring_record m;

	while (h->cursor < stop) {
		int r = ring_peek(&h->ring, h->cursor, &m);
		bool wanted = r == 0 && is_wanted(h, m.subject);

		if (wanted)
			r = ring_read(&h->ring, h->cursor, &m);
		if (r != 0 && r != RING_TORN)
			return r;
		if (wanted && r == 0)
			put(h, &m, due);
		h->cursor = m.end;
	}
	return 0;
}

/* Those who read for themselves go on: in turn, some of them now. */
static void readers_go_on(struct hub *h)
{
	struct subscriber *s, *next;

	for (s = TAILQ_FIRST(&h->ahead); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (s->cursor <= h->cursor)
			subscriber_set_state(s, READING);
	}
	for (int i = 0; i < READERS && (s = TAILQ_FIRST(&h->reading)); i++)
		subscriber_catch_up(s);
	if (!TAILQ_EMPTY(&h->reading))
		bell_continue(h);
}

/* Gives the subscribers of this worker what is new. */
void subscribers_deliver(struct hub *h)
{
	struct channel_list due = LIST_HEAD_INITIALIZER(due);
	struct channel *c;
	int r = read_on(h, &due);

	while ((c = LIST_FIRST(&due))) {
		LIST_REMOVE(c, due);
		c->is_due = false;
		channel_flush(h, c);
	}
	readers_go_on(h);
	if (r == RING_LOST)
		lose(h);
	else if (r == 0)
		bell_continue(h);
}

static void end_expired(struct hub *h)
{
	uint64_t now_s = hub_now_s();
	struct channel *c, *next_channel;
	struct subscriber *s, *next;

	HASH_ITER(hh, h->channels, c, next_channel)
	{
		c->n_subscribers++;
		for (unsigned i = 0; i < FORMATS; i++) {
			for (s = c->feeds[i] ? TAILQ_FIRST(&c->feeds[i]->subscribers) : NULL; s;
				s = next) {
				next = TAILQ_NEXT(s, link);
				if (s->expires_s > 0 && s->expires_s <= now_s)
					subscriber_end(s, 1008, "the token has expired");
			}
		}
		channel_leave(h, c);
	}
}

/* Once a second: what a lost bell would have told; who is too slow, or may not any more. */
void subscribers_tick(struct hub *h)
{
	struct subscriber *s, *next;

	subscribers_deliver(h);
	for (s = TAILQ_FIRST(&h->blocked); s; s = next) {
		next = TAILQ_NEXT(s, link);
		subscriber_catch_up(s);
	}
	if (h->o.has_secrets)
		end_expired(h);
}

/* --- coming and going --- */

/* Whether one more may subscribe. If not, says why. */
bool subscribers_have_room(
	struct hub *h, const struct subscription_request *q, struct tine_text *ret_why)
{
	static const char all[] = "too many subscribers\n",
			  client[] = "too many subscriptions of yours\n",
			  subjects[] = "too many subjects\n";
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

static struct subscriber *subscriber_new(
	struct hub *h, const struct subscription_request *q, enum hub_format format)
{
	struct subscriber *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->hub = h;
	s->format = (uint8_t)format;
	s->state = LEFT;
	s->expires_s = q->expires_s;
	s->may_publish = q->may_publish && !q->topic->is_pattern;
	s->channel = channel_enter(h, q->topic);
	s->client = client_enter(h, q);
	if (s->channel && s->client && channel_feed(s->channel, format))
		return s;
	channel_leave(h, s->channel);
	client_leave(h, s->client);
	free(s);
	return NULL;
}

static void subscriber_free(struct subscriber *s)
{
	if (s->state == LEFT) {
		channel_leave(s->hub, s->channel);
		client_leave(s->hub, s->client);
	}
	subscriber_leave(s);
	free(s);
}

/*
 * Where it begins: behind the message that it had last; at the oldest one for "0"; else, with a gap, as far back as
 * possible. Returns whether there is a gap.
 */
static bool find_cursor(struct hub *h, struct tine_text last_id, uint64_t *ret)
{
	struct ring_record m;
	uint64_t epoch;

	*ret = ring_head(&h->ring);
	if (!last_id.data)
		return false;
	if (ring_parse_id(last_id, &epoch, ret) && epoch == h->ring.epoch &&
		ring_read(&h->ring, *ret, &m) != RING_LOST)
		return false;
	*ret = ring_tail(&h->ring);
	return last_id.len != 1 || last_id.data[0] != '0';
}

/* It is connected: gives it what it has missed. It may be gone afterwards. */
static void subscriber_begin(struct subscriber *s)
{
	struct hub *h = s->hub;

	tine_gauge_add(h->subscribers, 1);
	if (h->n_subscribers++ == 0)
		bell_need_tick(h, true);
	subscriber_set_state(s, s->cursor > h->cursor ? AHEAD : READING);
	if (s->state == READING)
		subscriber_catch_up(s);
	else
		bell_continue(h);
}

/* --- server-sent events --- */

static void on_room(struct tine_request *request, void *arg)
{
	struct subscriber *s = arg;

	if (s->state == BLOCKED)
		subscriber_catch_up(s);
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
	static const char gap[] = "event: gap\ndata: messages may be missing\n\n";
	struct subscriber *s = subscriber_new(h, q, q->json ? FORMAT_EVENTS_JSON : FORMAT_EVENTS);
	char retry[32];
	bool has_gap;
	int r = s ? tine_sse_start(request) : -ENOMEM;

	if (r < 0) {
		if (s)
			subscriber_free(s);
		return r;
	}
	s->request = request;
	tine_on_gone(request, on_gone, s);
	tine_respond_on_room(request, on_room, s);
	tine_respond_write(request, retry,
		(size_t)snprintf(retry, sizeof(retry), "retry: %u\n\n", retry_ms()));
	has_gap = find_cursor(h, q->last_id, &s->cursor);
	if (has_gap)
		tine_respond_write(request, gap, sizeof(gap) - 1);
	subscriber_begin(s);
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
	static const char gap[] = "{\"gap\":true}";
	struct subscriber *s = subscriber_new(h, q, q->json ? FORMAT_JSON : FORMAT_TEXT);
	struct tine_websocket_options o = {.size = sizeof(o),
		.on_message = on_ws_message,
		.on_room = on_ws_room,
		.on_close = on_ws_close,
		.arg = s,
		.origins = h->o.origins,
		.max_message = h->o.max_message,
		.no_compression = true}; /* it would be done anew for each subscriber */
	int r = s ? tine_websocket_accept(request, &o, &s->ws) : -ENOMEM;

	if (r < 0) {
		if (s)
			subscriber_free(s);
		return r == -EPROTO ? 0 : r;
	}
	if (find_cursor(h, q->last_id, &s->cursor) && q->json)
		tine_websocket_send(s->ws, TINE_WEBSOCKET_TEXT, gap, sizeof(gap) - 1);
	subscriber_begin(s);
	return 0;
}

/* --- */

static void free_queue(struct subscriber_queue *queue)
{
	struct subscriber *s;

	while ((s = TAILQ_FIRST(queue)))
		subscriber_free(s);
}

/* Those whose connections outlived the worker's patience. */
void subscribers_free(struct hub *h)
{
	struct channel *c, *next;

	HASH_ITER(hh, h->channels, c, next)
	{
		c->n_subscribers++;
		for (unsigned i = 0; i < FORMATS; i++) {
			if (c->feeds[i])
				free_queue(&c->feeds[i]->subscribers);
		}
		channel_leave(h, c);
	}
	free_queue(&h->reading);
	free_queue(&h->blocked);
	free_queue(&h->ahead);
	text_free(&h->scratch);
}

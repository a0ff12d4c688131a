/*
 * Subscribers, and what they are given. Worker only, on the loop's thread.
 *
 * Those of one pattern and format share a feed: a message is put into its bytes once, and these are written to each. Nobody has a
 * queue: who does not take what he is written leaves his feed and reads the ring for himself, from his own cursor, as fast as
 * he takes it, until he is where the others are; when the ring has lost what he is at, he is cut off, and told of the gap when
 * he comes back. So does whoever comes back, or wants what was before.
 *
 * Always: a subscriber in a feed has been given everything up to the hub's cursor; one in `reading` or `blocked` up to his own, which
 * is not beyond it; one in `ahead` has had more than this worker has read yet. What is done in one turn of the loop is
 * bounded, however much there is to be read.
 *
 * A client knows its place by the last message that it had. While others' messages go by it would fall behind, and out
 * of the ring in the end: so it is told its place from time to time.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "modules/hub/subscriber.h"

#define DELIVER_BYTES (32u << 10)  /* of the ring, in one turn */
#define READ_BYTES    (64u << 10)  /* the same, by one of those who read for themselves... */
#define READERS_BYTES (512u << 10) /* ...by all of them... */
#define READER_BYTES  (1u << 10)   /* ...and each counts with this beside what it reads */
#define PLACE_PARTS   8 /* whose place is so large a part of the ring behind is told a new one */

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
void subscriber_end(struct subscriber *s, unsigned code, const char *why)
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

/* --- places --- */

/*
 * Tells it where it is; has_gap: and that it may have missed what was before. Who does not take it is slow, and knows by
 * the next message.
 */
void subscriber_tell(struct subscriber *s, uint64_t place, bool has_gap)
{
	char id[RING_ID_MAX], text[FORMAT_PLACE_MAX];
	size_t len;

	ring_write_id((struct ring_id){s->hub->ring.epoch, place}, id);
	len = format_place(s->format, id, has_gap, text);
	if (len > 0)
		subscriber_write(s, text, len);
}

static bool is_old(const struct hub *h, uint64_t told)
{
	return h->cursor - told >= h->ring.capacity / PLACE_PARTS;
}

static void feed_tell(struct hub *h, struct feed *f)
{
	struct subscriber *s;

	if (!f || !is_old(h, f->told))
		return;
	TAILQ_FOREACH (s, &f->subscribers, link)
		subscriber_tell(s, h->cursor, false);
	f->told = h->cursor;
}

static void tell_places(struct hub *h)
{
	for (struct channel *c = h->channels; c; c = c->hh.next) {
		for (unsigned i = 0; i < FORMATS; i++)
			feed_tell(h, c->feeds[i]);
	}
}

/* It has read what there is, and is one of the others. */
static void subscriber_go_live(struct subscriber *s)
{
	struct feed *f = s->channel->feeds[s->format];

	if (is_old(s->hub, s->told)) {
		subscriber_tell(s, s->cursor, false);
		s->told = s->cursor;
	}
	if (TAILQ_EMPTY(&f->subscribers))
		f->told = s->told;
	subscriber_set_state(s, LIVE);
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

	ring_write_id((struct ring_id){s->hub->ring.epoch, m->end}, id);
	t->len = 0;
	format_put(s->format, t, m, id);
	if (t->failed) {
		t->failed = false;
		return -EAGAIN;
	}
	r = subscriber_write(s, t->data, t->len);
	if (r == 0) {
		tine_counter_add(s->hub->n_delivered, 1);
		s->told = m->end;
	}
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
		return subscriber_go_live(s);
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
static unsigned batch_write(const struct batch *b, struct subscriber *s)
{
	size_t at = 0;

	if (!s->ws)
		return tine_respond_write(s->request, b->text.data, b->text.len) != -EAGAIN ? b->n
											    : 0;
	for (unsigned i = 0; i < b->n; i++) {
		if (subscriber_write(s, b->text.data + at, b->ends[i] - at) == -EAGAIN)
			return i;
		at = b->ends[i];
	}
	return b->n;
}

/* Writes what is in the batch to all subscribers. Who is gone is told of later. */
static void feed_flush(struct hub *h, struct feed *f)
{
	struct batch *b = f->batch;
	struct subscriber *s, *next;
	uint64_t delivered = 0;

	if (!b)
		return;
	f->batch = NULL;
	for (s = TAILQ_FIRST(&f->subscribers); s && b->n > 0; s = next) {
		unsigned n = batch_write(b, s);

		next = TAILQ_NEXT(s, link);
		delivered += n;
		if (n == b->n)
			continue;
		s->cursor = b->begins[n];
		subscriber_set_state(s, BLOCKED);
	}
	count_delivered(h, delivered);
	batch_put(h, b);
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

	feed_flush(h, f);
	while ((s = TAILQ_FIRST(&f->subscribers))) {
		s->cursor = begin;
		subscriber_set_state(s, BLOCKED);
	}
}

static void feed_put(
	struct hub *h, struct feed *f, enum hub_format format, const struct ring_record *m)
{
	char id[RING_ID_MAX];
	struct batch *b;
	size_t before;

	if (f->batch && (f->batch->n == BATCH_MAX || f->batch->text.len >= BATCH_BYTES))
		feed_flush(h, f);
	if (!f->batch)
		f->batch = batch_get(h);
	b = f->batch;
	if (!b)
		return feed_give_up(h, f, m->begin);
	before = b->text.len;
	ring_write_id((struct ring_id){h->ring.epoch, m->end}, id);
	format_put(format, &b->text, m, id);
	if (b->text.failed) {
		b->text.len = before;
		return feed_give_up(h, f, m->begin);
	}
	f->told = m->end;
	b->begins[b->n] = m->begin;
	b->ends[b->n++] = b->text.len;
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

	if (h->n_subscribers > 0)
		tine_log(TINE_LOG_WARNING,
			"hub %s: this worker has missed messages; closing %" PRIu64
			" subscriptions",
			h->o.name, h->n_subscribers);
	hub_mend(h);
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

/* Before somebody comes: he is not to be ended with those who have missed something before that. */
void subscribers_look(struct hub *h)
{
	struct ring_record m;

	if (ring_peek(&h->ring, h->cursor, &m) == RING_LOST)
		lose(h);
}

/* Reads on in the ring. Returns 0 when there is more, else why it has stopped: as ring_read(). */
static int read_on(struct hub *h, struct channel_list *due)
{
	uint64_t stop = h->cursor + DELIVER_BYTES;
	struct ring_record m;

	while (h->cursor < stop) {
		int r = ring_peek(&h->ring, h->cursor, &m);
		bool wanted = r == 0 && channel_is_wanted(h, m.subject);

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
	uint64_t left = READERS_BYTES;
	struct subscriber *s, *next;

	for (s = TAILQ_FIRST(&h->ahead); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (s->cursor <= h->cursor)
			subscriber_set_state(s, READING);
	}
	while (left > READER_BYTES && (s = TAILQ_FIRST(&h->reading))) {
		uint64_t n = h->cursor - s->cursor;

		n = READER_BYTES + (n < READ_BYTES ? n : READ_BYTES);
		left -= n < left ? n : left;
		subscriber_catch_up(s);
	}
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

/* Once a second: what a lost bell would have told; places; who is too slow, or may not any more. */
void subscribers_tick(struct hub *h)
{
	struct subscriber *s;

	while ((s = TAILQ_FIRST(&h->blocked)))
		subscriber_set_state(s, READING); /* each once, and within the bounds of a turn */
	subscribers_deliver(h);
	tell_places(h);
	if (h->o.has_secrets)
		end_expired(h);
}

/* --- coming and going --- */

/* One that has not begun; NULL when there is no memory. */
struct subscriber *subscriber_new(
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

/* Its connection is gone, or never was. */
void subscriber_free(struct subscriber *s)
{
	if (s->state == LEFT) {
		channel_leave(s->hub, s->channel);
		client_leave(s->hub, s->client);
	}
	subscriber_leave(s);
	free(s);
}

/* It is connected: gives it what it has missed. It may be gone afterwards. */
void subscriber_begin(struct subscriber *s)
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

/* It takes more again. It may be gone afterwards. */
void subscriber_go_on(struct subscriber *s)
{
	if (s->state == BLOCKED)
		subscriber_catch_up(s);
}

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
	batch_free(h->spare);
}

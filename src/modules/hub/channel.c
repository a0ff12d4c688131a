/* Patterns, formats and clients of the subscriptions in this worker. Worker only. */
#include "modules/hub/channel.h"

#include <stdlib.h>
#include <string.h>

#define SPARE_BYTES (64u << 10) /* of the batch that is kept for the next turn */

struct client *client_find(struct hub *h, const struct subscription_request *q)
{
	struct client *c;

	HASH_FIND(hh, h->clients, q->key, q->key_len, c);
	return c;
}

struct client *client_enter(struct hub *h, const struct subscription_request *q)
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

void client_leave(struct hub *h, struct client *c)
{
	if (!c || --c->n > 0)
		return;
	HASH_DEL(h->clients, c);
	free(c);
}

struct channel *channel_find(const struct hub *h, struct tine_text pattern)
{
	struct channel *c;

	HASH_FIND(hh, h->channels, pattern.data, pattern.len, c);
	return c;
}

struct channel *channel_enter(struct hub *h, const struct topic *topic)
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

void channel_leave(struct hub *h, struct channel *c)
{
	if (!c || --c->n_subscribers > 0)
		return;
	HASH_DEL(h->channels, c);
	if (c->topic.is_pattern)
		LIST_REMOVE(c, link);
	if (c->is_due)
		LIST_REMOVE(c, due);
	for (unsigned i = 0; i < FORMATS; i++) {
		if (c->feeds[i] && c->feeds[i]->batch)
			batch_put(h, c->feeds[i]->batch);
		free(c->feeds[i]);
	}
	h->n_channels--;
	free(c);
}

struct feed *channel_feed(struct channel *c, unsigned format)
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

/* Whether anybody here has subscribed to it. */
bool channel_is_wanted(const struct hub *h, struct tine_text subject)
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

/* An empty batch, or NULL. */
struct batch *batch_get(struct hub *h)
{
	struct batch *b = h->spare;

	h->spare = NULL;
	if (!b)
		b = calloc(1, sizeof(*b));
	return b;
}

void batch_put(struct hub *h, struct batch *b)
{
	b->n = 0;
	b->text.len = 0;
	b->text.failed = false;
	if (h->spare || b->text.cap > SPARE_BYTES)
		return batch_free(b);
	h->spare = b;
}

/* NULL is fine. */
void batch_free(struct batch *b)
{
	if (!b)
		return;
	text_free(&b->text);
	free(b);
}

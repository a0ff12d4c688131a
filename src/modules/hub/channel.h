/* Who subscribes to what, in this worker: patterns, the formats in which their messages are wanted, and clients. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM            1 /* an element that could not be added has no table */
#define HASH_FUNCTION(key, len, ret) (ret) = text_hash(key, len)
#include <uthash.h>

#include "modules/hub/hub.h"
#include "modules/hub/text.h"

#define BATCH_BYTES (32u << 10) /* written at once, but for a message that is longer */
#define BATCH_MAX   256         /* messages */

/* The messages of a turn, in the bytes of a format. */
struct batch {
	struct text text;
	unsigned n;
	uint64_t begins[BATCH_MAX]; /* where each message begins in the ring... */
	size_t ends[BATCH_MAX];     /* ...and ends in the text */
};

/* Those who get the same bytes. */
struct feed {
	struct subscriber_queue subscribers;
	struct batch *batch; /* NULL: there is nothing for them */
	uint64_t told; /* the place that their clients know; some of them one a little further on */
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

struct client *client_find(struct hub *h, const struct subscription_request *q);
struct client *client_enter(struct hub *h, const struct subscription_request *q);
void client_leave(struct hub *h, struct client *c);
struct channel *channel_find(const struct hub *h, struct tine_text pattern);
struct channel *channel_enter(struct hub *h, const struct topic *topic);
void channel_leave(struct hub *h, struct channel *c);
struct feed *channel_feed(struct channel *c, unsigned format);
bool channel_is_wanted(const struct hub *h, struct tine_text subject);
struct batch *batch_get(struct hub *h);
void batch_put(struct hub *h, struct batch *b);
void batch_free(struct batch *b);

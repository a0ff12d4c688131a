/* One subscriber: whoever reads server-sent events, or has a WebSocket. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "modules/hub/channel.h"

enum subscriber_state { LIVE, READING, BLOCKED, AHEAD, LEFT };

struct subscriber {
	TAILQ_ENTRY(subscriber) link; /* of the queue that goes with its state */
	struct hub *hub;
	struct channel *channel;
	struct client *client;
	struct tine_request *request; /* one of these two */
	struct tine_websocket *ws;
	uint64_t cursor; /* unless it is live */
	uint64_t told;   /* the place that its client knows, while it reads for itself */
	uint64_t expires_s;
	uint8_t format; /* enum hub_format */
	uint8_t state;  /* enum subscriber_state */
	bool may_publish;
};

struct subscriber *subscriber_new(
	struct hub *h, const struct subscription_request *q, enum hub_format format);
void subscriber_begin(struct subscriber *s);
void subscriber_go_on(struct subscriber *s);
void subscriber_tell(struct subscriber *s, uint64_t place, bool has_gap);
void subscriber_end(struct subscriber *s, unsigned code, const char *why);
void subscriber_free(struct subscriber *s);

/* What the files of the hub share. One of these in each worker, on its loop's thread. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <tine/bus.h>
#include <tine/http.h>
#include <tine/loop.h>
#include <tine/shared.h>

#include "modules/hub/ring.h"
#include "modules/hub/text.h"
#include "modules/hub/token.h"
#include "modules/hub/topic.h"

#define HUB_KEY_MAX 48 /* bytes of what a client is counted under */

struct batch;
struct channel;
struct client;
struct event;
struct subscriber;

TAILQ_HEAD(subscriber_queue, subscriber);
LIST_HEAD(channel_list, channel);

/* In shared memory: what hubs of one name have in common, whatever their `history` is. */
struct hub_common {
	_Atomic uint64_t ring; /* the one that was published to last, by its key; 0: none yet */
};

struct hub_options {
	const char *name;
	const char *origins; /* NULL: the host's own */
	size_t max_message;
	uint64_t max_subscribers;              /* in all workers; 0: no limit */
	uint64_t max_per_client, max_subjects; /* of this worker */
	unsigned anonymous;                    /* enum token_right or-ed */
	bool has_secrets;
	struct token_secrets secrets;
};

struct hub {
	struct tine_worker *worker;
	struct hub_options o;

	struct tine_shared *common; /* struct hub_common; with the lock of all its rings */
	struct ring ring;
	bool was_taken;  /* it has been the hub's ring since this worker began */
	bool leaving;    /* others serve now, perhaps with another ring */
	uint64_t cursor; /* what the subscribers here have been given up to */

	struct tine_limit *client_rate, *subject_rate; /* NULL: no limit */
	struct tine_counter *n_published, *n_delivered, *n_slow, *n_refused;
	struct tine_gauge *subscribers;

	/* subscribers.c */
	struct channel *channels;     /* by pattern */
	struct channel_list patterns; /* those of them with wildcards */
	struct client *clients;       /* by key */
	uint64_t n_subscribers, n_channels;
	struct subscriber_queue reading; /* behind `cursor`, each with his own */
	struct subscriber_queue blocked; /* the same, but they do not take what they are written */
	struct subscriber_queue ahead;   /* beyond it: another worker gave them more */
	struct text scratch;
	struct batch *spare; /* the last one that was used, or NULL */

	/* bell.c */
	LIST_ENTRY(hub) link; /* of this process; those of the same name hear each other's bell */
	struct event *turn, *tick;
	struct tine_subscription *bell, *leaves;
	char bell_subject[64];
	bool bell_due, is_linked;
	unsigned n_counts; /* presence that is being asked for */
};

/* --- format.c --- */

enum hub_format {
	FORMAT_EVENTS,      /* server-sent events with the message's text as data */
	FORMAT_EVENTS_JSON, /* or with a JSON object */
	FORMAT_TEXT,        /* over WebSocket */
	FORMAT_JSON,
	FORMATS,
};

#define FORMAT_PLACE_MAX 128

void format_put(
	enum hub_format format, struct text *t, const struct ring_record *m, const char *id);
size_t format_place(
	enum hub_format format, const char *id, bool has_gap, char to[FORMAT_PLACE_MAX]);

/* --- connect.c --- */

struct subscription_request {
	const struct topic *topic;
	struct tine_text last_id; /* data NULL: from now on */
	uint64_t expires_s;       /* 0: never */
	bool json;
	bool may_publish;
	unsigned char key[HUB_KEY_MAX];
	size_t key_len;
};

bool subscribers_have_room(
	struct hub *h, const struct subscription_request *q, struct tine_text *ret_why);
int subscribers_add_events(
	struct hub *h, struct tine_request *request, const struct subscription_request *q);
int subscribers_add_websocket(
	struct hub *h, struct tine_request *request, const struct subscription_request *q);

/* --- subscribers.c, channel.c --- */

void subscribers_look(struct hub *h);
void subscribers_deliver(struct hub *h);
void subscribers_tick(struct hub *h);
uint64_t subscribers_count(const struct hub *h, struct tine_text topic);
void subscribers_free(struct hub *h);

/* --- publish.c --- */

enum publish_result {
	PUBLISH_NOT_UTF8 = 1,
	PUBLISH_TOO_LARGE,
	PUBLISH_CLIENT_TOO_FAST,
	PUBLISH_SUBJECT_TOO_FAST,
	PUBLISH_EMPTY,
	PUBLISH_BUSY,
	PUBLISH_RESULTS,
};

struct publish_answer {
	struct ring_id id; /* of what was published */
	uint64_t retry_us; /* PUBLISH_..._TOO_FAST */
};

struct publish_failure {
	int status;
	const char *text;
};

extern const struct publish_failure publish_failures[PUBLISH_RESULTS];

int hub_publish(struct hub *h, const struct topic *topic, struct tine_text data, const void *key,
	size_t key_len, struct publish_answer *ret);
uint64_t hub_new_epoch(void);
void hub_mend(struct hub *h);
void hub_take_ring(struct hub *h);
uint64_t hub_now_s(void);

/* --- bell.c --- */

int bell_start(struct hub *h);
void bell_stop(struct hub *h);
void bell_ring(struct hub *h);
void bell_continue(struct hub *h);
void bell_need_tick(struct hub *h, bool need);
int bell_count(struct hub *h, struct tine_request *request, struct tine_text topic,
	void (*on_count)(
		struct hub *h, struct tine_request *request, struct tine_text topic, uint64_t n));

/* --- access.c --- */

struct grant {
	bool may_publish;
	uint64_t expires_s; /* 0: never */
};

int access_check(struct hub *h, struct tine_request *request, enum token_right right,
	struct tine_text topic, struct grant *ret);
bool access_find_bad_origin(const char *list, struct tine_text *ret);
bool access_is_own_page(struct tine_request *request);
bool access_check_origin(const struct hub *h, struct tine_request *request);
void access_answer_preflight(const struct hub *h, struct tine_request *request);
size_t access_client_key(struct tine_text client, unsigned char key[HUB_KEY_MAX]);

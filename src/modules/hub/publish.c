/* From a message to the ring. Worker only. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "modules/hub/hub.h"

/* Whoever holds the lock copies a message: it is taken for microseconds, unless its holder is stopped. */
#define LOCK_US 5000

const struct publish_failure publish_failures[PUBLISH_RESULTS] = {
	[PUBLISH_NOT_UTF8] = {415, "a message is UTF-8 text"},
	[PUBLISH_TOO_LARGE] = {413, "larger than max_message"},
	[PUBLISH_CLIENT_TOO_FAST] = {429, "too many messages from this address (client_rate)"},
	[PUBLISH_SUBJECT_TOO_FAST] = {429, "too many messages under this subject (subject_rate)"},
	[PUBLISH_EMPTY] = {400, "a message has at least one byte"},
	[PUBLISH_BUSY] = {503, "not at the moment"},
};

uint64_t hub_now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return (uint64_t)t.tv_sec;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* 32 bits, not 0. */
uint64_t hub_new_epoch(void)
{
	uint32_t n = 0;

	if (getrandom(&n, sizeof(n), GRND_NONBLOCK) != sizeof(n) || n == 0)
		n = (uint32_t)now_ms() | 1;
	return n;
}

/* The client's share is taken first: whom that refuses takes nothing of what all have for the subject. */
static int take_share(struct hub *h, const struct topic *topic, const void *key, size_t key_len,
	struct publish_answer *ret)
{
	struct tine_limit_answer a = {0};
	int result = 0;

	if (h->client_rate && tine_limit_take(h->client_rate, key, key_len, 1, &a) != 0)
		result = PUBLISH_CLIENT_TOO_FAST;
	else if (h->subject_rate &&
		tine_limit_take(h->subject_rate, topic->text, topic->len, 1, &a) != 0)
		result = PUBLISH_SUBJECT_TOO_FAST;
	if (result != 0)
		ret->retry_us = a.retry_us;
	return result;
}

/* Somebody has written over the ring, it seems: it begins anew, unless another worker was faster. Now, or at the next look. */
void hub_mend(struct hub *h)
{
	if (ring_is_sound(&h->ring) || tine_shared_lock(h->common, LOCK_US) < 0)
		return;
	ring_mend(&h->ring, hub_new_epoch());
	tine_shared_unlock(h->common);
}

/*
 * Another size of `history` is another ring, and what was published to that one is not in ours: so whatever ids are known of
 * ours count no more when it comes into use again. Under the lock. Returns 0, or -ESHUTDOWN when we are on our way out and
 * others have taken another ring.
 */
static int take_ring(struct hub *h)
{
	struct hub_common *common = tine_shared_data(h->common);
	uint64_t key = ring_key(&h->ring), current = atomic_load(&common->ring);

	if (current != key) {
		if (h->leaving)
			return -ESHUTDOWN;
		if (current != 0)
			ring_start_anew(&h->ring, hub_new_epoch());
		atomic_store(&common->ring, key);
	}
	h->was_taken = true;
	return 0;
}

/*
 * Before anybody uses it through us: else those who come first would see how it was left, and be sent away by the first message.
 * A worker on trial leaves it alone: whoever serves may use another one.
 */
void hub_take_ring(struct hub *h)
{
	if (h->was_taken || tine_worker_on_trial(h->worker) ||
		tine_shared_lock(h->common, LOCK_US) < 0)
		return;
	take_ring(h);
	tine_shared_unlock(h->common);
}

static int append(
	struct hub *h, const struct topic *topic, struct tine_text data, struct ring_id *ret)
{
	int r = tine_shared_lock(h->common, LOCK_US);

	if (r < 0)
		return r;
	r = take_ring(h);
	if (r == 0)
		r = ring_append(&h->ring, topic_text(topic), data, now_ms(), hub_new_epoch(), ret);
	tine_shared_unlock(h->common);
	return r;
}

/*
 * Publishes a message, whose sender is known by `key`. When this returns 0 it is in the ring, from which every worker gives it
 * to its subscribers, whatever becomes of this one. Else an enum publish_result.
 */
int hub_publish(struct hub *h, const struct topic *topic, struct tine_text data, const void *key,
	size_t key_len, struct publish_answer *ret)
{
	int result = 0;

	*ret = (struct publish_answer){0};
	if (data.len == 0)
		result = PUBLISH_EMPTY;
	else if (data.len > h->o.max_message)
		result = PUBLISH_TOO_LARGE;
	else if (!text_is_utf8(data))
		result = PUBLISH_NOT_UTF8;
	else
		result = take_share(h, topic, key, key_len, ret);
	if (result == 0 && append(h, topic, data, &ret->id) < 0)
		result = PUBLISH_BUSY;
	if (result != 0) {
		tine_counter_add(h->n_refused, 1);
		return result;
	}
	tine_counter_add(h->n_published, 1);
	bell_ring(h);
	return 0;
}

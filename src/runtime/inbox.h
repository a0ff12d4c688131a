/*
 * Requests that wait for their answers, with deadlines. On the loop's thread of a process that runs modules.
 */
#pragma once

#include <stdint.h>

#include <tine/bus.h>

struct event_base;
struct inbox;

#define INBOX_MAX 65536u /* requests at a time */

/* What is called with the outcome; one of the two. */
struct inbox_request {
	tine_answer_fn on_answer;
	void (*on_count)(int status, uint64_t n, void *arg);
	void *arg;
	uint64_t timeout_us;
	tine_peer to; /* of whom it is asked, and nobody else may answer; 0: who knows */
};

int inbox_new(struct event_base *base, struct inbox **ret);
int inbox_add(struct inbox *in, const struct inbox_request *r, uint32_t key, uint64_t *ret_id);
void inbox_fail(struct inbox *in, uint32_t number, int status);
void inbox_answer(struct inbox *in, uint64_t id, int status, struct tine_message *answer);
void inbox_peer_left(struct inbox *in, tine_peer peer);
void inbox_forget(struct inbox *in, uint32_t number);
void inbox_end(struct inbox *in, int status);

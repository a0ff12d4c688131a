/*
 * Who has subscribed to what: a tree of tokens. Runs in the primary; whose the subscriptions are is not its business.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ipc/msg.h"

struct interest;
struct subject_group;
struct subject_node;
struct subjects;

/* What happened to messages. */
struct subject_figures {
	uint64_t messages;  /* published, that fit */
	uint64_t delivered; /* to a subscriber's lane; of one message there may be many */
	uint64_t dropped;   /* by the policies that drop */
	uint64_t refused;   /* the sender was told so */
};

struct subscription {
	LIST_ENTRY(subscription) link; /* in its node */
	struct subject_node *node;     /* NULL: it is in no tree */
	struct subject_group *group;   /* NULL: in none */
	struct interest *interest;     /* remote.c; NULL: it is of none */
	LIST_ENTRY(subscription) in_interest;
	bool is_export; /* what fits it goes to other machines; it has no owner */
	void *owner;
	uint32_t number; /* its owner's name for it */
	enum msg_policy policy;
	bool doomed; /* it is to end as soon as nobody is looking at it */
	struct subject_figures figures;
};

/* Those that a subject fits: first the ones in no group, then the groups, one after the other. */
struct subject_match {
	struct subscription **subs;
	size_t n, n_alone;
	size_t cost; /* of finding them: nodes and subscriptions looked at */
};

/* A pattern that somebody has subscribed to. Text: valid during the call. */
typedef void (*subjects_fn)(const char *pattern, size_t len, size_t n_subscriptions,
	const struct subject_figures *figures, void *arg);

struct subjects *subjects_new(void);
struct subjects *subjects_free(struct subjects *s);
int subjects_add(struct subjects *s, const char *pattern, size_t len, const char *group,
	size_t group_len, struct subscription *sub);
void subjects_remove(struct subjects *s, struct subscription *sub);
int subjects_match(
	struct subjects *s, const char *subject, size_t len, const struct subject_match **ret);
size_t subject_group_turn(struct subject_group *g);
const char *subject_group_name(const struct subject_group *g, size_t *ret_len);
void subjects_foreach(const struct subjects *s, subjects_fn fn, void *arg);
struct subject_figures *subject_node_figures(struct subject_node *n);

/*
 * What the bridge's files share. Runs in the bridge process: its loop has the bus on one side (local.c), a thread has NATS
 * on the other (carrier.c).
 */
#pragma once

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/msg.h"

struct carrier;
struct child;
struct event_base;
struct lane;
struct lifeline;
struct local;

#define BRIDGE_ERROR_MAX 512
#define BRIDGE_PATTERNS  16 /* of [bus] nats_subjects */

struct bridge {
	const struct child *child;
	struct event_base *base;
	struct lifeline *lifeline;
	struct sb_slot *slot;
	struct local *local;
	struct carrier *carrier;
	struct event
		ev_arrived; /* something came from NATS, or there is room again for what goes there */
	struct event ev_deadline; /* of the drain */
	bool held;                /* another process is the bridge still */
	bool draining, ended;     /* we are to go; nothing comes to us any more */
	bool done;
	int exit_status;
};

int bridge_main(const struct child *c);
void bridge_end(struct bridge *b);

/* Something that came from NATS. */
struct arrival {
	struct arrival *next;
	uint64_t key;
	bool nobody;
	size_t len;
	const char *subject, *reply, *mark; /* reply, mark: may be NULL */
	char *data;
};

/* Something to be published there; its parts are copied. */
struct departure {
	const char *subject;
	size_t subject_len;
	const char *reply, *mark; /* reply may be NULL */
	const void *data;
	size_t len;
};

#define CARRIER_ANSWERS UINT64_MAX /* the key of what comes to carrier_inbox() */

/* carrier.c; all on the loop's thread */
int carrier_new(struct bridge *b, char error[BRIDGE_ERROR_MAX]);
int carrier_start(struct carrier *c, int *ret_wake_fd);
const char *carrier_inbox(const struct carrier *c);
uint64_t carrier_machine(const struct carrier *c);
int carrier_publish(struct carrier *c, const struct departure *d);
int carrier_subscribe(struct carrier *c, uint64_t key, const char *subject, const char *group);
void carrier_unsubscribe(struct carrier *c, uint64_t key);
bool carrier_is_full(struct carrier *c);
struct arrival *carrier_take(struct carrier *c);
void carrier_release(struct carrier *c);
void carrier_finish(struct carrier *c);
bool carrier_is_finished(struct carrier *c);

/* local.c */
int local_new(struct bridge *b, struct local **ret);
void local_go_on(struct local *l);
bool local_is_idle(const struct local *l);

/* mark.c: what bridges write on what they publish */
#define MARK_MAX (4u << 10)
bool mark_may_name(const char *name, size_t len);
int mark_write(char ret[MARK_MAX], uint64_t machine, int error, const char *groups, size_t len);
bool mark_is_of(const char *mark, uint64_t machine);
bool mark_has_group(const char *mark, const char *group);
int mark_error(const char *mark);

/* What the files of the bus's client share. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "base/spin.h"
#include "ipc/lane.h"
#include "runtime/bus.h"
#include "runtime/window.h"

#define BUS_ANSWER_TIMEOUT_US (5 * US_PER_S)

struct tine_subscription {
	struct bus *bus;
	uint32_t number;
	tine_message_fn on_message;
	void (*on_end)(int status, void *arg);
	void *arg;
	bool in_group; /* a queue group's: what comes, comes to nobody else of it */
};

struct bus_port {
	SLIST_ENTRY(bus_port) link;
	struct bus *bus;
	uint32_t key; /* of the module's name; never 0 */
	struct tine_bus_service service;
	bool open;
	bool wants_window, wants_resume; /* it was told that something is full */
};

struct bus {
	struct event_base *base;
	struct lane *lane;
	struct sb_slot *slot;
	const struct scoreboard *scoreboard;
	uint32_t address;
	uint64_t max_message;
	SLIST_HEAD(, bus_port) ports;
	struct inbox *inbox;
	struct bus_tasks tasks;
	struct tine_subscription *peer_watch; /* made with the first request to a peer */

	struct window window;
	bool sync_asked;
	uint64_t n_acked; /* frames */
	uint64_t n_taken;
	unsigned n_in_burst;   /* messages */
	uint64_t n_untaken;    /* messages there was no room for here */
	uint64_t warn_us;      /* when that may be said again */
	struct spin_seen seen; /* bursts of them */
	bool leaving;
	bool finished; /* the modules are gone */
	uint64_t
		left_at; /* when so many frames are dealt with, nothing of a subscription comes any more */

	struct tine_subscription **subs; /* by their index */
	uint16_t *births;                /* how often an index was used */
	size_t n_subs, subs_size, subs_max;
	size_t next_index; /* where to look first for a free one */
};

/* What goes along with a frame. */
struct bus_extras {
	int fd;                  /* -1: none */
	const struct fate *fate; /* NULL: nobody wants to know */
};

/* bus.c */
struct bus_port *bus_find_port(const struct bus *b, uint32_t key);

/* bus_send.c */
extern const struct bus_extras bus_nothing;
int bus_put(struct bus *b, struct frame *f, const struct iovec *parts, size_t n,
	const struct bus_extras *x);
void bus_ask_for_ack(struct bus *b);
int bus_check_room(struct bus_port *p, uint64_t bytes, uint64_t key, bool has_fd);

/* bus_receive.c */
void bus_on_delivery(struct bus *b, const struct frame *f, const void *payload, int fd);

/* bus_subscription.c */
struct tine_subscription *bus_find_subscription(const struct bus *b, uint32_t number);
void bus_on_ended(struct bus *b, const struct frame *f, const void *payload, int fd);
void bus_end_subscriptions(struct bus *b, int status);
void bus_take_back(struct bus *b);

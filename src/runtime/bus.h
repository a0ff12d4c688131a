/*
 * The bus, seen from a process that runs modules: its lane to the primary, what it has sent and not heard of, its
 * subscriptions. On the loop's thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tine/bus.h>
#include <tine/farm.h>

#include "ipc/lane.h"

struct bus;
struct bus_port;
struct child;
struct event_base;
struct spin_seen;

/* Who is told what became of tasks. */
struct bus_tasks {
	lane_message_fn on_done;   /* TASK_DONE */
	void (*on_end)(void *arg); /* the lane is closed, nothing comes any more */
	void *arg;
};

int bus_new(struct event_base *base, const struct child *child, struct bus **ret);
int bus_port_new(struct bus *b, const char *module, struct bus_port **ret);
int bus_port_open(struct bus_port *p, const struct tine_bus_service *service);
int bus_send(struct bus_port *p, const struct tine_send *s);
int bus_answer(struct bus_port *p, tine_peer to, uint64_t request, int status, const void *data,
	size_t len);
int bus_subscribe(
	struct bus_port *p, const struct tine_subscribe *s, struct tine_subscription **ret);
void bus_unsubscribe(struct tine_subscription *sub);
int bus_count(struct bus_port *p, const char *subject,
	void (*on_count)(int status, uint64_t n, void *arg), void *arg);
void bus_port_watch(struct bus_port *p, void (*on_writable)(void *arg), void *arg);
int bus_submit(struct bus_port *p, uint32_t farm, uint64_t id, const struct tine_farm_task *t);
int bus_cancel(struct bus *b, uint64_t id);
void bus_set_tasks(struct bus *b, const struct bus_tasks *tasks);
int bus_map_large(struct tine_message *m);
tine_peer bus_self(const struct bus *b);
size_t bus_peers(const struct bus *b, struct tine_peer_info *ret, size_t max);
const struct spin_seen *bus_seen(const struct bus *b);
bool bus_leave(struct bus *b);
void bus_finish(struct bus *b);

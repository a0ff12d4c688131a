/*
 * The tasks that a process has submitted, and what becomes of them; on top of the bus. On the loop's thread of a process that
 * runs modules.
 */
#pragma once

#include <tine/farm.h>

struct bus;
struct config;
struct farm_client;
struct farm_port;

int farm_client_new(struct bus *b, const struct config *config, struct farm_client **ret);
struct farm_client *farm_client_free(struct farm_client *c);
int farm_port_new(struct farm_client *c, struct farm_port **ret);
int farm_port_submit(struct farm_port *p, const struct tine_farm_task *t, tine_task_id *ret);
int farm_port_cancel(struct farm_port *p, tine_task_id id);
void farm_port_watch(struct farm_port *p, void (*on_writable)(void *arg), void *arg);

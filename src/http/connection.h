/* One client's connection: from accept to close. */
#pragma once

#include <stdint.h>

#include <tine/http.h>

struct http_connection;
struct http_router;
struct http_server;
struct wheel_entry;

int connection_new(struct http_server *s, const struct http_router *router, int fd);
void connection_close(struct http_connection *c);
void connection_free(struct http_connection *c);
void connection_begin_drain(struct http_connection *c);
void connection_expired(struct wheel_entry *e, void *arg);

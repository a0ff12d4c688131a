/* One connection: from accept to close. What a protocol calls; see net.h for what it is called for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/net.h"

int connection_new(struct net_server *s, const struct protocol *p, const void *service, int fd,
	const struct peer *peer);
int connection_adopt(struct net_server *s, const struct protocol *p, const void *service, int fd,
	const struct peer *peer, const void *data, size_t len);
void connection_begin(struct connection *c);
void connection_set_protocol(struct connection *c, const struct protocol *p, void *state);
void connection_touch(struct connection *c);
void connection_end_with_reset(struct connection *c);
void connection_limit_unsent(struct connection *c);
void connection_close(struct connection *c);
void connection_hold(struct connection *c);
void connection_release(struct connection *c);
int connection_read(struct connection *c);
void connection_deadline(struct connection *c, uint64_t in_ms);
void connection_no_deadline(struct connection *c);
void connection_begin_window(struct connection *c);
bool connection_window_made(struct connection *c);
size_t connection_room(const struct connection *c);
bool connection_output_pending(const struct connection *c);
bool connection_may_serve(const struct connection *c);

/* The server's side. */
void connection_expired(struct wheel_entry *e, void *arg);
void connection_go_on(struct connection *c);
void connection_free(struct connection *c);

/* One request, from its head to its answer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <tine/http.h>

struct connection;
struct http_server;
struct protocol;

int request_serve(struct connection *c, const char *data, size_t len, size_t *ret_used);
void request_refuse(struct connection *c, unsigned status);
int request_keep(struct tine_request *rq);
int request_defer(struct tine_request *rq);
void request_go_on(struct tine_request *rq);
void request_resume(struct tine_request *rq);
struct tine_text request_client(struct tine_request *rq);
struct tine_text request_scheme(const struct tine_request *rq);
void request_call_handler(struct tine_request *rq);
void request_log(struct tine_request *rq);
void request_finish(struct tine_request *rq);
void request_end_pieces(struct tine_request *rq);
void request_orphan(struct tine_request *rq);
void request_abandon(struct tine_request *rq, unsigned status);
void request_free(struct tine_request *rq);
bool request_keeps_alive(const struct tine_request *rq);
int request_upgrade(
	struct tine_request *rq, struct tine_text fields, const struct protocol *p, void *state);

/* One request: from bytes to its answer. */
#pragma once

#include <stddef.h>

#include <tine/http.h>

struct http_connection;

int request_serve(struct http_connection *c, const char *data, size_t len, size_t *ret_used);
void request_refuse(struct http_connection *c, unsigned status);

/*
 * Routes of one listener: which handler serves a path. Built before the first connection, then
 * read-only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <tine/http.h>

#include "http/server.h"

struct http_route {
	char *path; /* mount and path together */
	size_t len;
	size_t mount_len; /* bytes of path that belong to the mount point; 0 for "/" */
	bool below;       /* path ends with '/': it stands for everything below it */
	unsigned methods; /* HEAD is in when GET is */
	tine_http_fn fn;
	void *arg;
};

int http_router_find(
	const struct http_router *r, struct tine_text path, const struct http_route **ret);

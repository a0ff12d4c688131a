/*
 * The HTTP server of one process: what its connections share. Worker and admin.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "http/chunked.h"
#include "http/error_pages.h"
#include "http/file_cache.h"
#include "http/http.h"
#include "http/protocol.h"
#include "http/request.h"
#include "http/websocket.h"
#include "net/server.h"
#include "shared/access_log.h"
#include "shared/config.h"

#define FILES_TICK_MS 4096 /* between looks at files kept open when there is no connection */

static unsigned server_tick(struct net_ticker *t, uint64_t now_ms)
{
	struct http_server *s =
		(struct http_server *)((char *)t - offsetof(struct http_server, ticker));

	file_cache_sweep(now_ms);
	if (s->access && access_log_tick(s->access, now_ms))
		return WHEEL_TICK_MS;
	return file_cache_n_fds() > 0 ? FILES_TICK_MS : 0;
}

/* See server.h. */
size_t http_input_max(const struct conf_http *conf)
{
	return conf->max_header > CHUNKED_TRAILER_MAX ? conf->max_header : CHUNKED_TRAILER_MAX;
}

static void server_configure(struct http_server *s, const struct conf_http *conf)
{
	s->conf = conf;
	s->limits.max_head = conf->max_header;
	s->limits.max_line = conf->max_header / 2;
	s->header_ms = conf->header_timeout_us / US_PER_MS;
	s->idle_ms = conf->idle_timeout_us / US_PER_MS;
	s->answer_ms = conf->answer_timeout_us / US_PER_MS;
	s->ping_ms = conf->websocket_ping_us / US_PER_MS;
}

int http_server_new(struct net_server *net, const struct conf_http *conf, struct access_log *access,
	char error[HTTP_ERROR_MAX], struct http_server **ret)
{
	struct http_server *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	s->protocol = http_protocol;
	s->net = net;
	s->access = access;
	LIST_INIT(&s->kept);
	LIST_INIT(&s->dead);
	server_configure(s, conf);
	s->fields = calloc(HTTP_FIELDS_MAX, sizeof(*s->fields));
	s->extra = malloc(HTTP_EXTRA_MAX);
	s->path = malloc(s->limits.max_line + 1);
	if (!s->fields || !s->extra || !s->path)
		r = -ENOMEM;
	if (r == 0 && conf->error_pages)
		r = error_pages_load(conf->error_pages, &s->pages, error);
	if (r < 0) {
		http_server_free(s);
		return r;
	}
	s->ticker.fn = server_tick;
	net_server_add_ticker(net, &s->ticker);
	*ret = s;
	return 0;
}

/* Its connections are closed. Returns NULL. */
struct http_server *http_server_free(struct http_server *s)
{
	if (!s)
		return NULL;
	http_server_end_turn(s);
	while (!LIST_EMPTY(&s->kept)) /* modules that never answered */
		request_free(LIST_FIRST(&s->kept));
	error_pages_free(s->pages);
	websocket_hub_free(s->websockets);
	free(s->request);
	free(s->fields);
	free(s->extra);
	free(s->path);
	free(s);
	return NULL;
}

const struct protocol *http_server_protocol(const struct http_server *s)
{
	return &s->protocol;
}

void http_server_end_turn(struct http_server *s)
{
	while (!LIST_EMPTY(&s->dead))
		request_free(LIST_FIRST(&s->dead));
}

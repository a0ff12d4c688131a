/*
 * Generations. Runs in the primary. A new one is staged whole (identity, sockets) before its first fork;
 * whatever fails leaves nothing behind.
 */
#include "primary/generation.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/log.h"
#include "primary/farm.h"
#include "primary/farm_pool.h"
#include "primary/listener.h"
#include "primary/primary.h"
#include "shared/access_log.h"

#define ADMIN_BACKLOG 64

static void generation_free(struct primary *p, struct generation *g)
{
	for (size_t i = 0; i < g->n_listeners; i++)
		listener_pool_release(p->pool, &g->listeners[i]);
	if (g->admin.sockets)
		listener_pool_release(p->pool, &g->admin);
	free(g->listeners);
	free(g->identity.groups);
	clients_free(&g->clients);
	if (g->access_fd > STDERR_FILENO)
		close(g->access_fd);
	farms_free(g->farms);
	config_free(g->config);
	free(g);
}

/* Frees it when nothing needs it any more; to be called whenever one of its processes or its office is gone. */
void generation_release(struct primary *p, struct generation *g)
{
	if (g->n_procs == 0 && g != p->current && !g->staged)
		generation_free(p, g);
}

static int resolve_groups(const char *user, struct identity *id)
{
	int n = 0;

	getgrouplist(user, id->gid, NULL, &n);
	id->groups = calloc((size_t)n + 1, sizeof(*id->groups));
	if (!id->groups)
		return -ENOMEM;
	if (getgrouplist(user, id->gid, id->groups, &n) < 0)
		return -EIO;
	id->n_groups = n;
	return 0;
}

/* Looks up [tined] user here, once, so that no child ever has to ask the name service. */
static int resolve_identity(const struct config *c, struct identity *ret, char *error, size_t size)
{
	const char *user = c->tined.user;
	struct passwd *pw;

	if (!user || !*user)
		return 0;
	errno = 0;
	pw = getpwnam(user);
	if (!pw) {
		snprintf(error, size, "%s: tined.user: %s: %s", c->path, user,
			errno ? strerror(errno) : "no such user");
		return -EINVAL;
	}
	if (geteuid() == pw->pw_uid)
		return 0;
	if (geteuid() != 0) {
		snprintf(error, size,
			"%s: tined.user: only root can become %s; start as root or leave it out",
			c->path, user);
		return -EPERM;
	}
	ret->set = true;
	ret->uid = pw->pw_uid;
	ret->gid = pw->pw_gid;
	if (resolve_groups(user, ret) < 0) {
		snprintf(error, size, "%s: tined.user: %s: cannot read its groups", c->path, user);
		return -EIO;
	}
	return 0;
}

static int open_listeners(struct primary *p, struct generation *g, char *error, size_t size)
{
	const struct config *c = g->config;

	g->listeners = calloc(c->n_listeners, sizeof(*g->listeners));
	if (!g->listeners) {
		snprintf(error, size, "out of memory");
		return -ENOMEM;
	}
	for (size_t i = 0; i < c->n_listeners; i++) {
		int r = listener_pool_open(
			p->pool, c, &c->listeners[i], g->target, &g->listeners[i], error, size);

		if (r < 0)
			return r;
		g->n_listeners++;
	}
	return 0;
}

static int open_admin(struct primary *p, struct generation *g, char *error, size_t size)
{
	const struct config *c = g->config;

	if (!c->has_admin)
		return 0;
	g->admin_conf = (struct conf_listener){.address = c->admin.listen,
		.address_line = c->admin.listen_line,
		.accept = ACCEPT_SHARED,
		.backlog = ADMIN_BACKLOG};
	g->has_admin = true;
	return listener_pool_open(p->pool, c, &g->admin_conf, 1, &g->admin, error, size);
}

static int open_access(struct primary *p, struct generation *g, char *error, size_t size)
{
	const struct config *c = g->config;
	const struct conf_sink *sink = &c->http.access_log;
	int r = 0;

	if (sink->off)
		return 0;
	if (!p->access.slots)
		r = access_slots_new(p->n_slots, &p->access);
	if (r == 0)
		r = g->access_fd = log_open_sink(sink->sink, sink->path);
	if (r < 0)
		snprintf(error, size, "%s:%u: http.access_log: %s: %s", c->path,
			c->http.access_log_line, sink->path ? sink->path : "journal", strerror(-r));
	return r < 0 ? r : 0;
}

/*
 * Opens the file of the access log anew, after it was rotated away; does nothing when it is none.
 * Returns 0 or -errno; the old one stays after an error.
 */
int generation_reopen_access(struct generation *g)
{
	const struct conf_sink *sink = &g->config->http.access_log;
	int fd;

	if (sink->off || sink->sink != LOG_SINK_FILE)
		return 0;
	fd = log_open_sink(sink->sink, sink->path);
	if (fd < 0)
		return fd;
	close(g->access_fd);
	g->access_fd = fd;
	return 0;
}

static int map_clients(struct primary *p, struct generation *g, char *error, size_t size)
{
	const struct config *c = g->config;
	int r;

	if (c->http.max_per_client == 0)
		return 0;
	r = clients_new(p->n_slots, c->workers.max_connections, &g->clients);
	if (r < 0)
		snprintf(error, size, "%s: http.max_per_client: no memory to count them: %s",
			c->path, strerror(-r));
	return r;
}

/*
 * Stages a generation for the configuration, which it owns in every case.
 * Returns 0, or -errno and what is wrong as one line for the operator.
 */
int generation_new(
	struct primary *p, struct config *c, struct generation **ret, char *error, size_t size)
{
	struct generation *g = calloc(1, sizeof(*g));
	int r;

	if (!g) {
		config_free(c);
		snprintf(error, size, "out of memory");
		return -ENOMEM;
	}
	g->config = c;
	g->number = p->last_generation + 1;
	g->target = c->workers.count ? (unsigned)c->workers.count : cpu_available();
	g->staged = true;
	g->access_fd = -1;
	r = resolve_identity(c, &g->identity, error, size);
	if (r == 0)
		r = open_listeners(p, g, error, size);
	if (r == 0)
		r = open_admin(p, g, error, size);
	if (r == 0)
		r = open_access(p, g, error, size);
	if (r == 0)
		r = map_clients(p, g, error, size);
	if (r == 0) {
		r = farm_pool_new(p, g);
		if (r < 0)
			snprintf(error, size, "out of memory");
	}
	if (r < 0) {
		generation_free(p, g);
		return r;
	}
	p->last_generation = g->number;
	*ret = g;
	return 0;
}

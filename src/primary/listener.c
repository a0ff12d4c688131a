/*
 * Opens or adopts listening sockets. Runs in the primary.
 * Always holds: a socket in the pool is listening, non-blocking and close-on-exec; an entry without references is
 * closed at once, but for sockets given by systemd, which stay for a later reload.
 */
#include "primary/listener.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <systemd/sd-daemon.h>

#include "base/fd.h"
#include "base/log.h"
#include "ipc/lane.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "shared/notify.h"

#define NOBODY UINT32_MAX

/*
 * Names of descriptors that systemd keeps for us, or that the process before us passed on: a socket we opened ourselves is
 * called "tined.LISTENER.INODE", which no other one is as long as it lives: a listener may have several, and for a while
 * those of two addresses. All other names are those of socket units.
 */
#define OWN_PREFIX "tined."

struct pool_entry {
	TAILQ_ENTRY(pool_entry) link;
	char name[LISTENER_FD_NAME_MAX]; /* of the listener that opened it, or of the socket unit */
	bool inherited; /* from a former process; which port its configuration asked for is not known */
	struct address address; /* as configured */
	struct address bound;   /* as it is: differs where the port was 0 */
	unsigned accept;
	struct socket_set sockets;
	size_t n_stored; /* of them systemd was asked to keep the first so many */
	uint32_t *
		adopters; /* reuseport: slot that minds a socket whose own worker is away, or NOBODY */
	unsigned refs;
};

struct listener_pool {
	bool on_trial;    /* what was inherited is still served by the process before us */
	bool handed_over; /* somebody else serves on them: paths are his */
	TAILQ_HEAD(, pool_entry) entries;
};

static struct pool_entry *entry_new(const char *name, const struct address *a)
{
	struct pool_entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->address = e->bound = *a;
	return e;
}

static int entry_add_fd(struct pool_entry *e, int fd)
{
	int *fds = realloc(e->sockets.fds, (e->sockets.n_fds + 1) * sizeof(*fds));
	uint32_t *adopters;

	if (!fds)
		return -ENOMEM;
	e->sockets.fds = fds;
	adopters = realloc(e->adopters, (e->sockets.n_fds + 1) * sizeof(*adopters));
	if (!adopters)
		return -ENOMEM;
	e->adopters = adopters;
	e->adopters[e->sockets.n_fds] = NOBODY;
	e->sockets.fds[e->sockets.n_fds++] = fd;
	return 0;
}

static const char *unix_path(const struct address *a)
{
	return ((const struct sockaddr_un *)&a->sa)->sun_path;
}

/* Under which name a socket is passed on and kept: see OWN_PREFIX. */
static void fd_name(const struct pool_entry *e, int fd, char ret[LISTENER_FD_NAME_MAX])
{
	struct stat st = {0};

	if (e->address.kind == ADDRESS_SYSTEMD) {
		snprintf(ret, LISTENER_FD_NAME_MAX, "%s", e->name);
		return;
	}
	fstat(fd, &st);
	snprintf(ret, LISTENER_FD_NAME_MAX, OWN_PREFIX "%.*s.%" PRIu64, CONFIG_NAME_MAX, e->name,
		(uint64_t)st.st_ino);
}

/* For good: systemd gives the socket up, too. One that was inherited may be from there. */
static void forget(const struct pool_entry *e, size_t socket)
{
	char name[LISTENER_FD_NAME_MAX];

	if (!e->inherited && socket >= e->n_stored)
		return;
	fd_name(e, e->sockets.fds[socket], name);
	if (!notify_forget_fd(name))
		log_warning("systemd is too busy to give up a socket of %s; it is closed at the "
			    "next start",
			e->bound.text);
}

static void remove_path(const struct address *a)
{
	struct stat st;

	if (lstat(unix_path(a), &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(unix_path(a));
}

/* keep: others have the sockets and serve on, or will; nothing is taken from them. */
static void entry_close(struct pool_entry *e, bool keep)
{
	if (e->address.kind == ADDRESS_UNIX && e->sockets.n_fds > 0 && !keep)
		remove_path(&e->address);
	while (e->sockets.n_fds > 0) {
		e->sockets.n_fds--;
		if (!keep)
			forget(e, e->sockets.n_fds);
		close(e->sockets.fds[e->sockets.n_fds]);
	}
	e->n_stored = 0;
}

static struct pool_entry *entry_free(struct pool_entry *e, bool keep)
{
	if (!e)
		return NULL;
	entry_close(e, keep);
	free(e->sockets.fds);
	free(e->adopters);
	free(e);
	return NULL;
}

/* Whether somebody else serves on its sockets. */
static bool is_not_ours(const struct listener_pool *pool, const struct pool_entry *e)
{
	return pool->handed_over || (pool->on_trial && e->inherited);
}

/*
 * A socket file that nobody listens on any more is left over from a crash: remove it. One that answers is
 * somebody's. Returns 0 or -EADDRINUSE.
 */
static int clear_stale_unix(const struct address *a)
{
	CLEANUP(closep) int fd = -1;
	struct stat st;

	if (lstat(unix_path(a), &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&a->sa, a->len) == 0 || errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(unix_path(a)) < 0 ? -errno : 0;
}

/*
 * The loopback device has no queue to protect: there, congestion control that paces (BBR, the default of many servers)
 * only sets timers, which double the cost of a larger answer.
 */
static bool is_loopback(const struct address *a)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a->sa;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a->sa;

	if (a->sa.ss_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
	return a->sa.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* Accepted sockets inherit these, which saves two system calls for each connection. */
static int set_options(int fd, const struct address *a, bool reuseport)
{
	const int on = 1;

	if (a->kind == ADDRESS_UNIX)
		return 0;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return -errno;
	if (a->sa.ss_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
		return -errno;
	if (is_loopback(a)) /* best effort: the system's own choice will do */
		setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno"));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on,
		sizeof(on)); /* a peer without power never says goodbye */
	if (reuseport && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		return -errno;
	return 0;
}

static int open_socket(const struct address *a, bool reuseport, unsigned backlog, int *ret_fd)
{
	CLEANUP(closep) int fd = -1;
	int r;

	if (a->kind == ADDRESS_UNIX) {
		r = clear_stale_unix(a);
		if (r < 0)
			return r;
	}
	fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = set_options(fd, a, reuseport);
	if (r < 0)
		return r;
	if (bind(fd, (const struct sockaddr *)&a->sa, a->len) < 0)
		return -errno;
	/* Whoever reaches the folder may connect, as with a TCP port; guard it by the folder's mode. */
	if (a->kind == ADDRESS_UNIX && chmod(unix_path(a), 0666) < 0)
		return -errno;
	if (listen(fd, (int)backlog) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

/* The address in numbers, once the kernel has chosen a port. */
static void read_bound(struct pool_entry *e)
{
	struct sockaddr_storage *sa = &e->bound.sa;
	unsigned port;

	if (e->bound.kind != ADDRESS_INET)
		return;
	e->bound.len = sizeof(*sa);
	if (getsockname(e->sockets.fds[0], (struct sockaddr *)sa, &e->bound.len) < 0)
		return;
	port = sa->ss_family == AF_INET ? ((struct sockaddr_in *)sa)->sin_port
					: ((struct sockaddr_in6 *)sa)->sin6_port;
	*strrchr(e->bound.text, ':') = '\0';
	snprintf(e->bound.text + strlen(e->bound.text),
		sizeof(e->bound.text) - strlen(e->bound.text), ":%u", ntohs((uint16_t)port));
}

/* Opens what is missing up to n sockets. */
static int open_sockets(struct pool_entry *e, unsigned backlog, size_t n)
{
	while (e->sockets.n_fds < n) {
		int fd = -1, r;

		r = open_socket(&e->bound, e->accept == ACCEPT_REUSEPORT, backlog, &fd);
		if (r < 0)
			return r;
		r = entry_add_fd(e, fd);
		if (r < 0) {
			close(fd);
			return r;
		}
		if (e->sockets.n_fds == 1)
			read_bound(e);
	}
	return 0;
}

/* Whether an address that asks for any port of a host means one that has a port there. */
static bool is_any_port(const struct address *asked, const struct address *bound)
{
	const char *asked_port = strrchr(asked->text, ':');
	const char *bound_port = strrchr(bound->text, ':');

	return asked->kind == ADDRESS_INET && bound->kind == ADDRESS_INET && asked_port &&
		strcmp(asked_port, ":0") == 0 && bound_port &&
		asked_port - asked->text == bound_port - bound->text &&
		strncmp(asked->text, bound->text, (size_t)(asked_port - asked->text)) == 0;
}

static struct pool_entry *pool_find(struct listener_pool *pool, const struct conf_listener *conf)
{
	struct pool_entry *e;

	TAILQ_FOREACH (e, &pool->entries, link) {
		if (address_equal(&e->bound, &conf->address))
			return e;
		if (strcmp(e->name, conf->name) == 0 &&
			(address_equal(&e->address, &conf->address) ||
				(e->inherited && is_any_port(&conf->address, &e->bound))))
			return e; /* port 0: the port it was given is still good */
	}
	return NULL;
}

/* What bind(2) says, and what to do about it. */
static const char *why_not_bound(int error)
{
	static const struct {
		int error;
		const char *text;
	} known[] = {
		{EADDRINUSE, "Address already in use; \"ss -lptn\" tells by whom"},
		{EACCES,
			"Permission denied; ports below 1024 need CAP_NET_BIND_SERVICE or a start "
			"as root"},
		{EADDRNOTAVAIL,
			"Cannot assign requested address; no interface of this machine has it"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (known[i].error == error)
			return known[i].text;
	}
	return strerror(error);
}

static int refuse(const struct config *config, const struct conf_listener *conf, const char *why,
	int r, char *error, size_t size)
{
	char key[CONFIG_NAME_MAX + 32] = "admin.listen";

	if (*conf->name)
		snprintf(key, sizeof(key), "listener:%s.address", conf->name);
	snprintf(error, size, "%s:%u: %s: %s: %s", config->path,
		conf->address_line ? conf->address_line : conf->line, key, conf->address.text, why);
	return r;
}

/* Whether an inherited socket that nobody holds yet is as the configuration wants it. */
static bool can_serve_again(const struct pool_entry *e, const struct conf_listener *conf)
{
	struct stat st;

	if (e->refs > 0)
		return true;
	if (e->address.kind == ADDRESS_UNIX &&
		(lstat(unix_path(&e->address), &st) < 0 || !S_ISSOCK(st.st_mode)))
		return false; /* its path is gone: nobody would find it */
	return e->accept == conf->accept;
}

/* Finds or opens the sockets of one configured listener; one reference is the caller's. */
int listener_pool_open(struct listener_pool *pool, const struct config *config,
	const struct conf_listener *conf, unsigned n_workers, struct listener *ret, char *error,
	size_t size)
{
	size_t n = conf->accept == ACCEPT_REUSEPORT ? n_workers : 1;
	struct pool_entry *e = pool_find(pool, conf);
	bool is_new = !e;
	int r;

	if (!e && conf->address.kind == ADDRESS_SYSTEMD)
		return refuse(config, conf,
			"systemd passed no socket of that name; set FileDescriptorName= in the "
			"socket unit",
			-ENOENT, error, size);
	if (e && e->accept != conf->accept && (e->refs > 0 || is_not_ours(pool, e)))
		return refuse(config, conf,
			"`accept` cannot change while it is served; restart to do so", -EBUSY,
			error, size);
	if (e && e->inherited && !can_serve_again(e, conf))
		entry_close(e, false);
	if (!e)
		e = entry_new(conf->name, &conf->address);
	if (!e)
		return refuse(config, conf, strerror(ENOMEM), -ENOMEM, error, size);
	e->accept = conf->accept;
	if (pool->on_trial && e->sockets.n_fds > 0)
		n = 0; /* nobody would take from more of them yet: listener_pool_own() opens them */
	r = open_sockets(e, (unsigned)conf->backlog, n);
	if (r < 0) {
		if (is_new)
			entry_free(e, false);
		return refuse(config, conf, why_not_bound(-r), r, error, size);
	}
	if (is_new)
		TAILQ_INSERT_TAIL(&pool->entries, e, link);
	if (e->refs == 0)
		log_info("listening on %s (%s%s)", e->bound.text,
			*conf->name ? "listener:" : "admin", conf->name);
	if (conf->address.kind != ADDRESS_SYSTEMD)
		for (size_t i = 0; i < e->sockets.n_fds; i++)
			listen(e->sockets.fds[i], (int)conf->backlog); /* a changed backlog */
	e->refs++;
	*ret = (struct listener){.conf = conf, .sockets = &e->sockets};
	return 0;
}

static struct pool_entry *entry_of(const struct listener *l)
{
	return (struct pool_entry *)((char *)l->sockets - offsetof(struct pool_entry, sockets));
}

void listener_pool_release(struct listener_pool *pool, struct listener *l)
{
	struct pool_entry *e = entry_of(l);

	if (--e->refs > 0 || e->address.kind == ADDRESS_SYSTEMD)
		return;
	TAILQ_REMOVE(&pool->entries, e, link);
	if (e->sockets.n_fds > 0)
		log_info("no longer listening on %s", e->bound.text);
	entry_free(e, is_not_ours(pool, e));
}

/* More workers: each index needs a socket of its own where accept = reuseport. Returns 0 or -errno. */
int listener_pool_grow(struct listener_pool *pool, struct primary *p, unsigned n_workers)
{
	const struct generation *g = p->current;

	for (size_t i = 0; i < g->n_listeners; i++) {
		const struct listener *l = &g->listeners[i];
		int r;

		if (l->conf->accept != ACCEPT_REUSEPORT)
			continue;
		r = open_sockets(entry_of(l), (unsigned)l->conf->backlog, n_workers);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The listener's place in the generation of a process; -1: it does not have it. */
static int index_in(const struct generation *g, const struct pool_entry *e)
{
	for (size_t i = 0; i < g->n_listeners; i++) {
		if (g->listeners[i].sockets == &e->sockets)
			return (int)i;
	}
	return -1;
}

static bool can_serve(const struct proc *pr, const struct pool_entry *e)
{
	return pr->role == ROLE_WORKER && proc_serves(pr) && index_in(pr->gen, e) >= 0;
}

static void tell(struct proc *pr, const struct pool_entry *e, size_t socket, bool on)
{
	struct msg_listen m = {(uint32_t)index_in(pr->gen, e), (uint32_t)socket};

	if (on)
		lane_send_fd(pr->control, MSG_LISTEN, &m, sizeof(m), e->sockets.fds[socket]);
	else
		lane_send(pr->control, MSG_UNLISTEN, 0, &m, sizeof(m));
}

/* Sees to it that one socket is minded: by the worker of its index, else by any other that has the listener. */
static void assign_socket(struct pool_entry *e, struct primary *p, size_t socket)
{
	uint32_t *adopter = &e->adopters[socket];
	struct proc *own = NULL, *other = NULL, *now = NULL;

	proctab_foreach (p, pr) {
		if (!can_serve(pr, e))
			continue;
		if (pr->index == socket)
			own = pr;
		else if (!other)
			other = pr;
		if (pr->slot == *adopter)
			now = pr;
	}
	if (!now)
		*adopter = NOBODY; /* it has ended; whoever has its slot now was never told */
	if (own) {
		if (now)
			tell(now, e, socket, false);
		*adopter = NOBODY;
	} else if (!now && other && p->phase != PRIMARY_STARTING) {
		tell(other, e, socket, true);
		*adopter = other->slot;
	}
}

/* To be called whenever a worker begins or ceases to serve: no reuseport queue may be left unattended. */
void listener_pool_assign(struct listener_pool *pool, struct primary *p)
{
	struct pool_entry *e;

	TAILQ_FOREACH (e, &pool->entries, link) {
		if (e->accept != ACCEPT_REUSEPORT)
			continue;
		for (size_t i = 0; i < e->sockets.n_fds; i++)
			assign_socket(e, p, i);
	}
}

static struct pool_entry *find_bound(
	struct listener_pool *pool, const struct address *bound, const char *name)
{
	struct pool_entry *e;

	TAILQ_FOREACH (e, &pool->entries, link) {
		if (strcmp(e->name, name) == 0 && address_equal(&e->bound, bound))
			return e;
	}
	return NULL;
}

/* What the entry of an adopted socket is to be called. Returns false when it is none that can be used. */
static bool identify(const char *passed_as, int fd, struct address *ret, char *ret_name)
{
	const size_t prefix = strlen(OWN_PREFIX);
	char *inode;

	if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
		return false;
	snprintf(ret_name, LISTENER_FD_NAME_MAX, "%s", passed_as);
	if (strncmp(passed_as, OWN_PREFIX, prefix) == 0) {
		inode = strrchr(ret_name + prefix, '.');
		if (inode)
			*inode = '\0';
		memmove(ret_name, ret_name + prefix, strlen(ret_name + prefix) + 1);
		return inode && address_of_socket(fd, ret) == 0;
	}
	*ret = (struct address){.kind = ADDRESS_SYSTEMD};
	return (size_t)snprintf(ret->text, sizeof(ret->text), "systemd:%s", passed_as) <
		sizeof(ret->text);
}

/* Takes one socket that was passed under a name (sd_listen_fds_with_names(3)). Returns 0 or -errno. */
static int adopt(struct listener_pool *pool, const char *passed_as, int fd)
{
	char name[LISTENER_FD_NAME_MAX];
	struct pool_entry *e;
	struct address a;
	int on = 0;
	socklen_t len = sizeof(on);

	if (!identify(passed_as, fd, &a, name)) {
		log_warning(
			"descriptor %d (%s) was passed to us and is no listening stream socket; "
			"ignoring it",
			fd, passed_as);
		close(fd);
		return 0;
	}
	fd_set_cloexec(fd, true);
	fd_set_nonblock(fd);
	e = find_bound(pool, &a, name);
	if (e)
		return entry_add_fd(e, fd);
	e = entry_new(name, &a);
	if (!e)
		return -ENOMEM;
	e->inherited = a.kind != ADDRESS_SYSTEMD;
	if (a.kind == ADDRESS_SYSTEMD)
		set_options(fd, &a, false);
	else if (getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, &len) == 0 && on)
		e->accept = ACCEPT_REUSEPORT;
	TAILQ_INSERT_TAIL(&pool->entries, e, link);
	return entry_add_fd(e, fd);
}

static int adopt_all(struct listener_pool *pool)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names), r = 0;

	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = adopt(pool, names[i], SD_LISTEN_FDS_START + i);
		free(names[i]);
	}
	free(names);
	return n < 0 ? n : r;
}

/* Starts with the sockets that systemd passed to this process. Returns 0 or -errno. */
int listener_pool_new(struct listener_pool **ret)
{
	struct listener_pool *pool = calloc(1, sizeof(*pool));
	int r;

	if (!pool)
		return -ENOMEM;
	TAILQ_INIT(&pool->entries);
	r = adopt_all(pool);
	if (r < 0) {
		listener_pool_free(pool);
		return r;
	}
	*ret = pool;
	return 0;
}

/* How many sockets there are. */
size_t listener_pool_count(const struct listener_pool *pool)
{
	const struct pool_entry *e;
	size_t n = 0;

	TAILQ_FOREACH (e, &pool->entries, link)
		n += e->sockets.n_fds;
	return n;
}

/* All sockets, and the names under which a new binary knows them again. Both have listener_pool_count() elements. */
void listener_pool_export(
	const struct listener_pool *pool, int *ret_fds, char (*ret_names)[LISTENER_FD_NAME_MAX])
{
	const struct pool_entry *e;
	size_t n = 0;

	TAILQ_FOREACH (e, &pool->entries, link) {
		for (size_t i = 0; i < e->sockets.n_fds; i++, n++) {
			ret_fds[n] = e->sockets.fds[i];
			fd_name(e, ret_fds[n], ret_names[n]);
		}
	}
}

/* From now on they are somebody else's: closing them here takes nothing away. */
void listener_pool_hand_over(struct listener_pool *pool)
{
	pool->handed_over = true;
}

/* What was inherited is still somebody else's: until listener_pool_own(), closing it here takes nothing away. */
void listener_pool_borrow(struct listener_pool *pool)
{
	pool->on_trial = true;
}

/* The worker of an index did not inherit a socket that was opened after its birth. */
static void give_own(struct pool_entry *e, struct primary *p, size_t socket)
{
	proctab_foreach (p, pr) {
		if (pr->role == ROLE_WORKER && pr->state == PROC_READY && pr->index == socket &&
			index_in(pr->gen, e) >= 0)
			tell(pr, e, socket, true);
	}
}

/* The first generation, which was on trial, is about to serve in place of another process: all is ours now. */
void listener_pool_own(struct listener_pool *pool, struct primary *p, const struct generation *g)
{
	pool->on_trial = false;
	for (size_t i = 0; i < g->n_listeners; i++) {
		const struct listener *l = &g->listeners[i];
		struct pool_entry *e = entry_of(l);
		size_t had = e->sockets.n_fds;
		int r;

		if (l->conf->accept != ACCEPT_REUSEPORT)
			continue;
		r = open_sockets(e, (unsigned)l->conf->backlog, g->target);
		if (r < 0)
			log_warning(
				"%s: cannot open a socket for each worker: %s; going on with %zu",
				e->bound.text, strerror(-r), e->sockets.n_fds);
		while (had < e->sockets.n_fds)
			give_own(e, p, had++);
	}
}

/*
 * Has systemd keep what we opened, for the one after us, should we die; does nothing where it does not. To be called now
 * and then: what could not be said is said the next time.
 */
void listener_pool_store(struct listener_pool *pool)
{
	char name[LISTENER_FD_NAME_MAX];
	struct pool_entry *e;

	if (pool->handed_over || pool->on_trial || !notify_keeps_fds())
		return;
	TAILQ_FOREACH (e, &pool->entries, link) {
		while (e->address.kind != ADDRESS_SYSTEMD && e->n_stored < e->sockets.n_fds) {
			int fd = e->sockets.fds[e->n_stored];

			fd_name(e, fd, name);
			if (!notify_store_fd(name, fd))
				return;
			e->n_stored++;
		}
	}
}

/*
 * No new connections from here on: clients are refused at once, but for those at sockets that systemd holds. These it gives
 * to the next process of a restart, and closes when it was a stop.
 */
void listener_pool_close(struct listener_pool *pool)
{
	struct pool_entry *e;

	TAILQ_FOREACH (e, &pool->entries, link) {
		if (e->address.kind == ADDRESS_SYSTEMD)
			continue;
		if (e->sockets.n_fds > 0)
			log_info("no longer listening on %s", e->bound.text);
		entry_close(e, is_not_ours(pool, e) || e->n_stored > 0);
	}
}

static bool is_needed_by(const struct generation *g, const struct pool_entry *e)
{
	return index_in(g, e) >= 0 || g->admin.sockets == &e->sockets;
}

/* Closes what the generation that serves has no use for, though others still drain. */
void listener_pool_retire(struct listener_pool *pool, const struct primary *p)
{
	struct pool_entry *e;

	TAILQ_FOREACH (e, &pool->entries, link) {
		if (e->address.kind == ADDRESS_SYSTEMD || e->sockets.n_fds == 0 ||
			is_needed_by(p->current, e))
			continue;
		log_info("no longer listening on %s", e->bound.text);
		entry_close(e, false);
	}
}

struct listener_pool *listener_pool_free(struct listener_pool *pool)
{
	struct pool_entry *e;

	if (!pool)
		return NULL;
	while ((e = TAILQ_FIRST(&pool->entries))) {
		TAILQ_REMOVE(&pool->entries, e, link);
		entry_free(e, is_not_ours(pool, e));
	}
	free(pool);
	return NULL;
}

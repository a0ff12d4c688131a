/*
 * The self-probe of a worker on trial. Runs in the worker, on its loop.
 *
 * First each module gets a GET of its mount, all at once; when the last has begun to answer, closed, or taken a second (a
 * quarter of start_timeout if that is less), the worker has passed: what is tried is that it lives, not what it answers. From then on, until it gets
 * clients, it is asked what the serving workers are being asked, as far as the scoreboard tells.
 *
 * Each request goes through a socketpair, so it takes the way of a client's. The other end of that is a connection of
 * a server of the probe's own, for the same routes: so none of it is in the figures of the worker or in its access log,
 * and a drain does not wait for it. Only the request line is shown in the worker's slot, for the crash record.
 * That server stays when the trial is over: modules may still have requests of it, to be answered to nobody.
 */
#include "worker/probe.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/peer.h"
#include "base/turn.h"
#include "http/path.h"
#include "http/server.h"
#include "ipc/msg.h"
#include "net/server.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/listener.h"
#include "shared/scoreboard.h"

#define SHOT_US     US_PER_S     /* nobody is waited for longer */
#define TICKS       10           /* in that time; at each the serving workers are looked at */
#define SHOT_BYTES  (256u << 10) /* more of an answer is not read */
#define REPLAYS_MAX 16           /* requests under way at the same time */
#define N_RECENT    32           /* request lines that are not repeated within... */
#define REPEAT_US   US_PER_S
#define AGENT       "tined-probe/" TINED_VERSION
#define FIELDS      "Host: localhost\r\nUser-Agent: " AGENT "\r\nConnection: close\r\n\r\n"

/* One request under way, seen from its client. */
struct shot {
	LIST_ENTRY(shot) link;
	struct probe *probe;
	struct event readable;
	int fd;
	uint64_t begun_us;
	size_t received;
	bool awaited; /* one of the first, and nothing has come yet */
};

struct recent {
	char line[SB_REQUEST_LINE];
	uint64_t asked_us; /* 0: none */
};

struct probe {
	struct probe_options o;
	struct net_server *net;
	struct http_server *http;
	struct event tick;
	LIST_HEAD(, shot) shots;
	uint64_t shot_us; /* how long an answer may take */
	unsigned n_shots, n_awaited, n_sent;
	bool passed, stopped;
	struct recent recent[N_RECENT];
};

/* The last of the first ones calls on_passed(), which may do anything but free us. */
static void probe_heard(struct probe *p)
{
	if (p->n_awaited > 0 || p->passed || p->stopped)
		return;
	p->passed = true;
	log_debug("probe: passed, %u requests", p->n_sent);
	p->o.on_passed(p->o.arg);
}

static void shot_heard(struct shot *shot)
{
	if (!shot->awaited)
		return;
	shot->awaited = false;
	shot->probe->n_awaited--;
}

static void shot_free(struct shot *shot)
{
	shot_heard(shot);
	event_del(&shot->readable);
	close(shot->fd);
	LIST_REMOVE(shot, link);
	shot->probe->n_shots--;
	free(shot);
}

/* Reads and drops what there is of an answer. Returns false when there will be no more of interest. */
static bool shot_read(struct shot *shot)
{
	char data[16 << 10];
	ssize_t n = recv(shot->fd, data, sizeof(data), 0);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	shot->received += (size_t)n;
	return n > 0 && shot->received < SHOT_BYTES;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct shot *shot = arg;
	struct probe *p = shot->probe;

	turn_mark();
	if (!shot_read(shot))
		shot_free(shot);
	else if (shot->received > 0)
		shot_heard(shot);
	probe_heard(p);
}

static int shot_new(struct probe *p, int fd, bool awaited)
{
	struct shot *shot = calloc(1, sizeof(*shot));

	if (!shot)
		return -ENOMEM;
	shot->probe = p;
	shot->fd = fd;
	shot->begun_us = now_us();
	event_assign(&shot->readable, p->o.base, fd, EV_READ | EV_PERSIST, on_readable, shot);
	if (event_add(&shot->readable, NULL) < 0) {
		free(shot);
		return -ENOMEM;
	}
	shot->awaited = awaited;
	p->n_awaited += awaited;
	p->n_shots++;
	p->n_sent++;
	LIST_INSERT_HEAD(&p->shots, shot, link);
	return 0;
}

/* Sends a request to a listener's modules. Returns 0 or a negative errno; then they have not got it. */
static int probe_send(struct probe *p, size_t listener, const char *line, bool awaited)
{
	const int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
	const char *const parts[] = {line, "\r\n" FIELDS};
	const struct peer us = {.family = AF_UNIX};
	int fds[2], r = 0;

	if (socketpair(AF_UNIX, type, 0, fds) < 0)
		return -errno;
	for (size_t i = 0; i < 2 && r == 0; i++) {
		if (send(fds[0], parts[i], strlen(parts[i]), MSG_NOSIGNAL) < 0)
			r = -errno;
	}
	if (r == 0)
		r = shot_new(p, fds[0], awaited);
	if (r < 0) {
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	/* if it fails, the other end hears of it */
	net_server_accept(
		p->net, http_server_protocol(p->http), p->o.routers[listener], fds[1], &us);
	return 0;
}

static bool speaks_http(const struct probe *p, size_t listener)
{
	return p->o.child->listeners[listener].conf->protocol == PROTOCOL_HTTP;
}

/* --- what the serving workers are being asked --- */

/*
 * The request line that a slot shows, or the one it showed last: all but its first byte is left there. The memory is another
 * process's: nothing is looked at before it has been copied. Returns false when there is none that can be repeated.
 */
static bool line_copy(const struct sb_slot *s, char ret[SB_REQUEST_LINE])
{
	char again[SB_REQUEST_LINE];
	const char *target, *end;
	size_t len;

	memcpy(ret, s->request_line, SB_REQUEST_LINE);
	atomic_signal_fence(memory_order_seq_cst); /* it is to be read twice */
	memcpy(again, s->request_line, SB_REQUEST_LINE);
	if (memcmp(ret + 1, again + 1, SB_REQUEST_LINE - 1) != 0)
		return false; /* it is being written */
	if (ret[0] == '\0')
		ret[0] = ret[2] == 'T' ? 'G' : 'H';
	len = strnlen(ret, SB_REQUEST_LINE);
	if (len == SB_REQUEST_LINE || len < sizeof("GET / HTTP/1.1") - 1)
		return false;
	end = ret + len - (sizeof(" HTTP/1.1") - 1);
	if (strcmp(end, " HTTP/1.1") != 0 && strcmp(end, " HTTP/1.0") != 0)
		return false;
	if (strncmp(ret, "GET /", 5) != 0 && strncmp(ret, "HEAD /", 6) != 0)
		return false;
	for (target = strchr(ret, '/'); target < end; target++) {
		if (*target <= ' ' || *target > '~')
			return false;
	}
	return true;
}

/* Whether a line is to be sent now; if so, it is taken to have been. */
static bool line_is_due(struct probe *p, const char *line, uint64_t now)
{
	struct recent *oldest = &p->recent[0];

	for (size_t i = 0; i < N_RECENT; i++) {
		struct recent *r = &p->recent[i];

		if (strcmp(r->line, line) == 0) {
			oldest = r;
			break;
		}
		if (r->asked_us < oldest->asked_us)
			oldest = r;
	}
	if (oldest->asked_us != 0 && now < oldest->asked_us + REPEAT_US)
		return false;
	strcpy(oldest->line, line);
	oldest->asked_us = now;
	return true;
}

/* Which listener it came to is not known. */
static void line_replay(struct probe *p, const char *line)
{
	for (size_t i = 0; i < p->o.child->n_listeners; i++) {
		if (speaks_http(p, i) && p->n_shots < REPLAYS_MAX)
			probe_send(p, i, line, false);
	}
}

static bool is_serving(const struct probe *p, const struct sb_slot *s)
{
	return sb_get(s->role) == ROLE_WORKER && sb_get(s->state) == PROC_READY &&
		!sb_get(s->on_trial) && sb_get(s->generation) != p->o.child->generation;
}

static void replay(struct probe *p, uint64_t now)
{
	const struct scoreboard *sb = p->o.child->scoreboard;
	size_t n_used = sb_get(*sb->n_used);
	char line[SB_REQUEST_LINE];

	for (size_t i = 0; i < n_used && i < sb->n_slots && p->n_shots < REPLAYS_MAX; i++) {
		const struct sb_slot *s = &sb->slots[i];

		if (is_serving(p, s) && line_copy(s, line) && line_is_due(p, line, now))
			line_replay(p, line);
	}
}

/* --- the trial --- */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct probe *p = arg;
	struct shot *shot, *next;
	uint64_t now = turn_mark();

	for (shot = LIST_FIRST(&p->shots); shot; shot = next) {
		next = LIST_NEXT(shot, link);
		if (now >= shot->begun_us + p->shot_us)
			shot_free(shot);
	}
	probe_heard(p);
	if (p->passed && !p->stopped)
		replay(p, now);
}

static int probe_open(struct probe *p)
{
	struct net_options o = {.base = p->o.base,
		.pool = p->o.pool,
		.request_line = p->o.child->scoreboard->slots[p->o.child->slot].request_line,
		.input_max = p->o.input_max,
		.window_us = SHOT_US};
	char error[HTTP_ERROR_MAX];
	int r = net_server_new(&o, &p->net);

	return r < 0 ? r
		     : http_server_new(p->net, &p->o.child->config->http, NULL, error, &p->http);
}

/* An answer that does not come is not to take a worker all of the time that it has to start. */
static uint64_t shot_limit(const struct config *c)
{
	uint64_t us = c->workers.start_timeout_us / 4;

	return us < SHOT_US ? us : SHOT_US;
}

/* Returns 0 or a negative errno. It lives as long as the process. */
int probe_new(const struct probe_options *o, struct probe **ret)
{
	struct probe *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->o = *o;
	p->shot_us = shot_limit(o->child->config);
	LIST_INIT(&p->shots);
	event_assign(&p->tick, o->base, -1, EV_PERSIST, on_tick, p);
	r = probe_open(p);
	if (r < 0) {
		net_server_free(p->net);
		free(p);
		return r;
	}
	*ret = p;
	return 0;
}

static size_t listener_of(const struct child *c, const char *name)
{
	size_t i = 0;

	while (i < c->n_listeners && strcmp(c->listeners[i].conf->name, name) != 0)
		i++;
	return i;
}

/* The first line of a request for a module's mount. Returns 0 or -EMSGSIZE. */
static int mount_line(const struct conf_module *m, char *buf, size_t size)
{
	struct tine_text mount = {m->mount, strlen(m->mount)};
	size_t n = (size_t)snprintf(buf, size, "GET ");
	size_t len = path_encode(mount, buf + n, size - n);

	if (len == 0 ||
		(size_t)snprintf(buf + n + len, size - n - len, " HTTP/1.1") >= size - n - len)
		return -EMSGSIZE;
	return 0;
}

/* Sends the first requests. on_passed() may be called before this returns, when there is nobody to be asked. */
void probe_start(struct probe *p)
{
	const struct timeval often = timeval_from_us(p->shot_us / TICKS);
	const struct config *c = p->o.child->config;
	char line[4096];

	for (size_t i = 0; i < c->n_modules; i++) {
		const struct conf_module *m = &c->modules[i];
		size_t listener = listener_of(p->o.child, m->listener);
		int r;

		if (listener == p->o.child->n_listeners || !speaks_http(p, listener))
			continue;
		r = mount_line(m, line, sizeof(line));
		if (r == 0)
			r = probe_send(p, listener, line, true);
		if (r < 0)
			log_warning("probe of %s: %s; going on without", m->name, strerror(-r));
	}
	event_add(&p->tick, &often);
	probe_heard(p);
}

/* The worker gets clients, or goes: all of it is closed. */
void probe_stop(struct probe *p)
{
	if (p->stopped)
		return;
	p->stopped = true;
	event_del(&p->tick);
	while (!LIST_EMPTY(&p->shots))
		shot_free(LIST_FIRST(&p->shots));
	net_server_abort(p->net);
	log_debug("probe: over after %u requests", p->n_sent);
}

/* To be called after each turn of the loop, also when it has been stopped. Returns whether there is more to be done. */
bool probe_end_turn(struct probe *p)
{
	bool more = net_server_end_turn(p->net);

	http_server_end_turn(p->http);
	return more;
}

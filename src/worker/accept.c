/*
 * Accepting. Runs in a worker.
 *
 * Every worker waits on the same sockets and the kernel wakes them all, so left alone the one that happens to run
 * takes nearly everything. Instead the less loaded get a head start: who holds more than the mean of the accepting
 * workers steps back, until that is no longer so or for a millisecond, and then takes a connection that is still there.
 * When that was in vain for a while, those whose loop has not turned meanwhile (hung, stopped, busy) are left out of
 * the mean until it does, so that a worker that cannot come does not delay every connection. Nor does one that only says it would
 * come: after many head starts in a row that nobody used, there are none for a while.
 */
#include "worker/accept.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/peer.h"
#include "base/turn.h"
#include "ipc/msg.h"
#include "shared/scoreboard.h"

#define HEAD_START_US 1000
#define SKEW_US \
	US_PER_S /* it may have turned since we looked at the clock; what lies beyond is no time of ours */
#define LOOK_AGAIN_US 125 /* how often to see whether stepping back is still right */
#define PATIENCE_US \
	5000 /* head starts in vain for so long: who has not moved meanwhile is absent */
#define IN_VAIN_MAX    100      /* head starts that nobody used, in a row... */
#define TRUCE_US       US_PER_S /* ...after which there are none for so long */
#define NO_FD_PAUSE_US 100000
#define ALONE_BURST    32 /* connections taken in one turn when there is nobody to share with */

struct source {
	LIST_ENTRY(source) link;
	struct acceptor *acceptor;
	struct event readable;
	unsigned listener, socket;
	int fd;
	bool shared; /* others take from it, too */
};

struct acceptor {
	struct acceptor_options o;
	LIST_HEAD(, source) sources;
	struct event resume;
	struct event look_again; /* a timerfd: the loop's own timers are too coarse for this */
	int timer_fd;
	int reserve_fd;           /* given up to shed a connection when descriptors run out */
	bool running, full;       /* full: at max_connections */
	bool starved;             /* the last attempt found no descriptor */
	uint64_t stepped_back_us; /* since when; 0: we are not */
	uint64_t
		in_vain_since_us; /* first of a row of head starts that nobody used; 0: the last one was used */
	unsigned n_in_vain;        /* in that row */
	uint64_t absent_before_us; /* a loop that has not turned since is not waited for */
	uint64_t truce_until_us;   /* nobody is waited for */
};

static void set_timer(struct acceptor *a, uint64_t us)
{
	struct itimerspec its = {.it_value.tv_nsec = (long)us * 1000};

	timerfd_settime(a->timer_fd, 0, &its, NULL);
}

/* Starts or stops waiting for connections: at all sockets, or at the shared ones. */
static void watch(struct acceptor *a, bool on, bool shared_only)
{
	struct source *s;

	LIST_FOREACH (s, &a->sources, link) {
		if (shared_only && !s->shared)
			continue;
		if (on)
			event_add(&s->readable, NULL);
		else
			event_del(&s->readable);
	}
}

static void listen_on(struct acceptor *a, bool on)
{
	if (a->stepped_back_us != 0)
		set_timer(a, 0);
	a->stepped_back_us = 0;
	watch(a, on, false);
	sb_set(a->o.slot->accepting, on);
}

static bool may_listen(const struct acceptor *a)
{
	return a->running && !a->full && !event_pending(&a->resume, EV_TIMEOUT, NULL);
}

static uint64_t n_connections(const struct acceptor *a)
{
	return a->o.n_connections(a->o.arg);
}

/*
 * Whether it is another worker that is there to accept. One whose figures cannot be true is not: it would be waited for in vain at each
 * connection, or make everybody else's share look small.
 */
static bool is_there(const struct acceptor *a, const struct sb_slot *s, uint64_t now)
{
	uint64_t tick_us = sb_get(s->tick_us);

	return sb_get(s->accepting) == 1 && sb_get(s->role) == ROLE_WORKER &&
		tick_us >= a->absent_before_us && tick_us <= now + SKEW_US &&
		sb_get(s->connections) <= a->o.max_connections;
}

/* Returns how many workers are there to accept, and in *ret_sum what they hold; ourselves included. */
static unsigned survey(const struct acceptor *a, uint64_t *ret_sum)
{
	const struct scoreboard *sb = a->o.scoreboard;
	size_t n_used = sb_get(*sb->n_used);
	uint64_t now = now_us();
	unsigned n = 1;

	*ret_sum = n_connections(a);
	for (size_t i = 0; i < n_used && i < sb->n_slots; i++) {
		const struct sb_slot *s = &sb->slots[i];

		if (s == a->o.slot || !is_there(a, s, now))
			continue;
		*ret_sum += sb_get(s->connections);
		n++;
	}
	return n;
}

/* ret_n_workers: how many there are to share with, ourselves included. */
static bool holds_more_than_its_share(const struct acceptor *a, unsigned *ret_n_workers)
{
	uint64_t sum;
	unsigned n = survey(a, &sum);

	*ret_n_workers = n;
	return n > 1 && n_connections(a) * n > sum && now_us() >= a->truce_until_us;
}

static void step_back(struct acceptor *a)
{
	watch(a, false, true);
	a->stepped_back_us = now_us();
	set_timer(a, LOOK_AGAIN_US);
	sb_add(a->o.slot->stepped_back, 1);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct acceptor *a = arg;

	turn_mark();
	if (may_listen(a))
		listen_on(a, true);
}

/*
 * No descriptor is left in this process (EMFILE) or on the machine (ENFILE). Others may have one, so leave the
 * queue to them for a while; when that did not help, tell one client rather than let it wait for ever.
 */
static void on_no_descriptor(struct source *s, int error)
{
	static const struct timeval pause = {0, NO_FD_PAUSE_US};
	struct acceptor *a = s->acceptor;
	const char *text = a->o.no_descriptor_text(s->listener, a->o.arg);
	int fd;

	if (!a->starved)
		log_warning("cannot accept: %s; pausing for %d ms", strerror(error),
			NO_FD_PAUSE_US / 1000);
	if (a->starved && a->reserve_fd >= 0) {
		close(a->reserve_fd);
		fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			if (text)
				send(fd, text, strlen(text), MSG_NOSIGNAL);
			close(fd);
		}
		a->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	a->starved = true;
	listen_on(a, false);
	event_add(&a->resume, &pause);
}

/* Returns a connected socket, or -1 and errno. */
static int take_one(int listener, struct peer *ret_peer)
{
	struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(from);
	int fd = accept4(listener, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		peer_from_sockaddr((const struct sockaddr *)&from, ret_peer);
	return fd;
}

/* Returns true when one was taken. */
static bool accept_one(struct source *s)
{
	struct acceptor *a = s->acceptor;
	struct peer peer;
	int fd = take_one(s->fd, &peer);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE) && a->o.free_descriptors())
		fd = take_one(s->fd, &peer);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			on_no_descriptor(s, errno);
		return false; /* EAGAIN: another worker was faster; ECONNABORTED and the like: the client's */
	}
	a->starved = false;
	if (a->reserve_fd < 0) /* others were faster when it was given up */
		a->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sb_add(a->o.slot->accepted, 1);
	a->o.on_connection(fd, s->listener, &peer, a->o.arg);
	if (n_connections(a) >= a->o.max_connections) {
		a->full = true;
		listen_on(a, false);
	}
	return true;
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct source *s = arg;
	struct acceptor *a = s->acceptor;
	unsigned n_workers = 1, left;

	turn_mark();
	if (s->shared && holds_more_than_its_share(a, &n_workers)) {
		step_back(a);
		return;
	}
	/* One for each wake-up while others are ready to take the next. */
	for (left = n_workers > 1 ? 1 : ALONE_BURST; left > 0 && may_listen(a) && accept_one(s);
		left--)
		;
}

/* Learns from a head start that is over: was anybody there to use it? */
static void note_head_start(struct acceptor *a, uint64_t began_us, bool in_vain)
{
	a->n_in_vain = in_vain ? a->n_in_vain + 1 : 0;
	if (!in_vain)
		a->in_vain_since_us = 0;
	else if (a->in_vain_since_us == 0)
		a->in_vain_since_us = began_us;
	else if (began_us > a->in_vain_since_us + PATIENCE_US)
		a->absent_before_us = a->in_vain_since_us;
	if (a->n_in_vain == IN_VAIN_MAX) {
		a->n_in_vain = 0;
		a->truce_until_us = began_us + TRUCE_US;
	}
}

static void on_look_again(evutil_socket_t fd, short what, void *arg)
{
	struct acceptor *a = arg;
	uint64_t began_us = a->stepped_back_us, expirations;
	bool over, taken = false;
	unsigned n_workers;
	struct source *s;

	turn_mark();
	if (read(fd, &expirations, sizeof(expirations)) < 0 || began_us == 0)
		return;
	over = now_us() >= began_us + HEAD_START_US;
	if (!over && holds_more_than_its_share(a, &n_workers)) {
		set_timer(a, LOOK_AGAIN_US);
		return;
	}
	a->stepped_back_us = 0;
	watch(a, true, true);
	LIST_FOREACH (s, &a->sources, link) {
		if (s->shared && may_listen(a))
			taken |= accept_one(s);
	}
	if (over)
		note_head_start(a, began_us, taken);
	else
		a->n_in_vain = 0; /* it has evened the load */
}

int acceptor_new(const struct acceptor_options *o, struct acceptor **ret)
{
	struct acceptor *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->o = *o;
	LIST_INIT(&a->sources);
	evtimer_assign(&a->resume, o->base, on_resume, a);
	a->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (a->timer_fd < 0) {
		free(a);
		return -errno;
	}
	event_assign(&a->look_again, o->base, a->timer_fd, EV_READ | EV_PERSIST, on_look_again, a);
	event_add(&a->look_again, NULL);
	a->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	*ret = a;
	return 0;
}

/* Adds a listening socket, which the acceptor owns from here on. shared: other workers take from it too. */
int acceptor_add(struct acceptor *a, unsigned listener, unsigned socket, int fd, bool shared)
{
	struct source *s = calloc(1, sizeof(*s));

	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	*s = (struct source){
		.acceptor = a, .listener = listener, .socket = socket, .fd = fd, .shared = shared};
	event_assign(&s->readable, a->o.base, fd, EV_READ | EV_PERSIST, on_acceptable, s);
	LIST_INSERT_HEAD(&a->sources, s, link);
	if (may_listen(a))
		event_add(&s->readable, NULL);
	return 0;
}

static void source_free(struct source *s)
{
	event_del(&s->readable);
	close(s->fd);
	LIST_REMOVE(s, link);
	free(s);
}

/* Gives up a socket; what waits in its queue is somebody else's to take. */
void acceptor_remove(struct acceptor *a, unsigned listener, unsigned socket)
{
	struct source *s;

	LIST_FOREACH (s, &a->sources, link) {
		if (s->listener == listener && s->socket == socket) {
			source_free(s);
			return;
		}
	}
}

void acceptor_start(struct acceptor *a)
{
	a->running = true;
	listen_on(a, true);
}

/* For good: the sockets are closed, too. */
void acceptor_stop(struct acceptor *a)
{
	struct source *s;

	a->running = false;
	event_del(&a->resume);
	event_del(&a->look_again);
	close(a->timer_fd);
	while ((s = LIST_FIRST(&a->sources)))
		source_free(s);
	sb_set(a->o.slot->accepting, 0);
	if (a->reserve_fd >= 0)
		close(a->reserve_fd);
	a->reserve_fd = -1;
}

/* There is room for one more. */
void acceptor_connection_closed(struct acceptor *a)
{
	if (!a->full || n_connections(a) >= a->o.max_connections)
		return;
	a->full = false;
	if (may_listen(a))
		listen_on(a, true);
}

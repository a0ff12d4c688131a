/*
 * Accepting. Runs in a worker.
 *
 * Every worker waits on the same sockets and the kernel wakes them all, so left alone the one that happens to run
 * takes nearly everything. Instead the less loaded get a head start: who already holds more than the mean of the
 * accepting workers steps back for a millisecond, once, and then takes the connection if it is still there.
 * Stepping back for workers that do not come (hung, stopped) costs that millisecond only once in a while: after it
 * was for nothing we stop being polite for some time.
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

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "shared/scoreboard.h"

#define HEAD_START_US   1000
#define STALE_US        (3 * US_PER_S) /* a loop that has not turned for so long is out of the reckoning */
#define IMPATIENT_US    20000          /* no stepping back after it was for nothing */
#define NO_FD_PAUSE_US  100000
#define ALONE_BURST     32 /* connections taken in one turn when there is nobody to share with */

struct source {
	LIST_ENTRY(source) link;
	struct acceptor *acceptor;
	struct event readable;
	struct event head_start; /* the millisecond we leave to others */
	unsigned listener, socket;
	int fd;
	bool shared;
	bool waited; /* had its head start: take what comes */
};

struct acceptor {
	struct acceptor_options o;
	LIST_HEAD(, source) sources;
	struct event resume;
	int reserve_fd;     /* given up to shed a connection when descriptors run out */
	bool running, full; /* full: at max_connections */
	bool starved;       /* the last attempt found no descriptor */
	uint64_t impatient_until_us;
};

static void listen_on(struct acceptor *a, bool on)
{
	struct source *s;

	LIST_FOREACH(s, &a->sources, link) {
		event_del(&s->head_start);
		s->waited = false;
		if (on)
			event_add(&s->readable, NULL);
		else
			event_del(&s->readable);
	}
	sb_set(a->o.slot->accepting, on);
}

static bool may_listen(const struct acceptor *a)
{
	return a->running && !a->full && !event_pending(&a->resume, EV_TIMEOUT, NULL);
}

/* Returns how many workers accept, and in *ret_sum how many connections they hold; ourselves included. */
static unsigned survey(const struct acceptor *a, uint64_t now, uint64_t *ret_sum)
{
	const struct scoreboard *sb = a->o.scoreboard;
	size_t n_used = sb_get(*sb->n_used);
	unsigned n = 0;

	*ret_sum = 0;
	for (size_t i = 0; i < n_used && i < sb->n_slots; i++) {
		const struct sb_slot *s = &sb->slots[i];

		if (!sb_get(s->accepting) || (s != a->o.slot && sb_get(s->tick_us) + STALE_US < now))
			continue;
		*ret_sum += sb_get(s->connections);
		n++;
	}
	return n;
}

/* Leaves a connection to others for a moment. Returns false when it is ours to take. */
static bool step_back(struct source *s, unsigned *ret_n_workers)
{
	static const struct timeval head_start = {0, HEAD_START_US};
	struct acceptor *a = s->acceptor;
	uint64_t now = now_us(), sum;

	*ret_n_workers = s->shared ? survey(a, now, &sum) : 1;
	if (s->waited || *ret_n_workers < 2 || now < a->impatient_until_us)
		return false;
	if (sb_get(a->o.slot->connections) * (uint64_t)*ret_n_workers <= sum)
		return false;
	event_del(&s->readable);
	event_add(&s->head_start, &head_start);
	sb_add(a->o.slot->stepped_back, 1);
	return true;
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct acceptor *a = arg;

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
	static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
				   "Content-Length: 0\r\nConnection: close\r\n\r\n";
	struct acceptor *a = s->acceptor;
	int fd;

	if (!a->starved)
		log_warning("cannot accept: %s; pausing for %d ms", strerror(error),
			NO_FD_PAUSE_US / 1000);
	if (a->starved && a->reserve_fd >= 0) {
		close(a->reserve_fd);
		fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL);
			close(fd);
		}
		a->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	a->starved = true;
	listen_on(a, false);
	event_add(&a->resume, &pause);
}

/* Returns true when one was taken and there may be more. */
static bool accept_one(struct source *s)
{
	struct acceptor *a = s->acceptor;
	int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			on_no_descriptor(s, errno);
		return false; /* EAGAIN: another worker was faster; ECONNABORTED and the like: the client's */
	}
	if (s->waited && s->shared)
		a->impatient_until_us = now_us() + IMPATIENT_US;
	a->starved = false;
	sb_add(a->o.slot->accepted, 1);
	a->o.on_connection(fd, s->listener, a->o.arg);
	if (sb_get(a->o.slot->connections) >= a->o.max_connections) {
		a->full = true;
		listen_on(a, false);
	}
	return !a->full;
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct source *s = arg;
	unsigned n_workers;

	if (step_back(s, &n_workers))
		return;
	/* One for each wake-up while others are ready to take the next. */
	for (unsigned left = n_workers > 1 ? 1 : ALONE_BURST; left > 0 && accept_one(s); left--)
		;
	s->waited = false;
}

static void on_head_start_over(evutil_socket_t fd, short what, void *arg)
{
	struct source *s = arg;

	s->waited = true;
	event_add(&s->readable, NULL);
}

int acceptor_new(const struct acceptor_options *o, struct acceptor **ret)
{
	struct acceptor *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->o = *o;
	LIST_INIT(&a->sources);
	evtimer_assign(&a->resume, o->base, on_resume, a);
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
	*s = (struct source){.acceptor = a, .listener = listener, .socket = socket, .fd = fd,
		.shared = shared};
	event_assign(&s->readable, a->o.base, fd, EV_READ | EV_PERSIST, on_acceptable, s);
	evtimer_assign(&s->head_start, a->o.base, on_head_start_over, s);
	LIST_INSERT_HEAD(&a->sources, s, link);
	if (may_listen(a))
		event_add(&s->readable, NULL);
	return 0;
}

static void source_free(struct source *s)
{
	event_del(&s->readable);
	event_del(&s->head_start);
	close(s->fd);
	LIST_REMOVE(s, link);
	free(s);
}

/* Gives up a socket; what waits in its queue is somebody else's to take. */
void acceptor_remove(struct acceptor *a, unsigned listener, unsigned socket)
{
	struct source *s;

	LIST_FOREACH(s, &a->sources, link) {
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
	if (!a->full || sb_get(a->o.slot->connections) >= a->o.max_connections)
		return;
	a->full = false;
	if (may_listen(a))
		listen_on(a, true);
}

/*
 * Drives the bus by HTTP: each worker sends, publishes, subscribes and tells what it got as it is asked to. Below /bus:
 *
 * self, peers            JSON
 * send, request          ?to= or subject=, data= or size=; the answer is what became of it
 * flood                  ?to= or subject=, n=, size=, done=1: numbered messages, as fast as they go; JSON when all are sent
 * subscribe, unsubscribe ?pattern=, group=, policy=; ?n=
 * count                  ?subject=
 * got, numbers           the messages since the last time, a line each; of numbered ones, how many and in which order
 * hand                   ?to=: passes the end of a pipe, into which the receiver writes; answers with what, when all have closed it
 * sleep                  ?ms=: blocks the worker
 * slow                   ?us=: from now on each numbered message takes so long
 * raw                    writes the body to the lane itself; ?n=: so many descriptors with it; ?repeat=: so often
 * deaf                   reads the lane no more, while the loop turns
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <tine/bus.h>

#include "../module.h"

#define TEXT_MAX    (256u << 10)
#define SENDERS_MAX 64
#define SUBS_MAX    5000
#define NUMBERED    0x7265626d756e2121 /* precedes the number */

struct number {
	uint64_t mark, number;
};

/* Of one sender's numbered messages. */
struct sender {
	tine_peer from;
	unsigned long n, disordered, bad_bytes;
	uint64_t last;
};

struct sub {
	struct tine_subscription *subscription;
	char pattern[300];
};

static struct tine_worker *worker;
static char got[TEXT_MAX];
static size_t got_len;
static struct sender senders[SENDERS_MAX];
static unsigned n_senders;
static struct sub subs[SUBS_MAX];
static unsigned n_subs;

static void note(const char *text, size_t len)
{
	if (got_len + len + 1 >= sizeof(got))
		return;
	memcpy(got + got_len, text, len);
	got_len += len;
	got[got_len++] = '\n';
}

/* --- receiving --- */

static struct sender *sender_of(tine_peer from)
{
	for (unsigned i = 0; i < n_senders; i++)
		if (senders[i].from == from)
			return &senders[i];
	if (n_senders == SENDERS_MAX)
		return NULL;
	senders[n_senders].from = from;
	return &senders[n_senders++];
}

static unsigned char byte_at(uint64_t seed, size_t i)
{
	return (unsigned char)(seed * 31 + i * 7 + (i >> 8));
}

static unsigned long slow_us;

static void take_numbered(const struct tine_message *m)
{
	const struct number *n = m->data;
	const unsigned char *bytes = m->data;
	struct sender *s = sender_of(m->from);

	if (slow_us)
		usleep((useconds_t)slow_us);
	if (!s)
		return;
	s->disordered += s->n > 0 && n->number <= s->last;
	s->last = n->number;
	s->n++;
	for (size_t i = sizeof(*n); i<m->len; i += m->len> 4096 ? 997 : 1)
		s->bad_bytes += bytes[i] != byte_at(n->number, i);
}

static void reply(const struct tine_message *m)
{
	char text[256];
	int n;

	if (m->len == 6 && memcmp(m->data, "silent", 6) == 0)
		return;
	if (m->len == 3 && memcmp(m->data, "die", 3) == 0)
		abort();
	if (m->len == 4 && memcmp(m->data, "fail", 4) == 0) {
		tine_bus_answer(worker, m->from, m->request, -EACCES, NULL, 0);
		return;
	}
	if (m->len > 100) {
		tine_bus_answer(worker, m->from, m->request, 0, m->data, m->len);
		return;
	}
	n = snprintf(text, sizeof(text), "%u answers %.*s", tine_worker_slot(worker), (int)m->len,
		(const char *)m->data);
	tine_bus_answer(worker, m->from, m->request, 0, text, (size_t)n);
}

static void on_message(struct tine_message *m, void *arg)
{
	char text[512];
	int n;

	if ((uintptr_t)m->data % 8 != 0)
		abort();
	if (m->len >= sizeof(struct number) && ((const struct number *)m->data)->mark == NUMBERED) {
		take_numbered(m);
		return;
	}
	if (m->fd >= 0) {
		n = snprintf(text, sizeof(text), "slot %u", tine_worker_slot(worker));
		if (write(m->fd, text, (size_t)n) != n)
			abort();
	}
	n = snprintf(text, sizeof(text), "%u %s%.*s %zu %.*s", m->from, arg ? "" : "-",
		(int)m->subject.len, m->subject.data ? m->subject.data : "", m->len,
		(int)(m->len < 100 ? m->len : 100), (const char *)m->data);
	note(text, (size_t)n);
	if (m->request != 0)
		reply(m);
}

/* --- one message --- */

struct pending {
	struct tine_request *request;
	int pipe[2];
};

static void on_done(int status, void *arg)
{
	struct tine_request *request = arg;

	answer(request, status_name(status));
}

static void on_answer(int status, struct tine_message *m, void *arg)
{
	char text[64];

	if (status == 0)
		tine_respond(arg, 200, "text/plain", m->data, m->len);
	else
		answer(arg, (snprintf(text, sizeof(text), "error: %s", status_name(status)), text));
}

static char *body_of(struct tine_request *request, size_t *ret_len)
{
	size_t size = number(request, "size");
	char *data = malloc(size + 4096);

	value(request, "data", data, 4096);
	*ret_len = size ? size : strlen(data);
	for (size_t i = 0; i < size; i++)
		data[i] = (char)('a' + i % 26);
	return data;
}

static void send_one(struct tine_request *request, struct tine_send *s)
{
	char subject[400];
	size_t len;
	char *data = body_of(request, &len);
	int r;

	s->size = sizeof(*s);
	s->to = (tine_peer)number(request, "to");
	value(request, "subject", subject, sizeof(subject));
	s->subject = *subject ? subject : NULL;
	s->data = data;
	s->len = len;
	s->timeout_us = number(request, "ms") * 1000;
	tine_defer(request);
	r = tine_bus_post(worker, s);
	free(data);
	if (r < 0)
		answer(request, status_name(r));
}

static void on_send(struct tine_request *request, void *arg)
{
	struct tine_send s = {.on_done = on_done, .arg = request};

	send_one(request, &s);
}

static void on_request(struct tine_request *request, void *arg)
{
	struct tine_send s = {.on_answer = on_answer, .arg = request};

	send_one(request, &s);
}

static void on_handed(int status, void *arg)
{
	struct pending *p = arg;
	char text[64];
	size_t len = 0;
	ssize_t n = 0;

	close(p->pipe[1]);
	/* To its end: until nobody, neither the receiver nor the primary, has the other one any more. */
	while (status == 0 && (n = read(p->pipe[0], text + len, sizeof(text) - len)) > 0)
		len += (size_t)n;
	close(p->pipe[0]);
	if (n < 0)
		abort();
	if (status < 0)
		answer(p->request, status_name(status));
	else
		tine_respond(p->request, 200, "text/plain", text, len);
	free(p);
}

static void on_hand(struct tine_request *request, void *arg)
{
	struct pending *p = calloc(1, sizeof(*p));
	struct tine_send s = {.on_done = on_handed, .arg = p};

	if (pipe(p->pipe) < 0)
		abort();
	p->request = request;
	s.fd = &p->pipe[1];
	send_one(request, &s);
}

/* --- many --- */

static struct flood {
	struct tine_request *request;
	struct tine_send s;
	char subject[300];
	char *data;
	uint64_t n, next, n_done, n_failed, n_full;
	int last_error;
	int stop;
} flood;

static void flood_end(void)
{
	struct flood *f = &flood;
	char text[256];

	if (!f->request || f->next < f->n || (f->s.on_done && f->n_done + f->n_failed < f->n))
		return;
	snprintf(text, sizeof(text),
		"{\"sent\":%lu,\"done\":%lu,\"failed\":%lu,\"full\":%lu,\"error\":\"%s\"}",
		(unsigned long)f->next, (unsigned long)f->n_done, (unsigned long)f->n_failed,
		(unsigned long)f->n_full, status_name(f->last_error));
	answer(f->request, text);
	f->request = NULL;
	free(f->data);
}

static void on_flood_done(int status, void *arg)
{
	struct flood *f = arg;

	f->n_done += status == 0;
	f->n_failed += status < 0;
	f->last_error = status < 0 ? status : f->last_error;
	flood_end();
}

static void flood_on(void)
{
	struct flood *f = &flood;

	while (f->request && f->next < f->n) {
		struct number n = {NUMBERED, f->next};
		int r;

		memcpy(f->data, &n, sizeof(n));
		for (size_t i = sizeof(n); i<f->s.len; i += f->s.len> 4096 ? 997 : 1)
			f->data[i] = (char)byte_at(f->next, i);
		r = tine_bus_post(worker, &f->s);
		if (r == TINE_E_FULL) {
			f->n_full++;
			return;
		}
		if (r < 0) {
			f->n_failed++;
			f->last_error = r;
		}
		f->next++;
	}
	flood_end();
}

static void on_writable(void *arg)
{
	flood_on();
}

static void on_flood(struct tine_request *request, void *arg)
{
	struct flood *f = &flood;

	memset(f, 0, sizeof(*f));
	tine_defer(request);
	f->request = request;
	f->n = number(request, "n");
	f->s = (struct tine_send){.size = sizeof(f->s),
		.to = (tine_peer)number(request, "to"),
		.len = number(request, "size"),
		.arg = f};
	if (f->s.len < sizeof(struct number))
		f->s.len = sizeof(struct number);
	f->data = malloc(f->s.len);
	f->s.data = f->data;
	if (*value(request, "subject", f->subject, sizeof(f->subject)))
		f->s.subject = f->subject;
	if (number(request, "done"))
		f->s.on_done = on_flood_done;
	flood_on();
}

static void on_numbers(struct tine_request *request, void *arg)
{
	char text[TEXT_MAX];
	int n = snprintf(text, sizeof(text), "{");

	for (unsigned i = 0; i < n_senders; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n,
			"%s\"%u\":{\"n\":%lu,\"disordered\":%lu,\"bad\":%lu,\"last\":%lu}",
			i ? "," : "", senders[i].from, senders[i].n, senders[i].disordered,
			senders[i].bad_bytes, (unsigned long)senders[i].last);
	snprintf(text + n, sizeof(text) - (size_t)n, "}");
	answer(request, text);
	if (number(request, "clear"))
		n_senders = 0, memset(senders, 0, sizeof(senders));
}

/* --- subscriptions --- */

static void on_end(int status, void *arg)
{
	struct sub *s = arg;
	char text[400];

	note(text,
		(size_t)snprintf(text, sizeof(text), "end %s %s", s->pattern, status_name(status)));
	s->subscription = NULL;
}

static void on_subscribe(struct tine_request *request, void *arg)
{
	struct sub *s = &subs[n_subs % SUBS_MAX];
	struct tine_subscribe t = {.size = sizeof(t),
		.pattern = s->pattern,
		.policy = (enum tine_bus_policy)number(request, "policy"),
		.on_message = on_message,
		.on_end = on_end,
		.arg = s};
	unsigned long repeat = number(request, "repeat");
	char group[100], text[32];
	int r;

	value(request, "pattern", s->pattern, sizeof(s->pattern));
	if (*value(request, "group", group, sizeof(group)))
		t.group = group;
	do {
		r = tine_bus_subscribe(worker, &t, &s->subscription);
	} while (r == 0 && repeat-- > 1);
	if (r < 0) {
		answer(request, status_name(r));
		return;
	}
	answer(request, (snprintf(text, sizeof(text), "%u", n_subs++), text));
}

static void on_unsubscribe(struct tine_request *request, void *arg)
{
	struct sub *s = &subs[number(request, "n") % SUBS_MAX];

	tine_bus_unsubscribe(s->subscription);
	s->subscription = NULL;
	answer(request, "ok");
}

static void on_counted(int status, uint64_t n, void *arg)
{
	char text[32];

	answer(arg,
		status < 0 ? status_name(status)
			   : (snprintf(text, sizeof(text), "%lu", (unsigned long)n), text));
}

static void on_count(struct tine_request *request, void *arg)
{
	char subject[300];
	int r;

	tine_defer(request);
	r = tine_bus_count(
		worker, value(request, "subject", subject, sizeof(subject)), on_counted, request);
	if (r < 0)
		answer(request, status_name(r));
}

/* --- the rest --- */

static void on_self(struct tine_request *request, void *arg)
{
	char text[128];

	snprintf(text, sizeof(text), "{\"peer\":%u,\"slot\":%u,\"pid\":%d}", tine_bus_self(worker),
		tine_worker_slot(worker), (int)getpid());
	answer(request, text);
}

static void on_peers(struct tine_request *request, void *arg)
{
	struct tine_peer_info peers[64];
	size_t n = tine_bus_peers(worker, peers, 64);
	char text[8192];
	int at = snprintf(text, sizeof(text), "[");

	for (size_t i = 0; i < n && i < 64; i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at,
			"%s{\"peer\":%u,\"slot\":%u,\"generation\":%lu}", i ? "," : "",
			peers[i].peer, peers[i].slot, (unsigned long)peers[i].generation);
	snprintf(text + at, sizeof(text) - (size_t)at, "]");
	answer(request, text);
}

static void on_got(struct tine_request *request, void *arg)
{
	tine_respond(request, 200, "text/plain", got, got_len);
	got_len = 0;
}

static void on_sleep(struct tine_request *request, void *arg)
{
	unsigned long ms = number(request, "ms");
	struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};

	tine_log(TINE_LOG_INFO, "goes to sleep");
	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
	answer(request, "slept");
}

static void on_slow(struct tine_request *request, void *arg)
{
	slow_us = number(request, "us");
	answer(request, "slow");
}

/* The lane of the bus: of the sockets without a name the one with the largest buffer. */
static int bus_descriptor(void)
{
	int best = -1, largest = 0;

	for (int fd = 3; fd < 64; fd++) {
		struct sockaddr_storage name_of;
		socklen_t len = sizeof(name_of);
		int size = 0;

		if (getsockname(fd, (struct sockaddr *)&name_of, &len) < 0 ||
			name_of.ss_family != AF_UNIX)
			continue;
		len = sizeof(size);
		getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len);
		if (size > largest) {
			largest = size;
			best = fd;
		}
	}
	return best;
}

static int wait_for_room(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	return poll(&p, 1, 10000) == 1;
}

static void write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && (errno != EAGAIN || !wait_for_room(fd)))
			return;
		data += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
}

static void on_raw(struct tine_request *request, void *arg)
{
	struct tine_text body = tine_request_body(request);
	int fd = bus_descriptor();
	unsigned long n_fds = number(request, "n");
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(200 * sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)body.data, body.len};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds > 0) {
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.align =
			(struct cmsghdr){CMSG_LEN(n_fds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memset(CMSG_DATA(&control.align), 0, n_fds * sizeof(int));
	}
	if (sendmsg(fd, &mh, MSG_NOSIGNAL) != (ssize_t)body.len) {
		answer(request, strerror(errno));
		return;
	}
	for (unsigned long left = number(request, "repeat"); left > 1; left--)
		write_all(fd, body.data, body.len);
	answer(request, "written");
}

static void on_deaf(struct tine_request *request, void *arg)
{
	int lane = bus_descriptor(), r = -1;

	for (int fd = 3; fd < 64; fd++)
		r = epoll_ctl(fd, EPOLL_CTL_DEL, lane, NULL) == 0 ? 0 : r;
	answer(request, r == 0 ? "deaf" : strerror(errno));
}

static const struct handler handlers[] = {{"/self", on_self}, {"/peers", on_peers},
	{"/send", on_send}, {"/request", on_request}, {"/flood", on_flood},
	{"/numbers", on_numbers}, {"/subscribe", on_subscribe}, {"/unsubscribe", on_unsubscribe},
	{"/count", on_count}, {"/got", on_got}, {"/hand", on_hand}, {"/sleep", on_sleep},
	{"/raw", on_raw}, {"/deaf", on_deaf}, {"/slow", on_slow}, {0}};

static const struct tine_option options[] = {
	{.name = "work",
		.doc = "A pattern to subscribe to from the start, in the queue group `crew`."},
	{.name = NULL},
};

static int work(struct tine_worker *w)
{
	struct tine_subscription *s;
	struct tine_subscribe t = {.size = sizeof(t),
		.pattern = tine_config_string(tine_worker_config(w), "work"),
		.group = "crew",
		.on_message = on_message};

	return *t.pattern ? tine_bus_subscribe(w, &t, &s) : 0;
}

/* The last word of a worker: how many numbered messages it got. */
static void stop(void *state)
{
	unsigned long n = 0;

	for (unsigned i = 0; i < n_senders; i++)
		n += senders[i].n;
	tine_log(TINE_LOG_INFO, "got %lu numbered messages", n);
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct tine_bus_service service = {
		.size = sizeof(service), .on_message = on_message, .on_writable = on_writable};
	int r = tine_bus_open(w, &service);

	worker = w;
	if (r == 0)
		r = work(w);
	return r == 0 ? add_handlers(w, handlers) : r;
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "bus",
	.options = options,
	.worker_start = start,
	.worker_stop = stop};

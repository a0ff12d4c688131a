/*
 * What scripts/bench relay asks of tined's workers, through tine/bus.h alone. Below /relay_module, each with ?size=:
 *
 * rate?seconds=   sends to another worker as fast as it takes it; answers "MESSAGES SECONDS"
 * fan?seconds=    publishes to all others, which have subscribed; answers "DELIVERIES SECONDS"
 * trip?n=         requests, one at a time; answers "P50 P99" in microseconds
 * self            its address
 * deaf            reads its bus no more; its loop turns, and answers the primary
 *
 * to= names the other worker; without it, it is the first one found.
 */
#include <sys/epoll.h>
#include <sys/socket.h>

#include <tine/bus.h>

#include "load.h"

#define SUBJECT   "bench.tick"
#define PEERS_MAX 64

static struct tine_worker *worker;
static uint64_t received, expected, disordered;

/* --- receiving: one callback for each message --- */

static void on_message(struct tine_message *m, void *arg)
{
	uint64_t answer[2];

	if (m->request != 0 && m->len == 0) { /* how many? */
		answer[0] = received;
		answer[1] = disordered;
		received = expected = disordered = 0;
		tine_bus_answer(worker, m->from, m->request, 0, answer, sizeof(answer));
	} else if (m->request != 0) {
		tine_bus_answer(worker, m->from, m->request, 0, m->data, m->len);
	} else {
		disordered += *(const uint64_t *)m->data != expected;
		expected++;
		received++;
	}
}

/* --- sending --- */

static struct load {
	struct tine_request *request;
	tine_peer peers[PEERS_MAX]; /* who has to say how many it got */
	size_t n_peers, n_asked;
	const char *subject;
	char *data;
	size_t size;
	uint64_t sent, received;
	double begun, end;
	struct trips trips;
} load;

static void finish(const char *text)
{
	struct load *l = &load;

	answer(l->request, text);
	l->request = NULL;
	free(l->data);
	free(l->trips.times);
}

static void fail(const char *what, int error)
{
	char text[128];

	snprintf(text, sizeof(text), "error: %s: %s", what, strerror(-error));
	finish(text);
}

static void ask_next(void);

static void on_count(int status, struct tine_message *m, void *arg)
{
	struct load *l = &load;
	const uint64_t *n = status == 0 ? m->data : NULL;
	char text[128];

	if (status < 0 || n[1] != 0) {
		snprintf(text, sizeof(text), "error: status %d, disordered %lu of %lu, sent %lu",
			status, n ? (unsigned long)n[1] : 0, n ? (unsigned long)n[0] : 0,
			(unsigned long)l->sent);
		finish(text);
		return;
	}
	l->received += n[0];
	if (++l->n_asked < l->n_peers) {
		ask_next();
		return;
	}
	snprintf(text, sizeof(text), "%lu %.6f %lu", (unsigned long)l->received, now() - l->begun,
		(unsigned long)l->sent);
	finish(text);
}

static void ask_next(void)
{
	struct tine_send s = {.size = sizeof(s),
		.to = load.peers[load.n_asked],
		.on_answer = on_count,
		.timeout_us = 60000000};
	int r = tine_bus_post(worker, &s);

	if (r < 0 && r != TINE_E_FULL)
		fail("not asked", r);
}

static int send_one(struct load *l)
{
	struct tine_send s = {.size = sizeof(s),
		.to = TINE_PEER_OTHERS,
		.subject = l->subject,
		.data = l->data,
		.len = l->size};

	memcpy(l->data, &l->sent, sizeof(l->sent));
	return l->subject ? tine_bus_post(worker, &s)
			  : tine_bus_send(worker, l->peers[0], l->data, l->size);
}

static void on_writable(void *arg)
{
	struct load *l = &load;

	if (!l->request || l->trips.n)
		return;
	while (l->sent % CHECK_EVERY != 0 || now() < l->end) {
		int r = send_one(l);

		if (r == TINE_E_FULL)
			return;
		if (r < 0) {
			fail("not sent", r);
			return;
		}
		l->sent++;
		if (l->size > 65536 && now() >= l->end)
			break;
	}
	ask_next();
}

/* --- round trips --- */

static void trip(void);

static void on_trip(int status, struct tine_message *m, void *arg)
{
	if (status < 0)
		finish("error: no answer");
	else if (trips_note(&load.trips))
		trip();
	else
		finish(trips_end(&load.trips));
}

static void trip(void)
{
	struct tine_send s = {.size = sizeof(s),
		.to = load.peers[0],
		.data = load.data,
		.len = load.size,
		.on_answer = on_trip};

	trips_ask(&load.trips);
	if (tine_bus_post(worker, &s) < 0)
		finish("error: not sent");
}

/* --- what is asked for --- */

static void begin(struct tine_request *request)
{
	struct load *l = &load;
	struct tine_peer_info peers[PEERS_MAX];
	size_t n = tine_bus_peers(worker, peers, PEERS_MAX);
	tine_peer to = (tine_peer)number(request, "to");

	memset(l, 0, sizeof(*l));
	for (size_t i = 0; i < n && i < PEERS_MAX; i++) {
		if (peers[i].peer != tine_bus_self(worker) && (to == 0 || peers[i].peer == to))
			l->peers[l->n_peers++] = peers[i].peer;
	}
	l->size = number_or(request, "size", 64);
	l->data = calloc(1, l->size < 8 ? 8 : l->size);
	l->request = request;
	tine_defer(request);
	l->begun = now();
	l->end = l->begun + (double)number_or(request, "seconds", 1);
}

static void on_rate(struct tine_request *request, void *arg)
{
	begin(request);
	load.n_peers = 1;
	on_writable(NULL);
}

static void on_fan(struct tine_request *request, void *arg)
{
	begin(request);
	load.subject = SUBJECT;
	on_writable(NULL);
}

static void on_trips(struct tine_request *request, void *arg)
{
	begin(request);
	trips_begin(&load.trips, number_or(request, "n", 10000));
	trip();
}

static void on_self(struct tine_request *request, void *arg)
{
	char text[32];

	snprintf(text, sizeof(text), "%u", tine_bus_self(worker));
	answer(request, text);
}

/* Takes the lane of the bus, the socket with the largest buffer, off the epoll set of the loop, behind libevent's back. */
static void on_deaf(struct tine_request *request, void *arg)
{
	int lane = -1, largest = 0, r = -1;

	for (int fd = 3; fd < 64; fd++) {
		struct sockaddr_storage name;
		socklen_t len = sizeof(name);
		int size = 0;

		if (getsockname(fd, (struct sockaddr *)&name, &len) < 0 ||
			name.ss_family != AF_UNIX)
			continue;
		len = sizeof(size);
		getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len);
		lane = size > largest ? fd : lane;
		largest = size > largest ? size : largest;
	}
	for (int fd = 3; fd < 64; fd++)
		r = epoll_ctl(fd, EPOLL_CTL_DEL, lane, NULL) == 0 ? 0 : r;
	tine_respond(request, r == 0 ? 200 : 500, "text/plain", "", 0);
}

static int start(struct tine_worker *w, void **ret_state)
{
	static const struct tine_bus_service service = {
		.size = sizeof(service), .on_message = on_message, .on_writable = on_writable};
	static const struct tine_subscribe subscribe = {
		.size = sizeof(subscribe), .pattern = SUBJECT, .on_message = on_message};
	static const struct handler handlers[] = {{"/rate", on_rate}, {"/fan", on_fan},
		{"/trip", on_trips}, {"/self", on_self}, {"/deaf", on_deaf}, {0}};
	struct tine_subscription *s;
	int r = tine_bus_open(w, &service);

	worker = w;
	if (r == 0)
		r = tine_bus_subscribe(w, &subscribe, &s);
	return r == 0 ? add_handlers(w, handlers) : r;
}

TINE_MODULE = {.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "relay_module",
	.worker_start = start};

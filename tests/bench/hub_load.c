/*
 * hub_load PORT SUBSCRIBE PUBLISH N RATE SECONDS [ID] - N clients of 127.0.0.1 that read server-sent events from the path SUBSCRIBE,
 * and one that publishes RATE messages a second with POST to PUBLISH. "ready" is printed when all have subscribed; a line on
 * standard input begins. Each message carries its number and the time: every client checks that each comes once and in order.
 * Who is cut off comes back, as browsers do, with the id of what it had last (ID, if it had nothing yet). At the end, when everybody has the last one (or
 * 20 s later), prints as JSON what became of them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ADDRESSES 16
#define AT_ONCE   64 /* connections that are being opened */
#define WAIT_US   20000000
#define RETRY_US  100000
#define LATENCIES 4000001 /* us */
#define MESSAGE   64      /* bytes */
#define KEPT      2048    /* bytes of an event, or of an answer's head, that is not complete */
#define INPUT     (64 << 10)

struct client {
	int fd;
	bool streaming;
	uint64_t retry_us; /* when to come back; 0: it is connected */
	unsigned last;     /* number of the last message; 0: none */
	unsigned kept;
	char id[64], next_id[64]; /* of the last event, and of the one that is coming */
	char text[KEPT];
};

static struct client *clients, publisher = {.fd = -1};
static struct sockaddr_in server = {.sin_family = AF_INET};
static const char *subscribe_path, *publish_path;
static int ep;
static unsigned n_clients, n_streaming, n_opening, n_refused, n_cut, n_missing, n_twice, n_gaps;
static unsigned n_published, n_answered, n_failed, expected_last;
static uint64_t n_delivered, in_flight_us;
static unsigned *latencies, *seen, seen_max; /* seen: by how many clients, of each message */

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "hub_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int open_socket(unsigned i, void *ptr)
{
	struct sockaddr_in from = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256 + i % ADDRESSES)};
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = ptr};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
		connect(fd, (struct sockaddr *)&server, sizeof(server)) < 0) {
		close(fd);
		return -1;
	}
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
		fail("epoll_ctl");
	return fd;
}

/* --- subscribers --- */

static void come_back(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->streaming) {
		n_streaming--;
		n_cut++;
	} else {
		n_opening--;
		n_refused++;
	}
	c->fd = -1;
	c->streaming = false;
	c->kept = 0;
	c->retry_us = now_us() + RETRY_US / 2 + (uint64_t)random() % RETRY_US;
}

static void subscribe(struct client *c)
{
	char request[512];
	int len = snprintf(request, sizeof(request),
		"GET %s HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n%s%s%s\r\n",
		subscribe_path, *c->id ? "Last-Event-ID: " : "", c->id, *c->id ? "\r\n" : "");

	c->retry_us = 0;
	n_opening++;
	c->fd = open_socket((unsigned)(c - clients), c);
	if (c->fd < 0 || send(c->fd, request, (size_t)len, MSG_NOSIGNAL) != len)
		come_back(c);
}

static void on_message(struct client *c, const char *p, uint64_t now)
{
	char *end;
	unsigned long number = strtoul(p, &end, 10);
	uint64_t sent = strtoull(end, NULL, 10), late = now > sent ? now - sent : 0;

	if (number == 0)
		return; /* of what comes before it all begins */
	n_delivered++;
	if (number <= c->last) {
		n_twice++;
		return;
	}
	c->last = (unsigned)number;
	if (number <= seen_max)
		seen[number]++;
	latencies[late < LATENCIES ? late : LATENCIES - 1]++;
}

static void on_line(struct client *c, const char *p, size_t len, uint64_t now)
{
	if (len > 4 && memcmp(p, "id: ", 4) == 0 && len - 4 < sizeof(c->id)) {
		memcpy(c->next_id, p + 4, len - 4);
		c->next_id[len - 4] = '\0';
	} else if (len > 6 && memcmp(p, "data: ", 6) == 0) {
		on_message(c, p + 6, now);
		memcpy(c->id, c->next_id, sizeof(c->id));
	} else if (len == 10 && memcmp(p, "event: gap", 10) == 0) {
		n_gaps++;
	}
}

/* Whole lines; those of the chunked coding have no colon. Returns how many bytes they are. */
static size_t take_lines(struct client *c, char *p, size_t len, uint64_t now)
{
	char *start = p, *end = p + len, *lf;

	if (!c->streaming) {
		char *head = memmem(p, len, "\r\n\r\n", 4);

		if (!head)
			return 0;
		if (len < 12 || memcmp(p + 9, "200", 3) != 0) {
			shutdown(c->fd, SHUT_RDWR);
			return len;
		}
		c->streaming = true;
		n_opening--;
		n_streaming++;
		p = head + 4;
	}
	while ((lf = memchr(p, '\n', (size_t)(end - p)))) {
		*lf = '\0';
		on_line(c, p, (size_t)(lf - p) - (lf > p && lf[-1] == '\r'), now);
		p = lf + 1;
	}
	return (size_t)(p - start);
}

static void on_input(struct client *c)
{
	static char input[KEPT + INPUT + 1];
	ssize_t n;
	size_t used, len;

	memcpy(input, c->text, c->kept);
	n = recv(c->fd, input + c->kept, INPUT, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		return come_back(c);
	len = c->kept + (size_t)n;
	used = take_lines(c, input, len, now_us());
	c->kept = (unsigned)(len - used);
	if (c->kept > KEPT)
		fail("an event that is too long");
	memcpy(c->text, input + used, c->kept);
}

/* --- the publisher --- */

static void send_message(unsigned number)
{
	char request[512], body[MESSAGE + 1];
	int len;

	snprintf(body, sizeof(body), "%-10u %-20llu abcdefghijklmnopqrstuvwxyz012345", number,
		(unsigned long long)now_us());
	len = snprintf(request, sizeof(request),
		"POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\nContent-Length: "
		"%d\r\n\r\n%s",
		publish_path, MESSAGE, body);
	while (publisher.fd < 0 || send(publisher.fd, request, (size_t)len, MSG_NOSIGNAL) != len) {
		if (publisher.fd >= 0)
			close(publisher.fd);
		publisher.fd = open_socket(0, &publisher);
		if (publisher.fd < 0)
			usleep(1000);
	}
	in_flight_us = now_us();
}

/* A message whose answer never came may have been published: it is not sent again, and who got it is asked at the end. */
static void on_answer(void)
{
	char answer[2048];
	ssize_t n = recv(publisher.fd, answer, sizeof(answer) - 1, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		close(publisher.fd);
		publisher.fd = -1;
		n_failed += in_flight_us != 0;
	} else {
		answer[n] = '\0';
		if (strncmp(answer + 9, "20", 2) != 0) {
			fprintf(stderr, "hub_load: published: %s\n", answer);
			n_failed++;
		} else {
			n_answered++;
		}
		if (strcasestr(answer, "\r\nconnection: close\r\n")) {
			close(publisher.fd);
			publisher.fd = -1;
		}
	}
	in_flight_us = 0;
}

/* --- */

static void turn(int timeout_ms)
{
	struct epoll_event events[256];
	int n = epoll_wait(ep, events, 256, timeout_ms);

	for (int i = 0; i < n; i++) {
		struct client *c = events[i].data.ptr;

		if (c == &publisher)
			on_answer();
		else
			on_input(c);
	}
}

static void open_those_due(void)
{
	static unsigned at;
	uint64_t now = now_us();

	for (unsigned i = 0; i < n_clients && n_opening < AT_ONCE; i++, at++) {
		struct client *c = &clients[at % n_clients];

		if (c->fd < 0 && c->retry_us <= now)
			subscribe(c);
	}
}

static void open_all(void)
{
	uint64_t end = now_us() + 6 * WAIT_US;

	while (n_streaming < n_clients) {
		open_those_due();
		turn(10);
		if (now_us() > end) {
			fprintf(stderr, "hub_load: %u of %u have subscribed\n", n_streaming,
				n_clients);
			exit(1);
		}
	}
	puts("ready");
	fflush(stdout);
}

static bool all_have_the_last(void)
{
	for (unsigned i = 0; i < n_clients; i++)
		if (clients[i].last < expected_last)
			return false;
	return true;
}

static void publish_for(unsigned rate, unsigned seconds)
{
	uint64_t start = now_us(), n_due, n = (uint64_t)rate * seconds;

	while (n_published < n || in_flight_us) {
		n_due = (now_us() - start) * rate / 1000000;
		if (n_published < n && n_published <= n_due && !in_flight_us)
			send_message(++n_published);
		if (n_streaming < n_clients)
			open_those_due();
		turn(n_published <= n_due ? 0 : 1);
	}
	expected_last = n_published;
}

static double latency(double share)
{
	uint64_t n = 0, all = 0;

	for (unsigned us = 0; us < LATENCIES; us++)
		all += latencies[us];
	for (unsigned us = 0; us < LATENCIES; us++) {
		n += latencies[us];
		if (n > 0 && (double)n >= share * (double)all)
			return us / 1000.0;
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned rate, seconds, n_late = 0, n_lost = 0;
	uint64_t start, published, end;
	char line[16];

	if (argc != 7 && argc != 8) {
		fprintf(stderr, "usage: hub_load PORT SUBSCRIBE PUBLISH N RATE SECONDS [ID]\n");
		return 2;
	}
	server.sin_port = htons((uint16_t)atoi(argv[1]));
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	subscribe_path = argv[2];
	publish_path = argv[3];
	n_clients = (unsigned)atoi(argv[4]);
	rate = (unsigned)atoi(argv[5]);
	seconds = (unsigned)atoi(argv[6]);
	clients = calloc(n_clients, sizeof(*clients));
	latencies = calloc(LATENCIES, sizeof(*latencies));
	seen_max = rate * seconds;
	seen = calloc(seen_max + 1, sizeof(*seen));
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (!clients || !seen || !latencies || ep < 0 || n_clients == 0)
		fail("arguments");
	for (unsigned i = 0; i < n_clients; i++) {
		clients[i].fd = -1;
		snprintf(clients[i].id, sizeof(clients[i].id), "%s", argc == 8 ? argv[7] : "");
	}
	prctl(PR_SET_TIMERSLACK, 1);
	open_all();
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	n_cut = n_refused = 0;
	start = now_us();
	publish_for(rate, seconds);
	published = now_us();
	end = published + WAIT_US;
	while (!all_have_the_last() && now_us() < end) {
		if (n_streaming < n_clients)
			open_those_due();
		turn(5);
	}
	for (unsigned i = 0; i < n_clients; i++)
		n_late += clients[i].last < expected_last;
	for (unsigned i = 1; i <= seen_max; i++) {
		n_lost += seen[i] ==
			0; /* it never got to the server, if its publisher has not been told otherwise */
		n_missing += seen[i] > 0 ? n_clients - seen[i] : 0;
	}
	printf("{\"published\": %u, \"answered\": %u, \"failed\": %u, \"publish_s\": %.3f, "
	       "\"all_s\": %.3f, "
	       "\"delivered\": %llu, \"missing\": %u, \"lost\": %u, \"twice\": %u, \"incomplete\": "
	       "%u, \"gaps\": %u, "
	       "\"cut\": %u, \"refused\": %u, \"p50_ms\": %.2f, \"p99_ms\": %.2f}\n",
		n_published, n_answered, n_failed, (double)(published - start) / 1e6,
		(double)(now_us() - start) / 1e6, (unsigned long long)n_delivered, n_missing,
		n_lost, n_twice, n_late, n_gaps, n_cut, n_refused, latency(0.5), latency(0.99));
	fflush(stdout);
	return fgets(line, sizeof(line), stdin)
		? 0
		: 0; /* the connections stay until nobody measures any more */
}

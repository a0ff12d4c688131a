/*
 * latency PORT PATH BODY CONNECTIONS RATE SECONDS - RATE requests a second to 127.0.0.1, at even distances, on whichever
 * of CONNECTIONS is free, for as long as it takes; each answer must be 200 with BODY. Prints as JSON how long answers took
 * in microseconds: a request that finds no connection free waits, and that counts (so a server that
 * stands still for 100 ms spoils all requests of these 100 ms, not one per connection).
 *
 * It becomes a real-time process if it may: what else runs on its CPU is not the server's fault.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
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

#define PATIENCE_US 10000000 /* for the last answers */

struct client {
	int fd;
	uint64_t since_us;
	size_t len;
	char answer[4096];
};

static struct client *clients, **idle;
static int n_idle;
static char request[1024];
static size_t request_len;
static const char *expected;
static uint32_t *times_us;
static size_t n_times, n_wanted;

static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "latency: %s: %s\n", what, why);
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void send_request(struct client *c, uint64_t since_us)
{
	c->since_us = since_us;
	c->len = 0;
	if (send(c->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len)
		fail("send", strerror(errno));
}

/* Takes what has come. Returns whether the answer is complete; it is right, then. */
static bool receive(struct client *c)
{
	ssize_t r = recv(c->fd, c->answer + c->len, sizeof(c->answer) - 1 - c->len, MSG_DONTWAIT);
	const char *length, *body;

	if (r <= 0)
		fail("recv", r == 0 ? "closed, or an answer too long" : strerror(errno));
	c->len += (size_t)r;
	c->answer[c->len] = '\0';
	body = strstr(c->answer, "\r\n\r\n");
	if (!body)
		return false;
	length = strcasestr(c->answer, "\r\nContent-Length: ");
	if (strncmp(c->answer, "HTTP/1.1 200 ", 13) != 0 || !length || length > body ||
		strtoul(length + 18, NULL, 10) != strlen(expected))
		fail("answer", c->answer);
	body += 4;
	if (strlen(body) < strlen(expected))
		return false;
	if (strcmp(body, expected) != 0)
		fail("answer", c->answer);
	return true;
}

static void connect_all(int ep, int port, int n)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event e = {.events = EPOLLIN};
	int one = 1;

	for (int i = 0; i < n; i++) {
		struct client *c = idle[n_idle++] = e.data.ptr = &clients[i];

		c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
			epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0)
			fail("connect", strerror(errno));
	}
}

/* Answers until `until_us`, or until there is one if that is earlier. */
static void take_answers(int ep, uint64_t until_us)
{
	struct epoll_event events[64];
	uint64_t now = now_us(), wait_us = until_us > now ? until_us - now : 0;
	struct timespec wait = {
		.tv_sec = (time_t)(wait_us / 1000000), .tv_nsec = (long)(wait_us % 1000000) * 1000};
	int n = epoll_pwait2(ep, events, 64, &wait, NULL);

	now = now_us();
	for (int i = 0; i < n; i++) {
		struct client *c = events[i].data.ptr;

		if (!receive(c))
			continue;
		times_us[n_times++] = (uint32_t)(now - c->since_us);
		idle[n_idle++] = c;
	}
}

/*
 * Sends at even distances. A request that was due while no connection was free has waited since it was due; any other one
 * is only as old as its sending, because then it was us who were late.
 */
static void run(int ep, double rate)
{
	uint64_t start = now_us(), due = start, none_free = 0, now;

	for (size_t i = 0; i < n_wanted;) {
		now = now_us();
		if (now >= due && n_idle > 0) {
			send_request(idle[--n_idle], due <= none_free ? due : now);
			due = start + (uint64_t)((double)++i * 1e6 / rate);
		} else if (n_idle > 0) {
			take_answers(ep, due);
		} else {
			take_answers(ep, now + PATIENCE_US);
			none_free = now_us();
			if (n_idle == 0 && none_free > now + PATIENCE_US)
				fail("answer", "none for 10 s");
		}
	}
	for (now = now_us(); n_times < n_wanted; take_answers(ep, now + PATIENCE_US))
		if (now_us() > now + PATIENCE_US)
			fail("answer", "none for 10 s");
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), n;
	struct sched_param first = {.sched_priority = 1};
	double rate;

	if (argc != 7) {
		fprintf(stderr, "usage: latency PORT PATH BODY CONNECTIONS RATE SECONDS\n");
		return 2;
	}
	n = atoi(argv[4]);
	rate = atof(argv[5]);
	n_wanted = (size_t)(rate * atof(argv[6]));
	expected = argv[3];
	clients = calloc((size_t)n, sizeof(*clients));
	idle = calloc((size_t)n, sizeof(*idle));
	times_us = calloc(n_wanted, sizeof(*times_us));
	if (!clients || !idle || !times_us || n_wanted < 100)
		fail("arguments", "no such numbers");
	request_len = (size_t)snprintf(
		request, sizeof(request), "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", argv[2]);
	sched_setscheduler(0, SCHED_FIFO, &first);
	prctl(PR_SET_TIMERSLACK, 1);
	connect_all(ep, atoi(argv[1]), n);
	run(ep, rate);
	qsort(times_us, n_times, sizeof(*times_us), compare);
	printf("{\"n\": %zu, \"median\": %u, \"p99\": %u, \"max\": %u}\n", n_times,
		times_us[n_times / 2], times_us[n_times * 99 / 100], times_us[n_times - 1]);
	return 0;
}

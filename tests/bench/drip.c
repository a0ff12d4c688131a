/*
 * drip PORT N - N slow clients of 127.0.0.1: each sends one byte of a request's head per second and never completes
 * it; whom the server closes is replaced at once. "ready" is printed when all have been opened, over one second. At
 * the end of standard input prints as JSON what became of them; times are from the connection to the server's close, in ms.
 *
 * The bytes of different clients are sent evenly over the second, and from 16 addresses: ports of one would run out.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
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

#define ADDRESSES  16
#define LONGEST    120000 /* ms */
#define RETRIED_US 500000 /* the kernel knocks again after a second */

static const char head[] = "GET / HTTP/1.1\r\nHost: bench\r\nX-Slow: ";

struct client {
	int fd;
	bool connected;
	unsigned n_sent;
	uint64_t opened_us;
};

static struct client *clients;
static struct sockaddr_in server = {.sin_family = AF_INET};
static int ep;
static unsigned n_ages[LONGEST + 1]; /* closed clients by age in ms */
static unsigned n_opened, n_closed, n_retried, n_answered, longest_late_us;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "drip: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void open_one(struct client *c)
{
	struct sockaddr_in from = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256 + n_opened % ADDRESSES)};
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
	int one = 1;

	*c = (struct client){.opened_us = now_us(),
		.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
	if (c->fd < 0)
		fail("socket");
	setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (bind(c->fd, (struct sockaddr *)&from, sizeof(from)) < 0)
		fail("bind");
	if (connect(c->fd, (struct sockaddr *)&server, sizeof(server)) < 0 && errno != EINPROGRESS)
		fail("connect");
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0)
		fail("epoll_ctl");
	n_opened++;
}

/* A failed one is told by epoll, too. */
static void send_byte(struct client *c)
{
	const char *byte = c->n_sent < sizeof(head) - 1 ? &head[c->n_sent] : "x";

	if (send(c->fd, byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
		c->n_sent++;
}

/* Sees what the server has said, to the end. Returns whether it has closed. */
static bool is_closed(struct client *c)
{
	char answer[1024];
	ssize_t r;

	while ((r = recv(c->fd, answer, sizeof(answer), 0)) > 0)
		n_answered++;
	return r == 0 || errno != EAGAIN;
}

/* A client is as old as its connection, which is later than its connect() when the server's backlog was full. */
static void on_event(struct client *c, uint32_t events)
{
	uint64_t now = now_us(), age_ms;

	if (!c->connected && events & EPOLLOUT) {
		c->connected = true;
		n_retried += now - c->opened_us > RETRIED_US;
		c->opened_us = now;
	}
	if (!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) || !is_closed(c))
		return;
	age_ms = (now - c->opened_us) / 1000;
	n_ages[age_ms < LONGEST ? age_ms : LONGEST]++;
	n_closed++;
	close(c->fd);
	open_one(c);
}

static bool ended(void)
{
	struct epoll_event e;
	static int input = -1;

	if (input < 0) {
		input = epoll_create1(EPOLL_CLOEXEC);
		e = (struct epoll_event){.events = EPOLLIN | EPOLLHUP};
		if (epoll_ctl(input, EPOLL_CTL_ADD, STDIN_FILENO, &e) < 0)
			fail("standard input");
	}
	return epoll_wait(input, &e, 1, 0) > 0;
}

/* Client i's turn is at i/n of each second; beyond the first second until the end of standard input. */
static void run(unsigned n)
{
	struct epoll_event events[64];
	uint64_t start = now_us();

	for (uint64_t turn = 0; turn % 64 != 0 || turn < n || !ended(); turn++) {
		struct client *c = &clients[turn % n];
		uint64_t due = start + turn * 1000000 / n, now;

		while ((now = now_us()) < due) {
			struct timespec wait = {.tv_nsec = (long)(due - now) * 1000};
			int n_events = epoll_pwait2(ep, events, 64, &wait, NULL);

			for (int i = 0; i < n_events; i++)
				on_event(events[i].data.ptr, events[i].events);
		}
		if (now - due > longest_late_us)
			longest_late_us = (unsigned)(now - due);
		if (turn < n)
			open_one(c);
		send_byte(c);
		if (turn + 1 == n) {
			puts("ready");
			fflush(stdout);
		}
	}
}

/* The age in ms of the oldest client that the server still has. */
static unsigned oldest_open(unsigned n)
{
	uint64_t opened_us = UINT64_MAX;

	for (unsigned i = 0; i < n; i++)
		if (clients[i].opened_us < opened_us)
			opened_us = clients[i].opened_us;
	return (unsigned)((now_us() - opened_us) / 1000);
}

/* The age in ms that a share of the closed clients did not exceed. */
static unsigned age(double share)
{
	unsigned n = 0;

	for (unsigned ms = 0; ms <= LONGEST; ms++) {
		n += n_ages[ms];
		if (n > 0 && n >= share * n_closed)
			return ms;
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned n;

	if (argc != 3) {
		fprintf(stderr, "usage: drip PORT N\n");
		return 2;
	}
	server.sin_port = htons((uint16_t)atoi(argv[1]));
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	n = (unsigned)atoi(argv[2]);
	clients = calloc(n, sizeof(*clients));
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (n == 0 || !clients || ep < 0)
		fail("arguments");
	prctl(PR_SET_TIMERSLACK, 1);
	run(n);
	printf("{\"opened\": %u, \"closed\": %u, \"retried\": %u, \"answered\": %u, \"late_ms\": "
	       "%.1f, "
	       "\"earliest\": %u, \"median\": %u, \"latest\": %u, \"oldest_open\": %u}\n",
		n_opened, n_closed, n_retried, n_answered, longest_late_us / 1000.0, age(0),
		age(0.5), age(1), oldest_open(n));
	return 0;
}

/*
 * ws_load PORT PATH CONNECTIONS IN_FLIGHT SECONDS text|binary - WebSocket messages of 64 bytes to an echo server on
 * 127.0.0.1. Each connection keeps IN_FLIGHT of them under way and checks that every echo is the very message whose turn it
 * is: each differs from all others. Prints the echoes that came within SECONDS and how many seconds that really were.
 *
 * SECONDS 0: one message on each connection, then "ready" is printed and they are kept until standard input ends.
 * Exits with 1 and says why when an echo is wrong or a connection ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD  64
#define SENT     (2 + 4 + PAYLOAD) /* header, mask */
#define RECEIVED (2 + PAYLOAD)
#define MAX      1024 /* in flight on one connection */

struct connection {
	int fd;
	uint32_t id;
	uint64_t n_sent, n_received;
	size_t n_rest; /* bytes of an echo that has not come completely */
	unsigned char rest[RECEIVED];
};

static bool text;
static uint64_t total;
static uint32_t mask = 0x9e3779b9; /* a new one for each message */

/* Says why and ends. */
static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "ws_load: %s: %s\n", what, why);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The message of a connection with this number; valid UTF-8 if it is to be text. */
static void fill(uint64_t payload[PAYLOAD / 8], uint32_t id, uint64_t number)
{
	uint64_t x = (number << 20 | id) * 0x9e3779b97f4a7c15;

	for (int i = 0; i < PAYLOAD / 8; i++) {
		x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9;
		payload[i] = text ? (x & 0x3f3f3f3f3f3f3f3f) | 0x4040404040404040 : x;
	}
	if (text)
		memcpy(payload, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x99", 9);
}

static void send_some(struct connection *c, unsigned n)
{
	static unsigned char out[MAX * SENT];
	unsigned char *p = out;
	uint64_t payload[PAYLOAD / 8], wide;

	for (unsigned i = 0; i < n; i++, p += SENT) {
		mask ^= mask << 13;
		mask ^= mask >> 17;
		mask ^= mask << 5;
		wide = (uint64_t)mask << 32 | mask;
		p[0] = text ? 0x81 : 0x82;
		p[1] = 0x80 | PAYLOAD;
		memcpy(p + 2, &mask, 4);
		fill(payload, c->id, c->n_sent++);
		for (int j = 0; j < PAYLOAD / 8; j++)
			payload[j] ^= wide;
		memcpy(p + 6, payload, PAYLOAD);
	}
	if (send(c->fd, out, n * SENT, MSG_NOSIGNAL) != (ssize_t)(n * SENT))
		fail("send", strerror(errno));
}

static void check(struct connection *c, const unsigned char *frame)
{
	uint64_t payload[PAYLOAD / 8];

	fill(payload, c->id, c->n_received++);
	if (frame[0] != (text ? 0x81 : 0x82) || frame[1] != PAYLOAD)
		fail("echo", "not a frame of 64 bytes of the type that was sent");
	if (memcmp(frame + 2, payload, PAYLOAD) != 0)
		fail("echo", "not the message whose turn it was");
}

/* Checks what has come. Returns how many echoes that were. */
static unsigned receive(struct connection *c)
{
	static unsigned char in[RECEIVED + MAX * RECEIVED];
	const unsigned char *p = in;
	unsigned n = 0;
	ssize_t r;
	size_t len;

	memcpy(in, c->rest, c->n_rest);
	r = recv(c->fd, in + c->n_rest, sizeof(in) - c->n_rest, 0);
	if (r <= 0)
		fail("recv", r == 0 ? "the server closed" : strerror(errno));
	for (len = c->n_rest + (size_t)r; len >= RECEIVED; len -= RECEIVED, p += RECEIVED, n++)
		check(c, p);
	c->n_rest = len;
	memcpy(c->rest, p, len);
	total += n;
	return n;
}

/* The key and its answer are those of RFC 6455, section 1.2. */
static void handshake(int fd, const char *path)
{
	char buffer[4096];
	size_t len = 0;
	ssize_t r;
	int n = snprintf(buffer, sizeof(buffer),
		"GET %s HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
		path);

	if (send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n)
		fail("handshake", strerror(errno));
	do {
		r = recv(fd, buffer + len, sizeof(buffer) - 1 - len, 0);
		if (r <= 0)
			fail("handshake", r == 0 ? "the server closed" : strerror(errno));
		len += (size_t)r;
		buffer[len] = '\0';
	} while (!strstr(buffer, "\r\n\r\n") && len < sizeof(buffer) - 1);
	if (strncmp(buffer, "HTTP/1.1 101 ", 13) != 0 ||
		!strstr(buffer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"))
		fail("handshake", buffer);
}

static int open_one(int port, const char *path)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 10};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		fail("connect", strerror(errno));
	handshake(fd, path);
	return fd;
}

static void hold(struct connection *connections, int n)
{
	for (int i = 0; i < n; i++) {
		send_some(&connections[i], 1);
		while (receive(&connections[i]) == 0)
			;
	}
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
}

static void load(struct connection *connections, int n, unsigned in_flight, double seconds)
{
	struct epoll_event events[256], e = {.events = EPOLLIN};
	int ep = epoll_create1(EPOLL_CLOEXEC), n_events;
	double start = now(), end = start;

	for (int i = 0; i < n; i++) {
		e.data.ptr = &connections[i];
		if (epoll_ctl(ep, EPOLL_CTL_ADD, connections[i].fd, &e) < 0)
			fail("epoll_ctl", strerror(errno));
		send_some(&connections[i], in_flight);
	}
	for (; end < start + seconds; end = now()) {
		n_events = epoll_wait(ep, events, 256, 5000);
		if (n_events <= 0)
			fail("echo", "none for 5 s");
		for (int i = 0; i < n_events; i++) {
			struct connection *c = events[i].data.ptr;
			unsigned n_echoes = receive(c);

			if (n_echoes > 0)
				send_some(c, n_echoes);
		}
	}
	printf("%llu %.6f\n", (unsigned long long)total, end - start);
}

int main(int argc, char **argv)
{
	struct connection *connections;
	int n, in_flight;

	if (argc != 7) {
		fprintf(stderr,
			"usage: ws_load PORT PATH CONNECTIONS IN_FLIGHT SECONDS text|binary\n");
		return 2;
	}
	n = atoi(argv[3]);
	in_flight = atoi(argv[4]);
	text = strcmp(argv[6], "text") == 0;
	connections = calloc((size_t)n, sizeof(*connections));
	if (!connections || in_flight < 1 || in_flight > MAX)
		fail("arguments", "no such numbers");
	for (int i = 0; i < n; i++)
		connections[i] = (struct connection){
			.id = (uint32_t)i, .fd = open_one(atoi(argv[1]), argv[2])};
	if (atoi(argv[5]) == 0)
		hold(connections, n);
	else
		load(connections, n, (unsigned)in_flight, atof(argv[5]));
	return 0;
}

/*
 * epoll PORT - answers every request on 127.0.0.1:PORT with the same 13 bytes and does nothing else: the floor
 * that a real server is held against. Requests are counted by their empty lines; one read, one write.
 * A request head that is split over two segments is beyond it; no load generator does that.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BURST 64 /* answers in one write */

static char answers[BURST * 256];
static size_t answer_len;

/* The same head as the others send; the date is of the start, keeping it fresh costs next to nothing. */
static void prepare(void)
{
	char date[64];
	time_t now = time(NULL);

	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
	answer_len = (size_t)snprintf(answers, 256,
		"HTTP/1.1 200 OK\r\nServer: epoll\r\nDate: %s\r\nContent-Type: text/plain\r\n"
		"Content-Length: 13\r\nConnection: keep-alive\r\n\r\nHello, World!",
		date);
	for (int i = 1; i < BURST; i++)
		memcpy(answers + (size_t)i * answer_len, answers, answer_len);
}

static size_t count_requests(const char *p, size_t len)
{
	const char *end = p + len;
	size_t n = 0;

	while ((p = memmem(p, (size_t)(end - p), "\r\n\r\n", 4))) {
		p += 4;
		n++;
	}
	return n < BURST ? n : BURST;
}

static void serve(int fd)
{
	static char in[16384];
	ssize_t n = recv(fd, in, sizeof(in), 0);
	size_t len;

	if (n <= 0) {
		close(fd);
		return;
	}
	len = count_requests(in, (size_t)n) * answer_len;
	if (len > 0 && send(fd, answers, len, 0) != (ssize_t)len)
		close(fd);
}

static int listen_on(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* accepted ones inherit it */
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1024) < 0) {
		perror("epoll: listen");
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	struct epoll_event events[256], e = {.events = EPOLLIN};
	int listener, ep, n;

	if (argc != 2) {
		fprintf(stderr, "usage: epoll PORT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	prepare();
	listener = e.data.fd = listen_on(atoi(argv[1]));
	ep = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
	for (;;) {
		n = epoll_wait(ep, events, 256, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd != listener) {
				serve(events[i].data.fd);
				continue;
			}
			e.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
			if (e.data.fd >= 0)
				epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e);
		}
	}
}

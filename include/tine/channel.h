/*
 * tine/channel.h - the other end of the message channel of tine_child_fork(), for the program that was started. Header-only: a
 * program needs nothing of tined but this file, and a program in another language needs only to know what follows.
 *
 * The channel is a connected stream socket (AF_UNIX) in descriptor 3, whose number is also in the environment variable
 * TINE_CHANNEL. Both sides write frames: four bytes with the length of the payload, 0 or more, in the byte order of the machine,
 * then the payload. Who reads the end of the stream between two frames has been told all; within one, the worker calls on_error with
 * -EPROTO. The worker refuses frames longer than
 * the `message_max` it was asked for, 1 MiB by default, and kills who sends one.
 *
 * These functions block, may be used from any one thread at a time in each direction, and never raise SIGPIPE. They return
 * negative errno values: -EPIPE when the worker has closed its end or is gone.
 */
#ifndef TINE_CHANNEL_H
#define TINE_CHANNEL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TINE_CHANNEL_FD       3
#define TINE_CHANNEL_VARIABLE "TINE_CHANNEL"

/* The descriptor of the channel this program was started with, or -ENOENT: it was started by somebody else. */
static inline int tine_channel_fd(void)
{
	const char *text = getenv(TINE_CHANNEL_VARIABLE);

	return text && *text ? atoi(text) : -ENOENT;
}

/* Sends one message. Returns 0 or -errno; after an error the channel is of no more use. */
static inline int tine_channel_send(int fd, const void *data, uint32_t len)
{
	uint32_t head = len;
	size_t sent = 0, total = sizeof(head) + len;

	while (sent < total) {
		size_t of_head = sent < sizeof(head) ? sizeof(head) - sent : 0;
		size_t of_data = sent < sizeof(head) ? 0 : sent - sizeof(head);
		struct iovec parts[2] = {{(char *)&head + (sizeof(head) - of_head), of_head},
			{(char *)(uintptr_t)data + of_data, len - of_data}};
		struct msghdr message = {0};
		ssize_t n;

		message.msg_iov = parts;
		message.msg_iovlen = 2;
		n = sendmsg(fd, &message, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR)
			return -errno;
		sent += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* Reads exactly len bytes. Returns 1, 0 at the end of the stream before the first of them, or -errno. */
static inline int tine_channel_read(int fd, void *data, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = recv(fd, (char *)data + got, len - got, 0);

		if (n == 0)
			return got == 0 ? 0 : -EPROTO;
		if (n < 0 && errno != EINTR)
			return -errno;
		got += n > 0 ? (size_t)n : 0;
	}
	return 1;
}

/*
 * Waits for the next message and copies it into a buffer of `size` bytes. Returns 1 and its length, 0 when the worker has closed
 * its end, or -errno: -EMSGSIZE when the message is larger than the buffer, after which the channel is of no more use.
 */
static inline int tine_channel_receive(int fd, void *buffer, uint32_t size, uint32_t *ret_len)
{
	uint32_t head = 0;
	int r = tine_channel_read(fd, &head, sizeof(head));

	if (r <= 0)
		return r;
	if (head > size)
		return -EMSGSIZE;
	r = tine_channel_read(fd, buffer, head);
	if (r == 0 && head > 0)
		return -EPROTO;
	if (r < 0)
		return r;
	*ret_len = head;
	return 1;
}

#ifdef __cplusplus
}
#endif
#endif

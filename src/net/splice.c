/*
 * Memory to a socket without copying it: vmsplice(2) lays references to its pages into a pipe, which
 * splice(2) moves on to the socket. Worker only; one pipe per server, made on first use.
 *
 * The kernel goes on using the memory itself for as long as the client takes to acknowledge it. It
 * must never be written again; see hot_files.c. (To unmap it is safe: the references count.)
 *
 * Always: the pipe is empty between two calls. What a socket does not take is thrown away with the
 * pipe, so that nobody ever receives what was meant for another.
 */
#include "net/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

void splice_init(struct net_splice *s)
{
	*s = (struct net_splice){.in = -1, .out = -1};
}

void splice_close(struct net_splice *s)
{
	if (s->in < 0)
		return;
	close(s->in);
	close(s->out);
	s->in = s->out = -1;
}

static bool is_passing(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/*
 * Sees to it that there is a pipe. Returns false when there can be none, be it now or, when it is
 * too small to be worth while, ever.
 */
bool splice_ready(struct net_splice *s)
{
	int fds[2];

	if (s->refused)
		return false;
	if (s->in >= 0)
		return true;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		s->refused = !is_passing(errno);
		return false;
	}
	s->out = fds[0];
	s->in = fds[1];
	if (fcntl(s->in, F_SETPIPE_SZ, SPLICE_PIPE_SIZE) < 0) {
		s->refused = !is_passing(errno);
		splice_close(s);
		return false;
	}
	return true;
}

/* The slow way, for what was begun when there was a pipe. */
static ssize_t splice_copy(int fd, const char *data, size_t len)
{
	return send(fd, data, len, MSG_NOSIGNAL);
}

/*
 * Sends memory that is never written again. Returns how much the socket took, or -1 and errno as
 * send(2) does. SIGPIPE must be ignored.
 */
ssize_t splice_send(struct net_splice *s, int fd, const char *data, size_t len)
{
	struct iovec iov = {(void *)(uintptr_t)data, len};
	ssize_t put, n;
	int error;

	if (!splice_ready(s))
		return splice_copy(fd, data, len);
	put = vmsplice(s->in, &iov, 1, SPLICE_F_NONBLOCK);
	if (put <= 0) {
		s->refused = !is_passing(errno);
		splice_close(s);
		return splice_copy(fd, data, len);
	}
	n = splice(s->out, NULL, fd, NULL, (size_t)put, SPLICE_F_NONBLOCK);
	if (n < put) {
		error = errno;
		splice_close(s);
		errno = error;
	}
	return n;
}

/*
 * Makes what a child's standard streams and its channel are to be. On the loop's thread.
 */
#include "runtime/subprocess_stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

/* ret[0]: ours, which does not block; ret[1]: the child's, which does. */
static int open_pipe(int stream, int ret[2])
{
	bool input = stream == TINE_CHILD_STDIN;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	ret[0] = fds[input];
	ret[1] = fds[!input];
	r = fd_set_nonblock(ret[0]);
	if (r < 0) {
		close(fds[0]);
		close(fds[1]);
	}
	return r;
}

static int open_channel(int ret[2])
{
	int r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret) < 0)
		return -errno;
	r = fd_set_nonblock(ret[0]);
	if (r < 0) {
		close(ret[0]);
		close(ret[1]);
	}
	return r;
}

/* One for all children. */
static int open_null(struct subprocesses *all)
{
	if (all->null_fd < 0)
		all->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	return all->null_fd < 0 ? -errno : all->null_fd;
}

static int open_one(
	struct subprocesses *all, const struct tine_child_options *o, int i, struct stdio_ends *e)
{
	enum tine_child_stdio_kind kind = i < 3 ? o->stdio[i].kind : TINE_CHILD_PIPE;
	int fds[2], r;

	if (kind == TINE_CHILD_PIPE) {
		r = i == TINE_CHILD_CHANNEL ? open_channel(fds) : open_pipe(i, fds);
		if (r < 0)
			return r;
		e->ours[i] = fds[0];
		e->theirs[i] = fds[1];
		e->made[i] = true;
		return 0;
	}
	if (kind == TINE_CHILD_IGNORE)
		e->theirs[i] = open_null(all);
	else
		e->theirs[i] = kind == TINE_CHILD_FD ? o->stdio[i].fd : i;
	return e->theirs[i] < 0 ? e->theirs[i] : 0;
}

/* Returns 0 or -errno, and then nothing is open. */
int stdio_open(struct subprocesses *all, const struct tine_child_options *o, bool channel,
	struct stdio_ends *ret)
{
	int r = 0;

	*ret = (struct stdio_ends){.ours = {-1, -1, -1, -1}, .n = channel ? N_STREAMS : 3};
	for (int i = 0; i < ret->n && r >= 0; i++)
		r = open_one(all, o, i, ret);
	if (r < 0)
		stdio_close(ret);
	return r;
}

/* The child has its own by now. */
void stdio_close_theirs(struct stdio_ends *e)
{
	for (int i = 0; i < N_STREAMS; i++) {
		if (e->made[i])
			close(e->theirs[i]);
		e->made[i] = false;
	}
}

void stdio_close(struct stdio_ends *e)
{
	stdio_close_theirs(e);
	for (int i = 0; i < N_STREAMS; i++) {
		if (e->ours[i] >= 0)
			close(e->ours[i]);
		e->ours[i] = -1;
	}
}

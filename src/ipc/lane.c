/*
 * Lanes. Used by the primary and by every child, on their loop's thread.
 * Always holds: `in` keeps less than one frame between turns; `out` starts at a frame that is wholly or partly
 * unsent; `fds_out` are in the order of their frames in `out`.
 */
#include "ipc/lane.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/turn.h"

#define READ_CHUNK (16u << 10) /* asked of the kernel at a time */
#define READ_BURST \
	(256u << 10)   /* read in one turn at most: a flooding peer must not hold up the loop */
#define FDS_MAX    8   /* descriptors received but not yet claimed by a frame */
#define SCM_MAX_FD 253 /* of the kernel: what one message can carry; unix(7) */
#define LAST_WORDS \
	(1u << 20) /* more than a socket holds, less than its heirs could go on writing */

struct bytes {
	char *data;
	size_t start, end, size;
};

struct queued_fd {
	uint64_t at; /* position of its frame's first byte in all that was ever queued */
	int fd;      /* a duplicate, ours */
};

struct lane {
	struct event readable, writable;
	int fd;
	struct lane_options o;
	struct bytes in, out;
	uint64_t sent; /* bytes written so far: the position of out.start */
	struct queued_fd *fds_out;
	size_t n_fds_out;
	int fds_in[FDS_MAX];
	size_t n_fds_in;
	unsigned busy; /* callbacks on the stack: freeing waits for them */
	bool dead;     /* freed or closed: no more callbacks */
};

/* Makes a socketpair for a lane: both ends non-blocking and close-on-exec. Returns 0 or -errno. */
int lane_pair(int ret_fds[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) < 0)
		return -errno;
	return 0;
}

/* Makes room for n more bytes behind b->end. */
static int bytes_reserve(struct bytes *b, size_t n)
{
	size_t used = b->end - b->start;
	char *p;

	if (b->size - b->end >= n)
		return 0;
	if (b->start > 0) {
		memmove(b->data, b->data + b->start, used);
		b->start = 0;
		b->end = used;
	}
	if (b->size - b->end >= n)
		return 0;
	n = used + n > 2 * b->size ? used + n : 2 * b->size;
	p = realloc(b->data, n);
	if (!p)
		return -ENOMEM;
	b->data = p;
	b->size = n;
	return 0;
}

static void bytes_release(struct bytes *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

/* Closes a descriptor the peer sent. It may be a socket set to linger, whose last close(2) would wait. */
static void close_foreign(int fd)
{
	const struct linger none = {0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(fd);
}

static void lane_destroy(struct lane *l)
{
	for (size_t i = 0; i < l->n_fds_in; i++)
		close_foreign(l->fds_in[i]);
	for (size_t i = 0; i < l->n_fds_out; i++)
		close(l->fds_out[i].fd);
	free(l->fds_out);
	bytes_release(&l->in);
	bytes_release(&l->out);
	free(l);
}

/* Stops all traffic. The memory stays until lane_free(). */
static void lane_shut(struct lane *l)
{
	if (l->dead)
		return;
	l->dead = true;
	event_del(&l->readable);
	event_del(&l->writable);
	close(l->fd);
	l->fd = -1;
}

static void lane_fail(struct lane *l, const char *why)
{
	if (l->dead)
		return;
	lane_shut(l);
	l->o.on_closed(why, l->o.arg);
}

/* Closes the lane. From within one of its own callbacks the memory goes when the callback has returned. */
struct lane *lane_free(struct lane *l)
{
	if (!l)
		return NULL;
	lane_shut(l);
	l->o.on_message = NULL;
	if (l->busy == 0)
		lane_destroy(l);
	return NULL;
}

static void lane_enter(struct lane *l)
{
	l->busy++;
}

static void lane_leave(struct lane *l)
{
	l->busy--;
	if (l->busy == 0 && l->dead && !l->o.on_message)
		lane_destroy(l);
}

/* Hands up one whole frame. Returns false when the lane has died of it. */
static bool deliver(struct lane *l, const struct frame *f, const void *payload)
{
	int fd = -1;

	if (msg_rule(f->type)->n_fds > 0) {
		if (l->n_fds_in == 0) {
			lane_fail(l, "descriptor missing");
			return false;
		}
		fd = l->fds_in[0];
		l->n_fds_in--;
		memmove(l->fds_in, l->fds_in + 1, l->n_fds_in * sizeof(*l->fds_in));
	}
	l->o.on_message(f, payload, fd, l->o.arg);
	return !l->dead;
}

/* Takes every whole frame out of `in`. */
static void parse_frames(struct lane *l)
{
	const char *why;
	struct frame f;

	while (l->in.end - l->in.start >= sizeof(f)) {
		memcpy(&f, l->in.data + l->in.start, sizeof(f));
		if (msg_validate(&f, l->o.kind, l->o.peer, &why) < 0) {
			lane_fail(l, why);
			return;
		}
		if (l->in.end - l->in.start < sizeof(f) + f.length)
			break;
		l->in.start += sizeof(f) + f.length;
		if (!deliver(l, &f, l->in.data + l->in.start - f.length))
			return;
	}
	if (l->in.start == l->in.end)
		l->in.start = l->in.end = 0;
	if (l->in.end == 0 && l->n_fds_in > 0)
		lane_fail(l, "descriptor without its message");
}

/* Keeps the descriptors of one recvmsg(2). Returns 0, or -EPROTO when there are more than any frame may have. */
static int keep_fds(struct lane *l, struct msghdr *mh)
{
	int r = mh->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (l->n_fds_in < FDS_MAX) {
				l->fds_in[l->n_fds_in++] = fd;
				continue;
			}
			close_foreign(fd);
			r = -EPROTO;
		}
	}
	return r;
}

/* One read. Returns bytes read, 0 at the end, -EAGAIN, or another -errno. */
static ssize_t receive(struct lane *l)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(SCM_MAX_FD * sizeof(int))];
	} control;
	struct iovec iov;
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t n;
	int r = bytes_reserve(&l->in, READ_CHUNK);

	if (r < 0)
		return r;
	iov = (struct iovec){l->in.data + l->in.end, l->in.size - l->in.end};
	n = recvmsg(l->fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	l->in.end += (size_t)n;
	r = keep_fds(l, &mh);
	return r < 0 ? r : n;
}

static void read_some(struct lane *l, size_t limit)
{
	size_t total = 0;

	lane_enter(l);
	while (!l->dead && total < limit) {
		ssize_t n = receive(l);

		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			lane_fail(l,
				n == 0 || n == -ECONNRESET ? NULL
					: n == -EPROTO     ? "too many descriptors"
							   : strerror((int)-n));
			break;
		}
		total += (size_t)n;
		parse_frames(l);
	}
	if (!l->dead && l->in.end == 0)
		bytes_release(&l->in);
	lane_leave(l);
}

/* Takes what the peer wrote before it died, without waiting. May call on_message and on_closed. */
void lane_read_rest(struct lane *l)
{
	if (l && !l->dead)
		read_some(l, LAST_WORDS);
}

/* Writes up to the next frame that carries a descriptor, or that frame's beginning with it. */
static ssize_t write_some(struct lane *l)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	size_t until_fd = l->n_fds_out > 0 ? l->fds_out[0].at - l->sent : SIZE_MAX;
	size_t queued = l->out.end - l->out.start;
	bool with_fd = until_fd == 0;
	struct iovec iov = {l->out.data + l->out.start, queued < until_fd ? queued : until_fd};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (with_fd) {
		iov.iov_len = sizeof(struct frame); /* up to here it is sure to be one message's */
		mh.msg_control = &control;
		mh.msg_controllen = sizeof(control);
		control.align = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.align), &l->fds_out[0].fd, sizeof(int));
	}
	n = sendmsg(l->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	l->out.start += (size_t)n;
	l->sent += (uint64_t)n;
	if (with_fd) {
		close(l->fds_out[0].fd);
		l->n_fds_out--;
		memmove(l->fds_out, l->fds_out + 1, l->n_fds_out * sizeof(*l->fds_out));
	}
	return n;
}

static bool out_empty(const struct lane *l)
{
	return l->out.start == l->out.end;
}

/* Writes what is queued as far as the peer takes it; the rest goes when there is room. */
void lane_flush(struct lane *l)
{
	if (l->dead)
		return;
	lane_enter(l);
	while (!l->dead && !out_empty(l)) {
		ssize_t n = write_some(l);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN) {
			if (event_add(&l->writable, NULL) < 0)
				lane_fail(l, "out of memory");
			break;
		}
		if (n == -EPIPE || n == -ECONNRESET) {
			bytes_release(&l->out); /* its last words may still be there to read */
			break;
		}
		if (n < 0)
			lane_fail(l, strerror((int)-n));
	}
	if (!l->dead && out_empty(l))
		bytes_release(&l->out);
	lane_leave(l);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	turn_mark();
	read_some(arg, READ_BURST);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	turn_mark();
	lane_flush(arg);
}

int lane_new(const struct lane_options *o, struct lane **ret)
{
	struct lane *l = calloc(1, sizeof(*l));

	if (!l) {
		close(o->fd);
		return -ENOMEM;
	}
	l->o = *o;
	l->fd = o->fd;
	event_assign(&l->readable, o->base, l->fd, EV_READ | EV_PERSIST, on_readable, l);
	event_assign(&l->writable, o->base, l->fd, EV_WRITE, on_writable, l);
	if (event_add(&l->readable, NULL) < 0) {
		lane_free(l);
		return -ENOMEM;
	}
	*ret = l;
	return 0;
}

/* Queues one frame, to be written at the end of this turn together with what else comes. */
static int enqueue(struct lane *l, const struct frame *f, const void *payload)
{
	size_t n = sizeof(*f) + f->length;
	int r;

	if (l->dead)
		return -EPIPE;
	if (l->out.end - l->out.start + n > l->o.queue_max)
		return LANE_E_FULL;
	r = bytes_reserve(&l->out, n);
	if (r < 0)
		return r;
	memcpy(l->out.data + l->out.end, f, sizeof(*f));
	if (f->length > 0)
		memcpy(l->out.data + l->out.end + sizeof(*f), payload, f->length);
	l->out.end += n;
	if (!event_pending(&l->writable, EV_WRITE, NULL))
		event_active(&l->writable, EV_WRITE, 0);
	return 0;
}

/*
 * Sends a message; the payload is copied. Returns 0, LANE_E_FULL, or -errno (-EPIPE: the lane is closed).
 * Never calls back.
 */
int lane_send(struct lane *l, enum msg_type type, uint64_t id, const void *payload, size_t len)
{
	struct frame f = {.length = (uint32_t)len, .type = (uint16_t)type, .id = id};

	return enqueue(l, &f, payload);
}

/* Sends a message that carries a descriptor; the caller keeps its own. Returns as lane_send(). */
int lane_send_fd(struct lane *l, enum msg_type type, const void *payload, size_t len, int fd)
{
	struct frame f = {.length = (uint32_t)len, .type = (uint16_t)type};
	struct queued_fd *grown;
	CLEANUP(closep) int copy = dup(fd);
	int r;

	if (copy < 0)
		return -errno;
	fd_set_cloexec(copy, true);
	grown = realloc(l->fds_out, (l->n_fds_out + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	l->fds_out = grown;
	r = enqueue(l, &f, payload);
	if (r != 0)
		return r;
	l->fds_out[l->n_fds_out].at = l->sent + (l->out.end - l->out.start) - sizeof(f) - len;
	l->fds_out[l->n_fds_out++].fd = take_fd(&copy);
	return 0;
}

/* False once the peer has closed it or was found to break the rules. */
bool lane_is_open(const struct lane *l)
{
	return !l->dead;
}

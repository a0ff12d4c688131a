/*
 * Lanes. Used by the primary and by every child, on their loop's thread.
 * All lanes of a process read into one buffer. Always holds: `rest` keeps what of it could not be handed up, which is less than
 * one frame unless the lane has yielded; `out` starts at a frame that is wholly or partly unsent; `fds_out` are in the order of
 * their frames in `out`.
 */
#include "ipc/lane.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/turn.h"

#define READ_CHUNK (256u << 10) /* asked of the kernel at a time */
#define READ_BURST \
	(256u << 10) /* read in one turn at most: a flooding peer must not hold up the loop */
#define READ_SPACE (READ_CHUNK + 2 * MSG_LENGTH_MAX)
#define GROW_FAST  (1u << 20)  /* memory that is larger grows by a quarter at a time, not twofold */
#define BUS_BUFFER (1u << 20)  /* asked of the kernel for a socket of the bus */
#define KEEP_MAX   (64u << 10) /* of memory, for a queue of the bus that is empty */
#define FDS_MAX    8           /* descriptors received but not yet claimed by a frame */
#define SCM_MAX_FD 253         /* of the kernel: what one message can carry; unix(7) */
#define LAST_WORDS \
	(4u << 20)     /* more than a socket holds, less than its heirs could go on writing */
#define LAST_ROUNDS 64 /* for handlers that yield */
#define FLYING_MAX  16 /* descriptors in a socket of the bus, not yet read */
#define WRITE_AHEAD (64u << 10) /* bytes that are not left to the end of the turn */
#define RETRY_MS    2           /* when too many descriptors are in flight; unix(7), ETOOMANYREFS */

struct bytes {
	char *data;
	size_t start, end, size;
};

struct queued_fd {
	uint64_t at; /* position of its frame's first byte in all that was ever queued */
	int fd;      /* a duplicate, ours */
};

struct lane {
	struct event readable, writable, again, retry;
	int fd;
	struct lane_options o;
	struct bytes rest, out;
	uint64_t sent; /* bytes written so far: the position of out.start */
	struct queued_fd *fds_out;
	size_t n_fds_out;
	unsigned n_flying;   /* descriptors written since the peer had read everything */
	int fds_in[FDS_MAX]; /* -1: its frame's is lost */
	size_t n_fds_in;
	unsigned busy;    /* callbacks on the stack: freeing waits for them */
	bool dead;        /* freed or closed: no more callbacks */
	bool yielded;     /* whole frames may be left in `rest` until the next turn */
	bool deaf;        /* it is not to be read */
	bool write_comes; /* `writable` is about to be called */
	bool blocked;     /* the peer took no more when it was last offered some */
};

/* What all lanes of the process read into, one after the other. It may be in use while the process is forked. */
static struct {
	const struct event_base *base; /* the process's */
	char *data;
	bool taken;
} shared_space;

/* As far as we may: without privileges net.core.wmem_max is the limit. */
static void enlarge_buffer(int fd)
{
	int size = BUS_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/* Makes a socketpair for a lane: both ends non-blocking and close-on-exec. Returns 0 or -errno. */
int lane_pair(enum msg_lane kind, int ret_fds[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) < 0)
		return -errno;
	if (kind == LANE_BUS) {
		enlarge_buffer(ret_fds[0]);
		enlarge_buffer(ret_fds[1]);
	}
	return 0;
}

/*
 * Makes room for n more bytes behind b->end. What is there is moved down for a quarter of the memory at least, so that a byte
 * that was taken away pays for three that are moved; and memory is never much more than half above the most there was in it.
 */
static int bytes_reserve(struct bytes *b, size_t n)
{
	size_t used = b->end - b->start, grown;
	char *p;

	if (b->size - b->end >= n)
		return 0;
	if (b->start > 0 && b->start >= b->size / 4) {
		memmove(b->data, b->data + b->start, used);
		b->start = 0;
		b->end = used;
	}
	if (b->size - b->end >= n)
		return 0;
	grown = b->size + (b->size < GROW_FAST ? b->size : b->size / 4);
	if (grown < b->end + n)
		grown = b->end + n;
	p = realloc(b->data, grown);
	if (!p)
		return -ENOMEM;
	b->data = p;
	b->size = grown;
	return 0;
}

static void bytes_release(struct bytes *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

/*
 * Closes a descriptor the peer sent. It may be a socket set to linger, whose last close(2) would wait: ours is the last if all
 * others are closed already. The option is the socket's, so whoever has it too loses it; one that does not wait is left.
 */
void lane_close_foreign(int fd)
{
	struct linger l = {0};
	socklen_t len = sizeof(l);

	if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len) == 0 && l.l_onoff && l.l_linger > 0) {
		l.l_onoff = 0;
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	}
	close(fd);
}

/* Closes our duplicate of one that is sent or was to be. On the bus it came from another process. */
static void close_queued(const struct lane *l, int fd)
{
	if (l->o.kind == LANE_BUS)
		lane_close_foreign(fd);
	else
		close(fd);
}

static void lane_destroy(struct lane *l)
{
	for (size_t i = 0; i < l->n_fds_in; i++) {
		if (l->fds_in[i] >= 0)
			lane_close_foreign(l->fds_in[i]);
	}
	for (size_t i = 0; i < l->n_fds_out; i++)
		close_queued(l, l->fds_out[i].fd);
	free(l->fds_out);
	bytes_release(&l->rest);
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
	event_del(&l->again);
	event_del(&l->retry);
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

/* The peer broke a rule that only the receiver of its messages knows. */
void lane_reject(struct lane *l, const char *why)
{
	lane_fail(l, why);
}

/* From within on_message: the rest of the burst waits for the next turn. */
void lane_yield(struct lane *l)
{
	l->yielded = true;
}

/* Hands up one whole frame. */
static void deliver(struct lane *l, const struct frame *f)
{
	int fd = -1;

	if (msg_has_fd(f)) {
		if (l->n_fds_in == 0) {
			lane_fail(l, "descriptor missing");
			return;
		}
		fd = l->fds_in[0];
		l->n_fds_in--;
		memmove(l->fds_in, l->fds_in + 1, l->n_fds_in * sizeof(*l->fds_in));
	}
	l->o.on_message(f, f + 1, fd, l->o.arg);
}

/* Hands up every whole frame of what has come. Returns how many bytes that were. */
static size_t parse_frames(struct lane *l, const char *data, size_t len)
{
	const char *why;
	size_t at = 0;

	while (!l->dead && !l->yielded && len - at >= sizeof(struct frame)) {
		const struct frame *f = (const void *)(data + at);

		if (msg_validate(f, l->o.kind, l->o.peer, &why) < 0) {
			lane_fail(l, why);
			break;
		}
		if (len - at < frame_space(f->length))
			break;
		at += frame_space(f->length);
		deliver(l, f);
	}
	if (!l->dead && l->o.on_burst)
		l->o.on_burst(l->o.arg);
	if (!l->dead && at == len && l->n_fds_in > 0)
		lane_fail(l, "descriptor without its message");
	return at;
}

/* Keeps a descriptor, or the place of a lost one (-1), for its frame. Returns 0, or -EPROTO when there are more than any may have. */
static int keep_fd(struct lane *l, int fd)
{
	if (l->n_fds_in < FDS_MAX) {
		l->fds_in[l->n_fds_in++] = fd;
		return 0;
	}
	if (fd >= 0)
		lane_close_foreign(fd);
	return -EPROTO;
}

/*
 * Keeps the descriptors of one recvmsg(2), which are those of one sendmsg(2) at most: one, from a lane. Where we had room for any
 * number of them, one is missing because this process may open no more: the kernel drops those from there on, and never a byte.
 * Only one place is kept then: who sent more than one breaks a rule, and is found out by the next. Returns 0 or -EPROTO.
 */
static int keep_fds(struct lane *l, struct msghdr *mh, bool with_fds)
{
	int r = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (keep_fd(l, fd) < 0)
				r = -EPROTO;
		}
	}
	if (r == 0 && (mh->msg_flags & MSG_CTRUNC))
		r = with_fds ? keep_fd(l, -1) : -EPROTO;
	return r;
}

/*
 * One read. Returns bytes read, 0 at the end, -EAGAIN, or another -errno. Where the peer may send no descriptors there is no room
 * for any: the kernel drops them, and nothing of a file system that the peer may have made itself is waited for.
 */
static ssize_t receive(struct lane *l, char *space, size_t size)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(SCM_MAX_FD * sizeof(int))];
	} control;
	bool with_fds = l->o.kind == LANE_BUS || l->o.peer == ROLE_PRIMARY;
	struct iovec iov = {space, size};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = with_fds ? &control : NULL,
		.msg_controllen = with_fds ? sizeof(control) : 0};
	ssize_t n = recvmsg(l->fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	int r;

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	r = keep_fds(l, &mh, with_fds);
	return r < 0 ? r : n;
}

/* A lane that is read from within a callback of another one has a space to itself. */
static char *space_take(void)
{
	if (shared_space.taken)
		return malloc(READ_SPACE);
	if (!shared_space.data)
		shared_space.data = malloc(READ_SPACE);
	shared_space.taken = shared_space.data != NULL;
	return shared_space.data;
}

static void space_give(char *space)
{
	if (space == shared_space.data)
		shared_space.taken = false;
	else
		free(space);
}

/* Keeps what was not handed up. */
static void stash(struct lane *l, const char *data, size_t len)
{
	if (l->dead || len == 0)
		return;
	if (bytes_reserve(&l->rest, len) < 0) {
		lane_fail(l, "out of memory");
		return;
	}
	memcpy(l->rest.data, data, len);
	l->rest.end = len;
}

static size_t unstash(struct lane *l, char *ret)
{
	size_t len = l->rest.end;

	if (len > 0)
		memcpy(ret, l->rest.data, len);
	bytes_release(&l->rest);
	return len;
}

static void read_failed(struct lane *l, ssize_t n)
{
	lane_fail(l,
		n == 0 || n == -ECONNRESET ? NULL
			: n == -EPROTO     ? "too many descriptors"
					   : strerror((int)-n));
}

/* A peer that takes no answers is read no further, also when we come from on_again; the last words of one that died are. */
static bool is_listening(const struct lane *l, size_t limit)
{
	return !l->dead && !l->yielded && (!l->deaf || limit > READ_BURST);
}

/*
 * Reads until there is no more, the limit is reached, a handler yields or has the reading stopped; at most the limit and one
 * frame are in the space.
 */
static void read_into(struct lane *l, char *space, size_t limit)
{
	size_t have = unstash(l, space), at = 0, total = 0;
	ssize_t n = 1;

	if (l->yielded) {
		l->yielded = false;
		at = parse_frames(l, space, have);
	}
	while (is_listening(l, limit) && n > 0 && total < limit) {
		size_t asked;

		memmove(space, space + at, have - at);
		have -= at;
		at = 0;
		asked = READ_SPACE - have < READ_CHUNK ? READ_SPACE - have : READ_CHUNK;
		n = receive(l, space + have, asked);
		if (n > 0) {
			have += (size_t)n;
			total += (size_t)n;
			at = parse_frames(l, space, have);
			if ((size_t)n < asked && l->n_fds_in == 0 && limit == READ_BURST)
				break; /* there was no more */
		} else if (n != -EAGAIN) {
			read_failed(l, n);
		}
	}
	stash(l, space + at, have - at);
}

static void read_some(struct lane *l, size_t limit)
{
	static const struct timeval now = {0};
	char *space = space_take();

	lane_enter(l);
	if (space)
		read_into(l, space, limit);
	else
		lane_fail(l, "out of memory");
	space_give(space);
	if (!l->dead && l->yielded && event_add(&l->again, &now) < 0)
		lane_fail(l, "out of memory");
	lane_leave(l);
}

/* Takes what the peer wrote before it died, without waiting. May call on_message and on_closed. */
void lane_read_rest(struct lane *l)
{
	for (unsigned i = 0; l && !l->dead && i < LAST_ROUNDS; i++) {
		read_some(l, LAST_WORDS);
		if (!l->yielded)
			break;
	}
}

/*
 * Whether another descriptor may go into the socket. The kernel counts those that nobody has read yet, of all processes of the
 * user, against RLIMIT_NOFILE; a peer of the bus that does not read must not use that up for everybody.
 */
static bool may_fly(struct lane *l)
{
	int unread;

	if (l->o.kind != LANE_BUS || l->n_flying < FLYING_MAX)
		return true;
	if (ioctl(l->fd, SIOCOUTQ, &unread) < 0 || unread > 0)
		return false;
	l->n_flying = 0;
	return true;
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

	if (with_fd && !may_fly(l))
		return -ETOOMANYREFS;
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
		close_queued(l, l->fds_out[0].fd);
		l->n_fds_out--;
		l->n_flying++;
		memmove(l->fds_out, l->fds_out + 1, l->n_fds_out * sizeof(*l->fds_out));
	}
	return n;
}

static bool out_empty(const struct lane *l)
{
	return l->out.start == l->out.end;
}

/* What a failed write means. Returns whether to try again at once. */
static bool write_failed(struct lane *l, ssize_t n)
{
	static const struct timeval soon = {.tv_usec = RETRY_MS * 1000};

	if (n == -EINTR)
		return true;
	l->blocked = true;
	if (n == -EPIPE || n == -ECONNRESET)
		bytes_release(&l->out); /* its last words may still be there to read */
	else if (n != -EAGAIN && n != -ETOOMANYREFS)
		lane_fail(l, strerror((int)-n));
	else if ((n == -EAGAIN ? event_add(&l->writable, NULL) : event_add(&l->retry, &soon)) < 0)
		lane_fail(l, "out of memory");
	return false;
}

/* Memory for a queue that is empty: of the bus there will soon be another. */
static void release_out(struct lane *l)
{
	l->out.start = l->out.end = 0;
	if (l->o.kind != LANE_BUS || l->out.size > KEEP_MAX)
		bytes_release(&l->out);
}

/* Writes what is queued as far as the peer takes it; the rest goes when there is room. */
void lane_flush(struct lane *l)
{
	if (l->dead)
		return;
	l->write_comes = l->blocked = false;
	lane_enter(l);
	while (!l->dead && !out_empty(l)) {
		ssize_t n = write_some(l);

		if (n < 0 && !write_failed(l, n))
			break;
	}
	if (!l->dead && out_empty(l))
		release_out(l);
	if (!l->dead && l->o.on_written)
		l->o.on_written(l->o.arg);
	lane_leave(l);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct lane *l = arg;

	turn_mark();
	if (!l->yielded) /* on_again goes on with it */
		read_some(l, READ_BURST);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	turn_mark();
	read_some(arg, READ_BURST);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	turn_mark();
	lane_flush(arg);
}

/* Begins to read, and to write. Returns 0 or -errno. */
int lane_new(const struct lane_options *o, struct lane **ret)
{
	struct lane *l = calloc(1, sizeof(*l));

	if (!l) {
		close(o->fd);
		return -ENOMEM;
	}
	if (shared_space.base != o->base) { /* a new process's first lane */
		shared_space.base = o->base;
		shared_space.taken = false;
	}
	l->o = *o;
	l->fd = o->fd;
	event_assign(&l->readable, o->base, l->fd, EV_READ | EV_PERSIST, on_readable, l);
	event_assign(&l->writable, o->base, l->fd, EV_WRITE, on_writable, l);
	event_assign(&l->again, o->base, -1, 0, on_again, l);
	event_assign(&l->retry, o->base, -1, 0, on_writable, l);
	if (event_add(&l->readable, NULL) < 0) {
		lane_free(l);
		return -ENOMEM;
	}
	*ret = l;
	return 0;
}

/*
 * What is queued is written at the end of this turn, together with what else comes; but masses as they gather, so that the peer has
 * something to do meanwhile, and the memory is still in the cache. An error is met again, and dealt with, at the end of the turn.
 */
static void write_soon(struct lane *l)
{
	if (lane_queued(l) >= WRITE_AHEAD && l->n_fds_out == 0 && !l->blocked)
		l->blocked = write_some(l) < 0;
	if (l->write_comes)
		return;
	l->write_comes = true;
	if (!event_pending(&l->writable, EV_WRITE, NULL))
		event_active(&l->writable, EV_WRITE, 0);
}

/* Makes room for another n bytes of frames. Returns as lane_put(). */
static int make_room(struct lane *l, size_t n)
{
	if (l->dead)
		return -EPIPE;
	if (l->out.end - l->out.start + n > l->o.queue_max)
		return LANE_E_FULL;
	return bytes_reserve(&l->out, n);
}

/* Notes a duplicate of the descriptor of the frame that is about to be queued. */
static int queue_fd(struct lane *l, int fd)
{
	struct queued_fd *grown = realloc(l->fds_out, (l->n_fds_out + 1) * sizeof(*grown));
	int copy;

	if (!grown)
		return -ENOMEM;
	l->fds_out = grown;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return -errno;
	grown[l->n_fds_out].at = l->sent + (l->out.end - l->out.start);
	grown[l->n_fds_out++].fd = copy;
	return 0;
}

/*
 * Queues one frame, its payload in n parts that are f->length bytes together and copied. fd: a descriptor that goes along,
 * of which the caller keeps its own; -1: none. Returns 0, LANE_E_FULL, or -errno (-EPIPE: the lane is closed). Never calls back.
 */
int lane_put(struct lane *l, const struct frame *f, const struct iovec *parts, size_t n, int fd)
{
	size_t space = frame_space(f->length);
	int r = make_room(l, space);
	char *to;

	if (r == 0 && fd >= 0)
		r = queue_fd(l, fd);
	if (r != 0)
		return r;
	to = l->out.data + l->out.end;
	if (f->length % 8 != 0)
		memset(to + space - 8, 0,
			8); /* what lies behind the payload is not to tell anything */
	memcpy(to, f, sizeof(*f));
	to += sizeof(*f);
	for (size_t i = 0; i < n; i++) {
		if (parts[i].iov_len > 0)
			memcpy(to, parts[i].iov_base, parts[i].iov_len);
		to += parts[i].iov_len;
	}
	l->out.end += space;
	write_soon(l);
	return 0;
}

/* Queues whole frames without descriptors. Returns as lane_put(). */
int lane_append(struct lane *l, const void *frames, size_t len)
{
	int r = make_room(l, len);

	if (r != 0)
		return r;
	memcpy(l->out.data + l->out.end, frames, len);
	l->out.end += len;
	write_soon(l);
	return 0;
}

/* Bytes that wait to be written. */
size_t lane_queued(const struct lane *l)
{
	return l->out.end - l->out.start;
}

size_t lane_queued_fds(const struct lane *l)
{
	return l->n_fds_out;
}

/* Stops reading what the peer sends, or goes on. What was read is handed up nevertheless. */
void lane_set_reading(struct lane *l, bool on)
{
	if (l->dead || on != l->deaf)
		return;
	l->deaf = !on;
	if (on)
		event_add(&l->readable, NULL);
	else
		event_del(&l->readable);
}

/* Sends a message; the payload is copied. Returns as lane_put(). */
int lane_send(struct lane *l, enum msg_type type, uint64_t id, const void *payload, size_t len)
{
	struct frame f = {.length = (uint32_t)len, .type = (uint16_t)type, .id = id};
	struct iovec part = {(void *)(uintptr_t)payload, len};

	return lane_put(l, &f, &part, 1, -1);
}

/* Sends a message that carries a descriptor; the caller keeps its own. Returns as lane_put(). */
int lane_send_fd(struct lane *l, enum msg_type type, const void *payload, size_t len, int fd)
{
	struct frame f = {.length = (uint32_t)len, .type = (uint16_t)type};
	struct iovec part = {(void *)(uintptr_t)payload, len};

	return lane_put(l, &f, &part, 1, fd);
}

/* Blocks until the peer has taken some of what was written, or for so long: where there is no loop any more. */
void lane_wait(const struct lane *l, int ms)
{
	struct pollfd p = {.fd = l->fd, .events = POLLOUT};

	poll(&p, 1, ms);
}

/* False once the peer has closed it or was found to break the rules. */
bool lane_is_open(const struct lane *l)
{
	return !l->dead;
}

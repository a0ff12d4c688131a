/*
 * From a protocol to the socket. Worker and admin.
 *
 * What is said in a connection's burst is collected in the server's buffer and sent with one send(2). What the
 * socket does not take is copied to the connection (c->output) and sent when it is writable again, as is what is
 * said outside of a burst; the files and other pieces that wait in c->sends follow: a snapshot in memory
 * (hot_files.c) through a pipe (splice.c), a file with sendfile(2), or plain bytes.
 *
 * A part of a file is sent from the loop only if it is in the page cache (residency.c). Else a thread of the pool calls
 * sendfile(2), so that nobody but that thread and that client waits for the disk; the socket does not block.
 * Once part of a file was not there, threads send all of it until its owner looks at it anew.
 *
 * Always: while c->output or c->sends is set the server's buffer holds nothing of this connection, and nothing but
 * more pieces is said while c->sends is.
 */
#include "net/output.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net/connection.h"
#include "net/residency.h"

static void output_break(struct connection *c)
{
	c->broken = true;
	if (c->server->bursting == c)
		c->server->out.len = 0;
	else
		connection_touch(c);
}

/* Makes room for n more bytes in a stash. Returns where they go, or NULL. */
static char *stash_reserve(struct stash **stash, size_t n)
{
	struct stash *s = *stash;
	size_t len = s ? s->len : 0;

	if (s && s->off > 0 && s->cap - len < n) {
		len -= s->off;
		memmove(s->data, s->data + s->off, len);
		s->off = 0;
		s->len = len;
	}
	if (!s || s->cap - len < n) {
		size_t cap = len + n + (s ? len / 2 : 0);

		s = realloc(s, sizeof(*s) + cap);
		if (!s)
			return NULL;
		if (!*stash)
			s->off = s->len = 0;
		s->cap = cap;
		*stash = s;
	}
	return s->data + s->len;
}

static void output_keep(struct connection *c, const char *data, size_t len)
{
	char *p = stash_reserve(&c->output, len);

	if (!p)
		return output_break(c);
	memcpy(p, data, len);
	c->output->len += len;
}

static void output_count(struct connection *c, size_t n)
{
	sb_add(c->server->slot->bytes_out, n);
	c->moved += n;
}

/*
 * sendmsg(2). Returns how much the socket took, 0 when it is full, or -1 when the connection is
 * broken.
 */
static ssize_t output_send(struct connection *c, struct iovec *iov, size_t n_iov, int flags)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n_iov};
	ssize_t n;

	if (n_iov == 1)
		n = send(
			event_get_fd(&c->event), iov->iov_base, iov->iov_len, flags | MSG_NOSIGNAL);
	else
		n = sendmsg(event_get_fd(&c->event), &msg, flags | MSG_NOSIGNAL);
	if (n >= 0) {
		output_count(c, (size_t)n);
		return n;
	}
	if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM)
		return 0;
	if (c->error == 0)
		c->error = (int16_t)errno;
	output_break(c);
	return -1;
}

/* Sends what the server's buffer holds; the rest goes to the connection. */
static void output_flush_flags(struct connection *c, int flags)
{
	struct net_out *out = &c->server->out;
	struct iovec iov = {out->data, out->len};
	ssize_t n;

	if (c->server->bursting != c || out->len == 0)
		return;
	n = output_send(c, &iov, 1, flags);
	if (n >= 0 && (size_t)n < out->len)
		output_keep(c, out->data + n, out->len - (size_t)n);
	out->len = 0;
}

void output_flush(struct connection *c)
{
	output_flush_flags(c, 0);
}

/*
 * Room for n bytes in a row (at most OUTPUT_SIZE), to be followed by output_commit() with how many
 * were written. Returns NULL when there is no memory or the connection is broken.
 */
char *output_reserve(struct connection *c, size_t n)
{
	struct net_out *out = &c->server->out;
	char *p;

	assert(!c->sends);
	if (c->server->bursting == c) {
		assert(n <= out->cap);
		if (out->cap - out->len < n)
			output_flush(c);
	} else {
		connection_touch(c);
	}
	if (c->broken || c->life == CONNECTION_CLOSED)
		return NULL;
	if (c->server->bursting == c && !c->output)
		return out->data + out->len;
	p = stash_reserve(&c->output, n);
	if (!p)
		output_break(c);
	return p;
}

void output_commit(struct connection *c, size_t n)
{
	if (c->server->bursting == c && !c->output)
		c->server->out.len += n;
	else
		c->output->len += n;
}

/* Sends what is buffered and a long body with it; only what the socket does not take is copied. */
void output_body(struct connection *c, const void *data, size_t len)
{
	struct net_out *out = &c->server->out;
	struct iovec iov[2] = {{out->data, out->len}, {(void *)(uintptr_t)data, len}};
	ssize_t sent;
	size_t n, head = out->len;

	assert(!c->sends);
	if (c->broken || c->life == CONNECTION_CLOSED)
		return;
	if (c->output || c->server->bursting != c) {
		output_keep(c, data, len);
		if (c->server->bursting != c)
			connection_touch(c);
		return;
	}
	sent = output_send(c, iov, 2, 0);
	if (sent < 0)
		return;
	out->len = 0;
	n = (size_t)sent;
	if (n < head)
		output_keep(c, out->data + n, head - n);
	n = n > head ? n - head : 0;
	if (n < len && !c->broken)
		output_keep(c, (const char *)data + n, len - n);
}

/* Copies bytes of any number to what is to be sent. Whoever can wait asks connection_room() before. */
void output_write(struct connection *c, const void *data, size_t len)
{
	char *p;

	if (len == 0)
		return;
	if (len > OUTPUT_INLINE_MAX)
		return output_body(c, data, len);
	p = output_reserve(c, len);
	if (!p)
		return;
	memcpy(p, data, len);
	output_commit(c, len);
}

/* --- files and other pieces --- */

static ssize_t send_file(struct connection *c, struct sending *f, size_t len)
{
	return sendfile(event_get_fd(&c->event), f->fd, &f->off, len);
}

static ssize_t send_pages(struct connection *c, struct sending *f, size_t len)
{
	ssize_t n = splice_send(&c->server->splice, event_get_fd(&c->event), f->data + f->off, len);

	if (n > 0)
		f->off += n;
	return n;
}

static ssize_t send_bytes(struct connection *c, struct sending *f, size_t len)
{
	int flags = MSG_NOSIGNAL | (f->next ? MSG_MORE : 0);
	ssize_t n = send(event_get_fd(&c->event), f->data + f->off, len, flags);

	if (n > 0)
		f->off += n;
	return n;
}

/* Each returns how much the socket took, 0 when the file has come to its end, or -1 and errno. */
static ssize_t (*const senders[])(struct connection *c, struct sending *f, size_t len) = {
	[SENDING_FILE] = send_file,
	[SENDING_PAGES] = send_pages,
	[SENDING_BYTES] = send_bytes,
};

static int64_t least_of(uint64_t a, uint64_t b)
{
	return (int64_t)(a < b ? a : b);
}

/* How much of it is offered to the socket at once: of a file, what is known to be in memory. */
static size_t sending_turn(const struct sending *f)
{
	uint64_t n = OUTPUT_FILE_TURN;

	if (f->known_to > f->off && (uint64_t)(f->known_to - f->off) < n)
		n = (uint64_t)(f->known_to - f->off);
	return f->left < n ? (size_t)f->left : (size_t)n;
}

/*
 * Sends as much of the piece as the socket takes and fairness allows: a socket that takes less than
 * it is offered is full. A file that has become shorter than was announced breaks the connection:
 * there is no other way to tell the client.
 */
static void sending_go_on(struct connection *c, struct sending *f)
{
	ssize_t n = senders[f->kind](c, f, sending_turn(f));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		return output_break(c);
	output_count(c, (size_t)n);
	f->left -= (uint64_t)n;
}

/* Ends the sending of the first piece, finished or not. */
static void sending_end(struct connection *c)
{
	struct sending *f = c->sends;

	c->sends = f->next;
	f->release(f->owner);
	free(f);
}

/* --- what is not in memory --- */

/* Whether a thread has to send what comes next. */
static bool sending_is_cold(const struct connection *c, struct sending *f)
{
	uint64_t now_ms = c->server->now_ms;

	if (f->kind != SENDING_FILE || !c->server->pool)
		return false;
	if (*f->cold)
		return true;
	if (f->known_to - f->off >= least_of(f->left, OUTPUT_FILE_TURN / 2) &&
		now_ms - f->known_ms < OUTPUT_KNOWN_MS)
		return false;
	f->known_ms = now_ms;
	f->known_to = f->off + least_of(f->left, OUTPUT_KNOWN);
	*f->cold = !residency_is_cached(f->fd, f->off, (size_t)(f->known_to - f->off));
	return *f->cold;
}

static struct sending *sending_of(struct pool_job *job)
{
	return (struct sending *)(void *)((char *)job - offsetof(struct sending, job));
}

/* On a thread. The connection holds its descriptor meanwhile, and nobody else sends. */
static void cold_work(struct pool_job *job)
{
	struct sending *f = sending_of(job);
	size_t len = f->left < OUTPUT_COLD_TURN ? (size_t)f->left : OUTPUT_COLD_TURN;

	f->result = sendfile(event_get_fd(&f->connection->event), f->fd, &f->off, len);
	if (f->result < 0)
		f->result = -errno;
}

/* What has become of a piece that was given to a thread: the connection goes on. */
static void cold_end(struct sending *f, ssize_t result)
{
	struct connection *c = f->connection;

	if (result > 0) {
		output_count(c, (size_t)result);
		f->left -= (uint64_t)result;
	} else if (result != -EAGAIN && result != -EINTR) {
		output_break(c);
	}
	connection_release(c);
}

static int cold_submit(struct net_server *s, struct sending *f);

static void cold_done(struct pool_job *job, int status)
{
	struct sending *f = sending_of(job), *next;
	struct net_server *s = f->connection->server;

	s->n_cold--;
	cold_end(f, status < 0 ? status : f->result);
	while (s->n_cold < OUTPUT_COLD_MAX && (next = TAILQ_FIRST(&s->cold))) {
		TAILQ_REMOVE(&s->cold, next, waiting);
		if (cold_submit(s, next) < 0)
			break;
	}
}

/*
 * Gives the piece to the pool. When its queue is full of other work, the piece waits for the next of ours to be done,
 * or else for the next turn. Without a single thread the loop has to do it: late is better than never.
 */
static int cold_submit(struct net_server *s, struct sending *f)
{
	int r = -ECANCELED;

	f->job.lane = POOL_IO;
	f->job.work = cold_work;
	f->job.done = cold_done;
	if (f->connection->life != CONNECTION_CLOSED)
		r = pool_submit(s->pool, &f->job);
	if (r == 0) {
		s->n_cold++;
	} else if (r == -EAGAIN) {
		cold_work(&f->job);
		cold_end(f, f->result);
	} else if (r == -ENOBUFS && s->n_cold > 0) {
		TAILQ_INSERT_HEAD(&s->cold, f, waiting);
	} else {
		cold_end(f, r == -ENOBUFS ? -EAGAIN : r);
	}
	return r;
}

/* Whether the socket takes anything: a thread is not to find out. */
static bool has_room(struct connection *c)
{
	struct pollfd p = {.fd = event_get_fd(&c->event), .events = POLLOUT};

	return poll(&p, 1, 0) == 1;
}

/* Gives the piece to a thread, now or when it is its turn. */
static void sending_go_cold(struct connection *c, struct sending *f)
{
	struct net_server *s = c->server;

	if (!has_room(c))
		return;
	f->connection = c;
	connection_hold(c);
	if (s->n_cold >= OUTPUT_COLD_MAX)
		TAILQ_INSERT_TAIL(&s->cold, f, waiting);
	else
		cold_submit(s, f);
}

/* --- */

/* Asked once for each connection that gets a larger file. BBR is the only one in the kernel that paces. */
static bool is_paced(struct connection *c)
{
	char name[16] = "";
	socklen_t len = sizeof(name) - 1;

	if (c->pacing == PACING_UNKNOWN) {
		getsockopt(event_get_fd(&c->event), IPPROTO_TCP, TCP_CONGESTION, name, &len);
		c->pacing = strncmp(name, "bbr", 3) == 0 ? PACING_ON : PACING_OFF;
	}
	return c->pacing == PACING_ON;
}

/*
 * Sends what is buffered, the last of it the head of a file, which shares its first packet with it. But where the
 * kernel paces and both do not fit into one packet as the kernel makes them, the file's tail would then wait for a
 * timer, at twice the cost: there the head goes by itself.
 */
static void output_flush_head(struct connection *c, uint64_t file_size)
{
	bool together = c->server->out.len + file_size <= OUTPUT_PACKET || !is_paced(c);

	output_flush_flags(c, together ? MSG_MORE : 0);
}

/* Puts a piece behind those that wait; takes over the owner's reference. */
static void output_queue(struct connection *c, const struct sending *piece)
{
	struct sending **last = &c->sends, *f;

	f = c->broken ? NULL : malloc(sizeof(*f));
	if (!f) {
		output_break(c);
		piece->release(piece->owner);
		return;
	}
	*f = *piece;
	f->next = NULL;
	while (*last)
		last = &(*last)->next;
	*last = f;
	if (c->server->bursting != c)
		connection_touch(c);
}

/*
 * Sends a piece after what is there already; takes over the owner's reference. more: others follow.
 */
void output_piece(struct connection *c, const struct sending *piece, bool more)
{
	struct sending f = *piece;

	if (f.left == 0)
		return f.release(f.owner);
	if (c->server->bursting != c || more || c->sends || sending_is_cold(c, &f))
		return output_queue(c, piece);
	output_flush_head(c, f.left);
	if (!c->output && !c->broken)
		sending_go_on(c, &f);
	if (f.left > 0 && !c->broken)
		return output_queue(c, &f);
	f.release(f.owner);
}

/* The socket is writable: goes on where it stopped. */
void output_resume(struct connection *c)
{
	struct stash *out = c->output;

	if (out) {
		struct iovec iov = {out->data + out->off, out->len - out->off};
		ssize_t n = output_send(c, &iov, 1, c->sends ? MSG_MORE : 0);

		if (n < 0)
			return;
		out->off += (size_t)n;
		if (out->off < out->len)
			return;
		free(out);
		c->output = NULL;
	}
	while (c->sends && !c->broken) {
		if (c->sends->left == 0) { /* a thread has sent the last of it */
			sending_end(c);
			continue;
		}
		if (sending_is_cold(c, c->sends))
			return sending_go_cold(c, c->sends);
		sending_go_on(c, c->sends);
		if (c->sends->left > 0)
			return;
	}
}

/* Forgets everything that has not been sent. */
void output_drop(struct connection *c)
{
	free(c->output);
	c->output = NULL;
	while (c->sends)
		sending_end(c);
}

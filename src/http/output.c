/*
 * From answers to the socket. Worker and admin.
 *
 * The answers of one burst are collected in the server's buffer and sent with one send(2). What the
 * socket does not take is copied to the connection (c->output) and sent when it is writable again,
 * followed by the file that is being sent (c->file): a snapshot of it in memory (hot_files.c) through
 * a pipe (splice.c), or the file itself with sendfile(2).
 *
 * Always: while c->output or c->file is set the server's buffer holds nothing of this connection,
 * and no further request of it is served (see connection.c), so what a connection holds is bounded
 * by one burst and one answer.
 */
#include "http/output.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "http/http.h"

static void output_break(struct http_connection *c)
{
	c->broken = true;
	c->server->out.len = 0;
}

/* Makes room for n more bytes in c->output. Returns where they go, or NULL. */
static char *stash_reserve(struct http_stash **stash, size_t n)
{
	struct http_stash *s = *stash;
	size_t len = s ? s->len : 0;

	if (!s || s->cap - len < n) {
		size_t cap = len + n;

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

static void output_keep(struct http_connection *c, const char *data, size_t len)
{
	char *p = stash_reserve(&c->output, len);

	if (!p)
		return output_break(c);
	memcpy(p, data, len);
	c->output->len += len;
}

/*
 * sendmsg(2). Returns how much the socket took, 0 when it is full, or -1 when the connection is
 * broken.
 */
static ssize_t output_send(struct http_connection *c, struct iovec *iov, size_t n_iov, int flags)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n_iov};
	ssize_t n;

	if (n_iov == 1)
		n = send(
			event_get_fd(&c->event), iov->iov_base, iov->iov_len, flags | MSG_NOSIGNAL);
	else
		n = sendmsg(event_get_fd(&c->event), &msg, flags | MSG_NOSIGNAL);
	if (n >= 0) {
		sb_add(c->server->slot->bytes_out, (uint64_t)n);
		return n;
	}
	if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM)
		return 0;
	output_break(c);
	return -1;
}

/* Sends what the server's buffer holds; the rest goes to the connection. */
static void output_flush_flags(struct http_connection *c, int flags)
{
	struct http_out *out = &c->server->out;
	struct iovec iov = {out->data, out->len};
	ssize_t n;

	if (out->len == 0)
		return;
	n = output_send(c, &iov, 1, flags);
	if (n >= 0 && (size_t)n < out->len)
		output_keep(c, out->data + n, out->len - (size_t)n);
	out->len = 0;
}

void output_flush(struct http_connection *c)
{
	output_flush_flags(c, 0);
}

/*
 * Room for n bytes in a row (at most OUTPUT_SIZE), to be followed by output_commit() with how many
 * were written. Returns NULL when there is no memory or the connection is broken.
 */
char *output_reserve(struct http_connection *c, size_t n)
{
	struct http_out *out = &c->server->out;
	char *p;

	assert(n <= out->cap);
	if (out->cap - out->len < n)
		output_flush(c);
	if (c->broken)
		return NULL;
	if (!c->output)
		return out->data + out->len;
	p = stash_reserve(&c->output, n);
	if (!p)
		output_break(c);
	return p;
}

void output_commit(struct http_connection *c, size_t n)
{
	if (c->output)
		c->output->len += n;
	else
		c->server->out.len += n;
}

/* Sends what is buffered and a long body with it; only what the socket does not take is copied. */
void output_body(struct http_connection *c, const void *data, size_t len)
{
	struct http_out *out = &c->server->out;
	struct iovec iov[2] = {{out->data, out->len}, {(void *)(uintptr_t)data, len}};
	ssize_t sent;
	size_t n, head = out->len;

	if (c->broken)
		return;
	if (c->output)
		return output_keep(c, data, len);
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

/* Returns how much the socket took, 0 when the file has come to its end, or -1 and errno. */
static ssize_t sending_send(struct http_connection *c, struct http_sending *f, size_t len)
{
	int fd = event_get_fd(&c->event);
	ssize_t n;

	if (!f->data)
		return sendfile(fd, f->fd, &f->off, len);
	n = splice_send(&c->server->splice, fd, f->data + f->off, len);
	if (n > 0)
		f->off += n;
	return n;
}

/*
 * Sends as much of the file as the socket takes and fairness allows: a socket that takes less than
 * it is offered is full. A file that has become shorter than was announced breaks the connection:
 * there is no other way to tell the client.
 */
static void sending_go_on(struct http_connection *c, struct http_sending *f)
{
	size_t want = f->left < OUTPUT_FILE_TURN ? f->left : OUTPUT_FILE_TURN;
	ssize_t n = sending_send(c, f, want);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		return output_break(c);
	sb_add(c->server->slot->bytes_out, (uint64_t)n);
	f->left -= (uint64_t)n;
}

/* Ends the sending of c->file, finished or not. */
static void sending_end(struct http_connection *c)
{
	if (!c->file)
		return;
	c->file->release(c->file->owner);
	free(c->file);
	c->file = NULL;
}

/* Asked once for each connection that gets a larger file. BBR is the only one in the kernel that paces. */
static bool is_paced(struct http_connection *c)
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
static void output_flush_head(struct http_connection *c, uint64_t file_size)
{
	bool together = c->server->out.len + file_size <= OUTPUT_PACKET || !is_paced(c);

	output_flush_flags(c, together ? MSG_MORE : 0);
}

/*
 * Sends a file after what is buffered; takes over the owner's reference. The head has been
 * committed.
 */
void output_file(struct http_connection *c, const struct http_sending *sending)
{
	struct http_sending f = *sending;

	output_flush_head(c, f.left);
	if (!c->output && !c->broken)
		sending_go_on(c, &f);
	if (f.left > 0 && !c->broken) {
		c->file = malloc(sizeof(*c->file));
		if (c->file) {
			*c->file = f;
			return;
		}
		output_break(c);
	}
	f.release(f.owner);
}

/* The socket is writable: goes on where it stopped. */
void output_resume(struct http_connection *c)
{
	struct http_stash *out = c->output;

	if (out) {
		struct iovec iov = {out->data + out->off, out->len - out->off};
		ssize_t n = output_send(c, &iov, 1, 0);

		if (n < 0)
			return;
		out->off += (size_t)n;
		if (out->off < out->len)
			return;
		free(out);
		c->output = NULL;
	}
	if (c->file) {
		sending_go_on(c, c->file);
		if (c->file->left == 0)
			sending_end(c);
	}
}

/* Forgets everything that has not been sent. */
void output_drop(struct http_connection *c)
{
	free(c->output);
	c->output = NULL;
	sending_end(c);
}

/*
 * Standard streams and channels of child processes, on the loop. Writes are tried at once, and what the child does not take waits
 * in a bounded queue. One read for each time a stream is ready, so that no child keeps the loop from others. SIGPIPE must be ignored.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/turn.h"
#include "runtime/subprocess.h"
#include "runtime/subprocess_internal.h"

#define READ_SIZE (64u << 10) /* what a pipe holds */

static bool is_output(const struct child_stream *s)
{
	return s->name == TINE_CHILD_STDIN || s->name == TINE_CHILD_CHANNEL;
}

static bool is_input(const struct child_stream *s)
{
	return s->name != TINE_CHILD_STDIN;
}

/* --- writing --- */

static size_t waiting(const struct child_stream *s)
{
	return s->end - s->begin;
}

/* Makes room behind what waits. Returns 0 or -ENOMEM. */
static int reserve(struct child_stream *s, size_t len)
{
	size_t size = s->size ? s->size : 4096;
	char *queue;

	if (s->begin > 0) {
		memmove(s->queue, s->queue + s->begin, waiting(s));
		s->end -= s->begin;
		s->begin = 0;
	}
	while (size - s->end < len)
		size *= 2;
	if (size == s->size)
		return 0;
	queue = realloc(s->queue, size);
	if (!queue)
		return -ENOMEM;
	s->queue = queue;
	s->size = size;
	return 0;
}

static void enqueue(struct child_stream *s, const void *data, size_t len)
{
	if (len > 0)
		memcpy(s->queue + s->end, data, len);
	s->end += len;
}

/* Two parts, as much as the other side takes. Returns how much that is, or -errno. */
static ssize_t write_some(
	struct child_stream *s, const void *head, size_t head_len, const void *data, size_t len)
{
	struct iovec parts[2] = {{(void *)head, head_len}, {(void *)data, len}};
	ssize_t n;

	do {
		n = writev(s->fd, parts, 2);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	return n;
}

/* The other side takes no more: what waits is lost. The channel may still bring something. */
static void give_up_writing(struct child_stream *s)
{
	if (s->name == TINE_CHILD_STDIN) {
		child_stream_close(s);
		return;
	}
	event_del(&s->ev_write);
	s->begin = s->end = 0;
	s->closing = true;
}

/*
 * Writes all of head and data, now or later, or nothing. Returns 0, TINE_E_FULL, TINE_E_TOO_LARGE, TINE_E_CLOSED or -ENOMEM.
 */
int child_stream_write(
	struct child_stream *s, const void *head, size_t head_len, const void *data, size_t len)
{
	size_t max = s->child->o.queue_max, total = head_len + len, sent, of_head;
	ssize_t n = 0;

	if (s->fd < 0 || s->closing)
		return TINE_E_CLOSED;
	if (total > max)
		return TINE_E_TOO_LARGE;
	if (waiting(s) > max - total) {
		s->refused = true;
		return TINE_E_FULL;
	}
	/* Before anything is sent: it is too late to fail then. */
	if (reserve(s, total) < 0)
		return -ENOMEM;
	if (waiting(s) == 0)
		n = write_some(s, head, head_len, data, len);
	if (n < 0) {
		give_up_writing(s);
		return n == -EPIPE || n == -ECONNRESET ? TINE_E_CLOSED : (int)n;
	}
	sent = (size_t)n;
	of_head = sent < head_len ? sent : head_len;
	enqueue(s, (const char *)head + of_head, head_len - of_head);
	enqueue(s, (const char *)data + (sent - of_head), len - (sent - of_head));
	if (waiting(s) > 0 && event_add(&s->ev_write, NULL) < 0) { /* the rest would never leave */
		give_up_writing(s);
		return -ENOMEM;
	}
	return 0;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct child_stream *s = arg;
	struct tine_child *c = s->child;
	ssize_t n;

	turn_mark();
	n = write_some(s, s->queue + s->begin, waiting(s), NULL, 0);
	if (n < 0) {
		give_up_writing(s);
		return;
	}
	s->begin += (size_t)n;
	if (waiting(s) == 0) {
		s->begin = s->end = 0;
		event_del(&s->ev_write);
		if (s->closing) {
			child_stream_close(s);
			return;
		}
	}
	if (!s->refused || waiting(s) > c->o.queue_max / 2)
		return;
	s->refused = false;
	if (c->o.on_writable)
		c->o.on_writable(c, s->name, c->o.arg);
}

/* --- reading --- */

static bool on_message(const void *data, size_t len, void *arg)
{
	struct child_stream *s = arg;
	struct tine_child *c = s->child;

	if (c->o.on_message)
		c->o.on_message(c, data, len, c->o.arg);
	return s->fd >= 0 && !s->paused;
}

static void message_failed(struct tine_child *c, int error)
{
	if (error == TINE_E_TOO_LARGE)
		subprocess_say(c, "message: more than %zu bytes", c->o.message_max);
	else
		subprocess_say(c, "message: %s", strerror(-error));
	subprocess_fail(c, error);
}

/* The other side has closed its end, or is dead. */
static void on_end_of_stream(struct child_stream *s)
{
	struct tine_child *c = s->child;
	bool cut_off = s->reader.used > 0;

	child_stream_close(s);
	if (cut_off) {
		subprocess_say(c, "message: cut off by the end of the channel");
		subprocess_tell(c, -EPROTO);
	}
	if (c->o.on_end)
		c->o.on_end(c, s->name, c->o.arg);
}

static void take(struct child_stream *s, const void *data, size_t len)
{
	struct tine_child *c = s->child;
	int r;

	if (s->name != TINE_CHILD_CHANNEL) {
		if (c->o.on_data)
			c->o.on_data(c, s->name, data, len, c->o.arg);
		return;
	}
	r = message_reader_feed(&s->reader, data, len, on_message, s);
	if (s->fd < 0) /* closed by one of them */
		message_reader_reset(&s->reader);
	else if (r < 0)
		message_failed(c, r);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct child_stream *s = arg;
	struct tine_child *c = s->child;
	ssize_t n;

	turn_mark();
	if (s->reader.used > 0) { /* messages that came before a pause */
		take(s, NULL, 0);
		if (s->fd < 0 || s->paused)
			return;
	}
	n = read(s->fd, c->all->buffer, READ_SIZE);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		take(s, c->all->buffer, (size_t)n);
	else
		on_end_of_stream(s);
}

void child_stream_pause(struct child_stream *s)
{
	if (s->fd < 0 || !is_input(s) || s->paused)
		return;
	s->paused = true;
	event_del(&s->ev_read);
}

void child_stream_resume(struct child_stream *s)
{
	if (s->fd < 0 || !is_input(s) || !s->paused)
		return;
	s->paused = false;
	event_add(&s->ev_read, NULL);
	if (s->reader.used > 0) /* nothing new need come for what is here already */
		event_active(&s->ev_read, EV_READ, 0);
}

/* --- from beginning to end --- */

void child_stream_init(struct child_stream *s, struct tine_child *c, enum tine_child_stream name)
{
	s->child = c;
	s->name = name;
	s->fd = -1;
	s->reader.max = (uint32_t)c->o.message_max;
}

/* Takes a descriptor that does not block over. Returns 0 or -ENOMEM. */
int child_stream_open(struct child_stream *s, int fd)
{
	struct subprocesses *all = s->child->all;

	if (!all->buffer)
		all->buffer = malloc(READ_SIZE);
	if (!all->buffer)
		return -ENOMEM;
	s->fd = fd;
	event_assign(&s->ev_read, all->base, fd, EV_READ | EV_PERSIST, on_readable, s);
	event_assign(&s->ev_write, all->base, fd, EV_WRITE | EV_PERSIST, on_writable, s);
	return is_input(s) && event_add(&s->ev_read, NULL) < 0 ? -ENOMEM : 0;
}

/* Closes it as soon as what was written has left. */
void child_stream_finish(struct child_stream *s)
{
	if (s->fd < 0)
		return;
	if (!is_output(s) || waiting(s) == 0)
		child_stream_close(s);
	else
		s->closing = true;
}

/*
 * Closes it at once. Also within a callback of its own: the memory of a message that is being handed over stays until that returns.
 */
void child_stream_close(struct child_stream *s)
{
	if (s->fd < 0)
		return;
	event_del(&s->ev_read);
	event_del(&s->ev_write);
	close(s->fd);
	s->fd = -1;
	free(s->queue);
	s->queue = NULL;
	s->begin = s->end = s->size = 0;
	subprocess_settle(s->child);
}

/*
 * The buffer of access-log lines and what becomes of it. The worker fills it and writes it out when
 * it is nearly full, every second, and at its end; the primary writes out what a crash left behind.
 *
 * Always: `used` counts whole lines only and is set after they are there, so a crash at any moment
 * loses none of them. (One that comes between writing them out and saying so has them written twice.)
 * A full disk, or a pipe that nobody empties, loses lines, never time.
 */
#include "shared/access_log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define FLUSH_MS       1000
#define REPORT_LOST_MS 10000
#define NO_TICKET      ACCESS_FLIGHTS

_Static_assert(ACCESS_LINE_MAX <= PIPE_BUF, "a pipe would not take a line whole");
_Static_assert(sizeof(struct access_flight) == 256, "a flight is four cache lines");

struct access_log {
	struct access_log_options o;
	struct access_clock clock;
	uint32_t used; /* as in the slot, which others could write to */
	uint64_t taken;
	uint64_t flushed_ms, reported_ms;
	unsigned n_lost;
	int why_lost; /* errno */
};

/* --- writing out --- */

static unsigned count_lines(const char *data, size_t len)
{
	const char *end = data + len;
	unsigned n = 0;

	for (; data < end && (data = memchr(data, '\n', (size_t)(end - data))); data++)
		n++;
	return n;
}

/* The whole lines at the start of `data` that fit into `most` bytes; no line is longer than that. */
static size_t whole_lines(const char *data, size_t len, size_t most)
{
	const char *last;

	if (len <= most)
		return len;
	last = memrchr(data, '\n', most);
	return last ? (size_t)(last - data) + 1 : most;
}

/* These return how many bytes were written, with errno set when it is not all. */
static size_t write_file(int fd, const char *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

/* A pipe, a terminal, a socket: no more at once than it takes without waiting. */
static size_t write_pipe(int fd, const char *data, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	size_t done = 0, n;

	while (done < len) {
		n = whole_lines(data + done, len - done, PIPE_BUF);
		if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) {
			errno = EAGAIN;
			break;
		}
		if (write(fd, data + done, n) != (ssize_t)n)
			break;
		done += n;
	}
	return done;
}

static size_t write_journal(int fd, const char *data, size_t len)
{
	size_t done = 0, n;
	int r = 0;

	while (done < len && r == 0) {
		const char *end = memchr(data + done, '\n', len - done);

		n = end ? (size_t)(end - data) - done : len - done;
		r = log_send_journal(fd, LOG_LVL_INFO, NULL, data + done, n);
		if (r == 0)
			done += end ? n + 1 : n;
	}
	errno = -r;
	return done;
}

/* Returns how many lines were lost; errno says why. */
static unsigned write_lines(const struct access_log_options *o, const char *data, size_t len)
{
	struct stat st;
	size_t done;

	if (o->sink == LOG_SINK_JOURNAL)
		done = write_journal(o->fd, data, len);
	else if (fstat(o->fd, &st) == 0 && S_ISREG(st.st_mode))
		done = write_file(o->fd, data, len);
	else
		done = write_pipe(o->fd, data, len);
	return done == len ? 0 : count_lines(data + done, len - done);
}

/* --- the worker --- */

/*
 * Returns 0 with *ret for access_log_free(), or -ENOMEM, and then the descriptor stays the caller's.
 * The loop's thread alone may use it.
 */
int access_log_new(const struct access_log_options *o, struct access_log **ret)
{
	struct access_log *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->o = *o;
	*ret = l;
	return 0;
}

/* Writes out what waits. Returns NULL. */
struct access_log *access_log_free(struct access_log *l)
{
	if (!l)
		return NULL;
	access_log_flush(l);
	if (l->o.fd != STDERR_FILENO)
		close(l->o.fd);
	free(l);
	return NULL;
}

/*
 * A request is about to be served: should its handler crash, there will be a line for it. Returns a
 * ticket for access_log_end(), to be kept with the request.
 */
unsigned access_log_begin(
	struct access_log *l, const struct peer *client, struct tine_text line, uint64_t now_us)
{
	struct access_slot *s = l->o.slot;
	struct access_flight *f;
	unsigned ticket;

	if (l->taken == UINT64_MAX) {
		atomic_store_explicit(&s->n_others,
			atomic_load_explicit(&s->n_others, memory_order_relaxed) + 1,
			memory_order_relaxed);
		return NO_TICKET;
	}
	ticket = (unsigned)__builtin_ctzll(~l->taken);
	f = &s->flights[ticket];
	f->client = *client;
	f->started_us = now_us;
	f->line_len = (uint32_t)(line.len < ACCESS_LINE ? line.len : ACCESS_LINE);
	if (line.len > 0) /* it may have no address then */
		memcpy(f->line, line.data, f->line_len);
	l->taken |= UINT64_C(1) << ticket;
	atomic_store_explicit(&s->taken, l->taken, memory_order_release);
	return ticket;
}

/* It is over: after its line was written, or when none is to be. */
void access_log_end(struct access_log *l, unsigned ticket)
{
	struct access_slot *s = l->o.slot;

	if (ticket == NO_TICKET) {
		atomic_store_explicit(&s->n_others,
			atomic_load_explicit(&s->n_others, memory_order_relaxed) - 1,
			memory_order_relaxed);
		return;
	}
	l->taken &= ~(UINT64_C(1) << ticket);
	atomic_store_explicit(&s->taken, l->taken, memory_order_release);
}

/* Adds the line of a request; r->worker is filled in here. May write out the others, and never waits for that. */
void access_log_write(struct access_log *l, const struct access_record *r)
{
	struct access_record record = *r;

	if (l->used + ACCESS_LINE_MAX > ACCESS_BUFFER)
		access_log_flush(l);
	record.worker = l->o.worker;
	l->used += (uint32_t)access_line_format(
		l->o.format, &l->clock, &record, l->o.slot->lines + l->used);
	atomic_store_explicit(&l->o.slot->used, l->used, memory_order_release);
}

/* Writes out what waits. */
void access_log_flush(struct access_log *l)
{
	unsigned n_lost;

	if (l->used == 0)
		return;
	n_lost = write_lines(&l->o, l->o.slot->lines, l->used);
	if (n_lost > 0)
		l->why_lost = errno;
	l->n_lost += n_lost;
	l->used = 0;
	atomic_store_explicit(&l->o.slot->used, 0, memory_order_release);
}

/*
 * To be called a few times a second while there is something to do: then nothing waits for more than a
 * second. now_ms: monotonic, coarse will do. Returns whether lines still wait: it is to be called again.
 */
bool access_log_tick(struct access_log *l, uint64_t now_ms)
{
	if (now_ms >= l->flushed_ms + FLUSH_MS) {
		l->flushed_ms = now_ms;
		access_log_flush(l);
	}
	if (l->n_lost > 0 && now_ms >= l->reported_ms + REPORT_LOST_MS) {
		log_warning("access log: %u lines were lost: %s; going on", l->n_lost,
			strerror(l->why_lost));
		l->reported_ms = now_ms;
		l->n_lost = 0;
	}
	return l->used > 0;
}

/* Goes on in another file, which the primary has opened for us; closes it when we do not log to one. */
void access_log_set_fd(struct access_log *l, int fd)
{
	if (l->o.sink != LOG_SINK_FILE) {
		close(fd);
		return;
	}
	access_log_flush(l);
	close(l->o.fd);
	l->o.fd = fd;
}

/* --- the primary --- */

/*
 * Maps cleared slots, shared with every child forked later; they stay until the process ends. Pages
 * that nobody writes to cost nothing. Returns 0 or -errno.
 */
int access_slots_new(size_t n_slots, struct access_slots *ret)
{
	int r = segment_new("tined-access-log", n_slots * sizeof(*ret->slots), &ret->segment);

	ret->slots = ret->segment.memory;
	return r;
}

/* In a child: from here on it can write to its own slot alone, if it has one at all. Returns 0 or -errno. */
int access_slots_confine(const struct access_slots *s, size_t slot)
{
	return s->slots ? segment_confine(&s->segment, &s->slots[slot], sizeof(s->slots[slot])) : 0;
}

/* For a new child: before the fork. */
void access_slot_clear(struct access_slot *s)
{
	atomic_store_explicit(&s->used, 0, memory_order_relaxed);
	atomic_store_explicit(&s->n_others, 0, memory_order_relaxed);
	atomic_store_explicit(&s->taken, 0, memory_order_relaxed);
}

/* The whole lines of a buffer that a child may have left in any state. Returns their length. */
static size_t copy_lines(const struct access_slot *s, char out[ACCESS_BUFFER])
{
	size_t len = atomic_load_explicit(&s->used, memory_order_acquire);
	const char *last;

	if (len > ACCESS_BUFFER)
		len = ACCESS_BUFFER;
	memcpy(out, s->lines, len);
	last = memrchr(out, '\n', len);
	len = last ? (size_t)(last - out) + 1 : 0;
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)out[i] < 0x20 && out[i] != '\n') || out[i] == 0x7f)
			out[i] = '?';
	return len;
}

/* The line of a request that a crash cut short. */
static size_t format_flight(const struct access_flight *from, const struct access_log_options *o,
	struct access_clock *clock, char out[ACCESS_LINE_MAX])
{
	struct access_flight f;
	struct access_record r = {.worker = o->worker, .client = &f.client};
	uint64_t now = now_us();

	memcpy(&f, from, sizeof(f));
	r.line = (struct tine_text){f.line, f.line_len < ACCESS_LINE ? f.line_len : ACCESS_LINE};
	r.duration_us = now > f.started_us ? now - f.started_us : 0;
	clock_gettime(CLOCK_REALTIME, &r.time);
	return access_line_format(o->format, clock, &r, out);
}

/*
 * Writes out what a dead child left: its lines, and one with status 0 for each request it was
 * serving. Nothing in the slot is trusted. Empties it. Returns the number of requests under way of
 * which nothing but their number is known.
 */
unsigned access_slot_salvage(struct access_slot *s, const struct access_log_options *o)
{
	struct access_clock clock = {0};
	char lines[ACCESS_BUFFER], line[ACCESS_LINE_MAX];
	uint64_t taken = atomic_load_explicit(&s->taken, memory_order_acquire);
	unsigned n_others = atomic_load_explicit(&s->n_others, memory_order_relaxed);
	size_t len = copy_lines(s, lines);
	unsigned n_lost = len > 0 ? write_lines(o, lines, len) : 0;

	for (; taken != 0; taken &= taken - 1) {
		len = format_flight(&s->flights[__builtin_ctzll(taken)], o, &clock, line);
		n_lost += write_lines(o, line, len);
	}
	if (n_lost > 0)
		log_warning("access log: %u lines of worker[%u] were lost: %s; going on", n_lost,
			o->worker, strerror(errno));
	access_slot_clear(s);
	return n_others;
}

/*
 * Plain streams: hands the bytes of a connection to a module's service and takes its own. Worker only.
 *
 * A stream is a connection and no more: c->state is the module's pointer, c->phase holds the bits below, so that
 * ten thousand idle streams cost what ten thousand idle connections do.
 *
 * Always: what a service calls does nothing but write, set flags and touch the connection. It is net/connection that
 * closes it later, so on_close is called from the loop, never from within another call.
 */
#include "net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/connection.h"
#include "net/output.h"
#include "shared/config.h"

#define IDLE_MAX_MS (365ull * 24 * 3600 * 1000)

/* Bits of c->phase. */
enum {
	STREAM_OPENED = 1,   /* the service knows of it */
	STREAM_PAUSED = 2,   /* the service wants no input for now */
	STREAM_REFUSED = 4,  /* it was refused a write: on_room is to be called */
	STREAM_BLOCKED = 8,  /* and has left input unused: that waits for room, too */
	STREAM_EOF = 16,     /* it was told that no more input comes */
	STREAM_ABORTED = 32, /* by the service */
};

static struct tine_stream *stream_of(struct connection *c)
{
	return (struct tine_stream *)c;
}

static struct stream_service *service_of(const struct connection *c)
{
	return (struct stream_service *)(uintptr_t)c->service;
}

static const struct tine_stream_service *calls_of(const struct connection *c)
{
	return &service_of(c)->calls;
}

static bool stream_is_up(const struct connection *c)
{
	return c->life == CONNECTION_OPEN && !c->closing && !c->broken;
}

static void stream_set_bits(struct connection *c, unsigned on, unsigned off)
{
	c->phase = (uint8_t)((c->phase | on) & ~off);
	c->paused = (c->phase & (STREAM_PAUSED | STREAM_BLOCKED)) != 0;
}

/* Closes for a reason that is not the service's, after what it has written. */
static void stream_end(struct connection *c, int error)
{
	c->error = (int16_t)error;
	c->closing = true;
}

/* --- what the connection tells --- */

/* Everything has been read, and the service has had it all. */
static void stream_tell_eof(struct connection *c)
{
	const struct tine_stream_service *s = calls_of(c);

	if (c->phase & STREAM_EOF)
		return;
	stream_set_bits(c, STREAM_EOF, 0);
	if (s->on_eof)
		s->on_eof(stream_of(c), s->arg);
	else
		c->closing = true;
}

/* Once draining has begun, a stream whose service cannot say goodbye ends in its next silence. */
static void stream_on_settle(struct connection *c)
{
	const struct net_server *server = c->server;
	uint64_t ms = service_of(c)->idle_ms;

	if (server->draining && !calls_of(c)->on_drain && server->grace_ms < ms)
		ms = server->grace_ms;
	connection_deadline(c, ms);
}

static void stream_on_drain(struct connection *c)
{
	const struct tine_stream_service *s = calls_of(c);

	if (!stream_is_up(c))
		return;
	if (s->on_drain)
		s->on_drain(stream_of(c), s->arg);
	else if (!c->writing)
		stream_on_settle(c);
}

static void stream_on_open(struct connection *c)
{
	const struct tine_stream_service *s = calls_of(c);

	stream_set_bits(c, STREAM_OPENED, 0);
	stream_on_settle(c);
	connection_limit_unsent(c);
	if (s->on_open)
		s->on_open(stream_of(c), s->arg);
	if (c->server->draining) /* it was handed over too late to be told with the others */
		stream_on_drain(c);
}

static size_t offer(struct connection *c, const char *data, size_t len)
{
	struct stream_service *s = service_of(c);
	size_t n;

	s->offered_to = c;
	s->offered = (struct tine_text){data, len};
	n = s->calls.on_data(stream_of(c), data, len, s->calls.arg);
	s->offered_to = NULL;
	return n;
}

/* Returns how many bytes the service has used; all of them when there is no going on. */
static size_t stream_offer(struct connection *c, const char *data, size_t len)
{
	size_t used = 0, n;

	do {
		n = offer(c, data + used, len - used);
		if (n > len - used) {
			log_error("stream: the service says it used %zu bytes of %zu; closing", n,
				len - used);
			stream_end(c, EINVAL);
		}
		if (!stream_is_up(c))
			return len;
		used += n;
	} while (n > 0 && used < len && !c->paused && !(c->phase & STREAM_REFUSED));
	return used;
}

static size_t stream_on_input(struct connection *c, const char *data, size_t len, size_t seen)
{
	size_t used = stream_offer(c, data, len);

	if (!stream_is_up(c))
		return len;
	if (used < len && (c->phase & STREAM_REFUSED))
		stream_set_bits(c, STREAM_BLOCKED, 0);
	if (c->paused)
		return used;
	if (len - used > service_of(c)->max_input) {
		log_debug("stream: more than %zu bytes are left unused; closing",
			service_of(c)->max_input);
		stream_end(c, EMSGSIZE);
	} else if (c->half) {
		stream_tell_eof(c);
	}
	return used;
}

/* Everything was sent, or the connection was touched. What came in while it was paused is offered right after. */
static void stream_on_drained(struct connection *c)
{
	const struct tine_stream_service *s = calls_of(c);
	bool refused = c->phase & STREAM_REFUSED;

	stream_set_bits(c, 0, STREAM_REFUSED | STREAM_BLOCKED);
	if (refused && s->on_room)
		s->on_room(stream_of(c), s->arg);
	if (c->half && !c->input && !c->paused && stream_is_up(c))
		stream_tell_eof(c);
}

/* Later, when it is paused: there may be more before the end. */
static void stream_on_eof(struct connection *c)
{
	if (!c->paused)
		stream_tell_eof(c);
}

static void stream_on_expired(struct connection *c)
{
	stream_end(c, c->server->draining && !calls_of(c)->on_drain ? 0 : ETIMEDOUT);
}

static void stream_on_close(struct connection *c)
{
	const struct tine_stream_service *s = calls_of(c);

	if ((c->phase & STREAM_OPENED) && s->on_close)
		s->on_close(stream_of(c), c->phase & STREAM_ABORTED ? 0 : c->error, s->arg);
}

const struct protocol stream_protocol = {
	.name = "stream",
	.duplex = true,
	.on_open = stream_on_open,
	.on_input = stream_on_input,
	.on_settle = stream_on_settle,
	.on_drained = stream_on_drained,
	.on_eof = stream_on_eof,
	.on_expired = stream_on_expired,
	.on_drain = stream_on_drain,
	.on_close = stream_on_close,
};

/* --- what the service does --- */

/* Copies bytes to what is to be sent, all or none. Returns as tine_stream_write() does. */
int stream_write(struct connection *c, const void *data, size_t len)
{
	if (!stream_is_up(c))
		return -EPIPE;
	if (len > STREAM_WRITE_MAX)
		return -EMSGSIZE;
	if (len == 0)
		return 0;
	if (connection_room(c) == 0) {
		stream_set_bits(c, STREAM_REFUSED, 0);
		c->wants_room = true;
		return -EAGAIN;
	}
	output_write(c, data, len);
	return c->broken ? -EPIPE : 0;
}

void stream_pause(struct connection *c, bool pause)
{
	stream_set_bits(c, pause ? STREAM_PAUSED : 0, pause ? 0 : STREAM_PAUSED);
	if (!pause)
		connection_touch(c);
}

void stream_close(struct connection *c)
{
	c->closing = true;
	connection_touch(c);
}

void stream_abort(struct connection *c)
{
	if (c->life == CONNECTION_CLOSED)
		return;
	stream_set_bits(c, STREAM_ABORTED, 0);
	c->closing = c->broken = true;
	output_drop(c);
	if (c->server->bursting == c)
		c->server->out.len = 0;
	connection_touch(c);
}

size_t stream_waiting(const struct connection *c)
{
	size_t waiting = c->output ? c->output->len - c->output->off : 0;

	return waiting + (c->server->bursting == c ? c->server->out.len : 0);
}

/* What was read and not used. */
struct tine_text stream_unused(const struct connection *c)
{
	const struct stream_service *s = service_of(c);
	const struct stash *input = c->input;

	if (s->offered_to == c)
		return s->offered;
	return input ? (struct tine_text){input->data + input->off, input->len - input->off}
		     : (struct tine_text){"", 0};
}

/* Leaves the connection to the caller, who gets a descriptor of it. Returns that or an error of tine_stream_detach(). */
int stream_detach(struct connection *c)
{
	int fd;

	if (!stream_is_up(c))
		return -EPIPE;
	if (stream_waiting(c) > 0) {
		stream_set_bits(c, STREAM_REFUSED, 0);
		c->wants_room = true;
		return -EAGAIN;
	}
	fd = fcntl(event_get_fd(&c->event), F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	stream_abort(c); /* our descriptor is not the last one: the peer does not notice */
	return fd;
}

/* --- services --- */

/* calls: copied. Returns 0, -EINVAL or -ENOMEM. */
int stream_service_new(const struct tine_stream_service *calls, const struct conf_http *defaults,
	struct stream_service **ret)
{
	struct stream_service *s;

	if (!calls->on_data || calls->max_input > STREAM_INPUT_MAX)
		return -EINVAL;
	s = malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->calls = *calls;
	s->offered_to = NULL;
	s->idle_ms = (calls->idle_us ? calls->idle_us : defaults->idle_timeout_us) / US_PER_MS;
	if (s->idle_ms > IDLE_MAX_MS)
		s->idle_ms = IDLE_MAX_MS;
	s->max_input = calls->max_input ? calls->max_input : defaults->max_header;
	if (s->max_input > STREAM_INPUT_MAX)
		s->max_input = STREAM_INPUT_MAX;
	*ret = s;
	return 0;
}

/* Its connections must be gone. Returns NULL. */
struct stream_service *stream_service_free(struct stream_service *s)
{
	free(s);
	return NULL;
}

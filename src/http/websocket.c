/*
 * A WebSocket: a protocol that takes over a connection after its upgrade. Worker only, on the loop's thread.
 *
 * wslay takes frames apart and puts them together; messages, control frames and the closing handshake are ours. A frame
 * context of wslay's has 4 KiB of buffer, so a connection has one only while it is within a frame; between two frames
 * all connections of a worker take turns with one.
 *
 * Always: nothing is read while what waits to be sent is above its mark, so that a client that never reads makes nobody's memory
 * grow, and a handler that answers each message with one of its own size finds room. The module's on_close is called once, from
 * websocket_end(), which is never called from within a call of the module's.
 */
#include "http/websocket.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#include "base/fd.h"
#include "base/utf8.h"
#include "http/deflate.h"
#include "http/http.h"
#include "http/request.h"
#include "http/response.h"
#include "http/websocket_handshake.h"
#include "net/connection.h"
#include "net/output.h"
#include "shared/config.h"

#define CONTROL_MAX 125  /* bytes of a control frame */
#define CLOSE_MS    5000 /* how long a client may take to answer our close */

/* Messages outside of these bounds are sent as they are: there is little to gain, or the loop would stand still. */
#define PACK_MIN 256u
#define PACK_MAX (256u << 10)

/* What the connections of a worker share; each value is used within one call. */
struct websocket_hub {
	wslay_frame_context_ptr
		spare; /* at the beginning of a frame; NULL: in use, or not made yet */
	wslay_frame_context_ptr out;
	struct connection *to; /* where `out` goes */
	const char *in;        /* what is being read... */
	size_t in_left;        /* ...and how much of it is left */
	struct deflate deflate;
};

enum websocket_state {
	WEBSOCKET_OPEN,
	WEBSOCKET_CLOSING, /* we have sent our close */
	WEBSOCKET_DONE,    /* all is said: websocket_end() follows */
};

/* A message of which there is not all yet. */
struct message {
	char *data;
	size_t len, cap;
};

/* There may be ten thousand of these, most of them idle. */
struct tine_websocket {
	struct connection *connection;
	struct websocket_hub *hub;
	void (*on_message)(struct tine_websocket *ws, enum tine_websocket_type type,
		const void *data, size_t len, void *arg);
	void (*on_room)(struct tine_websocket *ws, void *arg);
	void (*on_close)(
		struct tine_websocket *ws, unsigned code, struct tine_text reason, void *arg);
	void *arg;
	wslay_frame_context_ptr frames; /* NULL between two frames */
	size_t ahead;                   /* bytes of a header that `frames` has swallowed */
	uint64_t frame_left;            /* bytes of a frame that are to come */
	struct message message;
	size_t max_message;
	uint64_t ping_ms, heard_ms, close_at_ms;
	uint64_t asked_ms; /* when we asked for a sign of life; 0: we did not */
	struct tine_text client, protocol;
	uint16_t code; /* for on_close */
	uint8_t reason_len;
	uint8_t state;  /* enum websocket_state */
	uint8_t opcode; /* of the message that is coming; 0: none */
	uint8_t bits;   /* window of what is sent compressed; 0: no compression */
	struct utf8 utf8;
	bool in_frame;
	bool compressed; /* the message that is coming */
	bool wants_room; /* on_room is to be called */
	uint8_t control_len;
	char control[CONTROL_MAX];
	char text[]; /* of client and protocol */
};

/* --- sending --- */

static ssize_t on_frame_out(const uint8_t *data, size_t len, int flags, void *user_data)
{
	struct websocket_hub *hub = user_data;

	output_write(hub->to, data, len);
	return (ssize_t)len; /* if it broke, net knows */
}

static void send_frame(
	struct tine_websocket *ws, uint8_t opcode, uint8_t rsv, const void *data, size_t len)
{
	struct wslay_frame_iocb f = {.fin = 1,
		.rsv = rsv,
		.opcode = opcode,
		.payload_length = len,
		.data = data,
		.data_length = len};

	ws->hub->to = ws->connection;
	wslay_frame_send(ws->hub->out, &f);
}

/* code: 1005 for none. */
static void send_close(struct tine_websocket *ws, unsigned code, struct tine_text reason)
{
	char payload[CONTROL_MAX] = {(char)(code >> 8), (char)code};

	if (code == WSLAY_CODE_NO_STATUS_RCVD)
		return send_frame(ws, WSLAY_CONNECTION_CLOSE, 0, NULL, 0);
	if (reason.len > 0)
		memcpy(payload + 2, reason.data, reason.len);
	send_frame(ws, WSLAY_CONNECTION_CLOSE, 0, payload, 2 + reason.len);
}

static void send_message(struct tine_websocket *ws, uint8_t opcode, struct tine_text plain)
{
	CLEANUP(freep) char *packed = NULL;
	size_t len;

	if (ws->bits && plain.len >= PACK_MIN && plain.len <= PACK_MAX &&
		deflate_pack(&ws->hub->deflate, ws->bits, plain, &packed, &len) == 0)
		send_frame(ws, opcode, WSLAY_RSV1_BIT, packed, len);
	else
		send_frame(ws, opcode, 0, plain.data, plain.len);
}

/* See tine_websocket_send(). */
int websocket_send(
	struct tine_websocket *ws, enum tine_websocket_type type, const void *data, size_t len)
{
	struct connection *c = ws->connection;

	if (ws->state != WEBSOCKET_OPEN || c->broken)
		return -EPIPE;
	if (len > WEBSOCKET_SEND_MAX)
		return -EMSGSIZE;
	if (type == TINE_WEBSOCKET_TEXT && !utf8_is_valid(data, len))
		return -EINVAL;
	if (connection_room(c) == 0) {
		ws->wants_room = c->wants_room = true;
		return -EAGAIN;
	}
	send_message(ws, (uint8_t)type, (struct tine_text){data, len});
	return 0;
}

size_t websocket_waiting(const struct tine_websocket *ws)
{
	const struct connection *c = ws->connection;
	size_t kept = c->output ? c->output->len - c->output->off : 0;

	return kept + (c->server->bursting == c ? c->server->out.len : 0);
}

/* --- closing --- */

/* Whether a code may be in a close frame (RFC 6455 section 7.4, and what is registered with IANA). */
static bool code_is_valid(unsigned code)
{
	if (code >= 3000)
		return code < 5000;
	return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006);
}

static void begin_close(struct tine_websocket *ws, unsigned code, struct tine_text reason)
{
	send_close(ws, code, reason);
	ws->state = WEBSOCKET_CLOSING;
	ws->close_at_ms = ws->connection->server->now_ms + CLOSE_MS;
}

/* See tine_websocket_close(). reason: at most WEBSOCKET_REASON_MAX bytes. */
int websocket_close(struct tine_websocket *ws, unsigned code, struct tine_text reason)
{
	if (!code_is_valid(code) || code == WSLAY_CODE_PROTOCOL_ERROR ||
		code == WSLAY_CODE_MANDATORY_EXT || !utf8_is_valid(reason.data, reason.len))
		return -EINVAL;
	if (ws->state != WEBSOCKET_OPEN || ws->connection->broken)
		return -EPIPE;
	begin_close(ws, code, reason);
	return 0;
}

/* Nothing more is read; what was sent goes out, and the client gets time to close. */
static void finish(struct tine_websocket *ws, unsigned code)
{
	ws->state = WEBSOCKET_DONE;
	ws->code = (uint16_t)code;
	ws->connection->closing = true;
}

/* The client broke the rules. */
static void fail(struct tine_websocket *ws, unsigned code)
{
	char reason[WEBSOCKET_REASON_MAX];
	int len = 0;

	if (code == WSLAY_CODE_MESSAGE_TOO_BIG)
		len = snprintf(reason, sizeof(reason), "a message of more than %zu bytes",
			ws->max_message);
	if (ws->state == WEBSOCKET_OPEN)
		send_close(ws, code, (struct tine_text){reason, (size_t)len});
	finish(ws, code);
}

static void websocket_free(struct tine_websocket *ws)
{
	if (ws->frames)
		wslay_frame_context_free(ws->frames);
	free(ws->message.data);
	free(ws);
}

/* The last call of the module, and the end of what we know of the connection. */
static void websocket_end(struct tine_websocket *ws)
{
	struct tine_text reason = {ws->control + 2, ws->reason_len};

	ws->connection->state = NULL;
	ws->state = WEBSOCKET_DONE;
	if (ws->on_close)
		ws->on_close(ws, ws->code, reason, ws->arg);
	websocket_free(ws);
}

/* --- control frames --- */

static void on_ping(struct tine_websocket *ws)
{
	if (ws->state == WEBSOCKET_OPEN)
		send_frame(ws, WSLAY_PONG, 0, ws->control, ws->control_len);
}

static void on_pong(struct tine_websocket *ws)
{
}

static void on_close_frame(struct tine_websocket *ws)
{
	const unsigned char *p = (const unsigned char *)ws->control;
	unsigned code = WSLAY_CODE_NO_STATUS_RCVD;

	if (ws->control_len > 0)
		code = ws->control_len > 1 ? (unsigned)p[0] << 8 | p[1] : 0;
	if (ws->control_len > 0 && !code_is_valid(code))
		return fail(ws, WSLAY_CODE_PROTOCOL_ERROR);
	if (ws->control_len > 2) {
		if (!utf8_is_valid(p + 2, ws->control_len - 2u))
			return fail(ws, WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA);
		ws->reason_len = (uint8_t)(ws->control_len - 2);
	}
	if (ws->state == WEBSOCKET_OPEN)
		send_close(ws, code, (struct tine_text){NULL, 0});
	finish(ws, code);
}

static void (*const on_control[])(struct tine_websocket *ws) = {
	[WSLAY_CONNECTION_CLOSE] = on_close_frame,
	[WSLAY_PING] = on_ping,
	[WSLAY_PONG] = on_pong,
};

/* --- messages --- */

static int message_append(struct message *m, size_t max, const void *data, size_t len)
{
	if (m->cap - m->len < len) {
		size_t want = m->len + len > max / 2 ? max : 2 * (m->len + len);
		char *p = realloc(m->data, want);

		if (!p)
			return -ENOMEM;
		m->data = p;
		m->cap = want;
	}
	if (len > 0)
		memcpy(m->data + m->len, data, len);
	m->len += len;
	return 0;
}

/* How long a message may be as it comes: what cannot be compressed becomes a little longer by the attempt. */
static size_t message_max(const struct tine_websocket *ws, bool compressed)
{
	return compressed ? ws->max_message + ws->max_message / 256 + 64 : ws->max_message;
}

static void deliver(struct tine_websocket *ws, enum tine_websocket_type type, struct tine_text t)
{
	if (ws->state == WEBSOCKET_OPEN)
		ws->on_message(ws, type, t.data ? t.data : "", t.len, ws->arg);
}

static void deliver_packed(
	struct tine_websocket *ws, enum tine_websocket_type type, struct tine_text packed)
{
	CLEANUP(freep) char *plain = NULL;
	size_t len;
	int r = deflate_unpack(&ws->hub->deflate, packed, ws->max_message, &plain, &len);

	if (r == -EMSGSIZE)
		return fail(ws, WSLAY_CODE_MESSAGE_TOO_BIG);
	if (r == -ENOMEM)
		return fail(ws, WSLAY_CODE_INTERNAL_SERVER_ERROR);
	if (r < 0 || (type == TINE_WEBSOCKET_TEXT && !utf8_is_valid(plain, len)))
		return fail(ws, WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA);
	deliver(ws, type, (struct tine_text){plain, len});
}

/* All of a message is there. */
static void message_complete(struct tine_websocket *ws, struct tine_text t)
{
	struct message m = ws->message;
	enum tine_websocket_type type = (enum tine_websocket_type)ws->opcode;

	ws->message = (struct message){0};
	ws->opcode = 0;
	if (ws->compressed)
		deliver_packed(ws, type, t);
	else if (ws->utf8.left > 0)
		fail(ws, WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA);
	else
		deliver(ws, type, t);
	free(m.data);
}

/* Most messages come in one piece, and are handed on from where they lie. */
static void on_data(struct tine_websocket *ws, const struct wslay_frame_iocb *f)
{
	bool last = f->fin && !ws->in_frame;
	struct tine_text t = {(const char *)f->data, f->data_length};

	if (ws->opcode == WSLAY_TEXT_FRAME && !ws->compressed &&
		!utf8_feed(&ws->utf8, t.data, t.len))
		return fail(ws, WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA);
	if (!last || ws->message.len > 0) {
		if (message_append(&ws->message, message_max(ws, ws->compressed), t.data, t.len) <
			0)
			return fail(ws, WSLAY_CODE_INTERNAL_SERVER_ERROR);
		t = (struct tine_text){ws->message.data, ws->message.len};
	}
	if (last)
		message_complete(ws, t);
}

/* --- frames --- */

/* Whether the head of a frame is against the rules: returns 0, or the code to close with. */
static unsigned frame_fault(const struct tine_websocket *ws, const struct wslay_frame_iocb *f)
{
	bool control = wslay_is_ctrl_frame(f->opcode), goes_on = f->opcode == 0;
	bool compressed = goes_on ? ws->compressed : f->rsv == WSLAY_RSV1_BIT;

	if (!f->mask || f->opcode > (control ? WSLAY_PONG : WSLAY_BINARY_FRAME))
		return WSLAY_CODE_PROTOCOL_ERROR;
	if (f->rsv && (f->rsv != WSLAY_RSV1_BIT || control || goes_on || !ws->bits))
		return WSLAY_CODE_PROTOCOL_ERROR;
	if (control)
		return 0;
	if (goes_on != (ws->opcode != 0))
		return WSLAY_CODE_PROTOCOL_ERROR;
	return f->payload_length > message_max(ws, compressed) - ws->message.len
		? WSLAY_CODE_MESSAGE_TOO_BIG
		: 0;
}

static void frame_begin(struct tine_websocket *ws, const struct wslay_frame_iocb *f)
{
	ws->frame_left = f->payload_length;
	if (wslay_is_ctrl_frame(f->opcode)) {
		ws->control_len = 0;
	} else if (f->opcode != WSLAY_CONTINUATION_FRAME) {
		ws->opcode = f->opcode;
		ws->compressed = f->rsv == WSLAY_RSV1_BIT;
		ws->utf8 = (struct utf8){0};
	}
}

/* A frame, or a piece of one. */
static void on_frame(struct tine_websocket *ws, const struct wslay_frame_iocb *f)
{
	unsigned fault = ws->in_frame ? 0 : frame_fault(ws, f);

	if (fault)
		return fail(ws, fault);
	if (!ws->in_frame)
		frame_begin(ws, f);
	ws->frame_left -= f->data_length;
	ws->in_frame = ws->frame_left > 0;
	if (!wslay_is_ctrl_frame(f->opcode))
		return on_data(ws, f);
	assert(ws->control_len + f->data_length <= CONTROL_MAX); /* wslay sees to it */
	if (f->data_length > 0)
		memcpy(ws->control + ws->control_len, f->data, f->data_length);
	ws->control_len += (uint8_t)f->data_length;
	if (!ws->in_frame)
		on_control[f->opcode](ws);
}

static size_t frame_header_len(const struct wslay_frame_iocb *f)
{
	size_t len = f->payload_length < 126 ? 2 : f->payload_length <= UINT16_MAX ? 4 : 10;

	return len + (f->mask ? 4 : 0);
}

static ssize_t on_frame_in(uint8_t *buf, size_t len, int flags, void *user_data)
{
	struct websocket_hub *hub = user_data;

	if (hub->in_left == 0)
		return -1;
	if (len > hub->in_left)
		len = hub->in_left;
	memcpy(buf, hub->in, len);
	hub->in += len;
	hub->in_left -= len;
	return (ssize_t)len;
}

/* Takes the hub's context. */
static int frames_begin(struct tine_websocket *ws)
{
	static const struct wslay_frame_callbacks callbacks = {.recv_callback = on_frame_in};

	if (ws->frames)
		return 0;
	ws->frames = ws->hub->spare;
	ws->hub->spare = NULL;
	if (!ws->frames && wslay_frame_context_init(&ws->frames, &callbacks, ws->hub) != 0)
		return -ENOMEM;
	return 0;
}

/* Gives it back; one that holds bytes can serve nobody else. */
static void frames_end(struct tine_websocket *ws, bool is_empty)
{
	if (is_empty && !ws->hub->spare)
		ws->hub->spare = ws->frames;
	else
		wslay_frame_context_free(ws->frames);
	ws->frames = NULL;
	ws->ahead = 0;
}

/* Whether more may be read; else sees to it that it goes on when there is room for answers. */
static bool has_room(struct connection *c)
{
	if (connection_room(c) > 0)
		return true;
	if (connection_output_pending(c))
		c->paused = true; /* until on_drained */
	else
		c->yielded = true;
	return false;
}

/*
 * Reads frames until there is no more, no room for answers, or all is said. Returns how many bytes are done with:
 * of those that wslay has buffered, the ones behind the last frame are not.
 */
static size_t read_frames(struct tine_websocket *ws, const char *data, size_t len)
{
	struct websocket_hub *hub = ws->hub;
	struct wslay_frame_iocb f;
	size_t ahead = ws->ahead, done = 0; /* done: counted from the beginning of `ahead` */
	ssize_t n;

	hub->in = data;
	hub->in_left = len;
	do {
		n = wslay_frame_recv(ws->frames, &f);
		if (n == WSLAY_ERR_WANT_READ) {
			ws->ahead = ahead + len - done;
			if (ws->ahead == 0 && !ws->in_frame)
				frames_end(ws, true);
			return len;
		}
		if (n < 0) {
			fail(ws, WSLAY_CODE_PROTOCOL_ERROR);
			return len;
		}
		done += (ws->in_frame ? 0 : frame_header_len(&f)) + f.data_length;
		on_frame(ws, &f);
	} while (ws->state != WEBSOCKET_DONE &&
		(ws->in_frame || done == ahead + len || has_room(ws->connection)));
	if (ws->state == WEBSOCKET_DONE)
		return len;
	frames_end(ws, done == ahead + len - hub->in_left);
	return done - ahead;
}

static size_t websocket_on_input(struct connection *c, const char *data, size_t len, size_t seen)
{
	struct tine_websocket *ws = c->state;
	size_t used;

	ws->heard_ms = c->server->now_ms;
	ws->asked_ms = 0;
	if (!ws->in_frame && !has_room(c))
		return 0;
	if (frames_begin(ws) < 0) {
		c->broken = true;
		return len;
	}
	used = read_frames(ws, data, len);
	if (ws->state == WEBSOCKET_DONE)
		websocket_end(ws);
	return used;
}

/* --- what else happens to a connection --- */

/* Until the next sign of life that is due, or the end of the time to close. */
static void websocket_on_settle(struct connection *c)
{
	const struct tine_websocket *ws = c->state;
	uint64_t at, now = c->server->now_ms;

	if (ws->state == WEBSOCKET_CLOSING)
		at = ws->close_at_ms;
	else if (ws->ping_ms > 0)
		at = (ws->asked_ms ? ws->asked_ms : ws->heard_ms) + ws->ping_ms;
	else
		return connection_no_deadline(c);
	connection_deadline(c, at > now ? at - now : 1);
}

static void websocket_on_expired(struct connection *c)
{
	struct tine_websocket *ws = c->state;

	if (ws->state == WEBSOCKET_CLOSING || ws->asked_ms)
		return connection_close(c);
	ws->asked_ms = c->server->now_ms;
	send_frame(ws, WSLAY_PING, 0, NULL, 0);
}

static void websocket_on_drained(struct connection *c)
{
	struct tine_websocket *ws = c->state;

	c->paused = false;
	if (!ws || !ws->wants_room)
		return;
	ws->wants_room = false;
	if (ws->on_room && ws->state == WEBSOCKET_OPEN)
		ws->on_room(ws, ws->arg);
}

static void websocket_on_drain(struct connection *c)
{
	struct tine_websocket *ws = c->state;

	if (!ws || ws->state != WEBSOCKET_OPEN)
		return;
	begin_close(ws, WSLAY_CODE_GOING_AWAY, (struct tine_text){NULL, 0});
	ws->code = WSLAY_CODE_GOING_AWAY;
}

static void websocket_on_close(struct connection *c)
{
	if (c->state)
		websocket_end(c->state);
}

static const struct protocol websocket_protocol = {
	.name = "websocket",
	.duplex = true,
	.on_input = websocket_on_input,
	.on_settle = websocket_on_settle,
	.on_drained = websocket_on_drained,
	.on_expired = websocket_on_expired,
	.on_drain = websocket_on_drain,
	.on_close = websocket_on_close,
};

/* --- from a request to a connection --- */

/* Frees what the connections of a server shared, after the last of them. Returns NULL. */
struct websocket_hub *websocket_hub_free(struct websocket_hub *hub)
{
	if (!hub)
		return NULL;
	if (hub->spare)
		wslay_frame_context_free(hub->spare);
	if (hub->out)
		wslay_frame_context_free(hub->out);
	deflate_release(&hub->deflate);
	free(hub);
	return NULL;
}

static struct websocket_hub *websocket_hub_new(void)
{
	static const struct wslay_frame_callbacks callbacks = {.send_callback = on_frame_out};
	struct websocket_hub *hub = calloc(1, sizeof(*hub));

	if (hub && wslay_frame_context_init(&hub->out, &callbacks, hub) != 0) {
		hub->out = NULL;
		return websocket_hub_free(hub);
	}
	return hub;
}

static char *keep_text(char *to, struct tine_text t, struct tine_text *ret)
{
	*ret = (struct tine_text){t.data ? to : NULL, t.len};
	if (t.len > 0)
		memcpy(to, t.data, t.len);
	return to + t.len;
}

static struct tine_websocket *websocket_new(struct tine_request *rq,
	const struct tine_websocket_options *o, const struct websocket_handshake *hs)
{
	struct tine_text client = request_client(rq);
	struct http_server *s = rq->server;
	struct tine_websocket *ws;

	if (!s->websockets)
		s->websockets = websocket_hub_new();
	ws = s->websockets ? calloc(1, sizeof(*ws) + client.len + hs->protocol.len) : NULL;
	if (!ws)
		return NULL;
	ws->connection = rq->connection;
	ws->hub = s->websockets;
	ws->on_message = o->on_message;
	ws->on_room = o->on_room;
	ws->on_close = o->on_close;
	ws->arg = o->arg;
	ws->max_message = o->max_message ? o->max_message : s->conf->websocket_max_message;
	ws->ping_ms = s->ping_ms;
	ws->heard_ms = rq->connection->server->now_ms;
	ws->code = WSLAY_CODE_ABNORMAL_CLOSURE;
	ws->bits = hs->bits;
	keep_text(keep_text(ws->text, client, &ws->client), hs->protocol, &ws->protocol);
	return ws;
}

/* Returns -EPROTO, or why even that could not be said. */
static int refuse(struct tine_request *rq, unsigned status, const char *why)
{
	static const char upgrade[] = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
	static const char allow[] = "Allow: GET, HEAD\r\n";
	struct http_answer a = {.status = status};
	int r;

	if (status == 426)
		a.fields = (struct tine_text){upgrade, sizeof(upgrade) - 1};
	else if (status == 405)
		a.fields = (struct tine_text){allow, sizeof(allow) - 1};
	if (why) {
		a.type = (struct tine_text){"text/plain", 10};
		a.body = why;
		a.length = strlen(why);
	}
	r = a.fields.data || why ? response_write(rq, &a) : response_text(rq, status);
	return r < 0 ? r : -EPROTO;
}

/* See tine_websocket_accept(). Who is leaving begins nothing that lasts: 503. */
int websocket_accept(struct tine_request *rq, const struct tine_websocket_options *o,
	struct tine_websocket **ret)
{
	struct websocket_terms terms = {o->protocols, o->origins, !o->no_compression};
	struct websocket_handshake hs;
	struct tine_websocket *ws;
	char fields[WEBSOCKET_FIELDS_MAX];
	unsigned status;
	size_t len;
	int r;

	if (rq->answer != ANSWER_NONE)
		return -EALREADY;
	if (!rq->connection)
		return -ECANCELED;
	status = websocket_handshake(&rq->head, &terms, &hs);
	if (status == 0 && rq->connection->server->draining)
		status = 503;
	if (status != 0)
		return refuse(rq, status, hs.why);
	ws = websocket_new(rq, o, &hs);
	if (!ws)
		return -ENOMEM;
	len = websocket_handshake_write(&hs, fields, sizeof(fields));
	r = request_upgrade(rq, (struct tine_text){fields, len}, &websocket_protocol, ws);
	if (r < 0) {
		websocket_free(ws);
		return r;
	}
	if (ret)
		*ret = ws;
	return 0;
}

struct tine_text websocket_client(const struct tine_websocket *ws)
{
	return ws->client;
}

struct tine_text websocket_subprotocol(const struct tine_websocket *ws)
{
	return ws->protocol;
}

/*
 * The side of the bus. Runs in the bridge process, on its loop.
 *
 * The primary says what processes here subscribe to (INTEREST), and sends what they publish. Each interest is a subscription at
 * NATS, narrowed to what [bus] nats_subjects lets through; what comes by it goes back under the interest's number, and the primary
 * hands it to those subscribers and nobody else. So one message comes once to each of them, however their patterns overlap.
 *
 * Requests: those from here wait for their answers under an inbox whose subject says who asked (its process, the request, and
 * whether somebody here has it too). Those from NATS have a number here, which stands for the subject of the answer.
 */
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/turn.h"
#include "bridge/bridge.h"
#include "ipc/blob.h"
#include "ipc/lane.h"
#include "ipc/subject.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/scoreboard.h"

#define FDS_MAX     16 /* large payloads sent and not heard of */
#define PAUSES_MAX  256
#define PATIENCE_US (50 * US_PER_MS) /* with one of them; then he misses what he has no room for */
#define REQUESTS    4096             /* from NATS, that may still be answered; a power of two */
#define REPLY_MAX   256              /* bytes of the subject of an answer */
#define KEY(n, i)   ((uint64_t)(n)*BRIDGE_PATTERNS + (i))
#define NUMBER(key) ((uint32_t)((key) / BRIDGE_PATTERNS))

struct local {
	struct bridge *bridge;
	struct lane *lane;
	uint32_t address;
	char patterns[BRIDGE_PATTERNS][SUBJECT_MAX + 1];
	size_t n_patterns;

	/* what the next publication has behind it already (SERVED) */
	char groups[MSG_SERVED_MAX];
	size_t groups_len;
	bool served_here;

	uint64_t window, n_sent, bytes_sent, bytes_acked;
	uint64_t fd_frames[FDS_MAX]; /* numbers of the last frames with descriptors: a ring */
	unsigned first_fd, n_fds;
	bool sync_asked;
	struct pause {
		uint64_t key, since_us;
	} pauses[PAUSES_MAX]; /* receivers whose queue is long */
	size_t n_pauses;
	struct event ev_patience;
	struct arrival *arrivals; /* taken from the carrier, not sent yet */
	char *replies[REQUESTS];  /* by the request's number */
	uint64_t n_requests;
};

/* --- from NATS to the bus --- */

static uint64_t unheard(const struct local *l)
{
	return l->bytes_sent - l->bytes_acked;
}

static int put(struct local *l, struct frame *f, const struct iovec *parts, size_t n, int fd)
{
	int r;

	f->src = l->address;
	r = lane_put(l->lane, f, parts, n, fd);
	if (r < 0)
		return r;
	if (fd >= 0)
		l->fd_frames[(l->first_fd + l->n_fds++) % FDS_MAX] = l->n_sent;
	l->n_sent++;
	l->bytes_sent += frame_space(f->length);
	return 0;
}

static void ask_for_ack(struct local *l)
{
	struct frame f = {.type = MSG_SYNC};

	if (!l->sync_asked)
		l->sync_asked = put(l, &f, NULL, 0, -1) == 0;
}

/* Sends a frame of which `head` parts are there, and the data behind them: as they are, or in a blob. */
static int put_data(
	struct local *l, struct frame *f, struct iovec *parts, size_t head, const struct arrival *a)
{
	struct msg_large large = {.size = a->len};
	CLEANUP(closep) int fd = -1;
	int r;

	parts[head] = (struct iovec){a->data, a->len};
	if (a->len > MSG_PAYLOAD_MAX) {
		if (a->len > l->bridge->child->config->bus.max_message)
			return -EMSGSIZE;
		r = blob_new(a->data, a->len, &fd);
		if (r < 0)
			return r;
		f->flags |= FRAME_LARGE | FRAME_FD;
		parts[head] = (struct iovec){&large, sizeof(large)};
	}
	f->length += (uint32_t)parts[head].iov_len;
	return put(l, f, parts, head + 1, fd);
}

/* A number for a request that came: the oldest one of those that wait is forgotten for it. */
static uint64_t keep_reply(struct local *l, const char *reply)
{
	uint64_t n = ++l->n_requests;
	char **place = &l->replies[n % REQUESTS];

	free(*place);
	*place = strlen(reply) < REPLY_MAX ? strdup(reply) : NULL;
	return n;
}

static int send_publication(struct local *l, const struct arrival *a)
{
	static const char zeros[8];
	size_t len = strlen(a->subject);
	struct msg_publish m = {.subject = (uint16_t)len};
	struct iovec parts[4] = {{&m, sizeof(m)}, {(void *)(uintptr_t)a->subject, len},
		{(void *)(uintptr_t)zeros, publish_head(len) - sizeof(m) - len}};
	struct frame f = {
		.type = MSG_PUBLISH, .dst = NUMBER(a->key), .length = (uint32_t)publish_head(len)};
	const char *why;

	if (subject_check(a->subject, len, SUBJECT_PLAIN, &why) < 0 ||
		subject_is_reserved(a->subject, len))
		return -EINVAL;
	if (a->reply) {
		f.flags |= FRAME_ANSWERED;
		f.id = keep_reply(l, a->reply);
	}
	return put_data(l, &f, parts, 3, a);
}

/* An answer to a request from here; its subject says to whose: INBOX.ADDRESS.ID.SERVED. */
static int send_answer(struct local *l, const struct arrival *a)
{
	struct msg_error e = {.error = mark_error(a->mark)};
	struct arrival error = {.data = (char *)&e, .len = sizeof(e)};
	struct frame f = {.type = MSG_ANSWER};
	struct iovec parts[1];
	unsigned served;

	if (sscanf(a->subject + strlen(carrier_inbox(l->bridge->carrier)),
		    ".%" SCNx32 ".%" SCNx64 ".%u", &f.dst, &f.id, &served) != 3 ||
		f.dst == 0 || f.dst >= ADDRESS_ANY)
		return -EINVAL;
	if (a->nobody && served)
		return 0; /* somebody here may answer */
	if (a->nobody)
		e.error = -ENOENT;
	if (e.error == 0)
		return put_data(l, &f, parts, 0, a);
	f.flags |= FRAME_ERROR;
	return put_data(l, &f, parts, 0, &error);
}

static bool has_room(struct local *l, const struct arrival *a)
{
	size_t n = frame_space(publish_head(SUBJECT_MAX) +
		(a->len <= MSG_PAYLOAD_MAX ? a->len : sizeof(struct msg_large)));

	if (unheard(l) == 0 || (unheard(l) + n <= l->window && l->n_fds < FDS_MAX))
		return true;
	ask_for_ack(l);
	return false;
}

/* How long we wait for receivers that may catch up. */
static uint64_t patience_us(const struct local *l)
{
	uint64_t now = l->n_pauses > 0 ? now_us() : 0, longest = 0;

	for (size_t i = 0; i < l->n_pauses; i++) {
		uint64_t end = l->pauses[i].since_us + PATIENCE_US;

		if (end > now && end - now > longest)
			longest = end - now;
	}
	return longest;
}

static bool is_patient(struct local *l)
{
	uint64_t us = patience_us(l);
	struct timeval tv = timeval_from_us(us);

	if (us > 0)
		event_add(&l->ev_patience, &tv);
	return us > 0;
}

/* Sends on what came, as far as there is room. */
static void send_arrivals(struct local *l)
{
	while (!is_patient(l)) {
		struct arrival *a = l->arrivals;
		int r;

		if (!a)
			a = l->arrivals = carrier_take(l->bridge->carrier);
		if (!a || !has_room(l, a))
			return;
		l->arrivals = a->next;
		if (a->key == CARRIER_ANSWERS)
			r = send_answer(l, a);
		else
			r = a->nobody ? 0 : send_publication(l, a);
		if (r < 0)
			sb_add(l->bridge->slot->bus_failed, 1);
		free(a);
	}
}

static void on_ack(struct local *l, const struct frame *f, const void *payload, int fd)
{
	const struct msg_ack *m = payload;

	l->bytes_acked = m->bytes;
	l->sync_asked = false;
	for (; l->n_fds > 0 && l->fd_frames[l->first_fd] < m->n; l->n_fds--)
		l->first_fd = (l->first_fd + 1) % FDS_MAX;
	send_arrivals(l);
}

static void on_nak(struct local *l, const struct frame *f, const void *payload, int fd)
{
	const struct msg_nak *m = payload;

	sb_add(l->bridge->slot->bus_failed, m->n);
}

static void on_pause(struct local *l, const struct frame *f, const void *payload, int fd)
{
	const struct msg_pause *m = payload;

	if (l->n_pauses < PAUSES_MAX)
		l->pauses[l->n_pauses++] = (struct pause){m->key, now_us()};
}

static void on_resume(struct local *l, const struct frame *f, const void *payload, int fd)
{
	const struct msg_pause *m = payload;

	for (size_t i = 0; i < l->n_pauses; i++) {
		if (l->pauses[i].key != m->key)
			continue;
		l->pauses[i] = l->pauses[--l->n_pauses];
		break;
	}
	send_arrivals(l);
}

static void on_patience_over(evutil_socket_t fd, short what, void *arg)
{
	turn_mark();
	send_arrivals(arg);
}

/* --- from the bus to NATS --- */

static void on_interest(struct local *l, const struct frame *f, const void *payload, int fd)
{
	const struct msg_interest *m = payload;
	const char *pattern = (const char *)(m + 1);
	char group[SUBJECT_GROUP_MAX + 1], both[SUBJECT_MAX + 1];

	snprintf(group, sizeof(group), "%.*s", (int)m->group, pattern + m->pattern);
	if (m->group > 0 && !mark_may_name(group, strlen(group)))
		return; /* it is known to this machine alone */
	for (size_t i = 0; i < l->n_patterns; i++) {
		if (!subject_intersect(
			    l->patterns[i], strlen(l->patterns[i]), pattern, m->pattern, both))
			continue;
		if (m->wanted)
			carrier_subscribe(
				l->bridge->carrier, KEY(m->number, i), both, *group ? group : NULL);
		else
			carrier_unsubscribe(l->bridge->carrier, KEY(m->number, i));
	}
}

static void on_last(struct local *l, const struct frame *f, const void *payload, int fd)
{
	bridge_end(l->bridge);
}

static void on_served(struct local *l, const struct frame *f, const void *payload, int fd)
{
	const struct msg_served *m = payload;

	l->served_here = m->here;
	l->groups_len = f->length - sizeof(*m);
	memcpy(l->groups, m + 1, l->groups_len);
}

/* Publishes it, or says why not. */
static int depart(struct local *l, const struct departure *d, int error)
{
	struct departure marked = *d;
	char mark[MARK_MAX];
	struct carrier *c = l->bridge->carrier;
	int r = mark_write(mark, carrier_machine(c), error, l->groups, l->groups_len);

	marked.mark = mark;
	return r < 0 ? r : carrier_publish(c, &marked);
}

static int publish(struct local *l, const struct frame *f, struct departure *d)
{
	char reply[REPLY_MAX];

	if (f->flags & FRAME_ANSWERED) {
		snprintf(reply, sizeof(reply), "%s.%" PRIx32 ".%" PRIx64 ".%u",
			carrier_inbox(l->bridge->carrier), f->src, f->id, l->served_here);
		d->reply = reply;
	}
	return depart(l, d, 0);
}

/* Somebody here answers what came from NATS. The first one does it. */
static int answer(struct local *l, const struct frame *f, struct departure *d)
{
	char **place = &l->replies[f->id % REQUESTS];
	CLEANUP(freep) char *reply = NULL;
	int error = 0;

	if (l->n_requests - f->id >= REQUESTS || !*place)
		return 0;
	reply = take_ptr(*place);
	d->subject = reply;
	d->subject_len = strlen(reply);
	if (f->flags & FRAME_ERROR) {
		const struct msg_error *e = d->data;

		error = d->len == sizeof(*e) ? e->error : -EPROTO;
		d->len = 0;
	}
	return depart(l, d, error);
}

static const struct {
	int (*pass_on)(struct local *l, const struct frame *f, struct departure *d);
	bool has_subject;
} passed_on[MSG_TYPE_END] = {
	[MSG_PUBLISH] = {publish, true},
	[MSG_ANSWER] = {answer, false},
};

/* Has the data of a blob mapped while it is passed on. */
static int pass_large(struct local *l, const struct frame *f, struct departure *d, int fd)
{
	const void *data;
	uint64_t size;
	int r = blob_check(fd, &size);

	if (r == 0)
		r = blob_map(fd, size, &data);
	if (r < 0)
		return r;
	d->data = data;
	d->len = size;
	r = passed_on[f->type].pass_on(l, f, d);
	blob_unmap(data, size);
	return r;
}

static void on_delivery(struct local *l, const struct frame *f, const void *payload, int fd)
{
	struct departure d = {.data = payload, .len = f->length};
	int r;

	sb_add(l->bridge->slot->bus_received, 1);
	if (passed_on[f->type].has_subject) {
		const struct msg_publish *m = payload;

		d.subject = (const char *)(m + 1);
		d.subject_len = m->subject;
		d.data = (const char *)payload + publish_head(m->subject);
		d.len -= publish_head(m->subject);
	}
	if (f->flags & FRAME_LARGE)
		r = pass_large(l, f, &d, fd);
	else
		r = passed_on[f->type].pass_on(l, f, &d);
	l->groups_len = 0;
	l->served_here = false;
	if (r < 0)
		sb_add(l->bridge->slot->nats.unsent, 1);
}

static void (*const handlers[MSG_TYPE_END])(
	struct local *l, const struct frame *f, const void *payload, int fd) = {
	[MSG_PUBLISH] = on_delivery,
	[MSG_ANSWER] = on_delivery,
	[MSG_INTEREST] = on_interest,
	[MSG_SERVED] = on_served,
	[MSG_LAST] = on_last,
	[MSG_ACK] = on_ack,
	[MSG_NAK] = on_nak,
	[MSG_PAUSE] = on_pause,
	[MSG_RESUME] = on_resume,
};

static void on_message(const struct frame *f, const void *payload, int fd, void *arg)
{
	turn_mark();
	if (handlers[f->type])
		handlers[f->type](arg, f, payload, fd);
	if (fd >= 0)
		close(fd);
}

static void on_burst(void *arg)
{
	struct local *l = arg;

	if (carrier_is_full(l->bridge->carrier))
		lane_set_reading(l->lane, false);
}

static void on_closed(const char *why, void *arg)
{
	struct local *l = arg;

	bridge_end(l->bridge);
}

/* Whether all that came from NATS is with the primary. */
bool local_is_idle(const struct local *l)
{
	return !l->arrivals && (lane_queued(l->lane) == 0 || !lane_is_open(l->lane));
}

/* Something came, or there is room again. */
void local_go_on(struct local *l)
{
	if (!carrier_is_full(l->bridge->carrier))
		lane_set_reading(l->lane, true);
	send_arrivals(l);
}

/* --- set-up and end --- */

static void split_patterns(struct local *l, const char *text)
{
	while (l->n_patterns < BRIDGE_PATTERNS) {
		size_t n;

		text += strspn(text, " \t");
		n = strcspn(text, " \t");
		if (n == 0)
			return;
		snprintf(l->patterns[l->n_patterns++], SUBJECT_MAX + 1, "%.*s", (int)n, text);
		text += n;
	}
}

int local_new(struct bridge *b, struct local **ret)
{
	const struct conf_bus *conf = &b->child->config->bus;
	struct local *l = calloc(1, sizeof(*l));
	struct lane_options o = {.base = b->base,
		.fd = b->child->bus_fd,
		.kind = LANE_BUS,
		.peer = ROLE_PRIMARY,
		.queue_max = SIZE_MAX,
		.on_message = on_message,
		.on_closed = on_closed,
		.on_burst = on_burst,
		.arg = l};
	char all[80];

	if (!l)
		return -ENOMEM;
	l->bridge = b;
	l->address = b->child->address;
	l->window = msg_window(conf_bridge_high(conf), conf_bridge_low(conf));
	split_patterns(l, conf->nats_subjects);
	evtimer_assign(&l->ev_patience, b->base, on_patience_over, l);
	snprintf(all, sizeof(all), "%s.>", carrier_inbox(b->carrier));
	carrier_subscribe(b->carrier, CARRIER_ANSWERS, all, NULL);
	*ret = l;
	return lane_new(&o, &l->lane);
}

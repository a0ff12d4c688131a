/* What comes on the bus for modules: to whom it goes, and the descriptor or the blob that comes along. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "ipc/blob.h"
#include "runtime/bus_internal.h"
#include "runtime/inbox.h"
#include "shared/scoreboard.h"

#define WARN_EVERY_US (10 * US_PER_S)

/* Nobody here takes it; who waits for an answer is told. */
static void refuse(struct bus *b, const struct frame *f, int error)
{
	struct bus_port any = {.bus = b};

	if (f->flags & FRAME_ANSWERED)
		bus_answer(&any, f->src, f->id, error, NULL, 0);
}

static void take_message(struct bus *b, const struct frame *f, struct tine_message *m)
{
	struct bus_port *p = bus_find_port(b, (uint32_t)(f->id >> 32));

	if (p && p->service.on_message)
		p->service.on_message(m, p->service.arg);
	else
		refuse(b, f, TINE_E_NOBODY);
}

static void take_publication(struct bus *b, const struct frame *f, struct tine_message *m)
{
	struct tine_subscription *sub = bus_find_subscription(b, f->dst);

	if (sub)
		sub->on_message(m, sub->arg);
}

static void take_answer(struct bus *b, const struct frame *f, struct tine_message *m)
{
	int status = 0;

	if (f->flags & FRAME_ERROR) {
		const struct msg_error *e = m->data;

		status = m->len == sizeof(*e) && e->error < 0 ? e->error : -EPROTO;
	}
	inbox_answer(b->inbox, f->id, status, m);
}

static void (*const takers[MSG_TYPE_END])(
	struct bus *b, const struct frame *f, struct tine_message *m) = {
	[MSG_SEND] = take_message,
	[MSG_PUBLISH] = take_publication,
	[MSG_ANSWER] = take_answer,
};

/* Now and then: there may be many. */
static void warn(struct bus *b, int error)
{
	bool is_quota = error == TINE_E_QUOTA;
	uint64_t now = now_us();

	b->n_untaken++;
	if (now < b->warn_us)
		return;
	b->warn_us = now + WARN_EVERY_US;
	log_warning("bus: cannot take a message: %s; dropping it (%" PRIu64 " so far)",
		is_quota ? "too many descriptors are in use" : strerror(-error), b->n_untaken);
}

/* It cannot be handed to whom it is for. Who waits for it is told; but of a publication others may have had it, and answer. */
static void drop(struct bus *b, const struct frame *f, struct tine_message *m, int error)
{
	const struct tine_subscription *sub =
		f->type == MSG_PUBLISH ? bus_find_subscription(b, f->dst) : NULL;

	warn(b, error);
	if (f->type == MSG_ANSWER)
		inbox_answer(b->inbox, f->id, error, m);
	else if (f->type == MSG_SEND || (sub && sub->in_group))
		refuse(b, f, error);
}

/* Maps a payload that is in a blob: m->fd, described by m->data, which it replaces. Returns 0 or -errno. */
int bus_map_large(struct tine_message *m)
{
	struct msg_large large;
	uint64_t size;
	int r;

	if (m->len != sizeof(large))
		return -EPROTO;
	memcpy(&large, m->data, sizeof(large));
	r = blob_check(m->fd, &size);
	if (r == 0 && size != large.size)
		r = -EPROTO;
	if (r == 0)
		r = blob_map(m->fd, size, &m->data);
	m->len = size;
	return r;
}

static void take_large(struct bus *b, const struct frame *f, struct tine_message *m)
{
	CLEANUP(closep) int fd = m->fd;
	const void *data;
	size_t len;
	int r = bus_map_large(m);

	(void)fd; /* it is only there to be closed in the end */
	m->fd = -1;
	if (r < 0) {
		drop(b, f, m, r);
		return;
	}
	data = m->data;
	len = m->len;
	takers[f->type](b, f, m);
	blob_unmap(data, len);
}

/* Splits the subject from the body. */
static void take_subject(struct tine_message *m)
{
	const struct msg_publish *head = m->data;
	size_t n = publish_head(head->subject);

	m->subject = (struct tine_text){(const char *)(head + 1), head->subject};
	m->data = (const char *)m->data + n;
	m->len -= n;
}

/* Takes the descriptor over. */
void bus_on_delivery(struct bus *b, const struct frame *f, const void *payload, int fd)
{
	struct tine_message m = {.data = payload,
		.len = f->length,
		.from = f->src,
		.fd = fd,
		.request = f->flags & FRAME_ANSWERED ? f->id : 0};

	sb_add(b->slot->bus_received, 1);
	b->n_in_burst++;
	if (f->type == MSG_PUBLISH)
		take_subject(&m);
	if (msg_lost_fd(f, fd))
		drop(b, f, &m, TINE_E_QUOTA);
	else if (f->flags & FRAME_LARGE)
		take_large(b, f, &m);
	else
		takers[f->type](b, f, &m);
	if (m.fd >= 0)
		close(m.fd);
}

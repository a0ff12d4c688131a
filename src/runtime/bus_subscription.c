/* The subscriptions of a process, by number: an index, and how often that was used before. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ipc/subject.h"
#include "runtime/bus_internal.h"
#include "runtime/inbox.h"

/* NULL: it has ended. */
struct tine_subscription *bus_find_subscription(const struct bus *b, uint32_t number)
{
	size_t index = SUBSCRIPTION_INDEX(number);
	struct tine_subscription *sub = index < b->subs_size ? b->subs[index] : NULL;

	return sub && sub->number == number ? sub : NULL;
}

static void forget_subscription(struct tine_subscription *sub)
{
	if (sub == sub->bus->peer_watch)
		sub->bus->peer_watch = NULL;
	sub->bus->subs[SUBSCRIPTION_INDEX(sub->number)] = NULL;
	sub->bus->n_subs--;
}

static void end_subscription(struct tine_subscription *sub, int status)
{
	forget_subscription(sub);
	if (sub->on_end)
		sub->on_end(status, sub->arg);
	free(sub);
}

/* The primary has ended one. */
void bus_on_ended(struct bus *b, const struct frame *f, const void *payload, int fd)
{
	const struct msg_unsubscribe *m = payload;
	struct tine_subscription *sub = bus_find_subscription(b, m->number);

	if (sub)
		end_subscription(sub, m->error);
}

/* Of all. */
void bus_end_subscriptions(struct bus *b, int status)
{
	for (size_t i = 0; i < b->subs_size; i++) {
		if (b->subs[i])
			end_subscription(b->subs[i], status);
	}
}

/* Says of all that nothing is to come for them any more. What is on its way still does. */
void bus_take_back(struct bus *b)
{
	for (size_t i = 0; i < b->subs_size; i++) {
		struct msg_unsubscribe m = {.number = b->subs[i] ? b->subs[i]->number : 0};
		struct iovec part = {&m, sizeof(m)};
		struct frame f = {.type = MSG_UNSUBSCRIBE, .length = sizeof(m)};

		if (b->subs[i])
			bus_put(b, &f, &part, 1, &bus_nothing);
	}
}

/* A free index. Returns -EDQUOT when there is none, or -ENOMEM. */
static ssize_t find_index(struct bus *b)
{
	size_t size = b->subs_size ? 2 * b->subs_size : 16;
	struct tine_subscription **subs;
	uint16_t *births;

	if (b->n_subs == b->subs_max)
		return TINE_E_QUOTA;
	while (b->n_subs < b->subs_size) { /* so there is one */
		size_t i = b->next_index++ % b->subs_size;

		if (!b->subs[i])
			return (ssize_t)i;
	}
	size = size < b->subs_max ? size : b->subs_max;
	subs = realloc(b->subs, size * sizeof(*subs));
	if (!subs)
		return -ENOMEM;
	b->subs = subs;
	births = realloc(b->births, size * sizeof(*births));
	if (!births)
		return -ENOMEM;
	b->births = births;
	memset(subs + b->subs_size, 0, (size - b->subs_size) * sizeof(*subs));
	memset(births + b->subs_size, 0, (size - b->subs_size) * sizeof(*births));
	b->subs_size = size;
	return (ssize_t)b->n_subs;
}

static int put_subscribe(struct bus *b, const struct tine_subscribe *s, uint32_t number)
{
	struct msg_subscribe m = {.number = number,
		.policy = (uint8_t)s->policy,
		.pattern = (uint8_t)strlen(s->pattern),
		.group = s->group ? (uint8_t)strlen(s->group) : 0};
	struct iovec parts[] = {{&m, sizeof(m)}, {(void *)(uintptr_t)s->pattern, m.pattern},
		{(void *)(uintptr_t)s->group, m.group}};
	struct frame f = {
		.type = MSG_SUBSCRIBE, .length = (uint32_t)(sizeof(m) + m.pattern + m.group)};

	return bus_put(b, &f, parts, 3, &bus_nothing);
}

/* The policy and the group are checked. Returns 0 or an error of tine/bus.h. */
int bus_subscribe(
	struct bus_port *p, const struct tine_subscribe *s, struct tine_subscription **ret)
{
	struct bus *b = p->bus;
	struct tine_subscription *sub;
	const char *why;
	ssize_t index;
	int r = subject_check(s->pattern, strlen(s->pattern), SUBJECT_PATTERN, &why);

	if (r < 0)
		return r;
	index = find_index(b);
	if (index < 0)
		return (int)index;
	sub = calloc(1, sizeof(*sub));
	if (!sub)
		return -ENOMEM;
	*sub = (struct tine_subscription){.bus = b,
		.number = (uint32_t)index | (uint32_t)b->births[index]++ << 16,
		.on_message = s->on_message,
		.on_end = s->on_end,
		.arg = s->arg,
		.in_group = s->group != NULL};
	r = put_subscribe(b, s, sub->number);
	if (r < 0) {
		free(sub);
		return r;
	}
	b->subs[index] = sub;
	b->n_subs++;
	*ret = sub;
	return 0;
}

void bus_unsubscribe(struct tine_subscription *sub)
{
	struct msg_unsubscribe m = {.number = sub->number};
	struct iovec part = {&m, sizeof(m)};
	struct frame f = {.type = MSG_UNSUBSCRIBE, .length = sizeof(m)};

	bus_put(sub->bus, &f, &part, 1, &bus_nothing);
	forget_subscription(sub);
	free(sub);
}

int bus_count(struct bus_port *p, const char *subject,
	void (*on_count)(int status, uint64_t n, void *arg), void *arg)
{
	struct bus *b = p->bus;
	struct inbox_request request = {
		.on_count = on_count, .arg = arg, .timeout_us = BUS_ANSWER_TIMEOUT_US};
	struct iovec part = {(void *)(uintptr_t)subject, strlen(subject)};
	struct frame f = {.type = MSG_COUNT, .length = (uint32_t)part.iov_len};
	const char *why;
	int r = subject_check(subject, part.iov_len, SUBJECT_PLAIN, &why);

	if (r == 0)
		r = bus_check_room(p, frame_space(f.length), 0, false);
	if (r == 0)
		r = inbox_add(b->inbox, &request, 0, &f.id);
	if (r < 0)
		return r;
	r = bus_put(b, &f, &part, 1, &bus_nothing);
	if (r < 0)
		inbox_forget(b->inbox, (uint32_t)f.id);
	return r;
}

/*
 * The side of NATS: a thread that does what the loop wants done there, in order, and a queue of what came. Runs in the bridge
 * process. Nothing here makes the loop wait: what takes time is done by the thread, and both queues are bounded.
 *
 * What is counted as lost: what libnats had no more room for while its server was away, or what the server would not
 * take (dropped_out), of that by itself what was too long for it (too_large); what came and found our queue full
 * (dropped_in). What was written shortly before a connection broke may have arrived or not (unconfirmed).
 */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "base/beside.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "bridge/bridge.h"
#include "bridge/nats.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/scoreboard.h"

#define DRIVER_FILE "tined-nats.so"
#define TEND_MS     1000
#define PUSH_MS \
	1 /* libnats would let it lie that long for more to come; what asks is written at once */
#define CONFIRM_MS      100             /* after this long we ask what has arrived */
#define CONFIRM_WAIT_MS 2000            /* for the answer */
#define OVERHEAD        256             /* bytes of memory that each queued thing costs, about */
#define REASON_US       (10 * US_PER_S) /* another reason for being away is told after that */

enum kind { OP_PUBLISH, OP_SUBSCRIBE, OP_UNSUBSCRIBE };

/* Something for the thread to do. */
struct op {
	STAILQ_ENTRY(op) link;
	enum kind kind;
	uint64_t key;
	size_t cost, len;
	const char *subject, *reply, *mark, *group;
	char *data;
	char bytes[];
};

STAILQ_HEAD(ops, op);

struct carrier {
	struct bridge *bridge;
	const struct nats_driver *driver;
	struct nats *nats;
	uint64_t machine;
	char inbox[64];
	uint64_t buffer;
	int wake_fd;
	pthread_t thread;

	_Atomic uint64_t n_published; /* written by the thread */
	/* the thread's own */
	uint64_t n_confirmed;
	uint64_t confirm_us; /* when to ask; 0: nothing to ask */
	uint64_t n_breaks_seen;

	pthread_mutex_t lock; /* everything below */
	pthread_cond_t work;
	struct ops ops;
	size_t ops_cost;
	bool was_full; /* the loop waits for room */
	struct arrival *arrivals, **last_arrival;
	size_t arrivals_cost;
	uint64_t n_breaks;         /* of the connection */
	uint64_t n_published_then; /* at the last of them */
	uint64_t trouble_us;       /* when there was something in the log about it */
	uint64_t away_us; /* the same of being away, and what; 0: not since it was connected */
	char away_text[BRIDGE_ERROR_MAX];
	bool connected;
	bool held; /* until we are the bridge: nothing goes out */
	bool finishing, finished;
};

/* --- what came: on a thread of libnats --- */

static void wake(struct carrier *c)
{
	const uint64_t one = 1;

	if (write(c->wake_fd, &one, sizeof(one)) < 0)
		return; /* it is awake */
}

static char *put_text(char **at, const char *text)
{
	char *start = *at;
	size_t n;

	if (!text)
		return NULL;
	n = strlen(text) + 1;
	memcpy(start, text, n);
	*at += n;
	return start;
}

static struct arrival *copy_arrival(const struct nats_incoming *m)
{
	size_t texts = strlen(m->subject) + 1 + (m->reply ? strlen(m->reply) + 1 : 0) +
		(m->mark ? strlen(m->mark) + 1 : 0);
	struct arrival *a = malloc(sizeof(*a) + texts + m->len);
	char *at = (char *)(a + 1);

	if (!a)
		return NULL;
	*a = (struct arrival){.key = m->key, .nobody = m->nobody, .len = m->len};
	a->subject = put_text(&at, m->subject);
	a->reply = put_text(&at, m->reply);
	a->mark = put_text(&at, m->mark);
	a->data = at;
	if (m->len > 0)
		memcpy(at, m->data, m->len);
	return a;
}

/* What has been here already: by another connection of this machine, or its group was served where it comes from. */
static bool is_known(const struct carrier *c, const struct nats_incoming *m)
{
	if (!m->mark || m->key == CARRIER_ANSWERS)
		return false;
	return m->group ? mark_has_group(m->mark, m->group) : mark_is_of(m->mark, c->machine);
}

static void on_incoming(const struct nats_incoming *m, void *arg)
{
	struct carrier *c = arg;
	struct sb_slot *slot = c->bridge->slot;
	struct arrival *a;
	bool was_empty;

	if (is_known(c, m))
		return;
	sb_add(slot->nats.in, 1);
	a = copy_arrival(m);
	pthread_mutex_lock(&c->lock);
	if (!a || c->arrivals_cost > c->buffer) {
		pthread_mutex_unlock(&c->lock);
		free(a);
		sb_add(slot->nats.dropped_in, 1);
		return;
	}
	was_empty = !c->arrivals;
	*c->last_arrival = a;
	c->last_arrival = &a->next;
	c->arrivals_cost += m->len + OVERHEAD;
	pthread_mutex_unlock(&c->lock);
	if (was_empty)
		wake(c);
}

/* The other counter is that of the thread of on_incoming. */
static void on_dropped(uint64_t n, void *arg)
{
	struct carrier *c = arg;

	sb_add(c->bridge->slot->nats.overrun, n);
}

static void on_connected(struct carrier *c, const char *text)
{
	struct sb_slot *slot = c->bridge->slot;

	if (sb_get(slot->nats_connects) > 0)
		sb_add(slot->nats.reconnects, 1);
	sb_add(slot->nats_connects, 1);
	sb_set(slot->nats_connected, 1);
	c->connected = true;
	c->away_us = 0;
	log_info("nats: connected to %s", text);
}

/* Attempts are many: said once, and again when the reason is another one. */
static bool may_say_away(struct carrier *c, const char *text)
{
	uint64_t now = now_us();

	if (c->finishing)
		return false;
	if (c->away_us > 0 && (now - c->away_us < REASON_US || strcmp(text, c->away_text) == 0))
		return false;
	c->away_us = now;
	snprintf(c->away_text, sizeof(c->away_text), "%s", text);
	return true;
}

static void on_unreachable(struct carrier *c, const char *text)
{
	if (may_say_away(c, text))
		log_warning("nats: %s; what is published waits, %" PRIu64
			    " bytes of it at most, for the next connection",
			text, c->buffer);
}

static void on_refused(struct carrier *c, const char *text)
{
	if (may_say_away(c, text))
		log_warning("nats: %s; trying again, and what is published stays on this machine",
			text);
}

static void on_away(struct carrier *c, const char *text)
{
	sb_set(c->bridge->slot->nats_connected, 0);
	c->n_breaks++;
	c->n_published_then = c->n_published;
	c->connected = false;
	on_unreachable(c, text);
}

/* Said once a second at most: a server may refuse every message. */
static bool may_say_trouble(struct carrier *c)
{
	uint64_t now = now_us();

	if (now - c->trouble_us < US_PER_S)
		return false;
	c->trouble_us = now;
	return true;
}

static void on_trouble(struct carrier *c, const char *text)
{
	if (may_say_trouble(c))
		log_warning("nats: %s; going on", text);
}

static void on_state(enum nats_state state, const char *text, void *arg)
{
	struct carrier *c = arg;

	static void (*const handlers[])(struct carrier * c, const char *text) = {
		[NATS_STATE_CONNECTED] = on_connected,
		[NATS_STATE_AWAY] = on_away,
		[NATS_STATE_UNREACHABLE] = on_unreachable,
		[NATS_STATE_REFUSED] = on_refused,
		[NATS_STATE_TROUBLE] = on_trouble,
	};

	pthread_mutex_lock(&c->lock);
	handlers[state](c, text);
	pthread_mutex_unlock(&c->lock);
}

/* --- the thread --- */

static void on_too_large(struct carrier *c, const struct op *op)
{
	bool say;

	sb_add(c->bridge->slot->nats.too_large, 1);
	pthread_mutex_lock(&c->lock);
	say = may_say_trouble(c);
	pthread_mutex_unlock(&c->lock);
	if (say)
		log_warning("nats: %s: a message of %zu bytes is, with what is written on it, "
			    "larger than the server "
			    "takes (max_payload); it stays on this machine",
			op->subject, op->len);
}

static void do_publish(struct carrier *c, const struct op *op)
{
	struct nats_outgoing m = {op->subject, op->reply, op->mark, op->data, op->len};
	int r = c->driver->publish(c->nats, &m);

	if (r == -EMSGSIZE)
		return on_too_large(c, op);
	if (r < 0) {
		sb_add(c->bridge->slot->nats.dropped_out, 1);
		return;
	}
	sb_add(c->bridge->slot->nats.out, 1);
	c->n_published++;
	if (c->confirm_us == 0)
		c->confirm_us = now_us() + CONFIRM_MS * US_PER_MS;
}

static void do_subscribe(struct carrier *c, const struct op *op)
{
	c->driver->subscribe(c->nats, op->key, op->subject, op->group);
}

static void do_unsubscribe(struct carrier *c, const struct op *op)
{
	c->driver->unsubscribe(c->nats, op->key);
}

static void (*const doers[])(struct carrier *c, const struct op *op) = {
	[OP_PUBLISH] = do_publish,
	[OP_SUBSCRIBE] = do_subscribe,
	[OP_UNSUBSCRIBE] = do_unsubscribe,
};

/* A connection broke: what was not confirmed before may have been lost with it. What waited in libnats was not. */
static void note_breaks(struct carrier *c)
{
	uint64_t n, then;

	pthread_mutex_lock(&c->lock);
	n = c->n_breaks;
	then = c->n_published_then;
	pthread_mutex_unlock(&c->lock);
	if (n == c->n_breaks_seen)
		return;
	c->n_breaks_seen = n;
	if (then <= c->n_confirmed)
		return;
	sb_add(c->bridge->slot->nats.unconfirmed, then - c->n_confirmed);
	c->n_confirmed = then;
}

/* Asks the server whether it has it all. */
static void confirm(struct carrier *c, int64_t timeout_ms)
{
	bool connected;

	note_breaks(c);
	pthread_mutex_lock(&c->lock);
	connected = c->connected;
	pthread_mutex_unlock(&c->lock);
	c->confirm_us = 0;
	if (c->n_confirmed == c->n_published)
		return;
	if (!connected || c->driver->flush(c->nats, timeout_ms) < 0)
		c->confirm_us = now_us() + CONFIRM_MS * US_PER_MS;
	else
		c->n_confirmed = c->n_published;
}

/* Waits for something to do. Returns it all, in order. */
static struct ops wait_for_work(struct carrier *c, uint64_t until_us, bool *ret_finishing)
{
	struct ops ops = STAILQ_HEAD_INITIALIZER(ops);
	struct timespec ts = {(time_t)(until_us / US_PER_S), (long)(until_us % US_PER_S * 1000)};
	bool was_full;

	pthread_mutex_lock(&c->lock);
	while ((c->held || STAILQ_EMPTY(&c->ops)) && !c->finishing) {
		if (pthread_cond_timedwait(&c->work, &c->lock, &ts) != 0)
			break;
	}
	was_full = c->was_full && !c->held;
	if (!c->held) {
		STAILQ_CONCAT(&ops, &c->ops);
		c->ops_cost = 0;
		c->was_full = false;
	}
	*ret_finishing = c->finishing && STAILQ_EMPTY(&ops);
	pthread_mutex_unlock(&c->lock);
	if (was_full)
		wake(c);
	return ops;
}

static void do_all(struct carrier *c, struct ops *ops)
{
	struct op *op;

	while ((op = STAILQ_FIRST(ops))) {
		STAILQ_REMOVE_HEAD(ops, link);
		doers[op->kind](c, op);
		free(op);
		if (c->confirm_us > 0 && now_us() >= c->confirm_us)
			confirm(c, CONFIRM_WAIT_MS);
	}
}

static void finish(struct carrier *c)
{
	c->driver->finish(c->nats, CONFIRM_WAIT_MS);
	pthread_mutex_lock(&c->lock);
	c->finished = true;
	pthread_mutex_unlock(&c->lock);
	wake(c);
}

static void *run(void *arg)
{
	struct carrier *c = arg;
	uint64_t tend_us = 0;
	bool finishing = false;

	while (!finishing) {
		uint64_t now = now_us(), until;
		struct ops ops;

		if (now >= tend_us) {
			c->driver->tend(c->nats);
			tend_us = now + TEND_MS * US_PER_MS;
		}
		if (c->confirm_us > 0 && now >= c->confirm_us)
			confirm(c, CONFIRM_WAIT_MS);
		until = c->confirm_us > 0 && c->confirm_us < tend_us ? c->confirm_us : tend_us;
		ops = wait_for_work(c, until, &finishing);
		do_all(c, &ops);
		confirm(c, PUSH_MS);
	}
	finish(c);
	return NULL;
}

/* --- from the loop --- */

/* Room for an op with so many bytes of texts and data. NULL: out of memory. */
static struct op *op_new(enum kind kind, uint64_t key, size_t bytes)
{
	struct op *op = malloc(sizeof(*op) + bytes);

	if (op)
		*op = (struct op){.kind = kind, .key = key, .cost = bytes + OVERHEAD};
	return op;
}

static int submit(struct carrier *c, struct op *op)
{
	bool was_empty;

	pthread_mutex_lock(&c->lock);
	was_empty = STAILQ_EMPTY(&c->ops);
	STAILQ_INSERT_TAIL(&c->ops, op, link);
	c->ops_cost += op->cost;
	if (was_empty)
		pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

/* Returns 0 or -ENOMEM. */
int carrier_publish(struct carrier *c, const struct departure *d)
{
	size_t reply = d->reply ? strlen(d->reply) + 1 : 0, mark = strlen(d->mark) + 1;
	struct op *op = op_new(OP_PUBLISH, 0, d->subject_len + 1 + reply + mark + d->len);
	char *at;

	if (!op)
		return -ENOMEM;
	at = op->bytes;
	op->subject = at;
	memcpy(at, d->subject, d->subject_len);
	at[d->subject_len] = '\0';
	at += d->subject_len + 1;
	op->reply = put_text(&at, d->reply);
	op->mark = put_text(&at, d->mark);
	op->data = at;
	op->len = d->len;
	if (d->len > 0)
		memcpy(at, d->data, d->len);
	return submit(c, op);
}

/* group: NULL for none. Returns 0 or -ENOMEM. */
int carrier_subscribe(struct carrier *c, uint64_t key, const char *subject, const char *group)
{
	struct op *op =
		op_new(OP_SUBSCRIBE, key, strlen(subject) + 1 + (group ? strlen(group) + 1 : 0));
	char *at;

	if (!op)
		return -ENOMEM;
	at = op->bytes;
	op->subject = put_text(&at, subject);
	op->group = put_text(&at, group);
	return submit(c, op);
}

void carrier_unsubscribe(struct carrier *c, uint64_t key)
{
	struct op *op = op_new(OP_UNSUBSCRIBE, key, 0);

	if (op)
		submit(c, op);
}

/* If so, the loop is woken when there is room again. */
bool carrier_is_full(struct carrier *c)
{
	bool full;

	pthread_mutex_lock(&c->lock);
	full = c->was_full = c->ops_cost > c->buffer;
	pthread_mutex_unlock(&c->lock);
	return full;
}

/* All that came, in order; to be freed one by one. */
struct arrival *carrier_take(struct carrier *c)
{
	struct arrival *a;

	pthread_mutex_lock(&c->lock);
	a = c->arrivals;
	c->arrivals = NULL;
	c->last_arrival = &c->arrivals;
	c->arrivals_cost = 0;
	pthread_mutex_unlock(&c->lock);
	return a;
}

/* We are the bridge: what waits goes out. */
void carrier_release(struct carrier *c)
{
	pthread_mutex_lock(&c->lock);
	c->held = false;
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
}

/* Nothing more goes out after what waits now. */
void carrier_finish(struct carrier *c)
{
	pthread_mutex_lock(&c->lock);
	c->finishing = true;
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
}

bool carrier_is_finished(struct carrier *c)
{
	bool finished;

	pthread_mutex_lock(&c->lock);
	finished = c->finished;
	pthread_mutex_unlock(&c->lock);
	return finished;
}

const char *carrier_inbox(const struct carrier *c)
{
	return c->inbox;
}

uint64_t carrier_machine(const struct carrier *c)
{
	return c->machine;
}

/* --- set-up --- */

static void *load(char error[BRIDGE_ERROR_MAX])
{
	char path[PATH_MAX];
	int r = beside_path(DRIVER_FILE, path, sizeof(path));
	void *so = r < 0 ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (r < 0)
		snprintf(error, BRIDGE_ERROR_MAX,
			"bus.nats: cannot load the library for NATS: %.256s: %s", path,
			strerror(-r));
	else if (!so)
		snprintf(error, BRIDGE_ERROR_MAX, "bus.nats: cannot load the library for NATS: %s",
			dlerror());
	return so;
}

static int load_driver(struct carrier *c, char error[BRIDGE_ERROR_MAX])
{
	void *so = load(error);

	if (!so)
		return -ENOENT;
	c->driver = dlsym(so, NATS_DRIVER_SYMBOL);
	if (c->driver && c->driver->abi == NATS_DRIVER_ABI)
		return 0;
	snprintf(error, BRIDGE_ERROR_MAX, "bus.nats: %s is of another version", DRIVER_FILE);
	return -ENOEXEC;
}

static int open_driver(struct carrier *c, char error[BRIDGE_ERROR_MAX])
{
	const struct conf_bus *conf = &c->bridge->child->config->bus;
	static char name[64], why[BRIDGE_ERROR_MAX];
	struct nats_options o = {.urls = conf->nats,
		.credentials = conf->nats_credentials,
		.tls_ca = conf->nats_tls_ca,
		.tls_cert = conf->nats_tls_cert,
		.tls_key = conf->nats_tls_key,
		.name = name,
		.buffer = conf->nats_buffer,
		.on_message = on_incoming,
		.on_dropped = on_dropped,
		.on_state = on_state,
		.arg = c};
	int r;

	snprintf(name, sizeof(name), "tined %016" PRIx64, c->machine);
	r = c->driver->open(&o, &c->nats, why, sizeof(why));
	if (r < 0)
		snprintf(error, BRIDGE_ERROR_MAX, "%s", why);
	return r;
}

/* Loads the library and has it read its files. Returns 0, or -errno and what is wrong. */
int carrier_new(struct bridge *b, char error[BRIDGE_ERROR_MAX])
{
	struct carrier *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;
	int r;

	if (!c)
		return -ENOMEM;
	b->carrier = c;
	c->bridge = b;
	c->machine = b->child->machine;
	c->buffer = b->child->config->bus.nats_buffer;
	snprintf(c->inbox, sizeof(c->inbox), "_INBOX.tined.%016" PRIx64 ".%x", c->machine,
		b->child->address);
	STAILQ_INIT(&c->ops);
	c->last_arrival = &c->arrivals;
	c->held = b->child->on_trial;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->work, &attr);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake_fd < 0)
		return -errno;
	r = load_driver(c, error);
	return r < 0 ? r : open_driver(c, error);
}

/* Begins to connect. *ret_wake_fd becomes readable when something came, or when there is room again. */
int carrier_start(struct carrier *c, int *ret_wake_fd)
{
	*ret_wake_fd = c->wake_fd;
	return -pthread_create(&c->thread, NULL, run, c);
}

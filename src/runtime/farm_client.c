/*
 * The client of the farms. Runs in processes that run modules. A task has a place in a table from the moment it is submitted until
 * its TASK_DONE comes, or the lane is closed; its number is the place, and how often that was used before.
 */
#include "runtime/farm_client.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "ipc/blob.h"
#include "ipc/msg.h"
#include "runtime/bus.h"
#include "shared/config.h"

#define PLACES_FIRST 64
#define PLACES_MAX   (1u << 20) /* tasks of one process at a time: tine/farm.h says so */
#define NO_PLACE     UINT32_MAX
#define TEXT_MAX     1024 /* bytes of a text that says why a task failed */

struct place {
	tine_farm_done_fn on_done;
	void *arg;
	uint32_t birth; /* how often the place was used; of its task's number the upper half */
	uint32_t next;  /* free one; NO_PLACE: none */
	bool taken, cancelled;
};

struct farm_port {
	SLIST_ENTRY(farm_port) link;
	struct farm_client *client;
	struct bus_port *bus;
};

struct farm_client {
	struct bus *bus;
	const struct config *config;
	SLIST_HEAD(, farm_port) ports;
	struct place *places;
	uint32_t n_places, free;
};

/* --- places --- */

static int grow(struct farm_client *c)
{
	uint32_t n = c->n_places ? 2 * c->n_places : PLACES_FIRST;
	struct place *grown;

	if (c->n_places == PLACES_MAX)
		return TINE_E_QUOTA;
	grown = realloc(c->places, n * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	for (uint32_t i = c->n_places; i < n; i++)
		grown[i] = (struct place){.birth = 1, .next = i + 1 < n ? i + 1 : NO_PLACE};
	c->places = grown;
	c->free = c->n_places;
	c->n_places = n;
	return 0;
}

static tine_task_id number(const struct farm_client *c, uint32_t i)
{
	return (uint64_t)c->places[i].birth << 32 | i;
}

static struct place *find(const struct farm_client *c, tine_task_id id)
{
	uint32_t i = (uint32_t)id;
	struct place *p = i < c->n_places ? &c->places[i] : NULL;

	return p && p->taken && p->birth == id >> 32 ? p : NULL;
}

static void vacate(struct farm_client *c, struct place *p)
{
	p->taken = false;
	p->birth += p->birth == UINT32_MAX ? 2 : 1;
	p->next = c->free;
	c->free = (uint32_t)(p - c->places);
}

/* --- what became of a task --- */

/* For errors that come without words. */
static const char *usual_text(int status)
{
	static const struct {
		int status;
		const char *text;
	} texts[] = {
		{TINE_E_FULL, "the farm's queue is full"},
		{TINE_E_TIMEOUT, "the task ran longer than it may"},
		{TINE_E_CANCELED, "the task was cancelled"},
		{TINE_E_CRASHED, "the task's process died"},
		{TINE_E_TOO_LARGE, "the task's argument or its result is too large"},
		{TINE_E_NOBODY, "there is no such function"},
		{TINE_E_QUOTA, "too many descriptors are in use"},
		{TINE_E_CLOSED, "the primary is gone"},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		if (texts[i].status == status)
			return texts[i].text;
	}
	return strerror(-status);
}

static void tell(struct farm_client *c, struct place *p, const struct tine_farm_result *result)
{
	tine_farm_done_fn on_done = p->on_done;
	void *arg = p->arg;

	vacate(c, p);
	if (on_done)
		on_done(result, arg);
}

static void tell_failed(struct farm_client *c, struct place *p, struct tine_farm_result *result,
	const char *text, size_t len)
{
	char copy[TEXT_MAX + 1];

	len = len < TEXT_MAX ? len : TEXT_MAX;
	memcpy(copy, text, len);
	copy[len] = '\0';
	result->data = NULL;
	result->len = 0;
	result->error = *copy ? copy : usual_text(result->status);
	tell(c, p, result);
}

/* The result is in a blob, which fd is; -1: it was lost. */
static void tell_large(
	struct farm_client *c, struct place *p, struct tine_farm_result *result, int fd)
{
	struct tine_message m = {.data = result->data, .len = result->len, .fd = fd};

	result->status = fd < 0 ? TINE_E_QUOTA : bus_map_large(&m);
	if (result->status < 0) {
		tell_failed(c, p, result, "", 0);
		return;
	}
	result->data = m.data;
	result->len = m.len;
	tell(c, p, result);
	blob_unmap(m.data, m.len);
}

static void on_done(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct farm_client *c = arg;
	const struct msg_task_done *head = payload;
	struct place *p = find(c, f->id);

	if (p && f->length >= sizeof(*head)) {
		struct tine_farm_result result = {.size = sizeof(result),
			.status = head->status,
			.tries = head->tries,
			.data = head + 1,
			.len = f->length - sizeof(*head),
			.error = ""};

		if (head->status != 0)
			tell_failed(c, p, &result, result.data, result.len);
		else if (f->flags & FRAME_LARGE)
			tell_large(c, p, &result, fd);
		else
			tell(c, p, &result);
	}
	if (fd >= 0)
		close(fd);
}

/* Nothing will be heard of any. What is called may try to submit more, which is refused. */
static void on_end(void *arg)
{
	struct farm_client *c = arg;

	for (uint32_t i = 0; i < c->n_places; i++) {
		struct tine_farm_result result = {.size = sizeof(result), .status = TINE_E_CLOSED};

		if (c->places[i].taken)
			tell_failed(c, &c->places[i], &result, "", 0);
	}
}

/* --- submitting --- */

/* The task's shape is checked. Returns 0 or an error of tine/farm.h. */
int farm_port_submit(struct farm_port *port, const struct tine_farm_task *t, tine_task_id *ret)
{
	struct farm_client *c = port->client;
	const struct conf_farm *farm = config_farm(c->config, t->farm);
	uint32_t i;
	int r = 0;

	if (!farm)
		return TINE_E_NOBODY;
	if (c->free == NO_PLACE)
		r = grow(c);
	if (r < 0)
		return r;
	i = c->free;
	r = bus_submit(port->bus, (uint32_t)(farm - c->config->farms), number(c, i), t);
	if (r < 0)
		return r;
	c->free = c->places[i].next;
	c->places[i].taken = true;
	c->places[i].cancelled = false;
	c->places[i].on_done = t->on_done;
	c->places[i].arg = t->arg;
	if (ret)
		*ret = number(c, i);
	return 0;
}

/* Asks for it once, however often it is called. Returns 0, TINE_E_GONE, or -errno. */
int farm_port_cancel(struct farm_port *port, tine_task_id id)
{
	struct place *p = find(port->client, id);
	int r = 0;

	if (!p)
		return TINE_E_GONE;
	if (!p->cancelled)
		r = bus_cancel(port->client->bus, id);
	if (r == 0)
		p->cancelled = true;
	return r;
}

void farm_port_watch(struct farm_port *port, void (*on_writable)(void *arg), void *arg)
{
	bus_port_watch(port->bus, on_writable, arg);
}

/* --- set-up --- */

/* The bus and the configuration must outlive it. Returns 0 or -ENOMEM. */
int farm_client_new(struct bus *b, const struct config *config, struct farm_client **ret)
{
	struct farm_client *c = calloc(1, sizeof(*c));
	struct bus_tasks tasks = {.on_done = on_done, .on_end = on_end, .arg = c};

	if (!c)
		return -ENOMEM;
	c->bus = b;
	c->config = config;
	c->free = NO_PLACE;
	SLIST_INIT(&c->ports);
	bus_set_tasks(b, &tasks);
	*ret = c;
	return 0;
}

/* What a module has of it; lives as long as the client. Returns 0 or -ENOMEM. */
int farm_port_new(struct farm_client *c, struct farm_port **ret)
{
	struct farm_port *p = calloc(1, sizeof(*p));
	int r = p ? bus_port_new(c->bus, "", &p->bus) : -ENOMEM;

	if (r < 0) {
		free(p);
		return r;
	}
	p->client = c;
	SLIST_INSERT_HEAD(&c->ports, p, link);
	*ret = p;
	return 0;
}

/* Nothing of it is called from here on. */
struct farm_client *farm_client_free(struct farm_client *c)
{
	if (!c)
		return NULL;
	bus_set_tasks(c->bus, NULL);
	while (!SLIST_EMPTY(&c->ports)) {
		struct farm_port *p = SLIST_FIRST(&c->ports);

		SLIST_REMOVE_HEAD(&c->ports, link);
		bus_port_watch(p->bus, NULL, NULL);
		free(p);
	}
	free(c->places);
	free(c);
	return NULL;
}

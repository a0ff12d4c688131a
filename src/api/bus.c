/*
 * tine/bus.h: checks what modules hand in and calls down. Runs in the worker, on the loop's thread.
 */
#include <string.h>

#include <tine/bus.h>

#include "base/sized.h"
#include "ipc/msg.h"
#include "runtime/bus.h"
#include "runtime/module.h"

_Static_assert(TINE_PEER_ALL == ADDRESS_ALL && TINE_PEER_OTHERS == ADDRESS_OTHERS &&
		TINE_PEER_ANY == ADDRESS_ANY,
	"addresses travel as modules give them");
_Static_assert((int)TINE_BUS_REFUSE == (int)POLICY_REFUSE &&
		(int)TINE_BUS_DROP_OLDEST == (int)POLICY_DROP_OLDEST &&
		(int)TINE_BUS_DROP_NEWEST == (int)POLICY_DROP_NEWEST &&
		(int)TINE_BUS_DISCONNECT == (int)POLICY_DISCONNECT,
	"policies travel as modules give them");
_Static_assert(
	sizeof(struct tine_peer_info) == sizeof(struct msg_peer), "it is published as it is");

static bool has_bus(const struct tine_worker *worker)
{
	return worker && worker->bus;
}

tine_peer tine_bus_self(const struct tine_worker *worker)
{
	return worker ? bus_self(worker->bus_client) : 0;
}

size_t tine_bus_peers(const struct tine_worker *worker, struct tine_peer_info *ret, size_t max)
{
	return worker ? bus_peers(worker->bus_client, ret, max) : 0;
}

int tine_bus_open(struct tine_worker *worker, const struct tine_bus_service *service)
{
	struct tine_bus_service s;
	int r = has_bus(worker) ? SIZED_TAKE(&s, service, arg) : -EINVAL;

	return r < 0 ? r : bus_port_open(worker->bus, &s);
}

int tine_bus_post(struct tine_worker *worker, const struct tine_send *send)
{
	struct tine_send s;
	int r = has_bus(worker) ? SIZED_TAKE(&s, send, arg) : -EINVAL;

	if (r < 0)
		return r;
	if ((!s.subject && s.to == 0) || (!s.data && s.len > 0) || (s.fd && *s.fd < 0))
		return -EINVAL;
	return bus_send(worker->bus, &s);
}

int tine_bus_send(struct tine_worker *worker, tine_peer to, const void *data, size_t len)
{
	struct tine_send s = {.to = to, .data = data, .len = len};

	if (!has_bus(worker) || to == 0 || (!data && len > 0))
		return -EINVAL;
	return bus_send(worker->bus, &s);
}

int tine_bus_publish(struct tine_worker *worker, const char *subject, const void *data, size_t len)
{
	struct tine_send s = {.subject = subject, .data = data, .len = len};

	if (!has_bus(worker) || !subject || (!data && len > 0))
		return -EINVAL;
	return bus_send(worker->bus, &s);
}

int tine_bus_answer(struct tine_worker *worker, tine_peer to, uint64_t request, int status,
	const void *data, size_t len)
{
	if (!has_bus(worker) || to == 0 || to >= TINE_PEER_ANY || status > 0 || (!data && len > 0))
		return -EINVAL;
	return bus_answer(worker->bus, to, request, status, data, len);
}

static bool is_group_sound(const char *group)
{
	size_t n = group ? strlen(group) : 0;

	return !group || (n > 0 && n <= SUBJECT_GROUP_MAX);
}

int tine_bus_subscribe(
	struct tine_worker *worker, const struct tine_subscribe *s, struct tine_subscription **ret)
{
	struct tine_subscription *nobody_asks;
	struct tine_subscribe copy;
	int r = has_bus(worker) ? SIZED_TAKE(&copy, s, arg) : -EINVAL;

	if (r < 0)
		return r;
	if (!copy.pattern || !copy.on_message || (unsigned)copy.policy >= POLICIES ||
		!is_group_sound(copy.group))
		return -EINVAL;
	return bus_subscribe(worker->bus, &copy, ret ? ret : &nobody_asks);
}

void tine_bus_unsubscribe(struct tine_subscription *subscription)
{
	if (subscription)
		bus_unsubscribe(subscription);
}

int tine_bus_count(struct tine_worker *worker, const char *subject,
	void (*on_count)(int status, uint64_t n, void *arg), void *arg)
{
	if (!has_bus(worker) || !subject || !on_count)
		return -EINVAL;
	return bus_count(worker->bus, subject, on_count, arg);
}

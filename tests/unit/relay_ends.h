/*
 * For tests of the relay over real socketpairs: the processes at the other ends, played by the test. Define PEERS, how many there are, and
 * BODY_MAX, how much of a frame's payload is looked at, before it is included.
 */
#pragma once

#include <check.h>
#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/lane.h"
#include "primary/relay.h"
#include "shared/scoreboard.h"

static struct event_base *base;
static struct scoreboard sb;
static struct relay *relay;

static struct end {
	int fd;
	uint32_t address;
	struct relay_peer *peer;
	const char *offence;
} ends[PEERS];

static void on_offence(const char *why, void *arg)
{
	struct end *e = arg;

	e->offence = why;
}

static void detach(unsigned i)
{
	ends[i].peer = relay_detach(ends[i].peer);
	close(ends[i].fd);
}

static void tear_down(void)
{
	for (unsigned i = 0; i < PEERS; i++) {
		if (ends[i].peer)
			detach(i);
	}
	relay = relay_free(relay);
	event_base_free(base);
}

static void turn(void)
{
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

/* --- what a process gets --- */

struct got {
	struct frame f;
	char body[BODY_MAX];
};

/* The next frame for a process; false: there is none. */
static bool next(unsigned to, struct got *ret)
{
	char rest[65536 + 1024];
	size_t n;

	turn();
	if (recv(ends[to].fd, &ret->f, sizeof(ret->f), MSG_DONTWAIT) != sizeof(ret->f))
		return false;
	n = frame_space(ret->f.length) - sizeof(ret->f);
	for (size_t at = 0; at < n;) {
		ssize_t r = recv(ends[to].fd, rest + at, n - at, MSG_DONTWAIT);

		if (r > 0)
			at += (size_t)r;
		else
			turn();
	}
	memset(ret->body, 0, sizeof(ret->body));
	memcpy(ret->body, rest, ret->f.length < BODY_MAX ? ret->f.length : BODY_MAX - 1);
	return true;
}

static struct got take(unsigned to, unsigned type)
{
	struct got g;

	ck_assert(next(to, &g));
	ck_assert_str_eq(msg_name(g.f.type), msg_name(type));
	return g;
}

static void take_nothing(unsigned to)
{
	struct got g;

	if (next(to, &g))
		ck_abort_msg("%s for %u", msg_name(g.f.type), to);
}

/*
 * Set-up, the loop, drain. Runs in the bridge process: one of each generation, if [bus] nats is set. It is ready as soon as it
 * could read what it needs; that no server answers is no reason not to serve.
 */
#include "bridge/bridge.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/turn.h"
#include "runtime/lifeline.h"
#include "shared/child.h"
#include "shared/config.h"
#include "shared/scoreboard.h"

static void look_whether_done(struct bridge *b)
{
	if (b->draining && b->ended && carrier_is_finished(b->carrier) && local_is_idle(b->local))
		b->done = true;
}

static void on_arrived(evutil_socket_t fd, short what, void *arg)
{
	struct bridge *b = arg;
	uint64_t n;

	turn_mark();
	if (read(fd, &n, sizeof(n)) > 0)
		local_go_on(b->local);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct bridge *b = arg;

	b->done = true;
}

/* Nothing comes to us any more: what we have goes out, and what is on its way to us comes in. */
void bridge_end(struct bridge *b)
{
	b->ended = true;
	carrier_finish(b->carrier);
}

/* Others may publish until they have ended themselves, or until another process is there to take it: LAST says so. */
static void on_drain(uint64_t timeout_us, void *arg)
{
	struct bridge *b = arg;
	struct timeval tv = timeval_from_us(timeout_us);

	b->draining = true;
	if (b->held)
		b->done = true;
	event_add(&b->ev_deadline, &tv);
}

static void on_quit(void *arg)
{
	on_deadline(-1, 0, arg);
}

static void on_serve(const struct frame *f, const void *payload, int fd, void *arg)
{
	struct bridge *b = arg;

	b->held = false;
	carrier_release(b->carrier);
}

static const lane_message_fn handlers[MSG_TYPE_END] = {
	[MSG_SERVE] = on_serve,
};

static int set_up(struct bridge *b, char error[BRIDGE_ERROR_MAX])
{
	int fd, r = carrier_new(b, error);

	if (r == 0)
		r = local_new(b, &b->local);
	if (r == 0)
		r = carrier_start(b->carrier, &fd);
	if (r == 0) {
		event_assign(&b->ev_arrived, b->base, fd, EV_READ | EV_PERSIST, on_arrived, b);
		r = event_add(&b->ev_arrived, NULL) < 0 ? -ENOMEM : 0;
	}
	if (r < 0 && !*error)
		snprintf(error, BRIDGE_ERROR_MAX, "bridge: cannot start: %s", strerror(-r));
	return r;
}

static void run(struct bridge *b)
{
	while (!b->done) {
		if (event_base_loop(b->base, EVLOOP_ONCE) < 0) {
			log_error("event loop: %s; exiting", strerror(errno));
			b->exit_status = EXIT_FAILURE;
			return;
		}
		look_whether_done(b);
		scoreboard_end_turn(b->slot);
	}
}

/* Runs the bridge to its end. Returns the exit status. */
int bridge_main(const struct child *c)
{
	static struct bridge b;
	struct lifeline_options o = {.child = c,
		.on_drain = on_drain,
		.on_quit = on_quit,
		.handlers = handlers,
		.arg = &b};
	char error[BRIDGE_ERROR_MAX] = "";

	b.child = c;
	b.slot = &c->scoreboard->slots[c->slot];
	b.held = c->on_trial;
	if (loop_new(&b.base) < 0)
		return EXIT_FAILURE;
	o.base = b.base;
	evtimer_assign(&b.ev_deadline, b.base, on_deadline, &b);
	if (lifeline_new(&o, &b.lifeline) < 0) {
		log_error("cannot set up the lane to the primary; exiting");
		return EXIT_FAILURE;
	}
	if (set_up(&b, error) < 0) {
		lifeline_say_goodbye(b.lifeline, MSG_FAILED, error);
		return EXIT_FAILURE;
	}
	lifeline_say_ready(b.lifeline);
	run(&b);
	lifeline_say_goodbye(b.lifeline, MSG_DRAINED, NULL);
	return b.exit_status;
}

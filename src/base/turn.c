/*
 * How long the turns of this process's loop work. Any process.
 *
 * libevent 2.1 does not tell when it has stopped waiting, and reading the clock in every callback would cost more than the
 * answer is worth; so callbacks of ours mark the turn (turn.h), for one reading of the clock. Turns in which
 * none of them ran, because a module has events of its own on the loop, are measured by the CPU time that
 * the thread has used in them, as are those that follow soon: it takes a system call for each turn, but only while
 * there are such events. Of a turn of that kind the time in which such a callback sleeps is not known, and of the first
 * one in a long time nothing is.
 */
#include "base/turn.h"

#include "base/mailbox.h"

#define WATCH_TURNS 64 /* after one that was not marked */

_Thread_local struct turn turn;

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* The first callback of the turn. */
void turn_begin(void)
{
	turn.begun_us = now_us();
	if (turn.mailbox)
		mailbox_stay_awake(turn.mailbox);
}

/* At the end of a turn. Returns for how many microseconds it has worked: so long an event may have waited for another. */
uint64_t turn_end(uint64_t now)
{
	uint64_t us = turn.begun_us != 0 ? now - turn.begun_us : 0, cpu;

	if (turn.begun_us != 0 && turn.watch == 0) {
		turn.begun_us = 0;
		return us;
	}
	cpu = clock_us(CLOCK_THREAD_CPUTIME_ID);
	if (turn.watch > 0)
		us = max(us, cpu - turn.cpu_us);
	turn.watch = turn.begun_us == 0 ? WATCH_TURNS : turn.watch - 1;
	turn.cpu_us = cpu;
	turn.begun_us = 0;
	return us;
}

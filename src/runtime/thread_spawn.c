/*
 * Starting a thread: its signals, its stack, its name. Any process that has some.
 */
#include "runtime/thread_spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#define NAME_MAX_LEN 16 /* with its end: what the kernel keeps */

/* Signals are the loop's business, but for those that say that this very thread went wrong. */
static void block_signals(sigset_t *ret_old)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(&set, own[i]);
	pthread_sigmask(SIG_SETMASK, &set, ret_old);
}

/* stack_size: bytes; name: cut to what the kernel keeps. Returns 0 or a negative errno, with nothing started. */
int thread_spawn(
	pthread_t *ret, const char *name, size_t stack_size, void *(*fn)(void *arg), void *arg)
{
	char cut[NAME_MAX_LEN];
	pthread_attr_t attr;
	sigset_t old;
	int r = pthread_attr_init(&attr);

	if (r != 0)
		return -r;
	r = pthread_attr_setstacksize(&attr, stack_size);
	if (r == 0) {
		block_signals(&old);
		r = pthread_create(ret, &attr, fn, arg);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	pthread_attr_destroy(&attr);
	if (r != 0)
		return -r;
	snprintf(cut, sizeof(cut), "%s", name);
	pthread_setname_np(*ret, cut);
	return 0;
}

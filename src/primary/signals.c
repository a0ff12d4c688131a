/*
 * One table: signal -> action. Runs in the primary. Signals are blocked and read from a signalfd(2), so no code
 * here ever runs inside a signal handler.
 */
#include "primary/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "primary/primary.h"
#include "primary/reload.h"
#include "primary/scale.h"
#include "primary/strays.h"
#include "primary/upgrade.h"

static void stop(struct primary *p)
{
	primary_stop(p, EXIT_SUCCESS);
}

static void reload(struct primary *p)
{
	rollout_reload(p, NULL);
}

static void scale_up(struct primary *p)
{
	char error[256];

	scale_by(p, 1, NULL, error, sizeof(error));
}

static void scale_down(struct primary *p)
{
	char error[256];

	scale_by(p, -1, NULL, error, sizeof(error));
}

static void upgrade(struct primary *p)
{
	char error[512];

	if (upgrade_begin(p, NULL, error, sizeof(error)) < 0)
		log_error("upgrade: %s", error);
}

static const struct {
	int signal;
	void (*act)(struct primary *p);
} actions[] = {
	{SIGTERM, stop},
	{SIGQUIT, stop},
	{SIGINT, stop},
	{SIGHUP, reload},
	{SIGUSR1, primary_reopen_logs},
	{SIGUSR2, upgrade},
	{SIGTTIN, scale_up},
	{SIGTTOU, scale_down},
	{SIGCHLD, strays_look},
};

#define N_ACTIONS (sizeof(actions) / sizeof(*actions))

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct primary *p = arg;
	struct signalfd_siginfo si;

	while (read(fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		if (si.ssi_signo != SIGCHLD) /* nobody's wish */
			log_info("received SIG%s from pid %u", sigabbrev_np((int)si.ssi_signo),
				si.ssi_pid);
		for (size_t i = 0; i < N_ACTIONS; i++) {
			if (actions[i].signal == (int)si.ssi_signo)
				actions[i].act(p);
		}
	}
}

/* From here on signals come through the loop. Returns 0 or -errno. */
int signals_open(struct primary *p)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < N_ACTIONS; i++)
		sigaddset(&set, actions[i].signal);
	signal(SIGCHLD,
		SIG_DFL); /* whoever started us may have set it to be ignored: then nothing is left to reap */
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return -errno;
	p->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (p->signal_fd < 0)
		return -errno;
	event_assign(&p->ev_signal, p->base, p->signal_fd, EV_READ | EV_PERSIST, on_signal, p);
	return event_add(&p->ev_signal, NULL) < 0 ? -ENOMEM : 0;
}

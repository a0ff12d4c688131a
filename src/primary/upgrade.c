/*
 * Upgrading the binary. Runs in the primary that is to be replaced, between fork(2) and execve(2) in its child, and in the
 * primary that replaces it.
 */
#include "primary/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "primary/events.h"
#include "primary/listener.h"
#include "primary/primary.h"
#include "primary/reload.h"
#include "shared/notify.h"

#define VARIABLE    "TINED_UPGRADE" /* number of the descriptor to the old one, its last generation */
#define WORD_MAX    1024
#define SOCKETS_MAX 2048
#define NAMES_MAX   (SOCKETS_MAX * 64)
#define MARGIN_US   (10 * US_PER_S) /* beyond start_timeout and probation */
#define KILL_US     (2 * US_PER_S)

/* The old one's side. */
struct upgrade {
	struct primary *primary;
	pid_t pid;
	int pidfd, fd;
	bool failed; /* told to go; its end is awaited */
	bool handed; /* "go" was said */
	char why[WORD_MAX];
	struct event ev_exit, ev_word, ev_deadline;
};

/* --- the old one: the child that becomes the new one --- */

struct package {
	int fds[SOCKETS_MAX + 1]; /* the sockets, and at the end our socketpair's other end */
	size_t n;
	char names[NAMES_MAX];
};

/* Names with a colon between them; those that do not fit any more are not passed on. */
static void pack(const struct primary *p, int fd, struct package *ret)
{
	const char *names[SOCKETS_MAX];
	size_t n = listener_pool_export(p->pool, ret->fds, names, SOCKETS_MAX), used = 0;

	ret->names[0] = '\0';
	for (ret->n = 0; ret->n < n; ret->n++) {
		size_t len = strlen(names[ret->n]) + 1;

		if (used + len + 1 > sizeof(ret->names))
			break;
		used += (size_t)snprintf(ret->names + used, sizeof(ret->names) - used, "%s%s",
			ret->n > 0 ? ":" : "", names[ret->n]);
	}
	ret->fds[ret->n] = fd;
}

/* Moves the descriptors to 3 and up, as sd_listen_fds(3) wants them, and closes all others. Returns 0 or -errno. */
static int arrange(struct package *k)
{
	const int first = SD_LISTEN_FDS_START, end = first + (int)k->n + 1;

	for (size_t i = 0; i <= k->n;
		i++) { /* out of the way first: their places may be each other's */
		k->fds[i] = fcntl(k->fds[i], F_DUPFD_CLOEXEC, end);
		if (k->fds[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i <= k->n; i++) {
		if (dup2(k->fds[i], first + (int)i) < 0)
			return -errno;
	}
	return close_range((unsigned)end, ~0u, 0) < 0 ? -errno : 0;
}

static int set_number(const char *name, long long n)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", n);
	return setenv(name, text, 1);
}

/* Only in the child. */
static void become_new(const struct primary *p, struct package *k)
{
	const int report_fd = SD_LISTEN_FDS_START + (int)k->n;
	char text[WORD_MAX];
	sigset_t none;
	int r = arrange(k);

	snprintf(text, sizeof(text), "%d %" PRIu64, report_fd, p->last_generation);
	if (r == 0 &&
		(set_number("LISTEN_FDS", (long long)k->n) < 0 ||
			set_number("LISTEN_PID", getpid()) < 0 ||
			setenv("LISTEN_FDNAMES", k->names, 1) < 0 || unsetenv("WATCHDOG_PID") < 0 ||
			setenv(VARIABLE, text, 1) < 0))
		r = -errno;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (r == 0) {
		execv(p->binary, p->arguments);
		r = -errno;
	}
	snprintf(text, sizeof(text), "failed: %s: %s", p->binary, strerror(-r));
	if (write(report_fd, text, strlen(text)) < 0)
		log_error("upgrade: %s", text);
	_exit(EXIT_FAILURE);
}

/* --- the old one: waiting for it --- */

static struct upgrade *upgrade_free(struct upgrade *u)
{
	if (!u)
		return NULL;
	event_del(&u->ev_exit);
	event_del(&u->ev_word);
	event_del(&u->ev_deadline);
	close(u->fd);
	close(u->pidfd);
	free(u);
	return NULL;
}

static void on_catch_up(evutil_socket_t fd, short what, void *arg)
{
	rollout_reload(arg, NULL);
}

/* It is gone, and this process serves on. */
static void fail(struct upgrade *u)
{
	const struct timeval at_once = {0, 0};
	struct primary *p = u->primary;
	char why[WORD_MAX];

	snprintf(why, sizeof(why), "%s", u->why);
	p->upgrade = upgrade_free(u);
	sb_set(p->history->upgrading, 0);
	sb_add(p->history->upgrade_failures, 1);
	event_note(p, LOG_LVL_ERROR, EVENT_UPGRADE, NULL, "upgrade: failed: %s; pid %d serves on",
		why, (int)p->pid);
	primary_ready(p);
	waiters_tell(&p->upgrade_waiters, false, why);
	if (p->reload_again) {
		p->reload_again = false;
		event_base_once(p->base, -1, EV_TIMEOUT, on_catch_up, p, &at_once);
	}
}

/* Has the new one go; what remains is to see it gone. */
static void dismiss(struct upgrade *u, const char *why)
{
	const struct timeval grace = timeval_from_us(KILL_US);

	if (!*u->why)
		snprintf(u->why, sizeof(u->why), "%s", why);
	if (u->failed)
		return;
	u->failed = true;
	pidfd_send_signal(u->pidfd, SIGTERM, NULL, 0);
	event_add(&u->ev_deadline, &grace);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct upgrade *u = arg;
	const struct timeval again = timeval_from_us(KILL_US);

	if (!u->failed) {
		dismiss(u, "the new process was not ready in time");
		return;
	}
	pidfd_send_signal(u->pidfd, SIGKILL, NULL, 0);
	event_add(&u->ev_deadline, &again);
}

static void on_exit_of_new(evutil_socket_t fd, short what, void *arg)
{
	struct upgrade *u = arg;
	siginfo_t si = {0};
	char word[WORD_MAX];
	ssize_t n = recv(u->fd, word, sizeof(word) - 1, MSG_DONTWAIT); /* its last words */

	if (n > 0 && strncmp(word, "failed: ", 8) == 0) {
		word[n] = '\0';
		snprintf(u->why, sizeof(u->why), "%s", word + 8);
	}
	waitid(P_PIDFD, (id_t)u->pidfd, &si, WEXITED | WNOHANG);
	if (!*u->why && si.si_code == CLD_EXITED)
		snprintf(u->why, sizeof(u->why), "the new process ended with status %d",
			si.si_status);
	else if (!*u->why)
		snprintf(u->why, sizeof(u->why), "the new process was killed by signal %d",
			si.si_status);
	fail(u);
}

static void say(int fd, const char *word)
{
	if (send(fd, word, strlen(word), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_warning("upgrade: cannot say \"%s\": %s", word, strerror(errno));
}

/* The new one serves: this one finishes what it has and goes. */
static void hand_over(struct upgrade *u)
{
	struct primary *p = u->primary;
	char text[96];

	snprintf(text, sizeof(text), "pid %d serves in place of pid %d", (int)u->pid, (int)p->pid);
	event_note(p, LOG_LVL_INFO, EVENT_UPGRADE, NULL, "upgrade: %s; this one drains", text);
	p->upgrade = upgrade_free(u);
	waiters_tell(&p->upgrade_waiters, true, text);
	listener_pool_hand_over(p->pool);
	primary_stop(p, EXIT_SUCCESS);
}

static void on_ready(struct upgrade *u)
{
	u->handed = true;
	notify_main_pid((int)u->pid);
	notify_end();
	say(u->fd, "go");
}

static void on_word(evutil_socket_t fd, short what, void *arg)
{
	struct upgrade *u = arg;
	char word[WORD_MAX];
	ssize_t n = recv(fd, word, sizeof(word) - 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	word[n > 0 ? n : 0] = '\0';
	if (strcmp(word, "ready") == 0 && !u->handed && !u->failed)
		on_ready(u);
	else if (strcmp(word, "serving") == 0 && u->handed)
		hand_over(u);
	else if (strncmp(word, "failed: ", 8) == 0)
		dismiss(u, word + 8);
	else if (n <= 0)
		event_del(&u->ev_word); /* its end will say more */
	else
		dismiss(u, "the new process spoke out of turn");
}

/* Forks and watches. Returns 0 or -errno. */
static int start_new(struct primary *p, struct upgrade *u, int fd)
{
	struct package *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	pack(p, fd, k);
	u->pid = fork();
	if (u->pid == 0)
		become_new(p, k);
	free(k);
	if (u->pid < 0)
		return -errno;
	u->pidfd = pidfd_open(u->pid, 0);
	if (u->pidfd >= 0)
		return 0;
	kill(u->pid, SIGKILL);
	waitpid(u->pid, NULL, 0);
	return -EMFILE;
}

static int begin(struct primary *p)
{
	const struct conf_workers *c = &p->current->config->workers;
	struct timeval deadline =
		timeval_from_us(c->start_timeout_us + c->probation_us + MARGIN_US);
	CLEANUP(closep) int theirs = -1;
	struct upgrade *u = calloc(1, sizeof(*u));
	int fds[2], r = -ENOMEM;

	if (u && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		r = -errno;
	else if (u) {
		theirs = fds[1];
		u->fd = fds[0];
		r = start_new(p, u, theirs);
		if (r < 0)
			close(u->fd);
	}
	if (r < 0) {
		free(u);
		return r;
	}
	u->primary = p;
	event_assign(&u->ev_exit, p->base, u->pidfd, EV_READ, on_exit_of_new, u);
	event_assign(&u->ev_word, p->base, u->fd, EV_READ | EV_PERSIST, on_word, u);
	evtimer_assign(&u->ev_deadline, p->base, on_deadline, u);
	event_add(&u->ev_exit, NULL);
	event_add(&u->ev_word, NULL);
	event_add(&u->ev_deadline, &deadline);
	p->upgrade = u;
	return 0;
}

int upgrade_begin(struct primary *p, struct waiter *w, char *error, size_t size)
{
	int r;

	if (p->phase != PRIMARY_SERVING || p->rollout || p->upgrade) {
		snprintf(error, size,
			"not while starting, reloading, upgrading or stopping; try again later");
		return -EBUSY;
	}
	r = begin(p);
	if (r < 0) {
		snprintf(error, size, "cannot start %s: %s", p->binary, strerror(-r));
		return r;
	}
	if (w)
		waiters_add(&p->upgrade_waiters, w);
	sb_set(p->history->upgrading, 1);
	event_note(p, LOG_LVL_INFO, EVENT_UPGRADE, NULL, "upgrade: %s starts as pid %d", p->binary,
		(int)p->upgrade->pid);
	return 0;
}

/* The primary stops: the one that was to follow does not. */
void upgrade_abandon(struct primary *p)
{
	struct upgrade *u = p->upgrade;

	if (!u)
		return;
	pidfd_send_signal(u->pidfd, SIGKILL, NULL, 0);
	waitid(P_PIDFD, (id_t)u->pidfd, NULL, WEXITED);
	p->upgrade = upgrade_free(u);
	waiters_tell(&p->upgrade_waiters, false, "tined is stopping");
}

/* --- the new one --- */

static void take_over(struct primary *p)
{
	event_del(&p->ev_predecessor);
	rollout_take_over(p);
}

static void on_predecessor(evutil_socket_t fd, short what, void *arg)
{
	struct primary *p = arg;
	char word[16];
	ssize_t n = recv(fd, word, sizeof(word) - 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	word[n > 0 ? n : 0] = '\0';
	if (strcmp(word, "go") == 0) {
		take_over(p);
		return;
	}
	event_del(&p->ev_predecessor);
	if (getenv("NOTIFY_SOCKET")) { /* systemd starts another one, and we would be in its way */
		log_error(
			"upgrade: the process before this one is gone; systemd will start another");
		primary_stop(p, EXIT_FAILURE);
		return;
	}
	log_warning("upgrade: the process before this one is gone; serving in its place");
	p->orphan = true;
	if (p->proven)
		take_over(p);
}

/* Finds out whether we are to replace another primary. Returns 0 or -errno. */
int upgrade_adopt(struct primary *p)
{
	const char *text = getenv(VARIABLE);
	uint64_t last;
	int fd;

	p->predecessor_fd = -1;
	if (!text)
		return 0;
	if (sscanf(text, "%d %" SCNu64, &fd, &last) != 2 || fd < SD_LISTEN_FDS_START ||
		fd_set_cloexec(fd, true) < 0) {
		log_error("%s=%s is not for anybody else to set", VARIABLE, text);
		return -EINVAL;
	}
	unsetenv(VARIABLE);
	p->predecessor_fd = fd;
	p->succeeds = true;
	p->last_generation = last;
	event_assign(&p->ev_predecessor, p->base, fd, EV_READ | EV_PERSIST, on_predecessor, p);
	return event_add(&p->ev_predecessor, NULL) < 0 ? -ENOMEM : 0;
}

/* The first generation has survived its probation. */
void upgrade_report_ready(struct primary *p)
{
	p->proven = true;
	if (p->orphan)
		take_over(p);
	else
		say(p->predecessor_fd, "ready");
}

void upgrade_report_failure(struct primary *p, const char *why)
{
	char word[WORD_MAX];

	snprintf(word, sizeof(word), "failed: %s", why);
	say(p->predecessor_fd, word);
}

void upgrade_report_serving(struct primary *p)
{
	p->succeeds = false;
	sb_set(p->history->upgrades, 1);
	if (!p->orphan)
		say(p->predecessor_fd, "serving");
	close(p->predecessor_fd);
	p->predecessor_fd = -1;
}

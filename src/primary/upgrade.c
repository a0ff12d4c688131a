/*
 * Upgrading the binary. Runs in the primary that is to be replaced, between fork(2) and execve(2) in its child, and in the
 * primary that replaces it.
 */
#include "primary/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/fd.h"
#include "base/log.h"
#include "primary/control.h"
#include "primary/events.h"
#include "primary/listener.h"
#include "primary/primary.h"
#include "primary/reload.h"
#include "shared/arena.h"
#include "shared/notify.h"

/*
 * For the new one: "FD GENERATION UPGRADES FAILURES ARENA LAYOUT", the descriptor to us, our last generation, what was counted so
 * far, the memory that workers share.
 */
#define VARIABLE  "TINED_UPGRADE"
#define WORD_MAX  1024
#define NAMES_MAX (120u << 10)    /* the kernel takes no longer string (MAX_ARG_STRLEN) */
#define MARGIN_US (10 * US_PER_S) /* beyond start_timeout and probation */
#define WAIT_MAX_US \
	(24 * 3600 * US_PER_S) /* a new one that asks for more time than this is mistaken */
#define FAILED    "failed: "
#define KILL_US   (2 * US_PER_S)
#define AGAIN_US  (20 * US_PER_MS)  /* until systemd is told again what it did not take */
#define RETAKE_US (100 * US_PER_MS) /* for answers to reach those who asked */

/* The old one's side. */
struct upgrade {
	struct primary *primary;
	pid_t pid;
	int pidfd, fd;
	bool failed; /* told to go; its end is awaited */
	bool handed; /* "go" was said */
	char why[WORD_MAX];
	struct event ev_exit, ev_word, ev_deadline, ev_go;
};

/* --- the old one: the child that becomes the new one --- */

struct package {
	int *fds; /* the sockets; behind them our socketpair's other end, and the arena */
	size_t n; /* sockets */
	char *names;
};

static void package_free(struct package *k)
{
	free(k->fds);
	free(k->names);
}

/* Joins the names by colons. Returns 0 or -errno. */
static int join(char (*names)[LISTENER_FD_NAME_MAX], size_t n, char **ret)
{
	char *text = calloc(n + 1, LISTENER_FD_NAME_MAX), *end = text;

	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		end += sprintf(end, "%s%s", i > 0 ? ":" : "", names[i]);
	*ret = text;
	return end - text > (ptrdiff_t)NAMES_MAX ? -E2BIG : 0;
}

/* Gathers what the new one is given. Returns 0 or -errno; package_free() either way. */
static int pack(const struct primary *p, int fd, struct package *ret)
{
	char(*names)[LISTENER_FD_NAME_MAX];
	int r;

	ret->n = listener_pool_count(p->pool);
	ret->fds = calloc(ret->n + 2, sizeof(*ret->fds));
	names = calloc(ret->n + 1, sizeof(*names));
	if (!ret->fds || !names) {
		free(names);
		return -ENOMEM;
	}
	listener_pool_export(p->pool, ret->fds, names);
	ret->fds[ret->n] = fd;
	ret->fds[ret->n + 1] = p->arena_fd;
	r = join(names, ret->n, &ret->names);
	free(names);
	return r;
}

/*
 * Moves the descriptors to 3 and up, as sd_listen_fds(3) wants them, and closes all others. Returns 0 or -errno; our
 * socketpair's end in k->fds can be used then.
 */
static int arrange(struct package *k)
{
	const int first = SD_LISTEN_FDS_START, end = first + (int)k->n + 2;

	/* Out of the way first: their places may be each other's. */
	for (size_t i = 0; i < k->n + 2; i++) {
		int moved = fcntl(k->fds[i], F_DUPFD_CLOEXEC, end);

		if (moved < 0)
			return -errno;
		k->fds[i] = moved;
	}
	for (size_t i = 0; i < k->n + 2; i++) {
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

static int set_environment(const struct primary *p, const struct package *k, int report_fd)
{
	char text[160];

	snprintf(text, sizeof(text), "%d %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %d", report_fd,
		p->last_generation, sb_get(p->history->upgrades),
		sb_get(p->history->upgrade_failures), report_fd + 1, ARENA_LAYOUT);
	if (set_number("LISTEN_FDS", (long long)k->n) < 0 ||
		set_number("LISTEN_PID", getpid()) < 0 ||
		setenv("LISTEN_FDNAMES", k->names, 1) < 0 || unsetenv("WATCHDOG_PID") < 0 ||
		setenv(VARIABLE, text, 1) < 0)
		return -errno;
	return 0;
}

/* Only in the child. */
static void become_new(const struct primary *p, struct package *k)
{
	char text[WORD_MAX];
	sigset_t none;
	int r = arrange(k);
	int report_fd = r < 0 ? k->fds[k->n] : SD_LISTEN_FDS_START + (int)k->n;

	if (r == 0)
		r = set_environment(p, k, report_fd);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (r == 0) {
		execv(p->binary, p->arguments);
		r = -errno;
	}
	snprintf(text, sizeof(text), FAILED "%s: %s", p->binary, strerror(-r));
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
	event_del(&u->ev_go);
	close(u->fd);
	close(u->pidfd);
	free(u);
	return NULL;
}

static void on_catch_up(evutil_socket_t fd, short what, void *arg)
{
	rollout_reload(arg, NULL);
}

/* The new one may have made the pid file and the control socket its own before it failed. */
static void on_retake(evutil_socket_t fd, short what, void *arg)
{
	struct primary *p = arg;
	char error[512];

	if (p->phase != PRIMARY_SERVING)
		return;
	control_close(p);
	free(p->pid_file);
	p->pid_file = NULL;
	if (primary_take_names(p, p->current->config, error, sizeof(error)) < 0)
		log_error("%s", error);
}

/*
 * It is gone after we had told systemd that it is the main process. systemd starts the service anew now, and we would be
 * in its way; without systemd nobody else is there to serve.
 */
static void recover(struct primary *p)
{
	const struct timeval soon = timeval_from_us(RETAKE_US);

	if (notify_is_heard()) {
		listener_pool_hand_over(p->pool);
		primary_stop(p, EXIT_FAILURE);
		return;
	}
	notify_set_silent(false);
	event_base_once(p->base, -1, EV_TIMEOUT, on_retake, p, &soon);
}

/* It is gone, and this process serves on. */
static void fail(struct upgrade *u)
{
	const struct timeval at_once = {0, 0};
	struct primary *p = u->primary;
	bool handed = u->handed;
	char why[WORD_MAX];

	snprintf(why, sizeof(why), "%s", u->why);
	p->upgrade = upgrade_free(u);
	sb_set(p->history->upgrading, 0);
	sb_add(p->history->upgrade_failures, 1);
	event_note(p, LOG_LVL_ERROR, EVENT_UPGRADE, NULL,
		"upgrade: failed: %.800s; pid %d serves on", why, (int)p->pid);
	primary_status(p);
	waiters_tell(&p->upgrade_waiters, false, why);
	if (handed)
		recover(p);
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

/* --- the old one: what the new one says --- */

static void say(int fd, const char *word)
{
	if (send(fd, word, strlen(word), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_warning("upgrade: cannot say \"%.60s\": %s", word, strerror(errno));
}

/* The new one serves: this one finishes what it has and goes. */
static void hand_over(struct upgrade *u)
{
	struct primary *p = u->primary;
	char text[96];

	snprintf(text, sizeof(text), "pid %d serves in place of pid %d", (int)u->pid, (int)p->pid);
	event_note(p, LOG_LVL_INFO, EVENT_UPGRADE, NULL, "upgrade: %s; this one drains", text);
	if (p->reload_again) { /* asked for meanwhile: it is the new one's to do */
		pidfd_send_signal(u->pidfd, SIGHUP, NULL, 0);
		waiters_tell(&p->next_reload_waiters, false,
			"another process serves since an upgrade; it was told to reload");
	}
	p->upgrade = upgrade_free(u);
	waiters_tell(&p->upgrade_waiters, true, text);
	listener_pool_hand_over(p->pool);
	primary_stop(p, EXIT_SUCCESS);
}

/* systemd has to know the new main process before that says a word to it. */
static void on_go(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval again = timeval_from_us(AGAIN_US), margin = timeval_from_us(MARGIN_US);
	struct upgrade *u = arg;

	if (u->failed)
		return;
	if (!notify_main_pid((int)u->pid)) {
		event_add(&u->ev_go, &again);
		return;
	}
	u->handed = true;
	notify_set_silent(true);
	event_add(&u->ev_deadline, &margin);
	say(u->fd, "go");
}

/* It knows its configuration, which need not be ours, and so how long it may take. */
static void on_wait(struct upgrade *u, uint64_t us)
{
	struct timeval deadline = timeval_from_us(us > WAIT_MAX_US ? WAIT_MAX_US : us);

	if (!u->failed && !u->handed)
		event_add(&u->ev_deadline, &deadline);
}

/* It goes to whoever asked, as one line. */
static void note_why(struct upgrade *u, const char *why)
{
	size_t used = strlen(u->why);

	snprintf(u->why + used, sizeof(u->why) - used, "%s%s", used > 0 ? "; " : "", why);
	for (char *c = u->why + used; *c; c++) {
		if (*c < 0x20 || *c > 0x7e)
			*c = *c == '\n' ? ';' : '?';
	}
}

/* Returns false when the upgrade is over by that. */
static bool hear(struct upgrade *u, const char *word)
{
	unsigned long long us;

	if (strcmp(word, "ready") == 0 && !u->handed) {
		on_go(-1, 0, u);
	} else if (strcmp(word, "serving") == 0 && u->handed && !u->failed) {
		hand_over(u);
		return false;
	} else if (sscanf(word, "wait %llu", &us) == 1) {
		on_wait(u, us);
	} else if (strncmp(word, FAILED, strlen(FAILED)) == 0) {
		note_why(u, word + strlen(FAILED));
	} else {
		dismiss(u, "the new process spoke out of turn");
	}
	return true;
}

/* Returns 1 when there was a word, 0 at the end, or -errno. */
static int read_word(int fd, char word[WORD_MAX])
{
	ssize_t n = recv(fd, word, WORD_MAX - 1, MSG_DONTWAIT);

	word[n > 0 ? n : 0] = '\0';
	return n < 0 ? -errno : n > 0;
}

static void on_word(evutil_socket_t fd, short what, void *arg)
{
	struct upgrade *u = arg;
	char word[WORD_MAX];
	int r;

	while ((r = read_word(fd, word)) > 0) {
		if (!hear(u, word))
			return;
	}
	if (r != -EAGAIN && r != -EINTR)
		event_del(&u->ev_word); /* its end will say more */
}

static void on_exit_of_new(evutil_socket_t fd, short what, void *arg)
{
	struct upgrade *u = arg;
	siginfo_t si = {0};
	char word[WORD_MAX];

	while (read_word(u->fd, word) > 0) { /* its last ones */
		if (strncmp(word, FAILED, strlen(FAILED)) == 0)
			note_why(u, word + strlen(FAILED));
	}
	waitid(P_PIDFD, (id_t)u->pidfd, &si, WEXITED | WNOHANG);
	if (!*u->why && si.si_code == CLD_EXITED)
		snprintf(u->why, sizeof(u->why), "the new process ended with status %d",
			si.si_status);
	else if (!*u->why)
		snprintf(u->why, sizeof(u->why), "the new process was killed by signal %d (%s)",
			si.si_status, strsignal(si.si_status));
	fail(u);
}

/* Forks and watches. Returns 0 or -errno. */
static int start_new(struct primary *p, struct upgrade *u, int fd)
{
	struct package k = {0};
	int r = pack(p, fd, &k);

	if (r == 0) {
		u->pid = fork();
		if (u->pid == 0)
			become_new(p, &k);
		r = u->pid < 0 ? -errno : 0;
	}
	package_free(&k);
	if (r < 0)
		return r;
	u->pidfd = pidfd_open(u->pid, 0);
	if (u->pidfd >= 0)
		return 0;
	r = -errno;
	kill(u->pid, SIGKILL);
	waitpid(u->pid, NULL, 0);
	return r;
}

/* How long a generation of this configuration may take until it is proven. */
static uint64_t allowed_us(const struct conf_workers *c)
{
	uint64_t n = c->count ? c->count : cpu_available();
	uint64_t batches = c->max_surge ? (n + c->max_surge - 1) / c->max_surge : 1;

	return batches * c->start_timeout_us + c->probation_us + MARGIN_US;
}

static int begin(struct primary *p)
{
	struct timeval deadline = timeval_from_us(allowed_us(&p->current->config->workers));
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
	evtimer_assign(&u->ev_go, p->base, on_go, u);
	event_add(&u->ev_exit, NULL);
	event_add(&u->ev_word, NULL);
	event_add(&u->ev_deadline, &deadline);
	p->upgrade = u;
	p->had_upgrade = true;
	return 0;
}

/* The number of our successor on its way, or 0. */
pid_t upgrade_pid(const struct primary *p)
{
	return p->upgrade ? p->upgrade->pid : 0;
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
	notify_status("Upgrading: the new binary starts as pid %d", (int)p->upgrade->pid);
	event_note(p, LOG_LVL_INFO, EVENT_UPGRADE, NULL, "upgrade: %s starts as pid %d", p->binary,
		(int)p->upgrade->pid);
	return 0;
}

/*
 * The primary stops: the one that was to follow does not. When it is about to serve already, the wish is passed on. It is
 * reaped by whoever inherits it: waiting could take a while.
 */
void upgrade_abandon(struct primary *p)
{
	struct upgrade *u = p->upgrade;

	if (!u)
		return;
	pidfd_send_signal(u->pidfd, u->handed ? SIGTERM : SIGKILL, NULL, 0);
	if (u->handed)
		listener_pool_hand_over(p->pool);
	p->upgrade = upgrade_free(u);
	sb_set(p->history->upgrading, 0);
	waiters_tell(&p->upgrade_waiters, false, "tined is stopping");
}

/* --- the new one --- */

static void take_over(struct primary *p)
{
	event_del(&p->ev_predecessor);
	if (!p->rollout)
		return; /* it has failed meanwhile, and we are on our way out */
	notify_set_silent(false);
	p->watchdog_due_us = 0; /* the one before may not have fed it for a while */
	rollout_take_over(p);
}

static void on_predecessor_gone(struct primary *p)
{
	event_del(&p->ev_predecessor);
	if (p->phase == PRIMARY_STOPPING)
		return;
	p->orphan = true;
	if (notify_is_heard()) { /* systemd starts another one, and we would be in its way */
		log_error(
			"upgrade: the process before this one is gone; systemd will start another");
		primary_stop(p, EXIT_FAILURE);
		return;
	}
	log_warning("upgrade: the process before this one is gone; serving in its place");
	if (p->proven)
		take_over(p);
}

static void on_predecessor(evutil_socket_t fd, short what, void *arg)
{
	struct primary *p = arg;
	char word[WORD_MAX];
	int r = read_word(fd, word);

	if (r == -EAGAIN || r == -EINTR)
		return;
	if (r > 0 && strcmp(word, "go") == 0 && p->proven)
		take_over(p);
	else if (r <= 0)
		on_predecessor_gone(p);
}

struct origin {
	int fd;
	uint64_t generation, upgrades, failures;
	int arena_fd, arena_layout; /* -1: it gave none */
};

/* Reads the variable. Returns 1 when we are to replace another primary, 0, or -EINVAL. */
static int read_origin(struct origin *ret)
{
	const char *text = getenv(VARIABLE);
	int type = 0;
	socklen_t len = sizeof(type);

	if (!text)
		return 0;
	ret->arena_fd = ret->arena_layout = -1;
	if (sscanf(text, "%d %" SCNu64 " %" SCNu64 " %" SCNu64 " %d %d", &ret->fd, &ret->generation,
		    &ret->upgrades, &ret->failures, &ret->arena_fd, &ret->arena_layout) < 4 ||
		ret->fd < SD_LISTEN_FDS_START ||
		getsockopt(ret->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
		return -EINVAL;
	return 1;
}

/* The memory that the workers of both share from now on. If it cannot be used there will be new memory. */
static void adopt_arena(struct primary *p, const struct origin *o, uint64_t size)
{
	int r = arena_adopt(o->arena_fd, o->arena_layout, size);

	if (r == 0)
		p->arena_fd = o->arena_fd;
	else
		log_warning("upgrade: cannot go on with the workers' shared memory: %s; beginning "
			    "with new",
			r == -EPROTO          ? "another version made it"
				: r == -EFBIG ? "shared_memory is another one now"
					      : strerror(-r));
	if (r < 0 && o->arena_fd > SD_LISTEN_FDS_START)
		close(o->arena_fd);
}

/* Finds out whether we are to replace another primary. Returns 0 or -errno. */
int upgrade_adopt(struct primary *p, const struct config *c)
{
	struct origin o;
	char word[64];
	int r = read_origin(&o);

	if (r < 0)
		log_error("%s=%s is not for anybody else to set", VARIABLE, getenv(VARIABLE));
	if (r <= 0)
		return r;
	unsetenv(VARIABLE);
	fd_set_cloexec(o.fd, true);
	p->predecessor_fd = o.fd;
	p->succeeds = true;
	p->last_generation = o.generation;
	sb_set(p->history->upgrades, o.upgrades);
	sb_set(p->history->upgrade_failures, o.failures);
	adopt_arena(p, &o, c->workers.shared_memory);
	notify_set_silent(true);
	listener_pool_borrow(p->pool);
	snprintf(word, sizeof(word), "wait %" PRIu64, allowed_us(&c->workers));
	say(o.fd, word);
	event_assign(&p->ev_predecessor, p->base, o.fd, EV_READ | EV_PERSIST, on_predecessor, p);
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

static void report_failure(int fd, const char *why)
{
	char word[WORD_MAX];

	snprintf(word, sizeof(word), FAILED "%s", why);
	say(fd, word);
}

void upgrade_report_failure(struct primary *p, const char *why)
{
	if (!p->orphan)
		report_failure(p->predecessor_fd, why);
}

/* The same before there is a primary: its configuration has a mistake. */
void upgrade_report_early(const char *why)
{
	struct origin o;

	if (read_origin(&o) > 0)
		report_failure(o.fd, why);
}

void upgrade_report_serving(struct primary *p)
{
	p->succeeds = false;
	sb_add(p->history->upgrades, 1);
	event_note(p, LOG_LVL_INFO, EVENT_UPGRADE, NULL, "upgrade: pid %d serves", (int)p->pid);
	if (!p->orphan)
		say(p->predecessor_fd, "serving");
	close(p->predecessor_fd);
	p->predecessor_fd = -1;
}

/*
 * systemd notification (sd_notify(3)). That function's own send may block for as long as nobody reads the other end,
 * and the primary may not, so the datagram is sent here. What matters is kept and tried again; the rest is dropped.
 */
#include "shared/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/fd.h"

#define TEXT_MAX 512

static bool silent;         /* another process speaks for the service now */
static char kept[TEXT_MAX]; /* the latest change of state that systemd has not heard of */

static bool find_socket(struct sockaddr_un *ret, socklen_t *ret_len)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(ret->sun_path) || (*path != '/' && *path != '@'))
		return false;
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret->sun_path, path, len);
	if (*path == '@')
		ret->sun_path[0] = '\0'; /* abstract: see unix(7) */
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	return true;
}

/* Returns false when it would have to wait. passed: a descriptor that goes along, or -1. */
static bool send_with_fd(const char *text, int passed)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {.align = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec iov = {(void *)text, strlen(text)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	CLEANUP(closep) int fd = -1;
	struct sockaddr_un sa;
	socklen_t len;

	if (silent || !find_socket(&sa, &len))
		return true;
	m.msg_name = &sa;
	m.msg_namelen = len;
	if (passed >= 0) {
		memcpy(CMSG_DATA(&control.align), &passed, sizeof(passed));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
	}
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return true;
	return sendmsg(fd, &m, MSG_NOSIGNAL) >= 0 || errno != EAGAIN;
}

static bool send_text(const char *text)
{
	return send_with_fd(text, -1);
}

static void send_state(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void send_state(const char *fmt, ...)
{
	va_list ap;

	if (silent)
		return;
	va_start(ap, fmt);
	vsnprintf(kept, sizeof(kept), fmt, ap);
	va_end(ap);
	notify_retry();
}

/* To be called now and then: says what could not be said when it happened. */
void notify_retry(void)
{
	if (*kept && send_text(kept))
		*kept = '\0';
}

void notify_ready(const char *status)
{
	send_state("READY=1\nSTATUS=%s", status);
}

/* Type=notify-reload wants the time, so that it can tell this reload from an earlier one. */
void notify_reloading(void)
{
	send_state("RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=Reloading", now_us());
}

void notify_stopping(void)
{
	send_state("STOPPING=1\nSTATUS=Stopping: workers finish what is in flight");
}

void notify_status(const char *fmt, ...)
{
	char text[TEXT_MAX] = "STATUS=";
	size_t used = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + used, sizeof(text) - used, fmt, ap);
	va_end(ap);
	send_text(text);
}

/*
 * The service's main process is another one from now on: only the one before may say so (NotifyAccess=main).
 * Returns false when it has to be said again later: systemd does not read.
 */
bool notify_main_pid(int pid)
{
	char text[64];

	snprintf(text, sizeof(text), "MAINPID=%d", pid);
	return send_text(text);
}

/* Says nothing, as long as another process speaks for the service. */
void notify_set_silent(bool on)
{
	silent = on;
	*kept = '\0';
}

/* Whether a manager is there to be told. */
bool notify_is_heard(void)
{
	struct sockaddr_un sa;
	socklen_t len;

	return find_socket(&sa, &len);
}

/*
 * Whether systemd keeps descriptors for the next process of this service: $FDSTORE says how many. systemd sets it from
 * version 254 on, our unit does so for those before.
 */
bool notify_keeps_fds(void)
{
	const char *max = getenv("FDSTORE");

	return max && strtoul(max, NULL, 10) > 0 && notify_is_heard();
}

/* Has systemd keep a descriptor under a name. Returns false when it has to be said again later. */
bool notify_store_fd(const char *name, int fd)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	return send_with_fd(text, fd);
}

/* The opposite. */
bool notify_forget_fd(const char *name)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	return !notify_keeps_fds() || send_text(text);
}

void notify_watchdog(void)
{
	send_text("WATCHDOG=1");
}

/* How long systemd waits for a sign of life, in microseconds; 0: it does not watch us. */
uint64_t notify_watchdog_us(void)
{
	uint64_t us = 0;

	return sd_watchdog_enabled(0, &us) > 0 ? us : 0;
}

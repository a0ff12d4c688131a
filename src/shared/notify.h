/* What the primary tells systemd (sd_notify(3)); all of it does nothing without $NOTIFY_SOCKET. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

void notify_ready(const char *status);
void notify_reloading(void);
void notify_stopping(void);
void notify_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool notify_main_pid(int pid);
void notify_set_silent(bool on);
bool notify_is_heard(void);
bool notify_keeps_fds(void);
bool notify_store_fd(const char *name, int fd);
bool notify_forget_fd(const char *name);
void notify_watchdog(void);
void notify_retry(void);
uint64_t notify_watchdog_us(void);

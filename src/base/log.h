/*
 * One line per event, to stderr, the journal or a file. Every line says who speaks: "worker[3]: ...".
 * Bytes outside printable ASCII are escaped, so that untrusted text can be logged as it is.
 * One sink per process, inherited over fork(2). What writes a line is for any thread, all else for one.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARNING, LOG_LVL_INFO, LOG_LVL_DEBUG };
enum log_sink { LOG_SINK_STDERR, LOG_SINK_JOURNAL, LOG_SINK_FILE };

extern _Atomic(enum log_level) log_max_level; /* read by the macros only */

int log_open(enum log_sink sink, const char *path);
int log_open_sink(enum log_sink sink, const char *path);
int log_send_journal(
	int fd, enum log_level level, const char *fields, const char *text, size_t len);
void log_set_fd(int fd);
int log_fd(void);
int log_keep_fd(void);
int log_reopen(void);
void log_set_level(enum log_level level);
void log_set_name(const char *role, int slot);
void log_set_fields(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_vline(enum log_level level, const char *fields, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

#define log_at(level, ...) ((level) <= log_max_level ? log_line((level), __VA_ARGS__) : (void)0)
#define log_error(...)     log_at(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warning(...)   log_at(LOG_LVL_WARNING, __VA_ARGS__)
#define log_info(...)      log_at(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...)     log_at(LOG_LVL_DEBUG, __VA_ARGS__)

/*
 * What happens, told once: to the log (with fields for the journal), to the history that tinectl and the dashboard show,
 * and to those who follow.
 */
#pragma once

#include "base/log.h"
#include "shared/history.h"

struct primary;
struct proc;

void event_note(struct primary *p, enum log_level level, enum history_event_kind kind,
	const struct proc *pr, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

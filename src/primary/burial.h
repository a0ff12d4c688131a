/* What can be learnt of a child that is dying or dead. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/scoreboard.h"

struct proc;

uint64_t burial_cpu_us(pid_t pid);
void burial_request_line(const struct sb_slot *s, char ret[SB_REQUEST_LINE + 1]);
void burial_salvage(const struct proc *pr);
void burial_record(struct proc *pr, char *ret_how, size_t size);

/*
 * Commands that the admin process passes on for operators who gave it the token. Runs in the primary.
 */
#pragma once

#include <stddef.h>

struct frame;
struct proc;

void admin_command_run(struct proc *pr, const struct frame *f, const void *payload);
void admin_commands_cancel(const struct proc *pr);

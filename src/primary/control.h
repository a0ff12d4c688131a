/*
 * The control socket, where tinectl finds the daemon (protocol: ipc/commands.h). Runs in the primary. A client that is
 * stuck, hostile or gone costs the primary nothing but its place among a bounded number.
 */
#pragma once

#include <stddef.h>

struct config;
struct primary;

int control_open(struct primary *p, const struct config *c, char *error, size_t size);
void control_close(struct primary *p);

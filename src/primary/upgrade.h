/*
 * Replacing the running binary by the one on the disk, with the same sockets: the new primary is started beside the old
 * one, proves itself as a generation of a reload does, and takes over; or it goes, and the old one serves on.
 *
 * Old and new talk over a socketpair, a word for each datagram:
 *	new: "wait N"   it may take so many microseconds to be ready
 *	new: "failed: WHY", any number of times; it ends then
 *	new: "ready"    its workers have survived their probation; they accept nothing yet
 *	old: "go"       systemd knows the new main process
 *	new: "serving"  it accepts, and has the pid file and the control socket
 * The old one drains and exits then. Runs in both primaries.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct config;
struct primary;
struct waiter;

/* The old one. w, unless NULL, hears the verdict. Returns 0, or -errno and why nothing was begun. */
int upgrade_begin(struct primary *p, struct waiter *w, char *error, size_t size);
void upgrade_abandon(struct primary *p);
pid_t upgrade_pid(const struct primary *p);

/* The new one. */
int upgrade_adopt(struct primary *p, const struct config *c);
void upgrade_report_ready(struct primary *p);
void upgrade_report_failure(struct primary *p, const char *why);
void upgrade_report_early(const char *why);
void upgrade_report_serving(struct primary *p);

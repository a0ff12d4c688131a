/*
 * From addresses to names: a short-lived child reads the ELF files that another child named, gives up everything before,
 * and writes what it found into a pipe. Whatever is wrong with those files, only that child can come to harm. Runs in
 * the primary and, after the fork, in that child.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct primary;
struct proc;

#define SYMBOLIZER_TEXT 2048 /* bytes of the answer, its NUL included */

/* number: of the crash record that gets the text. */
void symbolizer_start(struct proc *pr, uint64_t crash, const char *raw);
void symbolizer_abandon(struct primary *p);
pid_t symbolizer_pid(const struct primary *p);

/*
 * Where a child writes down, in a signal handler, what it was doing: shared memory, an entry for each slot. The child is the
 * only writer; the primary hands the text to a process that may be wrong about it (primary/symbolizer.c).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/segment.h"

#define BACKTRACE_FRAMES 48
#define BACKTRACE_TEXT   4000

struct backtrace_slot {
	_Alignas(SEGMENT_PAGE) _Atomic uint32_t len; /* bytes of text, set last; 0: there is none */
	char text
		[BACKTRACE_TEXT]; /* a line for each frame, the innermost first: PATH+0xADDRESS, as in the ELF file */
};

struct backtraces {
	struct segment segment;
	struct backtrace_slot *slots;
};

int backtraces_new(size_t n, struct backtraces *ret);
int backtraces_confine(const struct backtraces *b, size_t slot);
void backtrace_clear(struct backtrace_slot *s);
bool backtrace_is_begun(const struct backtrace_slot *s);
size_t backtrace_read(const struct backtrace_slot *s, char ret[BACKTRACE_TEXT + 1]);

/* Options that count from the start of tined to its end: what a reload says when they have changed. Primary only. */
#pragma once

#include <stddef.h>

struct config;
struct primary;

int lasting_note(struct primary *p, const struct config *c);
void lasting_compare(struct primary *p, const struct config *c, char *ret, size_t size);
void lasting_free(struct primary *p);

/*
 * Memory that the primary shares with all of its children, of which each writes to a part of its own alone: the rest it can
 * only read, whatever goes astray in it, and cannot make writable again.
 */
#pragma once

#include <stddef.h>

#define SEGMENT_PAGE \
	4096 /* parts begin at multiples of it and fill them, or the page's neighbours can write there, too */

struct segment {
	void *memory; /* NULL: there is none */
	size_t size;
	int fd; /* to map it for reading alone */
};

int segment_new(const char *name, size_t size, struct segment *ret);
void segment_free(struct segment *s);
int segment_confine(const struct segment *s, const void *own, size_t len);

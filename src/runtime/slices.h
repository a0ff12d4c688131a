/* Walks over many elements in slices, a turn of the loop for each. For the loop's thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct soon;
struct tine_slices;

/* As tine_slices_options, checked. */
struct slices_options {
	size_t n, count;
	uint64_t budget_us;
	int (*step)(size_t begin, size_t end, void *arg);
	void (*done)(int status, void *arg);
	void *arg;
};

int slices_start(struct soon *soon, const struct slices_options *o, struct tine_slices **ret);
void slices_cancel(struct tine_slices *s);

/*
 * Buffers that threads share. A reference is taken by who has one already, so counting up orders nothing; counting down is a release of what
 * the holder did, and an acquire for the one who frees.
 */
#include "runtime/thread_buffer.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Returns 0 or -ENOMEM. */
int buffer_new(size_t size, struct tine_buffer **ret)
{
	const size_t align = _Alignof(struct tine_buffer);
	struct tine_buffer *b;
	size_t all;

	if (size > SIZE_MAX - sizeof(*b) - align)
		return -ENOMEM;
	all = (sizeof(*b) + size + align - 1) / align * align;
	b = aligned_alloc(align, all);
	if (!b)
		return -ENOMEM;
	memset(b, 0, all);
	atomic_init(&b->n_refs, 1);
	b->size = size;
	*ret = b;
	return 0;
}

/* NULL is fine. */
struct tine_buffer *buffer_ref(struct tine_buffer *b)
{
	if (b)
		atomic_fetch_add_explicit(&b->n_refs, 1, memory_order_relaxed);
	return b;
}

/* NULL is fine. Returns NULL. */
struct tine_buffer *buffer_unref(struct tine_buffer *b)
{
	if (b && atomic_fetch_sub_explicit(&b->n_refs, 1, memory_order_acq_rel) == 1)
		free(b);
	return NULL;
}

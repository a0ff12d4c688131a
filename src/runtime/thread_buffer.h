/* Memory that threads share, freed with its last reference. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>

/* The public opaque type of tine/thread.h. */
struct tine_buffer {
	atomic_size_t n_refs;
	size_t size;
	_Alignas(64) char data[];
};

int buffer_new(size_t size, struct tine_buffer **ret);
struct tine_buffer *buffer_ref(struct tine_buffer *b);
struct tine_buffer *buffer_unref(struct tine_buffer *b);

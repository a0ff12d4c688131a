/*
 * The entries. Pages of slots nobody uses are never touched.
 */
#include "shared/backtrace.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Maps n empty entries, shared with every child forked later. Returns 0 or -errno. */
int backtrace_slots_new(size_t n, struct backtrace_slot **ret)
{
	void *p = mmap(NULL, n * sizeof(struct backtrace_slot), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

/* For a new child: by the primary, before the fork. */
void backtrace_clear(struct backtrace_slot *s)
{
	if (atomic_load_explicit(&s->len, memory_order_relaxed) != 0)
		atomic_store_explicit(&s->len, 0, memory_order_relaxed);
}

/* A copy, terminated, of printable characters and newlines: whatever the child made of its entry. Returns its length. */
size_t backtrace_read(const struct backtrace_slot *s, char ret[BACKTRACE_TEXT + 1])
{
	size_t len = atomic_load_explicit(&s->len, memory_order_acquire), n = 0;

	for (; n < len && n < BACKTRACE_TEXT; n++) {
		char c = s->text[n];

		ret[n] = (c >= 0x20 && c <= 0x7e) || c == '\n' ? c : '?';
	}
	ret[n] = '\0';
	return n;
}

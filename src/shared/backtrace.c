/*
 * The entries. Pages of slots nobody uses are never touched.
 */
#include "shared/backtrace.h"

#include <string.h>

/* Maps n empty entries, shared with every child forked later. Returns 0 or -errno. */
int backtraces_new(size_t n, struct backtraces *ret)
{
	int r = segment_new("tined-backtraces", n * sizeof(struct backtrace_slot), &ret->segment);

	ret->slots = ret->segment.memory;
	return r;
}

/* In a child: from here on it can write to its own entry alone. Returns 0 or -errno. */
int backtraces_confine(const struct backtraces *b, size_t slot)
{
	return segment_confine(&b->segment, &b->slots[slot], sizeof(b->slots[slot]));
}

/* For a new child: by the primary, before the fork. */
void backtrace_clear(struct backtrace_slot *s)
{
	if (atomic_load_explicit(&s->len, memory_order_relaxed) != 0)
		atomic_store_explicit(&s->len, 0, memory_order_relaxed);
}

/* Whether there is something; more may be on its way. */
bool backtrace_is_begun(const struct backtrace_slot *s)
{
	return atomic_load_explicit(&s->len, memory_order_relaxed) != 0;
}

/* PATH+0xADDRESS; a path may hold plus signs, or be missing. */
static bool is_frame(const char *line, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;

	while (n < len && memchr(digits, line[len - n - 1], sizeof(digits) - 1))
		n++;
	return n > 0 && n <= 16 && len - n >= 3 && memcmp(line + len - n - 3, "+0x", 3) == 0;
}

/* How much of the text is lines as a handler writes them. */
static size_t length_of_frames(const char *text, size_t len)
{
	size_t n = 0;
	const char *end;

	while ((end = memchr(text + n, '\n', len - n)) &&
		is_frame(text + n, (size_t)(end - text) - n))
		n = (size_t)(end - text) + 1;
	return n;
}

/*
 * A copy, terminated, of the lines that are frames, up to the first that is none: the child may have made anything of its entry.
 * All of it is printable but the newlines. Returns its length; 0: there is no backtrace.
 */
size_t backtrace_read(const struct backtrace_slot *s, char ret[BACKTRACE_TEXT + 1])
{
	size_t len = atomic_load_explicit(&s->len, memory_order_acquire);

	if (len > BACKTRACE_TEXT)
		len = 0; /* no handler has set that */
	for (size_t i = 0; i < len; i++) {
		char c = s->text[i];

		ret[i] = (c >= 0x20 && c <= 0x7e) || c == '\n' ? c : '?';
	}
	len = length_of_frames(ret, len);
	ret[len] = '\0';
	return len;
}

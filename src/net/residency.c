/*
 * Whether reading a part of a file would wait for the disk. Any process, any thread.
 *
 * cachestat(2), since Linux 6.5, counts the pages of it that are in the page cache; preadv2(2) with RWF_NOWAIT tells
 * for one byte whether it can be had now. Both are asked: a page that is being read is in the cache already and has
 * nothing in it yet. Where there is neither the answer is no.
 *
 * An answer is good for the moment: pages may be taken away again before they are used.
 */
#include "net/residency.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

#define PAGE       4096u
#define PROBE_FINE (64u << 10) /* the kernel reads ahead in pieces of this size or larger */
#define PROBE_WIDE \
	(256u << 10) /* enough where only a piece that is just being read is looked for */

/* As <linux/mman.h> has them since 6.5. */
struct cachestat_range {
	uint64_t off, len;
};

struct cachestat {
	uint64_t nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted;
};

enum verdict { VERDICT_NO, VERDICT_YES, VERDICT_UNKNOWN };

static enum verdict ask_cachestat(int fd, int64_t off, size_t len)
{
	static atomic_bool missing;
	struct cachestat_range range = {(uint64_t)off, len};
	struct cachestat st;

	if (atomic_load_explicit(&missing, memory_order_relaxed))
		return VERDICT_UNKNOWN;
	if (syscall(SYS_cachestat, fd, &range, &st, 0) < 0) {
		if (errno == ENOSYS || errno == EPERM) /* an older kernel, a filter */
			atomic_store_explicit(&missing, true, memory_order_relaxed);
		return VERDICT_UNKNOWN;
	}
	/* it counts whole pages, and the part need not begin or end with one */
	return st.nr_cache >= ((uint64_t)off % PAGE + len + PAGE - 1) / PAGE ? VERDICT_YES
									     : VERDICT_NO;
}

/* A byte at either end and every `step` between them. VERDICT_UNKNOWN: the file system cannot tell. */
static enum verdict ask_bytes(int fd, int64_t off, size_t len, unsigned step)
{
	int64_t last = off + (int64_t)len - 1;
	char byte;

	for (int64_t at = off;; at = at + step < last ? at + step : last) {
		ssize_t n = residency_read(fd, &byte, 1, at);

		if (n < 0 && errno == EOPNOTSUPP)
			return VERDICT_UNKNOWN;
		if (n < 0)
			return VERDICT_NO;
		if (n == 0 || at == last)
			return VERDICT_YES; /* behind its end nothing waits */
	}
}

/* pread(2) that does not wait: -1 with errno EAGAIN when it would have to, EOPNOTSUPP when that cannot be told. */
ssize_t residency_read(int fd, void *buf, size_t len, int64_t off)
{
	struct iovec iov = {buf, len};
	ssize_t n;

	do {
		n = preadv2(fd, &iov, 1, off, RWF_NOWAIT);
	} while (n < 0 && errno == EINTR);
	return n;
}

/* Whether these bytes (len > 0) can be read without waiting. */
bool residency_is_cached(int fd, int64_t off, size_t len)
{
	enum verdict pages = ask_cachestat(fd, off, len), bytes;

	if (pages == VERDICT_NO)
		return false;
	bytes = ask_bytes(fd, off, len, pages == VERDICT_YES ? PROBE_WIDE : PROBE_FINE);
	return bytes == VERDICT_UNKNOWN ? pages == VERDICT_YES : bytes == VERDICT_YES;
}

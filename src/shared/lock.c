/*
 * Robust locks. Workers, and their threads.
 *
 * Why not PTHREAD_MUTEX_ROBUST: glibc keeps the list of the mutexes that a thread holds in those mutexes, and follows its
 * pointers when one is unlocked. One process that writes garbage there would have the others write through wild pointers.
 * Here the word in shared memory is a number that is looked up, never followed.
 *
 * Each process has a number that no other one gets, and for as long as it lives a record lock (fcntl(2), F_SETLK) on the byte
 * with that number of the file behind the memory; the kernel takes it away when the last thread of the process has ended. The
 * word of a lock is the number of its holder, so whoever finds it taken can ask the kernel whether the holder lives. Taking and
 * giving back a lock that nobody else wants is one atomic operation each.
 *
 * Record locks are not inherited over fork(2): a process forked by a worker must not take locks.
 */
#include "shared/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define WAITERS  UINT32_C(0x80000000) /* somebody sleeps until it is given back */
#define ID_MASK  UINT32_C(0x1fffffff)
#define JOIN_MAX 16384 /* attempts; more than there can be processes */
#define SPIN_MAX \
	100 /* looks at a lock that is held before going to sleep: most are held for less */
#define FOREVER_US (UINT64_C(366) * 86400 * US_PER_S)
#define LOOK_US    5000 /* a sleeper looks this often whether the holder still lives */

static struct flock byte_of(uint32_t id)
{
	return (struct flock){
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)id, .l_len = 1};
}

/*
 * Makes the calling process one that takes locks in the memory of a file, until it ends. last_id: in that memory, the number
 * given out last. Returns 0 or -errno.
 */
int lock_join(int fd, _Atomic uint32_t *last_id, struct lock_owner *ret)
{
	for (unsigned i = 0; i < JOIN_MAX; i++) {
		uint32_t id = (atomic_fetch_add(last_id, 1) + 1) & ID_MASK;
		struct flock f = byte_of(id);

		if (id == 0)
			continue;
		if (fcntl(fd, F_SETLK, &f) == 0) {
			*ret = (struct lock_owner){.fd = fd, .id = id};
			return 0;
		}
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
	}
	return -EUSERS;
}

/* Whether the process with that number lives. Not to be asked about one's own: the kernel reports the locks of others alone. */
bool lock_is_alive(int fd, uint32_t id)
{
	struct flock f = byte_of(id & ID_MASK);

	return fcntl(fd, F_GETLK, &f) < 0 || f.l_type != F_UNLCK;
}

static bool is_alive(const struct lock_owner *o, uint32_t id)
{
	return id == o->id /* another thread of ours */ || lock_is_alive(o->fd, id);
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t us)
{
	struct timespec ts = {(time_t)(us / US_PER_S), (long)(us % US_PER_S * 1000)};

	syscall(SYS_futex, word, FUTEX_WAIT, value, &ts, NULL, 0);
}

/* Returns whether it was given back while we looked. */
static bool spin(_Atomic uint32_t *word)
{
	for (unsigned i = 0; i < SPIN_MAX; i++) {
		if ((atomic_load_explicit(word, memory_order_relaxed) & ID_MASK) == 0)
			return true;
#if defined(__x86_64__) || defined(__i386__)
		__builtin_ia32_pause();
#endif
	}
	return false;
}

/* Sleeps until it may be worth another look, until the deadline at the longest. */
static void sleep_on(_Atomic uint32_t *word, uint32_t seen, uint64_t left_us)
{
	if (!(seen & WAITERS) && !atomic_compare_exchange_strong(word, &seen, seen | WAITERS))
		return;
	futex_wait(word, seen | WAITERS, left_us < LOOK_US ? left_us : LOOK_US);
}

static int lock_wait(const struct lock_owner *o, _Atomic uint32_t *word, uint64_t timeout_us)
{
	uint64_t deadline = now_us() + (timeout_us < FOREVER_US ? timeout_us : FOREVER_US), now;
	uint32_t waiters =
		0; /* once we have slept others may, too, and the one who woke us has forgotten them */

	for (;;) {
		uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
		bool is_free = (seen & ID_MASK) == 0;

		if (is_free || !is_alive(o, seen & ID_MASK)) {
			if (atomic_compare_exchange_strong(
				    word, &seen, o->id | waiters | (seen & WAITERS)))
				return is_free ? 0 : LOCK_OWNER_DIED;
		}
		now = now_us();
		if (now >= deadline)
			return timeout_us > 0 ? -ETIMEDOUT : -EBUSY;
		if (is_free || spin(word))
			continue;
		sleep_on(word, seen, deadline - now);
		waiters = WAITERS;
	}
}

/*
 * Takes a lock, waiting for at most timeout_us. Not recursive: who has it and asks again waits. Returns 0; LOCK_OWNER_DIED; or
 * -EBUSY without a timeout, -ETIMEDOUT with one.
 */
int lock_take(const struct lock_owner *o, _Atomic uint32_t *word, uint64_t timeout_us)
{
	uint32_t seen = 0;

	if (atomic_compare_exchange_strong_explicit(
		    word, &seen, o->id, memory_order_acquire, memory_order_relaxed))
		return 0;
	return lock_wait(o, word, timeout_us);
}

/* Gives it back. Returns 0, or -EPERM when this process does not hold it (any more). */
int lock_give(const struct lock_owner *o, _Atomic uint32_t *word)
{
	uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);

	do {
		if ((seen & ID_MASK) != o->id)
			return -EPERM;
	} while (!atomic_compare_exchange_weak_explicit(
		word, &seen, 0, memory_order_release, memory_order_relaxed));
	if (seen & WAITERS)
		syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
	return 0;
}

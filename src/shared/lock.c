/*
 * Robust locks. Workers, and their threads.
 *
 * Why not PTHREAD_MUTEX_ROBUST: glibc keeps the list of the mutexes that a thread holds in those mutexes, and follows its
 * pointers when one is unlocked. One process that writes garbage there would have the others write through wild pointers.
 * Here the word in shared memory is a number that is looked up, never followed.
 *
 * Each process has a number that no other one gets, and for as long as it lives a record lock (fcntl(2)) on the byte
 * with that number of the file behind the memory; the kernel takes it away when the last thread of the process has ended. The
 * word of a lock is the number of its holder, so whoever finds it taken can ask the kernel whether the holder lives. Taking and
 * giving back a lock that nobody else wants is one atomic operation each.
 *
 * The record lock belongs to an opening of the file that is the process's own (F_OFD_SETLK). One that belongs to the process
 * (F_SETLK) would be gone as soon as the process closes any descriptor of the file, such as one that came with a message. A
 * child shares the opening, and would keep its dead parent's lock; so it is closed in whatever is forked, which must not
 * take locks.
 */
#include "shared/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define WAITERS  UINT32_C(0x80000000) /* somebody sleeps until it is given back */
#define ID_MASK  UINT32_C(0x1fffffff)
#define JOIN_MAX 16384 /* attempts; more than there can be processes */
#define SPIN_MAX \
	100 /* looks at a lock that is held before going to sleep: most are held for less */
#define FOREVER_US (UINT64_C(366) * 86400 * US_PER_S)
#define LOOK_US    5000 /* a sleeper looks this often whether the holder still lives */
#define OWN_MAX    16   /* memories that a process takes locks in; one is usual */

/* Descriptors of openings that are this process's own; -1: a free place. Written by one thread at a time. */
static int own_fds[OWN_MAX];
static size_t n_own_fds;

/* In a process that was forked. */
static void close_own(void)
{
	for (size_t i = 0; i < n_own_fds; i++) {
		if (own_fds[i] >= 0)
			close(own_fds[i]);
	}
	n_own_fds = 0;
}

/* Has it closed in what is forked. Returns whether there was room. */
static bool note_own(int fd)
{
	static bool prepared;
	size_t i = 0;

	while (i < n_own_fds && own_fds[i] >= 0)
		i++;
	if (i == OWN_MAX || (!prepared && pthread_atfork(NULL, NULL, close_own) != 0))
		return false;
	prepared = true;
	own_fds[i] = fd;
	if (i == n_own_fds)
		n_own_fds++;
	return true;
}

/* Opens the file anew. Returns a descriptor, or -1 where there is no /proc. */
static int open_own(int fd)
{
	CLEANUP(closep) int own = -1;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, O_RDWR | O_CLOEXEC);
	return own >= 0 && note_own(own) ? take_fd(&own) : -1;
}

static struct flock byte_of(uint32_t id)
{
	return (struct flock){
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)id, .l_len = 1};
}

/* Finds a number that nobody else has. command: how to lock its byte. Returns it, or -errno. */
static int64_t find_number(int fd, int command, _Atomic uint32_t *last_id)
{
	for (unsigned i = 0; i < JOIN_MAX; i++) {
		uint32_t id = (atomic_fetch_add(last_id, 1) + 1) & ID_MASK;
		struct flock f = byte_of(id);

		if (id == 0)
			continue;
		if (fcntl(fd, command, &f) == 0)
			return id;
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
	}
	return -EUSERS;
}

/*
 * Makes the calling process one that takes locks in the memory of a file, until it ends or calls lock_leave(). last_id: in that
 * memory, the number given out last. One thread at a time. Returns 0 or -errno.
 */
int lock_join(int fd, _Atomic uint32_t *last_id, struct lock_owner *ret)
{
	int own = open_own(fd);
	struct lock_owner o = {.fd = own >= 0 ? own : fd, .is_own = own >= 0};
	int64_t id = find_number(o.fd, own >= 0 ? F_OFD_SETLK : F_SETLK, last_id);

	if (id < 0) {
		lock_leave(&o);
		return (int)id;
	}
	o.id = (uint32_t)id;
	*ret = o;
	return 0;
}

/* Locks that it still has are those of a dead holder from here on. One thread at a time. */
void lock_leave(struct lock_owner *o)
{
	struct flock f = byte_of(o->id);

	if (!o->is_own) {
		f.l_type = F_UNLCK;
		if (o->id != 0)
			fcntl(o->fd, F_SETLK, &f);
		return;
	}
	for (size_t i = 0; i < n_own_fds; i++) {
		if (own_fds[i] == o->fd)
			own_fds[i] = -1;
	}
	close(o->fd);
}

/*
 * Whether the process with that number lives. Not to be asked about one's own: where that is no opening of its own, the kernel
 * reports the locks of others alone.
 */
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

/* Unit test of shared/arena.c: names, sizes, several processes, deaths in the directory's lock, garbage everywhere. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/arena.h"
#include "run.h"

#define SIZE (UINT64_C(1) << 20)

/* As arena.c lays it out. */
#define LOCK_OFFSET  64
#define N_OFFSET     72
#define ENTRY_OFFSET 128
#define ENTRY_SIZE   128
#define FIRST        ((size_t)135168) /* area */

static struct arena *arena;
static unsigned char *raw; /* all of it, as somebody sees it who keeps to no rules */
static int fd;
static char why[ARENA_WHY_MAX];

static void setup(void)
{
	ck_assert_int_eq(arena_new(SIZE, &fd), 0);
	ck_assert_int_eq(arena_attach(fd, &arena), 0);
	raw = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(raw, MAP_FAILED);
	*why = '\0';
}

static void teardown(void)
{
	munmap(raw, SIZE);
	arena = arena_detach(arena);
	ck_assert_ptr_null(arena);
	close(fd);
}

static int find_in(struct arena *a, const char *name, size_t size, struct tine_shared **ret)
{
	struct arena_request q = {.name = name, .kind = ARENA_AREA, .size = size};

	return arena_find(a, &q, ret, why);
}

static struct tine_shared *find(const char *name, size_t size)
{
	struct tine_shared *s = NULL;

	ck_assert_msg(find_in(arena, name, size, &s) == 0, "%s", why);
	return s;
}

static int find_fails(const char *name, size_t size)
{
	struct tine_shared *s = NULL;
	int r;

	*why = '\0';
	r = find_in(arena, name, size, &s);
	ck_assert_int_lt(r, 0);
	ck_assert_ptr_null(s);
	return r;
}

static struct arena_figures look(void)
{
	struct arena_figures f;
	const void *base;
	uint64_t size;

	ck_assert_int_eq(arena_map(fd, &base, &size), 0);
	arena_look(base, size, &f);
	munmap((void *)(uintptr_t)base, size);
	return f;
}

static uint64_t allocated(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

START_TEST(test_find)
{
	struct tine_shared *a = find("a", 100), *b = find("b", 1);

	ck_assert_uint_eq(a->size, 100);
	ck_assert_uint_eq((uintptr_t)a->data % 64, 0);
	ck_assert_uint_ge((uintptr_t)b->data, (uintptr_t)a->data + 100);
	ck_assert_ptr_eq(find("a", 100), a);
	for (size_t i = 0; i < 100; i++)
		ck_assert_uint_eq(((unsigned char *)a->data)[i], 0);
	ck_assert_int_eq(lock_take(a->owner, a->lock, 0), 0);
	ck_assert_int_eq(lock_take(b->owner, b->lock, 0), 0); /* each has its own */
	ck_assert_int_eq(lock_take(a->owner, a->lock, 0), -EBUSY);
	ck_assert_int_eq(lock_give(a->owner, a->lock), 0);
	ck_assert_int_eq(lock_give(b->owner, b->lock), 0);
}
END_TEST

START_TEST(test_what_is_refused)
{
	static const char *const names[] = {"", "a b", "a#", "ä", "a\n",
		"0123456789012345678901234567890123456789012345678901234567890123"};
	struct arena_request counter = {.name = "a", .kind = ARENA_COUNTER, .size = 100};
	struct tine_shared *s = NULL;

	find("a", 100);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		ck_assert_int_eq(find_fails(names[i], 1), -EINVAL);
		ck_assert_ptr_nonnull(strstr(why, "is no name"));
	}
	ck_assert_int_eq(find_fails("empty", 0), -EINVAL);
	ck_assert_int_eq(find_fails("a", 101), -EEXIST);
	ck_assert_str_eq(why,
		"shared memory: \"a\" has 100 bytes already, not 101; choose another "
		"name, or restart tined");
	ck_assert_int_eq(arena_find(arena, &counter, &s, why), -EEXIST);
	ck_assert_str_eq(why,
		"shared memory: \"a\" is an area already, not a counter; choose "
		"another name");
	ck_assert_uint_eq(look().n_areas, 1);
	find("012345678901234567890123456789012345678901234567890123456789012", 1); /* 63 */
	find("A-z_0.9:/", 1);
}
END_TEST

START_TEST(test_full)
{
	uint64_t left = SIZE - look().used;

	ck_assert_int_eq(find_fails("all", left + 1), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why, "raise [workers] shared_memory and restart"));
	ck_assert_int_eq(find_fails("all", SIZE_MAX), -ENOSPC);
	ck_assert_int_eq(find_fails("all", SIZE_MAX - 63), -ENOSPC);
	memset(find("all", left)->data, 1, left);
	ck_assert_int_eq(find_fails("more", 1), -ENOSPC);
	ck_assert_uint_eq(look().used, SIZE);
	find("all", left); /* what is there is found */
}
END_TEST

START_TEST(test_last_area_need_not_fill_a_line)
{
	uint64_t left = SIZE - look().used;

	find("all", left - 63);
	ck_assert_int_eq(find_fails("more", 1), -ENOSPC);
	ck_assert(!look().damaged);
}
END_TEST

START_TEST(test_many_names)
{
	char name[16];

	for (int i = 0; i < ARENA_AREAS; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		find(name, 1);
	}
	ck_assert_int_eq(find_fails("more", 1), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why, "there are 1024 already"));
	ck_assert_uint_eq(look().n_areas, ARENA_AREAS);
	find("n1023", 1);
}
END_TEST

/* What is not used costs nothing, and nobody can make it larger or smaller. */
START_TEST(test_file)
{
	int large;

	ck_assert_uint_le(allocated(), 2 * 4096);
	find("a", SIZE / 2);
	ck_assert_uint_le(allocated(), 2 * 4096);
	*(char *)find("a", SIZE / 2)->data = 1;
	ck_assert_uint_le(allocated(), 3 * 4096);
	ck_assert_int_eq(ftruncate(fd, 4096), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(ftruncate(fd, 2 * SIZE), -1);
	ck_assert_int_eq(arena_new(1000, &large), -EINVAL);
	ck_assert_int_eq(arena_new(UINT64_MAX, &large), -EINVAL);
	ck_assert_int_eq(arena_new(UINT64_C(1) << 40, &large), 0); /* of memory nobody has */
	close(large);
	ck_assert_int_eq(arena_attach(-1, &arena), -EBADF);
}
END_TEST

/* As by a process that is executed with it. */
START_TEST(test_adopt)
{
	int other = dup(fd), plain = memfd_create("plain", MFD_CLOEXEC);

	ck_assert_int_eq(arena_adopt(other, ARENA_LAYOUT, SIZE), 0);
	ck_assert_int_eq(fcntl(other, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(arena_adopt(other, ARENA_LAYOUT, SIZE - 1), 0); /* it fills pages */
	ck_assert_int_eq(arena_adopt(other, ARENA_LAYOUT + 1, SIZE), -EPROTO);
	ck_assert_int_eq(arena_adopt(other, ARENA_LAYOUT, 2 * SIZE), -EFBIG);
	ck_assert_int_eq(ftruncate(plain, SIZE), 0);
	ck_assert_int_eq(arena_adopt(plain, ARENA_LAYOUT, SIZE), -EFBIG); /* not sealed */
	ck_assert_int_eq(arena_adopt(-1, ARENA_LAYOUT, SIZE), -EBADF);
	close(plain);
	plain = dup(STDERR_FILENO);
	ck_assert_int_lt(arena_adopt(plain, ARENA_LAYOUT, SIZE), 0);
	close(plain);
	close(other);
}
END_TEST

/* --- processes --- */

static pid_t run(void (*fn)(struct arena *a))
{
	pid_t pid = fork();
	struct arena *a;

	ck_assert_int_ge(pid, 0);
	if (pid > 0)
		return pid;
	if (arena_attach(fd, &a) < 0)
		_exit(EXIT_FAILURE);
	fn(a);
	_exit(EXIT_SUCCESS);
}

static void wait_for(pid_t pid, int status_expected)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, status_expected);
}

#define N_PROCESSES 4
#define N_SHARED    200

static void find_many(struct arena *a)
{
	struct tine_shared *s;
	char name[16];

	for (int i = 0; i < N_SHARED; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		if (find_in(a, name, 1 + (size_t)i * 10, &s) < 0)
			_exit(EXIT_FAILURE);
		__atomic_fetch_add((unsigned char *)s->data, 1, __ATOMIC_RELAXED);
	}
}

/* Somebody has locked every number there is: who uses no shared memory does not notice. */
START_TEST(test_no_numbers_left)
{
	struct flock f = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct tine_shared *s;
	struct arena *late = NULL;
	int status, ready[2];
	pid_t pid;
	char byte;

	arena_detach(arena);
	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (fcntl(fd, F_SETLK, &f) < 0 || write(ready[1], "", 1) != 1)
			_exit(EXIT_FAILURE);
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	ck_assert_int_eq(arena_attach(fd, &late), 0);
	ck_assert_int_eq(find_in(late, "a", 1, &s), -EUSERS);
	ck_assert_ptr_nonnull(strstr(why, "\"a\""));
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(find_in(late, "a", 1, &s), 0);
	arena = late; /* for teardown() */
	close(ready[0]);
	close(ready[1]);
}
END_TEST

/* All at the same time: one makes each, all find it. */
START_TEST(test_processes_find_the_same)
{
	pid_t pids[N_PROCESSES];
	char name[16];

	for (int i = 0; i < N_PROCESSES; i++)
		pids[i] = run(find_many);
	for (int i = 0; i < N_PROCESSES; i++)
		wait_for(pids[i], 0);
	ck_assert_uint_eq(look().n_areas, N_SHARED);
	for (int i = 0; i < N_SHARED; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ck_assert_uint_eq(
			*(unsigned char *)find(name, 1 + (size_t)i * 10)->data, N_PROCESSES);
	}
}
END_TEST

static void die_in_directory(struct arena *a)
{
	struct lock_owner o;

	if (lock_join(fd, (_Atomic uint32_t *)(raw + LOCK_OFFSET + 4), &o) < 0 ||
		lock_take(&o, (_Atomic uint32_t *)(raw + LOCK_OFFSET), 1000000) < 0)
		_exit(EXIT_FAILURE);
	memset(raw + ENTRY_OFFSET + ENTRY_SIZE, 'x', ENTRY_SIZE / 2); /* half of the second one */
	raise(SIGKILL);
}

START_TEST(test_death_in_the_directory)
{
	struct tine_shared *a = find("a", 10);

	wait_for(run(die_in_directory), SIGKILL);
	ck_assert_ptr_eq(find("a", 10), a);
	find("b", 10);
	ck_assert_uint_eq(look().n_areas, 2);
	ck_assert(!look().damaged);
}
END_TEST

static void die_in_area(struct arena *a)
{
	struct tine_shared *s;

	if (find_in(a, "a", 10, &s) < 0 || lock_take(s->owner, s->lock, 1000000) < 0)
		_exit(EXIT_FAILURE);
	raise(SIGKILL);
}

START_TEST(test_death_in_an_area)
{
	struct tine_shared *a = find("a", 10);

	wait_for(run(die_in_area), SIGKILL);
	ck_assert_int_eq(lock_take(a->owner, a->lock, 0), LOCK_OWNER_DIED);
	ck_assert_int_eq(lock_give(a->owner, a->lock), 0);
}
END_TEST

/* Makes areas until it is killed, or there are no more. */
static void make_areas(struct arena *a)
{
	struct tine_shared *s;
	char name[32];

	for (int i = 0;; i++) {
		snprintf(name, sizeof(name), "p%d-%d", (int)getpid(), i);
		find_in(a, name, 1, &s);
	}
}

/* Killed anywhere: the directory stays as it should be. */
START_TEST(test_killed_anywhere)
{
	for (uint32_t n = look().n_areas; n < ARENA_AREAS - 50; n = look().n_areas) {
		pid_t pid = run(make_areas);

		while (look().n_areas < n + 20)
			sched_yield();
		kill(pid, SIGKILL);
		wait_for(pid, SIGKILL);
		ck_assert(!look().damaged);
		find("mine", 1);
	}
}
END_TEST

/* A living one that never gives it back: an error, in about a second. */
static void hold_directory(struct arena *a)
{
	struct lock_owner o;

	if (lock_join(fd, (_Atomic uint32_t *)(raw + LOCK_OFFSET + 4), &o) < 0 ||
		lock_take(&o, (_Atomic uint32_t *)(raw + LOCK_OFFSET), 1000000) < 0)
		_exit(EXIT_FAILURE);
	raw[SIZE - 1] = 1;
	for (;;)
		pause();
}

START_TEST(test_directory_held)
{
	pid_t pid = run(hold_directory);

	while (!((volatile unsigned char *)raw)[SIZE - 1])
		sched_yield();
	ck_assert_int_eq(find_fails("a", 1), -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(why, "keeps its directory locked"));
	kill(pid, SIGKILL);
	wait_for(pid, SIGKILL);
	find("a", 1);
}
END_TEST

/* --- garbage --- */

/* Every byte of the head and of two entries, changed: it is told, and put right again it is found again. */
START_TEST(test_every_byte_counts)
{
	const size_t n_used = ENTRY_OFFSET + 2 * ENTRY_SIZE;
	unsigned n_told = 0;

	find("a", 10);
	find("b", 20);
	for (size_t i = 0; i < n_used; i++) {
		bool in_sums =
			i < 48 || (i >= ENTRY_OFFSET && (i - ENTRY_OFFSET) % ENTRY_SIZE < 116);
		struct tine_shared *s;
		int r;

		if (i >= LOCK_OFFSET && i < LOCK_OFFSET + 4)
			continue; /* the lock's word: test_lock.c */
		raw[i] ^= 0x40;
		r = find_in(arena, "b", 20, &s);
		ck_assert(r == 0 || r == -EUCLEAN);
		if (in_sums) {
			ck_assert_int_eq(r, -EUCLEAN);
			ck_assert_ptr_nonnull(strstr(why, "restart tined"));
			ck_assert(look().damaged);
		}
		n_told += r != 0;
		raw[i] ^= 0x40;
	}
	ck_assert_uint_ge(n_told, 48 + 2 * 116);
	find("b", 20);
	ck_assert(!look().damaged);
}
END_TEST

/* Entries that are in order by themselves, but not there. */
/* Their number alone is lost: no area is given away twice. */
START_TEST(test_number_of_entries_lost)
{
	struct tine_shared *a = find("a", 10), *b = find("b", 10), *c;

	for (uint32_t n = 0; n < 2; n++) {
		memcpy(raw + N_OFFSET, &n, sizeof(n));
		c = find(n == 0 ? "c" : "d", 10);
		ck_assert_ptr_ne(c->data, a->data);
		ck_assert_ptr_ne(c->data, b->data);
		memcpy(raw + N_OFFSET, &n, sizeof(n));
		ck_assert_ptr_eq(find("a", 10), a);
		ck_assert_ptr_eq(find("b", 10), b);
	}
	find("e", 10);
	ck_assert_uint_eq(look().n_areas, 5);
	ck_assert(!look().damaged);
}
END_TEST

START_TEST(test_misplaced_entries)
{
	unsigned char first[ENTRY_SIZE];

	find("a", 10);
	find("b", 10);
	memcpy(first, raw + ENTRY_OFFSET, ENTRY_SIZE);
	memcpy(raw + ENTRY_OFFSET + ENTRY_SIZE, first, ENTRY_SIZE); /* two areas in one place */
	ck_assert_int_eq(find_fails("b", 10), -EUCLEAN);
	ck_assert_int_eq(find_fails("a", 10), -EUCLEAN);
	ck_assert_uint_eq(look().n_areas, 1);
	ck_assert(look().damaged);
}
END_TEST

/* Noise all over the directory: never a crash, and never an area outside the arena. */
START_TEST(test_noise)
{
	unsigned seed = 1;

	for (int i = 0; i < 2000; i++) {
		struct tine_shared *s = NULL;

		for (size_t j = 0; j < ENTRY_OFFSET + 8 * ENTRY_SIZE; j++) {
			seed = seed * 1664525 + 1013904223;
			if (i % 2 == 0 || seed >> 28 == 0)
				raw[j] = (unsigned char)(seed >> 24);
		}
		memset(raw + LOCK_OFFSET, 0, 4); /* which might name us, and have us wait */
		if (i % 3 == 0)
			memset(raw + N_OFFSET, 0, 4);
		find_in(arena, "b", 20, &s);
		if (s)
			memset(s->data, 0, s->size); /* it is there */
		look();
	}
	memset(raw, 0xff, FIRST);
	ck_assert_int_eq(find_fails("a", 1), -EUCLEAN);
	memset(raw, 0, FIRST);
	ck_assert_int_eq(find_fails("a", 1), -EUCLEAN);
}
END_TEST

/* A worker may come to what is nothing but garbage: it starts, and is told when it asks. */
START_TEST(test_attach_to_garbage)
{
	struct arena *late = NULL;
	struct tine_shared *s;

	memset(raw, 0xff, SIZE);
	ck_assert_int_eq(arena_attach(fd, &late), 0);
	ck_assert_int_eq(find_in(late, "a", 1, &s), -EUCLEAN);
	arena_detach(late);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_find);
	tcase_add_test(tc, test_what_is_refused);
	tcase_add_test(tc, test_full);
	tcase_add_test(tc, test_last_area_need_not_fill_a_line);
	tcase_add_test(tc, test_many_names);
	tcase_add_test(tc, test_file);
	tcase_add_test(tc, test_adopt);
	tcase_add_test(tc, test_no_numbers_left);
	tcase_add_test(tc, test_processes_find_the_same);
	tcase_add_test(tc, test_death_in_the_directory);
	tcase_add_test(tc, test_death_in_an_area);
	tcase_add_test(tc, test_killed_anywhere);
	tcase_add_test(tc, test_directory_held);
	tcase_add_test(tc, test_every_byte_counts);
	tcase_add_test(tc, test_number_of_entries_lost);
	tcase_add_test(tc, test_misplaced_entries);
	tcase_add_test(tc, test_noise);
	tcase_add_test(tc, test_attach_to_garbage);
}

int main(void)
{
	return run_tests("arena", add);
}

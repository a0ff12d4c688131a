/* Unit test of shared/lock.c: several processes, holders that are killed, garbage in the word. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shared/lock.h"
#include "run.h"

#define LONG_US (30 * US_PER_S) /* never reached when all is well */

/* What the processes of a test share. */
static struct memory {
	_Atomic uint32_t last_id;
	_Atomic uint32_t word;
	_Atomic int step;   /* for tests to say how far they are */
	_Atomic int inside; /* how many believe to have the lock */
	_Atomic int n_wrong;
	_Atomic int n_died; /* times that LOCK_OWNER_DIED was seen */
	uint64_t counter;   /* under the lock */
} * m;

static struct lock_owner me;
static int fd;

static void setup(void)
{
	fd = memfd_create("test", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, sizeof(*m)), 0);
	m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(m, MAP_FAILED);
	ck_assert_int_eq(lock_join(fd, &m->last_id, &me), 0);
}

static void teardown(void)
{
	lock_leave(&me);
	munmap(m, sizeof(*m));
	close(fd);
}

/* Runs fn in a process of its own that may take locks. */
static pid_t run(void (*fn)(const struct lock_owner *o))
{
	pid_t pid = fork();
	struct lock_owner o;

	ck_assert_int_ge(pid, 0);
	if (pid > 0)
		return pid;
	if (lock_join(fd, &m->last_id, &o) < 0)
		_exit(EXIT_FAILURE);
	fn(&o);
	_exit(EXIT_SUCCESS);
}

static void wait_for(pid_t pid, int status_expected)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, status_expected);
}

static void wait_step(int step)
{
	while (m->step < step)
		sched_yield();
}

static void hold_forever(const struct lock_owner *o)
{
	if (lock_take(o, &m->word, LONG_US) < 0)
		_exit(EXIT_FAILURE);
	m->step = 1;
	for (;;)
		pause();
}

static void kill_and_wait(pid_t pid)
{
	kill(pid, SIGKILL);
	wait_for(pid, SIGKILL);
}

START_TEST(test_take_and_give)
{
	ck_assert_int_eq(lock_take(&me, &m->word, 0), 0);
	ck_assert_int_eq(lock_take(&me, &m->word, 0), -EBUSY); /* not recursive */
	ck_assert_int_eq(lock_take(&me, &m->word, 1), -ETIMEDOUT);
	ck_assert_int_eq(lock_give(&me, &m->word), 0);
	ck_assert_int_eq(lock_give(&me, &m->word), -EPERM);
	ck_assert_uint_eq(m->word, 0);
	ck_assert_int_eq(lock_take(&me, &m->word, LONG_US), 0);
	ck_assert_int_eq(lock_give(&me, &m->word), 0);
}
END_TEST

static void hold_shortly(const struct lock_owner *o)
{
	if (lock_take(o, &m->word, LONG_US) < 0)
		_exit(EXIT_FAILURE);
	m->step = 1;
	while (!(m->word & 0x80000000)) /* until somebody sleeps */
		sched_yield();
	lock_give(o, &m->word);
}

START_TEST(test_for_ever)
{
	pid_t pid = run(hold_shortly);

	wait_step(1);
	ck_assert_int_eq(lock_take(&me, &m->word, UINT64_MAX), 0);
	ck_assert_int_eq(lock_give(&me, &m->word), 0);
	wait_for(pid, 0);
}
END_TEST

START_TEST(test_a_living_holder_keeps_it)
{
	pid_t pid = run(hold_forever);

	wait_step(1);
	ck_assert_int_eq(lock_take(&me, &m->word, 0), -EBUSY);
	ck_assert_int_eq(lock_take(&me, &m->word, 20 * US_PER_MS), -ETIMEDOUT);
	ck_assert_int_eq(lock_give(&me, &m->word), -EPERM);
	kill(pid, SIGSTOP); /* stopped is not dead */
	ck_assert_int_eq(lock_take(&me, &m->word, 20 * US_PER_MS), -ETIMEDOUT);
	kill_and_wait(pid);
}
END_TEST

START_TEST(test_a_dead_holder_is_told)
{
	pid_t pid = run(hold_forever);

	wait_step(1);
	kill_and_wait(pid);
	ck_assert_int_eq(lock_take(&me, &m->word, 0), LOCK_OWNER_DIED);
	ck_assert_int_eq(lock_take(&me, &m->word, 0), -EBUSY);
	ck_assert_int_eq(lock_give(&me, &m->word), 0);
	ck_assert_int_eq(lock_take(&me, &m->word, 0), 0); /* told once */
	ck_assert_int_eq(lock_give(&me, &m->word), 0);
}
END_TEST

static void kill_the_holder(const struct lock_owner *o)
{
	while (!(m->word & 0x80000000)) /* until somebody sleeps */
		sched_yield();
	kill((pid_t)m->counter, SIGKILL);
}

/* It dies while we sleep: nobody wakes us but we ourselves. */
START_TEST(test_a_sleeper_notices)
{
	pid_t holder = run(hold_forever), killer;

	wait_step(1);
	m->counter = (uint64_t)holder;
	killer = run(kill_the_holder);
	ck_assert_int_eq(lock_take(&me, &m->word, LONG_US), LOCK_OWNER_DIED);
	ck_assert_int_eq(lock_give(&me, &m->word), 0);
	wait_for(holder, SIGKILL);
	wait_for(killer, 0);
}
END_TEST

#define N_HANDOVERS 8000

/* Holds it until somebody sleeps for it, again and again. */
static void hand_over(const struct lock_owner *o)
{
	for (int i = 0; i < N_HANDOVERS; i++) {
		if (lock_take(o, &m->word, LONG_US) != 0)
			_exit(EXIT_FAILURE);
		while (!(m->word & 0x80000000) && m->step == 0)
			sched_yield();
		usleep(50); /* so that it does sleep, more often than not */
		lock_give(o, &m->word);
	}
	m->step = 1;
}

/* Who sleeps is woken: without that each of these would take milliseconds, and the test longer than it may. */
START_TEST(test_sleepers_are_woken)
{
	pid_t a = run(hand_over), b = run(hand_over);

	wait_for(a, 0);
	wait_for(b, 0);
}
END_TEST

static void take_after_a_sleep(const struct lock_owner *o)
{
	m->step = 1;
	if (lock_take(o, &m->word, LONG_US) != 0 || !(m->word & 0x80000000))
		_exit(EXIT_FAILURE);
	lock_give(o, &m->word);
}

/* Who was woken takes care of those who sleep beside him: he cannot know that there are none. */
START_TEST(test_who_was_woken_wakes_the_next)
{
	pid_t pid;

	ck_assert_int_eq(lock_take(&me, &m->word, 0), 0);
	pid = run(take_after_a_sleep);
	while (!(m->word & 0x80000000))
		sched_yield();
	ck_assert_int_eq(lock_give(&me, &m->word), 0);
	wait_for(pid, 0);
}
END_TEST

static void take_after_the_dead(const struct lock_owner *o)
{
	if (lock_take(o, &m->word, LONG_US) == LOCK_OWNER_DIED)
		raise(SIGKILL); /* and so does the next one */
}

START_TEST(test_one_after_the_other_dies)
{
	pid_t pid = run(hold_forever);

	wait_step(1);
	kill_and_wait(pid);
	for (int i = 0; i < 5; i++)
		wait_for(run(take_after_the_dead), SIGKILL);
	ck_assert_int_eq(lock_take(&me, &m->word, 0), LOCK_OWNER_DIED);
	ck_assert_int_eq(lock_give(&me, &m->word), 0);
}
END_TEST

#define N_PROCESSES 4
#define N_ROUNDS    20000

static void count(const struct lock_owner *o)
{
	for (int i = 0; i < N_ROUNDS; i++) {
		if (lock_take(o, &m->word, LONG_US) != 0)
			_exit(EXIT_FAILURE);
		m->n_wrong += m->inside++ != 0;
		m->counter++; /* not atomic: the lock is what keeps it right */
		m->inside--;
		if (lock_give(o, &m->word) != 0)
			_exit(EXIT_FAILURE);
	}
}

START_TEST(test_processes_exclude_each_other)
{
	pid_t pids[N_PROCESSES];

	for (int i = 0; i < N_PROCESSES; i++)
		pids[i] = run(count);
	for (int i = 0; i < N_PROCESSES; i++)
		wait_for(pids[i], 0);
	ck_assert_int_eq(m->n_wrong, 0);
	ck_assert_uint_eq(m->counter, N_PROCESSES * N_ROUNDS);
	ck_assert_uint_eq(m->word & 0x1fffffff, 0);
}
END_TEST

static void *count_in_thread(void *arg)
{
	count(&me);
	return arg;
}

START_TEST(test_threads_exclude_each_other)
{
	pthread_t threads[N_PROCESSES];

	for (int i = 0; i < N_PROCESSES; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, count_in_thread, NULL), 0);
	for (int i = 0; i < N_PROCESSES; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(m->n_wrong, 0);
	ck_assert_uint_eq(m->counter, N_PROCESSES * N_ROUNDS);
}
END_TEST

/* Counts for ever; whoever finds that the one before died puts `inside` right. */
static void count_until_killed(const struct lock_owner *o)
{
	for (;;) {
		int r = lock_take(o, &m->word, LONG_US);

		if (r < 0)
			_exit(EXIT_FAILURE);
		if (r == LOCK_OWNER_DIED) {
			m->n_died++;
			m->inside = 0;
		}
		m->n_wrong += m->inside++ != 0;
		m->counter++;
		m->inside--;
		lock_give(o, &m->word);
	}
}

/* Killed anywhere, again and again, with others waiting: the lock is always to be had, by one at a time. */
START_TEST(test_killed_anywhere)
{
	pid_t pids[N_PROCESSES];

	for (int i = 0; i < N_PROCESSES; i++)
		pids[i] = run(count_until_killed);
	for (int round = 0; round < 100; round++) {
		uint64_t before = *(volatile uint64_t *)&m->counter;
		int i = round % N_PROCESSES;

		while (*(volatile uint64_t *)&m->counter < before + 100)
			sched_yield();
		kill_and_wait(pids[i]);
		pids[i] = run(count_until_killed);
	}
	for (int i = 0; i < N_PROCESSES; i++)
		kill_and_wait(pids[i]);
	ck_assert_int_eq(m->n_wrong, 0);
	ck_assert_int_gt(m->n_died, 0);
	ck_assert_int_ge(lock_take(&me, &m->word, LONG_US), 0);
	ck_assert_int_eq(lock_give(&me, &m->word), 0);
}
END_TEST

/* Whatever is in the word: no crash, no endless wait, and in the end a lock like any other. */
START_TEST(test_garbage)
{
	uint32_t word = 12345;

	for (int i = 0; i < 100000; i++) {
		int r;

		word = word * 1664525 + 1013904223;
		m->word = word;
		r = lock_take(&me, &m->word, 0);
		if (r == -EBUSY) {
			ck_assert_uint_eq(
				word & 0x1fffffff, me.id); /* alive, for all one can know */
			continue;
		}
		ck_assert(r == 0 || r == LOCK_OWNER_DIED);
		ck_assert_int_eq(lock_take(&me, &m->word, 0), -EBUSY);
		ck_assert_int_eq(lock_give(&me, &m->word), 0);
		ck_assert_uint_eq(m->word, 0);
	}
	m->word = UINT32_MAX; /* written over while we hold it */
	ck_assert_int_eq(lock_give(&me, &m->word), -EPERM);
}
END_TEST

static void hold_and_close_another(const struct lock_owner *o)
{
	if (lock_take(o, &m->word, LONG_US) < 0)
		_exit(EXIT_FAILURE);
	close(dup(
		fd)); /* as when a message brings a descriptor of the same file: plain record locks go with it */
	m->step = 1;
	for (;;)
		pause();
}

/* It is the holder's death that ends a lock, not what else it closes. */
START_TEST(test_a_holder_may_close_other_descriptors)
{
	pid_t pid = run(hold_and_close_another);

	wait_step(1);
	ck_assert_int_eq(lock_take(&me, &m->word, 0), -EBUSY);
	kill_and_wait(pid);
	ck_assert_int_eq(lock_take(&me, &m->word, 0), LOCK_OWNER_DIED);
}
END_TEST

static void hold_and_fork(const struct lock_owner *o)
{
	pid_t pid;

	if (lock_take(o, &m->word, LONG_US) < 0)
		_exit(EXIT_FAILURE);
	pid = fork();
	if (pid == 0) {
		m->step = 1;
		while (m->step < 2)
			sched_yield();
		_exit(EXIT_SUCCESS);
	}
	for (;;)
		pause();
}

/* What a holder has forked does not stand for it. */
START_TEST(test_a_holder_may_leave_children)
{
	pid_t pid = run(hold_and_fork);

	wait_step(1);
	ck_assert_int_eq(lock_take(&me, &m->word, 0), -EBUSY);
	kill_and_wait(pid);
	ck_assert_int_eq(lock_take(&me, &m->word, 0), LOCK_OWNER_DIED);
	m->step = 2;
}
END_TEST

START_TEST(test_leaving)
{
	struct lock_owner other;
	int before = dup(fd), after;

	close(before);
	ck_assert_int_eq(lock_join(fd, &m->last_id, &other), 0);
	ck_assert(lock_is_alive(fd, other.id));
	lock_leave(&other);
	ck_assert(!lock_is_alive(fd, other.id));
	after = dup(fd); /* nothing stays open */
	ck_assert_int_eq(after, before);
	close(after);
}
END_TEST

/* Numbers of the living are never given out twice, whatever the memory says was the last one. */
START_TEST(test_numbers)
{
	struct lock_owner other;
	pid_t pid = run(hold_forever);

	wait_step(1);
	m->last_id = (m->word & 0x1fffffff) - 1;
	ck_assert_int_eq(lock_join(fd, &m->last_id, &other), 0);
	ck_assert_uint_ne(other.id, m->word & 0x1fffffff);
	kill_and_wait(pid);
	m->last_id = UINT32_MAX;
	ck_assert_int_eq(lock_join(fd, &m->last_id, &other), 0);
	ck_assert_uint_gt(other.id, 0);
	ck_assert_uint_le(other.id, 0x1fffffff);
	ck_assert_int_eq(lock_join(-1, &m->last_id, &other), -EBADF);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_take_and_give);
	tcase_add_test(tc, test_for_ever);
	tcase_add_test(tc, test_a_living_holder_keeps_it);
	tcase_add_test(tc, test_a_dead_holder_is_told);
	tcase_add_test(tc, test_a_sleeper_notices);
	tcase_add_test(tc, test_sleepers_are_woken);
	tcase_add_test(tc, test_who_was_woken_wakes_the_next);
	tcase_add_test(tc, test_one_after_the_other_dies);
	tcase_add_test(tc, test_processes_exclude_each_other);
	tcase_add_test(tc, test_threads_exclude_each_other);
	tcase_add_test(tc, test_killed_anywhere);
	tcase_add_test(tc, test_garbage);
	tcase_add_test(tc, test_a_holder_may_close_other_descriptors);
	tcase_add_test(tc, test_a_holder_may_leave_children);
	tcase_add_test(tc, test_leaving);
	tcase_add_test(tc, test_numbers);
}

int main(void)
{
	return run_tests("lock", add);
}

/*
 * Starting processes. On the loop's thread of a process that runs modules, and, between clone(2) and execve(2), in its child.
 *
 * A program is started on a stack of its own in memory shared with this process, which stands still meanwhile (CLONE_VM and
 * CLONE_VFORK): what that costs does not depend on how much memory this process has, and an error comes back by a store. In the
 * child there are nothing but plain system calls: it shares the C library's state with us, of which the wrappers of some calls make
 * more than we may (setresuid(2) would be done by all of our threads). Signals are blocked from before the clone until their
 * dispositions are the default ones, so no handler of ours ever runs in a child.
 *
 * Where memory is not shared in spite of what we ask for (Valgrind makes a fork of it), and for functions, which get a
 * real fork(2), errors come back through a pipe.
 */
#include "runtime/subprocess_launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define STACK_SIZE   (64u << 10)
#define STACK_GUARD  4096
#define KERNEL_SIGS  64 /* signals there are */
#define SIGSET_BYTES 8  /* as the kernel sees a set of them */

/* What parent and child have in common. */
struct start {
	const struct launch *l;
	pid_t parent;
	int report_fd;                  /* -1: memory is shared */
	volatile enum launch_step step; /* where it is */
	volatile int error;             /* a negative errno; 0: it became what it was to be */
};

/* sigaction(2) of the kernel. */
struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

/* --- in the child: system calls only --- */

/* The checks of a sanitizer do not know the stack it runs on, and would call what is not to be called there. */
#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined")))

static IN_CHILD int call(long r)
{
	return r < 0 ? -errno : (int)r;
}

/* Descriptors move to their numbers: first out of each other's way, then into place, where they outlive execve(2). */
static IN_CHILD int place_fds(const struct launch *l)
{
	int fds[LAUNCH_FDS_MAX];

	for (int i = 0; i < l->n_fds; i++) {
		fds[i] = l->fds[i];
		if (fds[i] != i && fds[i] < l->n_fds)
			fds[i] = call(syscall(SYS_fcntl, fds[i], F_DUPFD_CLOEXEC, l->n_fds));
		if (fds[i] < 0)
			return fds[i];
	}
	for (int i = 0; i < l->n_fds; i++) {
		int r = fds[i] == i ? call(syscall(SYS_fcntl, i, F_SETFD, 0))
				    : call(syscall(SYS_dup3, fds[i], i, 0));

		if (r < 0)
			return r;
	}
	return call(syscall(SYS_close_range, l->n_fds, ~0u, CLOSE_RANGE_CLOEXEC));
}

/* The worker's threads know nothing of this: it is the child alone that changes. */
static IN_CHILD int become_user(const struct launch *l)
{
	int r = 0;

	if (!l->uid && !l->gid)
		return 0;
	if (syscall(SYS_geteuid) == 0)
		r = call(syscall(SYS_setgroups, 0, NULL));
	if (r == 0 && l->gid)
		r = call(syscall(SYS_setresgid, *l->gid, *l->gid, *l->gid));
	if (r == 0 && l->uid)
		r = call(syscall(SYS_setresuid, *l->uid, *l->uid, *l->uid));
	return r;
}

/* All of them back to what a program expects; those that were ignored would stay so over execve(2). */
static IN_CHILD void reset_signals(void)
{
	const struct kernel_sigaction def = {0};
	uint64_t none = 0;

	for (int sig = 1; sig <= KERNEL_SIGS; sig++) {
		if (sig != SIGKILL && sig != SIGSTOP)
			syscall(SYS_rt_sigaction, sig, &def, NULL, SIGSET_BYTES);
	}
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, SIGSET_BYTES);
}

/* A change of user clears the parent-death signal (prctl(2)), and its parent may die before it is armed. */
static IN_CHILD int arm_death_signal(const struct start *s)
{
	int r = call(syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));

	if (r == 0 && syscall(SYS_getppid) != s->parent)
		r = -ESRCH;
	return r;
}

static IN_CHILD int enter_directory(const struct launch *l)
{
	return l->directory ? call(syscall(SYS_chdir, l->directory)) : 0;
}

static IN_CHILD int prepare(struct start *s)
{
	static int (*const steps[])(const struct launch *l) = {
		[LAUNCH_STREAMS] = place_fds,
		[LAUNCH_USER] = become_user,
		[LAUNCH_DIRECTORY] = enter_directory,
	};
	const struct launch *l = s->l;
	int r = l->own_group ? call(syscall(SYS_setpgid, 0, 0)) : 0;

	for (int step = LAUNCH_STREAMS; r == 0 && step <= LAUNCH_DIRECTORY; step++) {
		s->step = (enum launch_step)step;
		r = steps[step](l);
	}
	if (r < 0)
		return r;
	s->step = LAUNCH_PROCESS;
	r = arm_death_signal(s);
	if (r == 0)
		reset_signals();
	s->step = LAUNCH_PROGRAM;
	return r;
}

/* Tries the paths as execvp(3) does: what may not be executed counts only when nothing else is found. */
static IN_CHILD int execute(const struct launch *l)
{
	int denied = 0, r = -ENOENT;

	for (char **path = l->paths; *path; path++) {
		r = call(syscall(SYS_execve, *path, l->argv, l->environment));
		if (r == -EACCES)
			denied = r;
		else if (r != -ENOENT && r != -ENOTDIR)
			return r;
	}
	return denied ? denied : r;
}

static IN_CHILD void report(struct start *s, int error)
{
	int told[2] = {error, (int)s->step};

	if (s->report_fd >= 0)
		syscall(SYS_write, s->report_fd, told, sizeof(told));
	else
		s->error = error;
}

/* The new process; what it returns is its exit status. */
static IN_CHILD int start_program(void *arg)
{
	struct start *s = arg;
	int r = prepare(s);

	if (r == 0)
		r = execute(s->l);
	report(s, r);
	return 127;
}

/* --- in a fork --- */

/* Never returns. That its end of the pipe is closed tells the parent that it runs. */
static void start_function(struct start *s)
{
	const struct launch *l = s->l;
	int r = prepare(s);

	if (r < 0) {
		report(s, r);
		_exit(127);
	}
	close_range((unsigned)l->n_fds, ~0u, 0); /* no execve(2) will do it */
	_exit(l->function(l->n_fds > 3 ? 3 : -1, l->arg) & 0xff);
}

/* --- in the parent --- */

static IN_CHILD int tell_that_memory_is_shared(void *arg)
{
	*(volatile int *)arg = 1;
	return 0;
}

static int clone_vfork(int (*fn)(void *), char *stack, void *arg, int *ret_pidfd, pid_t *ret_pid)
{
	*ret_pid = clone(fn, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD,
		arg, ret_pidfd);
	return *ret_pid < 0 ? -errno : 0;
}

/* The child's stack, with a page below it that nobody may touch. Made once; a process starts one child at a time. */
static char *child_stack(void)
{
	static char *stack;
	char *p;

	if (stack)
		return stack;
	p = mmap(NULL, STACK_GUARD + STACK_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	mprotect(p, STACK_GUARD, PROT_NONE);
	return stack = p + STACK_GUARD;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Tries once whether a child that is to share our memory does. Returns 1, 0 or -errno. */
static int is_memory_shared(char *stack)
{
	static int known = -1;
	volatile int seen = 0;
	int pidfd = -1;
	pid_t pid;

	if (known < 0) {
		int r = clone_vfork(tell_that_memory_is_shared, stack, (void *)&seen, &pidfd, &pid);

		if (r < 0)
			return r;
		reap(pid);
		close(pidfd);
		known = seen;
	}
	return known;
}

/* Waits until the child has become what it was to be, or has not. */
static void read_report(struct start *s, int fd)
{
	int told[2];
	ssize_t n;

	do {
		n = read(fd, told, sizeof(told));
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(told))
		return;
	s->error = told[0];
	s->step = (enum launch_step)told[1];
}

static int begin_program(struct start *s, int report_fd, pid_t *ret_pid, int *ret_pidfd)
{
	s->report_fd = report_fd;
	return clone_vfork(start_program, child_stack(), s, ret_pidfd, ret_pid);
}

static int begin_function(struct start *s, int report_fd, pid_t *ret_pid, int *ret_pidfd)
{
	int r;

	s->report_fd = report_fd;
	*ret_pid = fork();
	if (*ret_pid == 0)
		start_function(s);
	if (*ret_pid < 0)
		return -errno;
	*ret_pidfd = pidfd_open(*ret_pid, 0); /* not reaped yet: the number is its own */
	if (*ret_pidfd >= 0)
		return 0;
	r = -errno;
	kill(*ret_pid, SIGKILL);
	reap(*ret_pid);
	return r;
}

/* The descriptor of the pipe must not be where the child's own are to be. */
static int open_report(int fds[2])
{
	int high;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	high = fcntl(fds[1], F_DUPFD_CLOEXEC, LAUNCH_FDS_MAX);
	close(fds[1]);
	fds[1] = high;
	if (high >= 0)
		return 0;
	high = -errno;
	close(fds[0]);
	return high;
}

/* Starts it and lets it say through a pipe how that went. */
static int launch_with_pipe(struct start *s,
	int (*begin)(struct start *s, int report_fd, pid_t *ret_pid, int *ret_pidfd),
	pid_t *ret_pid, int *ret_pidfd)
{
	int fds[2], r = open_report(fds);

	if (r < 0)
		return r;
	r = begin(s, fds[1], ret_pid, ret_pidfd);
	close(fds[1]);
	if (r == 0)
		read_report(s, fds[0]);
	close(fds[0]);
	return r;
}

static int launch_blocked(struct start *s, pid_t *ret_pid, int *ret_pidfd)
{
	char *stack;
	int r;

	if (!s->l->paths)
		return launch_with_pipe(s, begin_function, ret_pid, ret_pidfd);
	stack = child_stack();
	if (!stack)
		return -ENOMEM;
	r = is_memory_shared(stack);
	if (r < 0)
		return r;
	return r ? begin_program(s, -1, ret_pid, ret_pidfd)
		 : launch_with_pipe(s, begin_program, ret_pid, ret_pidfd);
}

/*
 * Starts a process. Returns 0 with its number and a descriptor for it, once it runs the program or is about to call the function; or
 * -errno, from wherever it went wrong, which *ret_step says, and nothing is left of it.
 */
int launch(const struct launch *l, pid_t *ret_pid, int *ret_pidfd, enum launch_step *ret_step)
{
	struct start s = {.l = l, .parent = getpid()};
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = launch_blocked(&s, ret_pid, ret_pidfd);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	*ret_step = r < 0 ? LAUNCH_PROCESS : s.step;
	if (r < 0 || s.error == 0)
		return r;
	reap(*ret_pid);
	close(*ret_pidfd);
	return s.error;
}

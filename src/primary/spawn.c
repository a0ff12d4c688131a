/*
 * fork(2) and what the child does before it becomes its role: give up every descriptor, signal disposition and
 * privilege it was not meant to have. Runs in the primary and, after the fork, in the child.
 */
#include "primary/spawn.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#include <sys/resource.h>
#endif

#include "base/cpu.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/title.h"
#include "ipc/lane.h"
#include "primary/farm.h"
#include "primary/primary.h"
#include "primary/proctab.h"
#include "primary/relay.h"
#include "primary/remote.h"
#include "shared/access_log.h"
#include "shared/backtrace.h"
#include "shared/listener.h"

/* Only in the child: nothing is left to return to. */
static void fatal(const char *what, int r)
{
	log_error("%s: %s; exiting", what, strerror(-r));
	_exit(EXIT_FAILURE);
}

/* Which sockets of a listener a child may have: all of a shared one, its own of a reuseport one. */
static size_t own_sockets(const struct listener *l, unsigned index, const int **ret_fds)
{
	if (l->conf->accept == ACCEPT_SHARED) {
		*ret_fds = l->sockets->fds;
		return l->sockets->n_fds;
	}
	*ret_fds = l->sockets->fds + index;
	return index < l->sockets->n_fds ? 1 : 0;
}

static size_t add_listeners(const struct proc *pr, int *ret)
{
	const struct generation *g = pr->gen;
	const int *fds;
	size_t n = 0;

	for (size_t i = 0; i < g->n_listeners; i++) {
		size_t n_own = own_sockets(&g->listeners[i], pr->index, &fds);

		for (size_t j = 0; j < n_own; j++)
			ret[n++] = fds[j];
	}
	return n;
}

static int keep_descriptors(const struct proc *pr, int control_fd, int bus_fd)
{
	const struct generation *g = pr->gen;
	const int *fds;
	size_t n = 0, max = 5;
	int *keep;
	int r;

	if (pr->role == ROLE_ADMIN)
		max += g->admin.sockets->n_fds;
	for (size_t i = 0; i < g->n_listeners; i++)
		max += own_sockets(&g->listeners[i], pr->index, &fds);
	keep = calloc(max, sizeof(*keep));
	if (!keep)
		return -ENOMEM;
	keep[n++] = control_fd;
	if (bus_fd >= 0)
		keep[n++] = bus_fd;
	if (pr->role != ROLE_TASK)
		keep[n++] = pr->primary->arena_fd;
	if (log_keep_fd() >= 0)
		keep[n++] = log_keep_fd();
	if (pr->role == ROLE_ADMIN) {
		for (size_t i = 0; i < g->admin.sockets->n_fds; i++)
			keep[n++] = g->admin.sockets->fds[i];
	} else if (pr->role == ROLE_WORKER) {
		if (g->access_fd > STDERR_FILENO)
			keep[n++] = g->access_fd;
		n += add_listeners(pr, keep + n);
	}
	r = fd_close_except(keep, n);
	free(keep);
	return r;
}

static void reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int drop_privileges(const struct identity *id)
{
	if (!id->set)
		return 0;
	if (setgroups((size_t)id->n_groups, id->groups) < 0 ||
		setresgid(id->gid, id->gid, id->gid) < 0 ||
		setresuid(id->uid, id->uid, id->uid) < 0)
		return -errno;
	if (setuid(0) == 0)
		return -EPERM; /* it came back: the drop did not hold */
	return 0;
}

/* A primary that is not root may have been given capabilities to open its sockets with; children open none. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3] = {0};
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	if (geteuid() == 0)
		return 0; /* by the operator's wish, who has been warned */
	if (syscall(SYS_capget, &header, now) == 0 && memcmp(now, none, sizeof(now)) == 0)
		return 0;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

/* For a child that only computes something for us: everything goes but stderr and one descriptor. */
void spawn_confine_helper(const struct identity *id, int keep)
{
	int r;

	prctl(PR_SET_NAME, "tined-helper", 0, 0, 0);
	r = fd_close_except(&keep, 1);
	if (r == 0)
		r = drop_privileges(id);
	if (r == 0)
		r = drop_capabilities();
	if (r < 0)
		fatal("cannot confine a helper", r);
	reset_signals();
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

/* The order matters: a change of user id clears the parent-death signal and the dumpable flag (prctl(2)). */
static void confine(const struct proc *pr, int control_fd, int bus_fd)
{
	char name[16];
	int r = keep_descriptors(pr, control_fd, bus_fd);

	if (r < 0)
		fatal("cannot close inherited descriptors", r);
	reset_signals();
	if (pr->role == ROLE_WORKER && pr->gen->config->workers.cpu_affinity == AFFINITY_AUTO) {
		r = cpu_pin(pr->index);
		if (r < 0)
			log_warning("cannot bind to a CPU: %s; going on without", strerror(-r));
	}
	r = drop_privileges(&pr->gen->identity);
	if (r == 0)
		r = drop_capabilities();
	if (r < 0)
		fatal("cannot drop privileges", r);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	snprintf(name, sizeof(name), "tined-%s", proc_role_name(pr));
	prctl(PR_SET_NAME, name, 0, 0, 0);
	/* In the middle of a task nobody looks at a signal; and there is nobody left to hear of the result. */
	if (prctl(PR_SET_PDEATHSIG, pr->role == ROLE_TASK ? SIGKILL : SIGTERM, 0, 0, 0) < 0)
		fatal("cannot arm the parent-death signal", -errno);
	if (getppid() != pr->primary->pid)
		_exit(EXIT_FAILURE); /* it died before the signal was armed */
}

/* Workers have no business with the primary's memory; the admin process may look at it. */
static int hide_history(struct history *h, bool readable)
{
	int r = readable ? mprotect(h, sizeof(*h), PROT_READ) : munmap(h, sizeof(*h));

	return r < 0 ? -errno : 0;
}

/* Of the shared memory a child keeps what is for it, and can write to what is its own. */
static void confine_memory(const struct proc *pr)
{
	const struct primary *p = pr->primary;
	int r = hide_history(p->history, pr->role == ROLE_ADMIN);

	if (r == 0)
		r = scoreboard_confine(&p->scoreboard, pr->slot);
	if (r == 0)
		r = backtraces_confine(&p->backtraces, pr->slot);
	if (r == 0)
		r = access_slots_confine(&p->access, pr->slot);
	if (r == 0)
		r = clients_confine(&pr->gen->clients, pr->slot);
	if (r < 0)
		fatal("cannot give shared memory up", r);
}

static child_main_fn main_of(const struct proc *pr)
{
	const struct primary *p = pr->primary;

	if (pr->role == ROLE_ADMIN)
		return p->admin_main;
	if (pr->role == ROLE_TASK)
		return p->task_main;
	return pr->role == ROLE_BRIDGE ? p->bridge_main : p->worker_main;
}

/* Not by exit(3): what was registered for the end of the primary is none of a child's business, but for the search for leaks. */
static _Noreturn void leave(int status)
{
#ifdef __SANITIZE_ADDRESS__
	struct rlimit files = {0};

	/* It needs a few descriptors, and a module may have used up what there were. */
	close_range(STDERR_FILENO + 1, ~0U, 0);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	__lsan_do_leak_check();
#endif
	_exit(status);
}

static void run_child(struct proc *pr, int control_fd, int bus_fd)
{
	const struct primary *p = pr->primary;
	bool is_admin = pr->role == ROLE_ADMIN;
	struct child c = {
		.slot = pr->slot,
		.address = pr->address,
		.machine = remote_machine(relay_remote(p->relay)),
		.index = pr->index,
		.generation = pr->gen->number,
		.config = pr->gen->config,
		.on_trial = pr->on_trial,
		.scoreboard = &p->scoreboard,
		.history = is_admin ? p->history : NULL,
		.listeners = pr->gen->listeners,
		.n_listeners = pr->gen->n_listeners,
		.admin_listener = is_admin ? &pr->gen->admin : NULL,
		.farm = pr->farm ? farm_conf(pr->farm) : NULL,
		.backtrace = &p->backtraces.slots[pr->slot],
		.access = pr->gen->access_fd >= 0 && pr->role == ROLE_WORKER
			? &p->access.slots[pr->slot]
			: NULL,
		.access_fd = pr->gen->access_fd,
		.clients = &pr->gen->clients,
		.control_fd = control_fd,
		.bus_fd = bus_fd,
		.arena_fd = pr->role == ROLE_TASK ? -1 : p->arena_fd,
		.primary = p->pid,
	};

	log_set_name(proc_role_name(pr), (int)pr->slot);
	log_set_fields("TINE_ROLE=%s\nTINE_SLOT=%u\nTINE_GENERATION=%" PRIu64 "\n",
		proc_role_name(pr), pr->slot, pr->gen->number);
	title_set("tined: %s[%u]%s%s", proc_role_name(pr), pr->slot, c.farm ? " " : "",
		c.farm ? c.farm->name : "");
	sched_yield(); /* a start is in no hurry: where CPUs are few, those that serve go first */
	confine_memory(pr); /* needs descriptors that go next */
	sched_yield();
	confine(pr, control_fd, bus_fd);
	sched_yield();
	leave(main_of(pr)(&c));
}

static void clear_slot(const struct proc *pr)
{
	struct sb_slot *sb = &pr->primary->scoreboard.slots[pr->slot];

	scoreboard_clear_slot(sb);
	sb_set(sb->role, (uint32_t)pr->role);
	sb_set(sb->index, pr->index);
	sb_set(sb->address, pr->address);
	sb_set(sb->on_trial, pr->on_trial);
	sb_set(sb->leaving, pr->leaving);
}

/*
 * Forks. In the primary, fills in pid and pidfd and returns 0 with our ends of the lanes, or -errno with nothing
 * left behind. The admin process has no lane to the bus: -1. Does not return in the child.
 */
int spawn(struct proc *pr, int *ret_control_fd, int *ret_bus_fd)
{
	CLEANUP(closep) int control = -1;
	CLEANUP(closep) int control_child = -1;
	CLEANUP(closep) int bus = -1;
	CLEANUP(closep) int bus_child = -1;
	int fds[2];
	int r = lane_pair(LANE_CONTROL, fds);

	if (r < 0)
		return r;
	control = fds[0];
	control_child = fds[1];
	if (pr->role != ROLE_ADMIN) {
		r = lane_pair(LANE_BUS, fds);
		if (r < 0)
			return r;
		bus = fds[0];
		bus_child = fds[1];
	}

	clear_slot(pr);
	backtrace_clear(&pr->primary->backtraces.slots[pr->slot]);
	if (pr->primary->access.slots)
		access_slot_clear(&pr->primary->access.slots[pr->slot]);
	clients_clear(&pr->gen->clients, pr->slot);
	pr->pid = fork();
	if (pr->pid < 0)
		return -errno;
	if (pr->pid == 0)
		run_child(pr, control_child, bus_child);
	/* Not reaped yet, so the number cannot have been given to anybody else. */
	pr->pidfd = pidfd_open(pr->pid, 0);
	if (pr->pidfd < 0) {
		r = -errno;
		kill(pr->pid, SIGKILL);
		waitpid(pr->pid, NULL, 0);
		return r;
	}
	*ret_control_fd = take_fd(&control);
	*ret_bus_fd = take_fd(&bus);
	return 0;
}

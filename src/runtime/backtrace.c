/*
 * The handlers. Everything they call is safe in a signal handler: backtrace(3) takes no locks since glibc 2.35, where
 * libgcc's unwinder asks _dl_find_object(3), once it has been called before.
 */
#include "runtime/backtrace.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "shared/backtrace.h"

#define STACK_SIZE (64u << 10) /* of the handlers: the thread's own may be what overflowed */
#define DEADLINE_S 2           /* for a handler that gets stuck */

#if defined(__x86_64__)
typedef greg_t greg_type;
#else
typedef unsigned long long greg_type;
#endif

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP};
#define N_FATAL (sizeof(fatal) / sizeof(*fatal))

static struct {
	struct backtrace_slot *slot;
	struct sigaction before[N_FATAL];
	char self[512]; /* the path of the executable, which the dynamic linker calls "" */
	volatile sig_atomic_t entered;
} state;

/* Where the context of a signal keeps the program counter; NULL where we do not know. */
static greg_type *pc_of(ucontext_t *uc)
{
#if defined(__x86_64__)
	return &uc->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return &uc->uc_mcontext.pc;
#else
	return NULL;
#endif
}

static bool is_code(uintptr_t address)
{
	struct dl_find_object object;

	return _dl_find_object((void *)address, &object) == 0;
}

/* After a call of a wild pointer: as if it had returned at once, so that the unwinder begins with who called it. */
static void step_out(ucontext_t *uc)
{
#if defined(__x86_64__)
	greg_type *sp = &uc->uc_mcontext.gregs[REG_RSP];

	*pc_of(uc) = *(greg_type *)(uintptr_t)*sp;
	*sp += (greg_type)sizeof(*sp);
#elif defined(__aarch64__)
	uc->uc_mcontext.pc = uc->uc_mcontext.regs[30];
#endif
}

static size_t put_text(char *out, size_t used, size_t size, const char *text)
{
	for (; *text && used < size; text++)
		out[used++] = *text;
	return used;
}

static size_t put_hex(char *out, size_t used, size_t size, uintptr_t n)
{
	char digits[2 * sizeof(n) + 1], *p = digits + sizeof(digits) - 1;

	*p = '\0';
	do
		*--p = "0123456789abcdef"[n & 15];
	while (n >>= 4);
	return put_text(out, used, size, p);
}

/* One line for an address, of which we know the file it was loaded from; returns `used` when it does not fit. */
static size_t put_frame(char *out, size_t used, size_t size, uintptr_t address)
{
	struct dl_find_object object;
	size_t end = used;

	if (_dl_find_object((void *)address, &object) == 0) {
		const struct link_map *map = object.dlfo_link_map;

		end = put_text(out, end, size, *map->l_name ? map->l_name : state.self);
		address -= map->l_addr;
	}
	end = put_text(out, end, size, "+0x");
	end = put_hex(out, end, size, address);
	return end < size ? (out[end] = '\n', end + 1) : used;
}

static void put_frames(uintptr_t pc, size_t used)
{
	struct backtrace_slot *slot = state.slot;
	void *frames[BACKTRACE_FRAMES];
	int n = backtrace(frames, BACKTRACE_FRAMES), first = n;

	for (int i = 0; i < n; i++) {
		if ((uintptr_t)frames[i] == pc)
			first = i + 1;
	}
	for (int i = first; i < n; i++) /* return addresses are those behind the call */
		used = put_frame(slot->text, used, BACKTRACE_TEXT, (uintptr_t)frames[i] - 1);
	atomic_store_explicit(&slot->len, (uint32_t)used, memory_order_release);
}

/*
 * What was called before the signal, without the handler itself. The place alone comes first: on a broken stack, or
 * outside all objects, the unwinder may look at memory that is not there, which is the end of us.
 */
static void write_down(void *context)
{
	struct backtrace_slot *slot = state.slot;
	ucontext_t before, *uc = context;
	uintptr_t pc = pc_of(uc) ? (uintptr_t)*pc_of(uc) : 0;
	size_t used = put_frame(slot->text, 0, BACKTRACE_TEXT, pc);

	atomic_store_explicit(&slot->len, (uint32_t)used, memory_order_release);
	if (is_code(pc)) {
		put_frames(pc, used);
		return;
	}
	before = *uc;
	step_out(uc);
	pc = pc_of(uc) ? (uintptr_t)*pc_of(uc) : 0;
	if (is_code(pc)) {
		used = put_frame(slot->text, used, BACKTRACE_TEXT, pc - 1);
		put_frames(pc, used);
	}
	*uc = before;
}

/* Leaves the signal to what was there before, as if we had not been. */
static void pass_on(int sig, const siginfo_t *si)
{
	for (size_t i = 0; i < N_FATAL; i++) {
		if (fatal[i] == sig)
			sigaction(sig, &state.before[i], NULL);
	}
	if (si->si_code <= 0) /* sent, not caused by an instruction that would be executed again */
		raise(sig);
}

static void on_fatal(int sig, siginfo_t *si, void *context)
{
	int saved_errno = errno;

	if (!state.entered) {
		state.entered = 1;
		alarm(DEADLINE_S);
		write_down(context);
		alarm(0); /* what comes next, a report of a sanitizer say, may take its time */
	}
	pass_on(sig, si);
	errno = saved_errno;
}

static void on_request(int sig, siginfo_t *si, void *context)
{
	int saved_errno = errno;

	if (!state.entered)
		write_down(context);
	errno = saved_errno;
}

static int use_own_stack(void)
{
	stack_t stack = {.ss_size = STACK_SIZE};

	stack.ss_sp =
		mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack.ss_sp == MAP_FAILED)
		return -errno;
	return sigaltstack(&stack, NULL) < 0 ? -errno : 0;
}

/*
 * What the handlers need and cannot do themselves: loads what backtrace(3) calls, finds out our own name. In a process that
 * forks children it does so for all of them, and spares each the page faults.
 */
void backtrace_preload(void)
{
	void *warm[1];

	if (*state.self)
		return;
	backtrace(warm, 1);
	if (readlink("/proc/self/exe", state.self, sizeof(state.self) - 1) < 0)
		*state.self = '\0';
}

/* To be called once, by the thread that runs the loop. Returns 0 or -errno. */
int backtrace_install(struct backtrace_slot *slot)
{
	struct sigaction request = {
		.sa_sigaction = on_request, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	struct sigaction crash = {.sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	int r = use_own_stack();

	state.slot = slot;
	backtrace_preload();
	for (size_t i = 0; i < N_FATAL && r == 0; i++)
		r = sigaction(fatal[i], &crash, &state.before[i]) < 0 ? -errno : 0;
	if (r == 0)
		r = sigaction(BACKTRACE_SIGNAL, &request, NULL) < 0 ? -errno : 0;
	return r;
}

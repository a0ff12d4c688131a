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

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP};
#define N_FATAL (sizeof(fatal) / sizeof(*fatal))

static struct {
	struct backtrace_slot *slot;
	struct sigaction before[N_FATAL];
	char self[512]; /* the path of the executable, which the dynamic linker calls "" */
	volatile sig_atomic_t entered;
} state;

static uintptr_t interrupted_at(const void *context)
{
	const ucontext_t *uc = context;

#if defined(__x86_64__)
	return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return (uintptr_t)uc->uc_mcontext.pc;
#else
	return 0;
#endif
}

/* Where a call that has just been made will return to. */
static uintptr_t returns_to(const void *context)
{
	const ucontext_t *uc = context;

#if defined(__x86_64__)
	return *(const uintptr_t *)uc->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
	return (uintptr_t)uc->uc_mcontext.regs[30];
#else
	return 0;
#endif
}

static bool is_code(uintptr_t address)
{
	struct dl_find_object object;

	return _dl_find_object((void *)address, &object) == 0;
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

static void publish(struct backtrace_slot *slot, size_t used)
{
	atomic_store_explicit(&slot->len, (uint32_t)used, memory_order_release);
}

/* A call of what is no function: the unwinder would look there for code, and crash. Who called is at hand. */
static void write_wild(struct backtrace_slot *slot, uintptr_t pc, const void *context)
{
	uintptr_t caller;
	size_t used = put_frame(slot->text, 0, BACKTRACE_TEXT, pc);

	publish(slot, used); /* the stack may be no better */
	caller = returns_to(context);
	if (is_code(caller))
		publish(slot, put_frame(slot->text, used, BACKTRACE_TEXT, caller - 1));
}

/* What was called before the signal, without the handler itself. */
static void write_down(const void *context)
{
	struct backtrace_slot *slot = state.slot;
	uintptr_t pc = interrupted_at(context);
	void *frames[BACKTRACE_FRAMES];
	int n, first = 0;
	size_t used = 0;

	if (pc && !is_code(pc)) {
		write_wild(slot, pc, context);
		return;
	}
	n = backtrace(frames, BACKTRACE_FRAMES);
	for (int i = 0; i < n; i++) {
		if ((uintptr_t)frames[i] == pc)
			first = i;
	}
	for (int i = first; i < n; i++) /* return addresses are those behind the call */
		used = put_frame(slot->text, used, BACKTRACE_TEXT,
			(uintptr_t)frames[i] - ((uintptr_t)frames[i] != pc));
	publish(slot, used);
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

/* To be called once, by the thread that runs the loop. Returns 0 or -errno. */
int backtrace_install(struct backtrace_slot *slot)
{
	struct sigaction request = {
		.sa_sigaction = on_request, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	struct sigaction crash = {.sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	ssize_t n = readlink("/proc/self/exe", state.self, sizeof(state.self) - 1);
	void *warm[1];
	int r = use_own_stack();

	state.self[n > 0 ? n : 0] = '\0';
	state.slot = slot;
	backtrace(warm, 1); /* loads what it needs, now that it may */
	for (size_t i = 0; i < N_FATAL && r == 0; i++)
		r = sigaction(fatal[i], &crash, &state.before[i]) < 0 ? -errno : 0;
	if (r == 0)
		r = sigaction(BACKTRACE_SIGNAL, &request, NULL) < 0 ? -errno : 0;
	return r;
}

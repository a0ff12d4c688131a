/* tine/child.h over runtime/subprocess*.c: real programs, real forks. Nothing of any of them may be left at the end of a test. */
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tine/channel.h>
#include <tine/child.h>

#include "base/fd.h"
#include "base/loop.h"
#include "needs.h"
#include "run.h"
#include "runtime/module.h"
#include "runtime/subprocess.h"
#include "runtime/subprocess_message.h"

#define ECHO_ARGUMENT "speak-on-the-channel"
#define NOBODY        65534

static struct event_base *base;
static struct tine_worker worker;
static unsigned n_fds;

/* What the callbacks of one child have said, in a few letters each. */
static struct seen {
	char order
		[256]; /* d: data of stdout, D: of stderr, e/E: their ends, m: message, c: end of the channel, x ! . */
	char out[4096], err[4096];
	size_t n_bytes; /* of stdout, also beyond what fits */
	struct tine_child_exit how;
	int error;
	char text[256];
	bool closed;
	unsigned n_writable;
	int killed; /* what tine_child_kill() has returned in on_exit */
} seen;

static struct result {
	bool done;
	int error;
	struct tine_child_exit how;
	char output[4096], errors[4096], text[256];
	size_t output_len;
} result;

static unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Under Valgrind before 3.21: no pidfd_open(2), and no life after an execve(2) that only the kernel refuses. */
static bool lacks_system_calls(void)
{
	int fd = pidfd_open(getpid(), 0);

	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == ENOSYS;
}

static void setup(void)
{
	signal(SIGPIPE, SIG_IGN); /* as in a worker */
	memset(&seen, 0, sizeof(seen));
	memset(&result, 0, sizeof(result));
	ck_assert_int_eq(loop_new(&base), 0);
	n_fds = count_fds();
	memset(&worker, 0, sizeof(worker));
	worker.base = base;
	ck_assert_int_eq(subprocesses_new(base, &worker.subprocesses), 0);
}

static void teardown(void)
{
	worker.subprocesses = subprocesses_free(worker.subprocesses);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no child, no zombie */
	ck_assert_int_eq(errno, ECHILD);
	ck_assert_uint_eq(count_fds(), n_fds);
	event_base_free(base);
}

/* --- callbacks --- */

static void note(const char *what)
{
	size_t len = strlen(seen.order);

	if (len + 1 == sizeof(seen.order))
		len--;
	seen.order[len] = *what;
}

static void append(char *to, size_t size, const void *data, size_t len)
{
	size_t used = strlen(to), room = size - used - 1;

	memcpy(to + used, data, len < room ? len : room);
	to[used + (len < room ? len : room)] = '\0';
}

static void on_data(
	struct tine_child *c, enum tine_child_stream s, const void *data, size_t len, void *arg)
{
	ck_assert_ptr_eq(arg, &seen);
	note(s == TINE_CHILD_STDOUT ? "d" : "D");
	if (s == TINE_CHILD_STDOUT) {
		append(seen.out, sizeof(seen.out), data, len);
		seen.n_bytes += len;
	} else {
		append(seen.err, sizeof(seen.err), data, len);
	}
}

static void on_end(struct tine_child *c, enum tine_child_stream s, void *arg)
{
	note(s == TINE_CHILD_STDOUT ? "e" : s == TINE_CHILD_STDERR ? "E" : "c");
}

static void on_writable(struct tine_child *c, enum tine_child_stream s, void *arg)
{
	seen.n_writable++;
}

static void on_message(struct tine_child *c, const void *data, size_t len, void *arg)
{
	note("m");
	append(seen.out, sizeof(seen.out), data, len);
	seen.n_bytes += len;
}

static void on_error(struct tine_child *c, int error, void *arg)
{
	note("!");
	seen.error = error;
	snprintf(seen.text, sizeof(seen.text), "%s", tine_child_text(c));
}

static void on_exit_of_child(struct tine_child *c, const struct tine_child_exit *how, void *arg)
{
	note("x");
	seen.how = *how;
}

static void on_close(struct tine_child *c, void *arg)
{
	note(".");
	seen.closed = true;
}

static struct tine_child_options options(const char *program, const char *const *argv)
{
	return (struct tine_child_options){.size = sizeof(struct tine_child_options),
		.program = program,
		.argv = argv,
		.on_data = on_data,
		.on_end = on_end,
		.on_writable = on_writable,
		.on_message = on_message,
		.on_error = on_error,
		.on_exit = on_exit_of_child,
		.on_close = on_close,
		.arg = &seen};
}

static void turn_loop(void)
{
	ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
}

static void run_to_close(void)
{
	while (!seen.closed)
		turn_loop();
	ck_assert_int_eq(seen.order[strlen(seen.order) - 1], '.');
}

/* Runs a script of the shell to its end, with all callbacks. */
static struct tine_child *spawn_shell(struct tine_child_options *o, const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct tine_child *c = NULL;

	o->program = "sh";
	o->argv = argv;
	ck_assert_int_eq(tine_child_spawn(&worker, o, &c), 0);
	o->argv = NULL;
	return c;
}

static void shell(struct tine_child_options *o, const char *script)
{
	tine_child_close(spawn_shell(o, script), TINE_CHILD_STDIN);
	run_to_close();
}

static void on_done(const struct tine_child_result *r, void *arg)
{
	ck_assert_ptr_eq(arg, &result);
	ck_assert(!result.done);
	result.done = true;
	result.error = r->error;
	result.how = r->how;
	result.output_len = r->output_len;
	ck_assert_int_eq(r->output[r->output_len], '\0');
	append(result.output, sizeof(result.output), r->output, r->output_len);
	append(result.errors, sizeof(result.errors), r->errors, r->errors_len);
	append(result.text, sizeof(result.text), r->text, strlen(r->text));
	ck_assert_int_eq(*r->text != '\0', r->error != 0);
}

static void exec(const char *command, const struct tine_child_options *o)
{
	ck_assert_int_eq(tine_child_exec(&worker, command, o, on_done, &result, NULL), 0);
	ck_assert(!result.done);
	while (!result.done)
		turn_loop();
}

/* --- spawn --- */

START_TEST(test_streams_and_order)
{
	struct tine_child_options o = options(NULL, NULL);

	shell(&o, "echo out; echo err >&2; exit 7");
	ck_assert_str_eq(seen.out, "out\n");
	ck_assert_str_eq(seen.err, "err\n");
	ck_assert_int_eq(seen.how.status, 7);
	ck_assert_int_eq(seen.how.signal, 0);
	ck_assert_int_eq(seen.error, 0);
	for (const char *c = "dDeEx."; *c; c++) /* each once */
		ck_assert_ptr_eq(strchr(seen.order, *c), strrchr(seen.order, *c));
	ck_assert(strchr(seen.order, 'd') < strchr(seen.order, 'e'));
	ck_assert(strchr(seen.order, 'D') < strchr(seen.order, 'E'));
	ck_assert_uint_eq(strlen(seen.order), 6);
}
END_TEST

START_TEST(test_ended_by_a_signal)
{
	struct tine_child_options o = options(NULL, NULL);

	shell(&o, "kill -TERM $$");
	ck_assert_int_eq(seen.how.status, -1);
	ck_assert_int_eq(seen.how.signal, SIGTERM);
	ck_assert(!seen.how.timed_out);
}
END_TEST

START_TEST(test_usage)
{
	struct tine_child_options o = options(NULL, NULL);

	shell(&o, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
	ck_assert(seen.how.usage.ru_maxrss > 0);
	ck_assert(seen.how.usage.ru_utime.tv_sec > 0 || seen.how.usage.ru_utime.tv_usec > 0 ||
		seen.how.usage.ru_stime.tv_usec > 0);
}
END_TEST

START_TEST(test_input)
{
	struct tine_child_options o = options("cat", NULL);
	struct tine_child *c;

	ck_assert_int_eq(tine_child_spawn(&worker, &o, &c), 0);
	ck_assert(tine_child_pid(c) > 0);
	ck_assert_int_eq(tine_child_write(c, "one ", 4), 0);
	ck_assert_int_eq(tine_child_write(c, "two", 3), 0);
	tine_child_close(c, TINE_CHILD_STDIN);
	ck_assert_int_eq(tine_child_write(c, "x", 1), TINE_E_CLOSED);
	run_to_close();
	ck_assert_str_eq(seen.out, "one two");
}
END_TEST

START_TEST(test_back_pressure)
{
	struct tine_child_options o = options("cat", NULL);
	static char block[10000];
	struct tine_child *c;
	size_t n = 0;
	int r;

	memset(block, 'x', sizeof(block));
	o.queue_max = 50000;
	ck_assert_int_eq(tine_child_spawn(&worker, &o, &c), 0);
	ck_assert_int_eq(tine_child_write(c, block, 50001), TINE_E_TOO_LARGE);
	tine_child_pause(c, TINE_CHILD_STDOUT);
	for (unsigned full = 0; full < 20; full++) { /* while cat moves it into the other pipe */
		while ((r = tine_child_write(c, block, sizeof(block))) == 0)
			n += sizeof(block);
		ck_assert_int_eq(r, TINE_E_FULL);
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	ck_assert_uint_le(n, 50000 + 4 * 65536 + 128 * 1024); /* queue, pipes, cat's buffer */
	ck_assert_uint_eq(seen.n_bytes, 0);
	seen.n_writable = 0;
	tine_child_resume(c, TINE_CHILD_STDOUT);
	if (tine_child_write(c, block, sizeof(block)) == 0)
		n += sizeof(block);
	while (seen.n_writable == 0)
		turn_loop();
	ck_assert_int_eq(tine_child_write(c, block, sizeof(block)), 0);
	n += sizeof(block);
	tine_child_close(c, TINE_CHILD_STDIN); /* what waits is still written */
	run_to_close();
	ck_assert_uint_eq(seen.n_bytes, n);
}
END_TEST

START_TEST(test_input_that_nobody_reads)
{
	struct tine_child_options o = options(NULL, NULL);
	static char block[200000];
	struct tine_child *c = spawn_shell(&o, "exec <&-; echo closed; exec sleep 1000");

	while (seen.n_bytes == 0)
		turn_loop();
	ck_assert_int_eq(tine_child_write(c, block, sizeof(block)), TINE_E_CLOSED);
	ck_assert_int_eq(tine_child_write(c, block, 1), TINE_E_CLOSED);
	ck_assert_int_eq(tine_child_kill(c, SIGKILL), 0);
	run_to_close();
}
END_TEST

START_TEST(test_paused_output_delays_the_end)
{
	struct tine_child_options o = options(NULL, NULL);
	struct tine_child *c = spawn_shell(&o, "echo here");

	tine_child_pause(c, TINE_CHILD_STDOUT);
	while (!strchr(seen.order, 'x') || !strchr(seen.order, 'E'))
		turn_loop();
	ck_assert(!seen.closed);
	tine_child_resume(c, TINE_CHILD_STDOUT);
	run_to_close();
	ck_assert_str_eq(seen.out, "here\n");
}
END_TEST

START_TEST(test_output_nobody_wants)
{
	struct tine_child_options o = options(NULL, NULL);

	o.on_data = NULL;
	shell(&o, "head -c 1000000 /dev/zero");
	ck_assert_int_eq(seen.how.status, 0);
	memset(&seen, 0, sizeof(seen));
	o.on_data = on_data;
	tine_child_close(spawn_shell(&o, "sleep 0; head -c 1000000 /dev/zero"), TINE_CHILD_STDOUT);
	run_to_close();
	ck_assert_ptr_null(strchr(seen.order, 'e'));
}
END_TEST

START_TEST(test_other_kinds_of_streams)
{
	struct tine_child_options o = options(NULL, NULL);
	FILE *f = tmpfile();
	char text[32] = "";

	o.stdio[0].kind = TINE_CHILD_IGNORE;
	o.stdio[1] = (struct tine_child_stdio){TINE_CHILD_FD, fileno(f)};
	o.stdio[2].kind = TINE_CHILD_INHERIT;
	ck_assert_int_eq(tine_child_write(spawn_shell(&o, "wc -c"), "x", 1), TINE_E_CLOSED);
	run_to_close();
	ck_assert_str_eq(seen.order, "x.");
	ck_assert_int_gt(pread(fileno(f), text, sizeof(text) - 1, 0), 0);
	ck_assert_int_eq(atoi(text), 0);
	fclose(f);
}
END_TEST

/* Descriptors whose numbers are each other's places. */
START_TEST(test_streams_change_places)
{
	struct tine_child_options o = options(NULL, NULL);
	int saved[] = {dup(1), dup(2)};
	FILE *files[] = {tmpfile(), tmpfile()};
	char text[2][8] = {"", ""};

	for (int i = 0; i < 2; i++)
		dup2(fileno(files[i]), i + 1);
	o.stdio[0].kind = TINE_CHILD_IGNORE;
	o.stdio[1] = (struct tine_child_stdio){TINE_CHILD_FD, 2};
	o.stdio[2] = (struct tine_child_stdio){TINE_CHILD_FD, 1};
	spawn_shell(&o, "echo out; echo err >&2");
	run_to_close();
	for (int i = 0; i < 2; i++) {
		dup2(saved[i], i + 1);
		close(saved[i]);
		ck_assert_int_gt(pread(fileno(files[i]), text[i], 7, 0), 0);
		fclose(files[i]);
	}
	ck_assert_str_eq(text[0], "err\n");
	ck_assert_str_eq(text[1], "out\n");
}
END_TEST

/* --- what a child gets --- */

START_TEST(test_descriptors_and_signals)
{
	int leaky = open("/dev/null", O_RDONLY); /* not close-on-exec */

	exec("exec ls /proc/self/fd", NULL);
	ck_assert_str_eq(result.output, "0\n1\n2\n3\n"); /* 3 is that of ls */
	close(leaky);
	memset(&result, 0, sizeof(result));
	signal(SIGHUP, SIG_IGN);
	exec("grep -E 'Sig(Blk|Ign)' /proc/self/status", NULL);
	signal(SIGHUP, SIG_DFL);
	ck_assert_str_eq(result.output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}
END_TEST

START_TEST(test_environment_and_directory)
{
	const char *const environment[] = {"A=1", "PATH=/nowhere:/usr/bin:/bin", NULL};
	const char *const argv[] = {"other-name", "-c", "echo $0 $A $PATH; pwd", NULL};
	struct tine_child_options o = {.size = sizeof(o),
		.program = "sh",
		.argv = argv,
		.environment = environment,
		.directory = "/"};

	ck_assert_int_eq(tine_child_exec_file(&worker, &o, on_done, &result, NULL), 0);
	while (!result.done)
		turn_loop();
	ck_assert_str_eq(result.output, "other-name 1 /nowhere:/usr/bin:/bin\n/\n");
	memset(&result, 0, sizeof(result));
	setenv("MINE", "yes", 1);
	exec("echo $MINE", NULL);
	ck_assert_str_eq(result.output, "yes\n");
}
END_TEST

START_TEST(test_user)
{
	uid_t nobody = NOBODY, other = 1;
	gid_t group = NOBODY;
	struct tine_child_options o = {.size = sizeof(o), .uid = &nobody, .gid = &group};

	NEEDS(geteuid() == 0);
	exec("id -u; id -g; id -G; grep -c PDEATHSIG /proc/self/status", &o);
	ck_assert_str_eq(result.output, "65534\n65534\n65534\n0\n");
	memset(&result, 0, sizeof(result));
	ck_assert_int_eq(seteuid(NOBODY), 0);
	o.uid = &other;
	o.gid = NULL;
	exec("echo never", &o);
	ck_assert_int_eq(seteuid(0), 0);
	ck_assert_int_eq(result.error, -EPERM);
	ck_assert_str_eq(result.text, "user 1: Operation not permitted");
	ck_assert_str_eq(result.output, "");
}
END_TEST

/* --- what goes wrong --- */

static void fails(struct tine_child_options *o, int error)
{
	struct tine_child *c;

	memset(&seen, 0, sizeof(seen));
	ck_assert_int_eq(tine_child_spawn(&worker, o, &c), 0);
	ck_assert_int_eq(seen.error, 0); /* not from within the call */
	ck_assert_int_eq(tine_child_pid(c), 0);
	ck_assert_int_eq(tine_child_kill(c, SIGTERM), TINE_E_GONE);
	ck_assert_int_eq(tine_child_write(c, "x", 1), TINE_E_CLOSED);
	run_to_close();
	ck_assert_str_eq(seen.order, "!.");
	ck_assert_int_eq(seen.error, error);
}

START_TEST(test_cannot_be_executed)
{
	struct tine_child_options o = options("/no/such/program", NULL);
	char *huge = malloc(200000), name[] = "/tmp/tined-test-XXXXXX";
	const char *const argv[] = {"true", huge, NULL};
	int fd = mkstemp(name);

	fails(&o, -ENOENT);
	o.program = "no-such-program-anywhere";
	fails(&o, -ENOENT);
	o.program = "/";
	fails(&o, -EACCES);
	o.program = name;
	fails(&o, -EACCES);
	fchmod(fd, 0700);
	ck_assert_int_eq(write(fd, "what is this", 12), 12);
	close(fd);
	fails(&o, -ENOEXEC);
	unlink(name);
	o.program = "true";
	o.directory = "/no/such/directory";
	fails(&o, -ENOENT);
	o.directory = NULL;
	memset(huge, 'x', 199999);
	huge[199999] = '\0';
	o.argv = argv;
	if (!lacks_system_calls())
		fails(&o, -E2BIG);
	o.argv = NULL;
	o.stdio[1] = (struct tine_child_stdio){TINE_CHILD_FD, 9999};
	fails(&o, -EBADF);
	free(huge);
}
END_TEST

/* One error number, and what it is about. */
START_TEST(test_what_an_error_is_about)
{
	struct tine_child_options o = options("./script", NULL);
	char folder[] = "/tmp/tined-test-XXXXXX", path[64], text[256];
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/script", folder);
	o.directory = folder;
	fails(&o, -ENOENT);
	ck_assert_str_eq(seen.text, "program ./script: No such file or directory");
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	ck_assert_int_eq(write(fd, "#! /no/such/interpreter -x\n", 27), 27);
	close(fd);
	fails(&o, -ENOENT);
	ck_assert_str_eq(seen.text,
		"interpreter /no/such/interpreter of ./script: No such file or directory");
	o.program = path;
	o.directory = NULL;
	fails(&o, -ENOENT);
	snprintf(text, sizeof(text),
		"interpreter /no/such/interpreter of %s: No such file or directory", path);
	ck_assert_str_eq(seen.text, text);
	o.directory = "/no/such/directory";
	fails(&o, -ENOENT);
	ck_assert_str_eq(seen.text, "directory /no/such/directory: No such file or directory");
	o.directory = path;
	fails(&o, -ENOTDIR);
	snprintf(text, sizeof(text), "directory %s: Not a directory", path);
	ck_assert_str_eq(seen.text, text);
	unlink(path);
	rmdir(folder);
	o = options("no-such-program-anywhere", NULL);
	fails(&o, -ENOENT);
	ck_assert_str_eq(seen.text, "program no-such-program-anywhere: No such file or directory");
	o.program = "/";
	fails(&o, -EACCES);
	ck_assert_str_eq(seen.text, "program /: Permission denied");
	o.stdio[1] = (struct tine_child_stdio){TINE_CHILD_FD, 9999};
	fails(&o, -EBADF);
	ck_assert_str_eq(seen.text, "stream 1, descriptor 9999: Bad file descriptor");
	ck_assert_str_eq(tine_child_text(NULL), "");
}
END_TEST

/* At whichever step there are no more: the error is told, and everything that was opened for it is closed. */
START_TEST(test_no_descriptors_left)
{
	struct tine_child_options o = options("true", NULL);
	int lowest = dup(0);
	struct rlimit was, low;
	unsigned n_failed = 0;

	close(lowest);
	getrlimit(RLIMIT_NOFILE, &was);
	for (int more = 0; more < 12; more++) {
		unsigned before = count_fds();

		memset(&seen, 0, sizeof(seen));
		low = was;
		low.rlim_cur = (rlim_t)(lowest + more);
		setrlimit(RLIMIT_NOFILE, &low);
		ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), 0);
		setrlimit(RLIMIT_NOFILE, &was);
		run_to_close();
		ck_assert(seen.error == 0 || seen.error == -EMFILE);
		n_failed += seen.error == -EMFILE;
		ck_assert_uint_eq(count_fds(), before);
	}
	ck_assert_uint_ge(n_failed, 6);
	ck_assert_int_eq(seen.error, 0);
}
END_TEST

/* For libevent: what it has is what the loop can do. */
static bool no_memory;

static void *loop_malloc(size_t n)
{
	return no_memory ? NULL : malloc(n);
}

static void *loop_realloc(void *p, size_t n)
{
	return no_memory ? NULL : realloc(p, n);
}

/* It runs already, and the loop has no room for it: it is ended, and that is told. */
START_TEST(test_no_room_on_the_loop)
{
	struct tine_child_options o = options(NULL, NULL);

	no_memory = true;
	spawn_shell(&o, "sleep 1000");
	no_memory = false;
	run_to_close();
	ck_assert_int_eq(seen.error, -ENOMEM);
	ck_assert_str_eq(seen.order, "!.");
}
END_TEST

/* More than the pipe takes, and what waits is never to be written: no more follows it. */
START_TEST(test_no_room_for_what_waits)
{
	static const char much[200000];
	struct tine_child_options o = options(NULL, NULL);
	struct tine_child *c = spawn_shell(&o, "wc -c");

	no_memory = true;
	ck_assert_int_eq(tine_child_write(c, much, sizeof(much)), -ENOMEM);
	no_memory = false;
	ck_assert_int_eq(tine_child_write(c, much, sizeof(much)), TINE_E_CLOSED);
	run_to_close();
	ck_assert_int_eq(seen.how.status, 0);
}
END_TEST

START_TEST(test_quota)
{
	struct tine_child_options o = options("/no/such/program", NULL);
	struct rlimit was, none = {0};

	/* Most without descriptors: they count like all others, and no process begins for them, which takes Valgrind long. */
	getrlimit(RLIMIT_NOFILE, &was);
	none.rlim_max = was.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	for (unsigned i = 16; i < TINE_CHILD_MAX; i++)
		ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), 0);
	setrlimit(RLIMIT_NOFILE, &was);
	for (unsigned i = 0; i < 16; i++)
		ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), 0);
	ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), TINE_E_QUOTA);
	run_to_close();
	ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), 0);
}
END_TEST

static int never(int channel, void *arg)
{
	return 0;
}

START_TEST(test_bad_arguments)
{
	const char *const none[] = {NULL};
	struct tine_child_options o = {.size = 1, .program = "true"};
	struct tine_worker without = {.base = base};

	ck_assert_int_eq(tine_child_spawn(&worker, NULL, NULL), -EINVAL);
	ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), -EINVAL);
	o.size = sizeof(void *); /* of a pointer to them */
	ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), -EINVAL);
	o.size = sizeof(o);
	ck_assert_int_eq(tine_child_spawn(NULL, &o, NULL), -EINVAL);
	ck_assert_int_eq(tine_child_spawn(&without, &o, NULL), TINE_E_CLOSED);
	o.argv = none;
	ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), -EINVAL);
	o.argv = NULL;
	o.stdio[2].kind = TINE_CHILD_FD + 1;
	ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), -EINVAL);
	o.stdio[2] = (struct tine_child_stdio){TINE_CHILD_FD, -1};
	ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), -EINVAL);
	o.stdio[2].kind = TINE_CHILD_DEFAULT;
	o.message_max = TINE_CHILD_MESSAGE_MOST + 1;
	ck_assert_int_eq(tine_child_fork(&worker, &o, NULL), -EINVAL);
	o.message_max = 0;
	o.function = never;
	ck_assert_int_eq(tine_child_fork(&worker, &o, NULL), -EINVAL); /* one of the two */
	ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), -EINVAL);
	o.program = NULL;
	ck_assert_int_eq(tine_child_exec_file(&worker, &o, on_done, NULL, NULL), -EINVAL);
	ck_assert_int_eq(tine_child_exec(&worker, NULL, NULL, on_done, NULL, NULL), -EINVAL);
	ck_assert_int_eq(tine_child_exec(&worker, "true", NULL, NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(tine_child_kill(NULL, SIGTERM), -EINVAL);
	ck_assert_int_eq(tine_child_write(NULL, "x", 1), -EINVAL);
	ck_assert_int_eq(tine_child_send(NULL, "x", 1), -EINVAL);
	tine_child_close(NULL, TINE_CHILD_STDIN);
	tine_child_pause(NULL, TINE_CHILD_STDOUT);
	tine_child_resume(NULL, TINE_CHILD_STDOUT);
	ck_assert_int_eq(tine_child_pid(NULL), 0);
}
END_TEST

/* --- exec --- */

START_TEST(test_exec)
{
	exec("echo out; echo err >&2; cat; exit 3", NULL); /* its input is empty */
	ck_assert_int_eq(result.error, 0);
	ck_assert_int_eq(result.how.status, 3);
	ck_assert_str_eq(result.output, "out\n");
	ck_assert_str_eq(result.errors, "err\n");
	memset(&result, 0, sizeof(result));
	exec("kill -9 $$", NULL);
	ck_assert_int_eq(result.error, 0);
	ck_assert_int_eq(result.how.signal, SIGKILL);
}
END_TEST

START_TEST(test_exec_writes_too_much)
{
	struct tine_child_options o = {.size = sizeof(o), .max_buffer = 1000};

	exec("yes & yes; wait", &o);
	ck_assert_int_eq(result.error, TINE_E_TOO_LARGE);
	ck_assert_str_eq(result.text, "output: more than 1000 bytes");
	ck_assert_uint_eq(result.output_len, 1000);
	ck_assert_int_eq(result.how.signal, SIGKILL);
	memset(&result, 0, sizeof(result));
	exec("head -c 1000 /dev/zero", &o); /* not more than that */
	ck_assert_int_eq(result.error, 0);
	ck_assert_uint_eq(result.output_len, 1000);
	memset(&result, 0, sizeof(result));
	o.max_buffer = 0; /* as much as there is by default */
	exec("head -c 2000 /dev/zero; head -c 1000 /dev/zero >&2", &o);
	ck_assert_int_eq(result.error, 0);
	ck_assert_uint_eq(result.output_len, 2000);
}
END_TEST

START_TEST(test_exec_fails)
{
	struct tine_child_options o = {.size = sizeof(o), .program = "/no/such/program"};

	ck_assert_int_eq(tine_child_exec_file(&worker, &o, on_done, &result, NULL), 0);
	while (!result.done)
		turn_loop();
	ck_assert_int_eq(result.error, -ENOENT);
	ck_assert_str_eq(result.text, "program /no/such/program: No such file or directory");
	ck_assert_uint_eq(result.output_len, 0);
}
END_TEST

/* --- time-outs, groups, what is left --- */

START_TEST(test_time_out)
{
	struct tine_child_options o = {.size = sizeof(o), .timeout_us = 20000};

	exec("echo begun; sleep 1000 & sleep 1000; echo never", &o);
	ck_assert_int_eq(result.error, TINE_E_TIMEOUT);
	ck_assert_str_eq(result.text, "timed out");
	ck_assert_int_eq(result.how.signal, SIGTERM);
	ck_assert(result.how.timed_out);
}
END_TEST

/* It ignores SIGTERM, and so does what it has started, which holds the output open after it. */
START_TEST(test_time_out_that_is_ignored)
{
	struct tine_child_options o = {.size = sizeof(o), .timeout_us = 1000000, .grace_us = 20000};

	exec("trap '' TERM; sleep 1000 & while :; do sleep 1000; done", &o);
	ck_assert_int_eq(result.error, TINE_E_TIMEOUT);
	ck_assert_int_eq(result.how.signal, SIGKILL);
	memset(&result, 0, sizeof(result));
	exec("trap '' TERM; sleep 1000 & exit 5", &o); /* it has ended, its output has not */
	ck_assert_int_eq(result.error, TINE_E_TIMEOUT);
	ck_assert_int_eq(result.how.status, 5);
	ck_assert(result.how.timed_out);
}
END_TEST

/* Who has left the group holds the output: it is given up with the rest. */
START_TEST(test_time_out_of_somebody_who_left)
{
	struct tine_child_options o = {.size = sizeof(o), .timeout_us = 1000000, .grace_us = 20000};
	int status = 0;
	pid_t left;

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	exec("setsid sleep 1000 & echo $!; wait", &o);
	ck_assert_int_eq(result.error, TINE_E_TIMEOUT);
	left = atoi(result.output);
	ck_assert_int_eq(kill(left, SIGKILL), 0);
	ck_assert_int_eq(waitpid(left, &status, 0), left);
	prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}
END_TEST

START_TEST(test_kill_reaches_the_group)
{
	struct tine_child_options o = options(NULL, NULL);
	struct tine_child *c = spawn_shell(&o, "sleep 1000 & echo; wait");

	while (seen.n_bytes == 0)
		turn_loop();
	ck_assert_int_eq(tine_child_kill(c, 0), -EINVAL);
	ck_assert_int_eq(tine_child_kill(c, SIGUSR1), 0);
	run_to_close(); /* the output ends only when both are gone */
	ck_assert_int_eq(seen.how.signal, SIGUSR1);
}
END_TEST

START_TEST(test_kill_after_its_end)
{
	struct tine_child_options o = options(NULL, NULL);
	struct tine_child *c = spawn_shell(&o, "sleep 1000 & exit 0");

	while (!strchr(seen.order, 'x'))
		turn_loop();
	ck_assert(!seen.closed);
	ck_assert_int_eq(tine_child_kill(c, SIGTERM), 0); /* to what it left */
	run_to_close();
	ck_assert_int_eq(seen.how.status, 0);
}
END_TEST

static void on_exit_kill(struct tine_child *c, const struct tine_child_exit *how, void *arg)
{
	seen.killed = tine_child_kill(c, SIGTERM);
	on_exit_of_child(c, how, arg);
}

/* It is not reaped yet, but that is nobody's business. */
START_TEST(test_kill_when_it_ends)
{
	struct tine_child_options o = options(NULL, NULL);

	o.on_exit = on_exit_kill;
	shell(&o, "exit 0");
	ck_assert_int_eq(seen.killed, TINE_E_GONE);
	memset(&seen, 0, sizeof(seen));
	shell(&o, "sleep 1000 & exit 0");
	ck_assert_int_eq(seen.killed, 0);
	memset(&seen, 0, sizeof(seen));
	o.same_group = 1;
	if (!lacks_system_calls()) {
		shell(&o, "exit 0");
		ck_assert_int_eq(seen.killed, TINE_E_GONE);
	}
}
END_TEST

/* Another process, which gets a number that is free again, and leads a group of this number. Returns its number or -errno. */
static pid_t namesake(pid_t number)
{
	struct clone_args a = {
		.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&number, .set_tid_size = 1};
	long pid = syscall(SYS_clone3, &a, sizeof(a));

	while (pid == 0)
		syscall(SYS_pause);
	if (pid < 0)
		return -errno;
	setpgid((pid_t)pid, (pid_t)pid);
	return (pid_t)pid;
}

static pid_t other;

static void on_close_kill(struct tine_child *c, void *arg)
{
	other = namesake(tine_child_pid(c));
	seen.killed = tine_child_kill(c, SIGKILL);
	on_close(c, arg);
}

/* When it has been reaped its number may be another one's. */
START_TEST(test_kill_after_it_was_reaped)
{
	struct tine_child_options o = options(NULL, NULL);
	siginfo_t si = {0};

	o.on_close = on_close_kill;
	shell(&o, "exit 0");
	NEEDS(other != -EPERM && other != -ENOSYS);
	ck_assert_int_gt(other, 0);
	ck_assert_int_eq(seen.killed, TINE_E_GONE);
	ck_assert_int_eq(waitid(P_PID, (id_t)other, &si, WEXITED | WNOHANG | WNOWAIT), 0);
	ck_assert_int_eq(si.si_pid, 0);
	ck_assert_int_eq(kill(other, SIGKILL), 0);
	ck_assert_int_eq(waitpid(other, NULL, 0), other);
}
END_TEST

START_TEST(test_same_group)
{
	struct tine_child_options o = options(NULL, NULL);
	struct tine_child *c;

	o.same_group = 1;
	c = spawn_shell(&o, "echo; read x");
	while (seen.n_bytes == 0)
		turn_loop();
	ck_assert_int_eq(getpgid(tine_child_pid(c)), getpgrp());
	ck_assert_int_eq(tine_child_kill(c, SIGTERM), 0);
	run_to_close();
	ck_assert_int_eq(seen.how.signal, SIGTERM);
}
END_TEST

START_TEST(test_nothing_outlives_a_child)
{
	struct tine_child_options o = options(NULL, NULL);
	int status = 0;
	pid_t left;

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	shell(&o, "sleep 1000 >/dev/null 2>&1 & echo $!");
	left = atoi(seen.out);
	ck_assert_int_gt(left, 1);
	ck_assert_int_eq(waitpid(left, &status, 0), left);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}
END_TEST

/* teardown() looks whether they are gone. */
START_TEST(test_the_worker_stops)
{
	struct tine_child_options o = options(NULL, NULL);
	static char block[300000];

	tine_child_write(spawn_shell(&o, "trap '' TERM; while :; do sleep 1000; done"), block,
		sizeof(block));
	spawn_shell(&o, "yes");
	ck_assert_int_eq(
		tine_child_exec(&worker, "echo x; sleep 1000", NULL, on_done, &result, NULL), 0);
	o.program = "/no/such/program";
	ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
	subprocesses_end(worker.subprocesses);
	ck_assert_int_eq(tine_child_spawn(&worker, &o, NULL), TINE_E_CLOSED);
	ck_assert_int_eq(
		tine_child_exec(&worker, "true", NULL, on_done, &result, NULL), TINE_E_CLOSED);
	worker.subprocesses = subprocesses_free(worker.subprocesses);
	ck_assert(!result.done);
	ck_assert_ptr_null(strchr(seen.order, 'x'));
}
END_TEST

/* --- fork --- */

static int echo(int channel, void *arg)
{
	static char data[1 << 20];
	uint32_t len;
	int r;

	while ((r = tine_channel_receive(channel, data, sizeof(data), &len)) > 0) {
		if (tine_channel_send(channel, data, len) < 0)
			return 2;
	}
	return r == 0 ? 42 : 1;
}

static void exchange(struct tine_child_options *o)
{
	struct tine_child *c;
	size_t n = 0;

	ck_assert_int_eq(tine_child_fork(&worker, o, &c), 0);
	ck_assert_int_eq(tine_child_send(c, "one ", 4), 0);
	ck_assert_int_eq(tine_child_send(c, "", 0), 0);
	ck_assert_int_eq(tine_child_send(c, "two ", 4), 0);
	while (seen.n_bytes < 8)
		turn_loop();
	ck_assert_str_eq(seen.out, "one two ");
	ck_assert_str_eq(seen.order, "mmm");
	while (tine_child_send(c, seen.order, 200) == 0) /* all that there is room for */
		n++;
	ck_assert_int_eq(tine_child_send(c, seen.order, 200), TINE_E_FULL);
	while (seen.n_writable == 0)
		turn_loop();
	while (seen.n_bytes < 8 + n * 200)
		turn_loop();
	tine_child_close(c, TINE_CHILD_CHANNEL);
	ck_assert_int_eq(tine_child_send(c, "x", 1), TINE_E_CLOSED);
	run_to_close();
	ck_assert_int_eq(seen.how.status, 42);
}

START_TEST(test_fork_function)
{
	struct tine_child_options o = options(NULL, NULL);

	o.function = echo;
	exchange(&o);
}
END_TEST

START_TEST(test_fork_program)
{
	const char *const argv[] = {"test", ECHO_ARGUMENT, NULL};
	struct tine_child_options o = options(NULL, argv);
	char path[4096] = "";

	ck_assert_int_gt(readlink("/proc/self/exe", path, sizeof(path) - 1), 0);
	o.program = path;
	exchange(&o);
}
END_TEST

static int last_words(int channel, void *arg)
{
	tine_channel_send(channel, "first", 5);
	tine_channel_send(channel, "second", 6);
	return 300; /* & 0xff */
}

START_TEST(test_fork_messages_wait)
{
	struct tine_child_options o = options(NULL, NULL);
	struct tine_child *c;

	o.function = last_words;
	ck_assert_int_eq(tine_child_fork(&worker, &o, &c), 0);
	tine_child_pause(c, TINE_CHILD_CHANNEL);
	while (!strchr(seen.order, 'x'))
		turn_loop();
	ck_assert_str_eq(seen.order, "x");
	tine_child_resume(c, TINE_CHILD_CHANNEL);
	run_to_close();
	ck_assert_str_eq(seen.order, "xmmc.");
	ck_assert_str_eq(seen.out, "firstsecond");
	ck_assert_int_eq(seen.how.status, 44);
}
END_TEST

static void on_message_pause(struct tine_child *c, const void *data, size_t len, void *arg)
{
	on_message(c, data, len, arg);
	tine_child_pause(c, TINE_CHILD_CHANNEL);
}

/* Messages that have been read already are kept while it is paused. */
START_TEST(test_fork_pause_within_a_message)
{
	struct tine_child_options o = options(NULL, NULL);
	struct tine_child *c;

	o.function = last_words;
	o.on_message = on_message_pause;
	ck_assert_int_eq(tine_child_fork(&worker, &o, &c), 0);
	while (!strchr(seen.order, 'x') || !strchr(seen.order, 'm'))
		turn_loop();
	ck_assert_str_eq(seen.out, "first");
	tine_child_resume(c, TINE_CHILD_CHANNEL);
	while (seen.n_bytes < 11)
		turn_loop();
	ck_assert_str_eq(seen.out, "firstsecond");
	ck_assert(!seen.closed);
	tine_child_resume(c, TINE_CHILD_CHANNEL);
	run_to_close();
}
END_TEST

static void on_message_close(struct tine_child *c, const void *data, size_t len, void *arg)
{
	on_message(c, data, len, arg);
	tine_child_close(c, TINE_CHILD_CHANNEL);
}

START_TEST(test_fork_close_within_a_message)
{
	struct tine_child_options o = options(NULL, NULL);

	o.function = last_words;
	o.on_message = on_message_close;
	ck_assert_int_eq(tine_child_fork(&worker, &o, NULL), 0);
	run_to_close();
	ck_assert_str_eq(seen.out, "first");
}
END_TEST

static int say_too_much(int channel, void *arg)
{
	static const char data[1001];

	tine_channel_send(channel, data, 1000);
	tine_channel_send(channel, data, 1001);
	pause();
	return 0;
}

START_TEST(test_fork_message_too_large)
{
	struct tine_child_options o = options(NULL, NULL);
	struct tine_child *c;
	static char data[1001];

	o.function = say_too_much;
	o.message_max = 1000;
	ck_assert_int_eq(tine_child_fork(&worker, &o, &c), 0);
	ck_assert_int_eq(tine_child_send(c, data, 1001), TINE_E_TOO_LARGE);
	run_to_close();
	ck_assert_str_eq(seen.order, "m!x.");
	ck_assert_int_eq(seen.error, TINE_E_TOO_LARGE);
	ck_assert_str_eq(seen.text, "message: more than 1000 bytes");
	ck_assert_int_eq(seen.how.signal, SIGKILL);
}
END_TEST

static int say_half(int channel, void *arg)
{
	uint32_t head = 10;

	tine_channel_send(channel, "whole", 5);
	return send(channel, &head, sizeof(head), 0) == sizeof(head) &&
			send(channel, "half", 4, 0) == 4
		? 0
		: 1;
}

START_TEST(test_fork_message_cut_off)
{
	struct tine_child_options o = options(NULL, NULL);

	o.function = say_half;
	ck_assert_int_eq(tine_child_fork(&worker, &o, NULL), 0);
	run_to_close();
	ck_assert_str_eq(seen.out, "whole");
	ck_assert_ptr_nonnull(strstr(seen.order, "!c")); /* before the end of the channel */
	ck_assert_int_eq(seen.error, -EPROTO);
	ck_assert_str_eq(seen.text, "message: cut off by the end of the channel");
	ck_assert_int_eq(seen.how.status, 0);
}
END_TEST

static int count_own_descriptors(int channel, void *arg)
{
	return (int)count_fds() - 2; /* . and .. */
}

START_TEST(test_fork_has_no_descriptors)
{
	struct tine_child_options o = options(NULL, NULL);

	o.function = count_own_descriptors;
	ck_assert_int_eq(tine_child_fork(&worker, &o, NULL), 0);
	run_to_close();
	ck_assert_int_eq(seen.how.status, 5); /* 0 to 3, and that of the folder */
	memset(&seen, 0, sizeof(seen));
	o.directory = "/no/such/directory";
	ck_assert_int_eq(tine_child_fork(&worker, &o, NULL), 0);
	run_to_close();
	ck_assert_str_eq(seen.order, "!.");
	ck_assert_int_eq(seen.error, -ENOENT);
	ck_assert_str_eq(seen.text, "directory /no/such/directory: No such file or directory");
}
END_TEST

static int crash(int channel, void *arg)
{
	raise(SIGKILL);
	return 0;
}

START_TEST(test_fork_crashes)
{
	struct tine_child_options o = options(NULL, NULL);

	o.function = crash;
	ck_assert_int_eq(tine_child_fork(&worker, &o, NULL), 0);
	run_to_close();
	ck_assert_int_eq(seen.how.signal, SIGKILL);
}
END_TEST

/* --- the frames --- */

static bool count_bytes(const void *data, size_t len, void *arg)
{
	*(size_t *)arg += len + 1;
	return true;
}

START_TEST(test_frames_byte_by_byte)
{
	struct message_reader m = {.max = 5};
	uint32_t lens[] = {5, 0, 3, 6};
	char text[64];
	size_t n = 0, seen_bytes = 0;

	for (int i = 0; i < 4; i++) {
		memcpy(text + n, &lens[i], 4);
		memset(text + n + 4, 'x', lens[i]);
		n += 4 + lens[i];
	}
	for (size_t i = 0; i + 7 < n; i++)
		ck_assert_int_eq(message_reader_feed(&m, text + i, 1, count_bytes, &seen_bytes), 0);
	ck_assert_uint_eq(seen_bytes, 5 + 1 + 0 + 1 + 3 + 1);
	ck_assert_int_eq(
		message_reader_feed(&m, text + n - 7, 1, count_bytes, &seen_bytes), -EMSGSIZE);
	message_reader_reset(&m);
}
END_TEST

#define TESTS(X)                              \
	X(test_streams_and_order)             \
	X(test_ended_by_a_signal)             \
	X(test_usage)                         \
	X(test_input)                         \
	X(test_back_pressure)                 \
	X(test_input_that_nobody_reads)       \
	X(test_paused_output_delays_the_end)  \
	X(test_output_nobody_wants)           \
	X(test_other_kinds_of_streams)        \
	X(test_streams_change_places)         \
	X(test_descriptors_and_signals)       \
	X(test_environment_and_directory)     \
	X(test_user)                          \
	X(test_cannot_be_executed)            \
	X(test_no_descriptors_left)           \
	X(test_no_room_on_the_loop)           \
	X(test_no_room_for_what_waits)        \
	X(test_quota)                         \
	X(test_bad_arguments)                 \
	X(test_exec)                          \
	X(test_exec_writes_too_much)          \
	X(test_exec_fails)                    \
	X(test_time_out)                      \
	X(test_time_out_that_is_ignored)      \
	X(test_time_out_of_somebody_who_left) \
	X(test_kill_reaches_the_group)        \
	X(test_kill_after_its_end)            \
	X(test_kill_when_it_ends)             \
	X(test_nothing_outlives_a_child)      \
	X(test_the_worker_stops)              \
	X(test_fork_program)                  \
	X(test_frames_byte_by_byte)

/* Which need all that the kernel has. */
#define MORE_TESTS(X)                       \
	X(test_what_an_error_is_about)      \
	X(test_kill_after_it_was_reaped)    \
	X(test_same_group)                  \
	X(test_fork_function)               \
	X(test_fork_messages_wait)          \
	X(test_fork_pause_within_a_message) \
	X(test_fork_close_within_a_message) \
	X(test_fork_message_too_large)      \
	X(test_fork_message_cut_off)        \
	X(test_fork_has_no_descriptors)     \
	X(test_fork_crashes)
static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
#define ADD(test) tcase_add_test(tc, test);
	TESTS(ADD)
	if (!lacks_system_calls()) {
		MORE_TESTS(ADD)
	}
#undef ADD
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], ECHO_ARGUMENT) == 0)
		return echo(tine_channel_fd(), NULL);
	event_set_mem_functions(loop_malloc, loop_realloc, free);
	return run_tests("subprocess", add);
}

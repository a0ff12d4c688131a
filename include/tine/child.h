/*
 * tine/child.h - child processes of a worker.
 *
 *	static void on_done(const struct tine_child_result *r, void *arg) { ... r->output ... }
 *	tine_child_exec(worker, "ls -l | wc -l", NULL, on_done, NULL, NULL);
 *
 * tine_child_spawn() starts a program, with its standard streams on the worker's loop. tine_child_exec() runs a command of the
 * shell and tine_child_exec_file() a program, and both hand over what it has written when it has ended. tine_child_fork() starts a
 * program, or runs a function in a forked process, with a message channel to it.
 *
 * Errors. What is wrong with the arguments is what a function returns, and then nothing was begun:
 *	-EINVAL		an argument is malformed
 *	-ENOMEM
 *	TINE_E_QUOTA	there are TINE_CHILD_MAX children in this process
 *	TINE_E_CLOSED	the worker is stopping
 * What the system refuses is told to the callback, once, never from within the call: on_error, or `error` of the result.
 *	-ENOENT, -ENOTDIR		there is no such program, no interpreter of a script, or no such directory
 *	-EACCES, -ENOEXEC, -ELOOP, ...	the program cannot be executed (execve(2)), or the directory not be entered
 *	-E2BIG				arguments and environment are too long
 *	-EPERM				another user or group was asked for, and this worker is not root
 *	-EBADF				a descriptor for one of its standard streams is not open
 *	-EMFILE, -ENFILE, -EAGAIN	there are no more descriptors or processes
 * It comes from the child itself: there is no child that "was started" and then turns out not to be there. What it is about is said
 * by tine_child_text(), or `text` of the result, in its first word and the name behind that: "program", "interpreter", "directory",
 * "user", "stream", or "process" for all else, as in "interpreter /usr/bin/none of ./script: No such file or directory".
 *
 * Order of the callbacks. on_data, on_end, on_message and on_writable while it runs; on_exit when its process has ended, which may
 * be before the last data has come; on_close when it has ended AND its streams have, last of all, always, once. A child that could not be
 * started has on_error, then on_close. None is called after worker_stop.
 *
 * Starting a program takes as long as execve(2) does, some tenths of a millisecond, however much memory the worker uses; the loop stands still
 * meanwhile.
 *
 * What a child is. A process group of its own, unless asked otherwise: so time-outs and tine_child_kill() reach all that it has
 * started. It has descriptors 0, 1, 2, with a channel 3, and no others, whatever the worker has open. No signal is blocked or
 * ignored in it. It inherits the worker's limits, nice value, CPU affinity ([workers] cpu_affinity) and no_new_privs: set-user-ID
 * programs gain nothing.
 *
 * Its end. Nothing outlives a child: once it has ended and its streams have, it is reaped, and what is left of its process group is
 * killed. What has left the group (setsid(1)) is inherited by the primary, and killed with the worker at the latest. Until
 * worker_stop children live on, also while the worker drains; after worker_stop has returned they are killed with SIGKILL,
 * groups and all. When the worker is killed or crashes, the kernel kills its children (PR_SET_PDEATHSIG in prctl(2)), and the
 * primary inherits and kills what they had started. Only when worker and primary are both killed at the same moment may processes
 * that a child had started live on.
 *
 * All functions run on the worker's loop thread, from worker_start to worker_stop, and copy what they are given. A `struct
 * tine_child` lives until its on_close, or the result's callback, has returned.
 */
#ifndef TINE_CHILD_H
#define TINE_CHILD_H

#include <sys/resource.h>
#include <sys/types.h>

#include "errors.h"
#include "module.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TINE_CHILD_MAX          1024        /* in one worker at a time, by all modules */
#define TINE_CHILD_QUEUE_MAX    (1u << 20)  /* default of queue_max */
#define TINE_CHILD_MESSAGE_MAX  (1u << 20)  /* default of message_max, in bytes */
#define TINE_CHILD_MESSAGE_MOST (64u << 20) /* the most that it may be */
#define TINE_CHILD_BUFFER_MAX   (1u << 20)  /* default of max_buffer, as in Node */
#define TINE_CHILD_GRACE_US     2000000     /* default of grace_us */

struct tine_child;

enum tine_child_stream {
	TINE_CHILD_STDIN,
	TINE_CHILD_STDOUT,
	TINE_CHILD_STDERR,
	TINE_CHILD_CHANNEL, /* of tine_child_fork() */
};

enum tine_child_stdio_kind {
	/* spawn: a pipe; fork: inherited; exec, exec_file: a pipe for output, nothing for input */
	TINE_CHILD_DEFAULT,
	TINE_CHILD_PIPE, /* on the loop; output that nobody takes (no on_data) is read and dropped */
	TINE_CHILD_INHERIT, /* the worker's own */
	TINE_CHILD_IGNORE,  /* /dev/null */
	TINE_CHILD_FD, /* `fd`, which stays the caller's: he may close it when the function has returned */
};

struct tine_child_stdio {
	enum tine_child_stdio_kind kind;
	int fd;
};

/* How a child ended. */
struct tine_child_exit {
	int status;    /* 0 to 255 of its exit(3); -1: a signal killed it, or it is not known */
	int signal;    /* that killed it, or 0 */
	int dumped;    /* it left a core */
	int timed_out; /* timeout_us was over before */
	struct rusage
		usage; /* getrusage(2), of it and of those of its children that it has waited for */
};

/* What is 0 is not there, or has its default. */
struct tine_child_options {
	size_t size; /* sizeof(struct tine_child_options) */

	/*
	 * What to execute: a path, if there is a slash in it; else it is looked for in PATH, the one in `environment` if that is
	 * given. A relative path is relative to `directory`. Files without a known format are not given to a shell (-ENOEXEC).
	 */
	const char *program;
	const char *const
		*argv; /* ends with NULL; argv[0] included; NULL: the program's name alone */
	const char *const *environment; /* "NAME=value", ends with NULL; NULL: the worker's own */
	const char *directory;          /* NULL: the worker's own */
	/* Only as root, or one's own. With a uid, or a gid, supplementary groups are given up. */
	const uid_t *uid;
	const gid_t *gid;

	struct tine_child_stdio stdio[3]; /* standard input, output, error */

	/* It stays in the worker's process group: signals of ours reach it alone, not what it starts. */
	int same_group;

	uint64_t timeout_us; /* then SIGTERM to the whole group; 0: none */
	uint64_t
		grace_us; /* after that SIGKILL, to the whole group, and no more waiting for its streams */

	/* Bytes that wait to be written, for standard input and for the channel, where each message has 4 more. A message that is larger
	 * cannot be sent at all. */
	size_t queue_max;
	size_t message_max; /* bytes of a message, either way */
	size_t max_buffer;  /* exec, exec_file: bytes of output, of each of the two */

	/* fork alone: run this in a forked process instead of a program. See tine_child_fork(). */
	int (*function)(int channel, void *arg);

	/* All may be NULL. data is valid until the callback returns, and may lie at any address. exec and exec_file have but on_writable. */
	void (*on_data)(struct tine_child *child, enum tine_child_stream stream, const void *data,
		size_t len, void *arg);
	void (*on_end)(struct tine_child *child, enum tine_child_stream stream, void *arg);
	/* What tine_child_write() or tine_child_send() had no room for may be tried again. */
	void (*on_writable)(struct tine_child *child, enum tine_child_stream stream, void *arg);
	void (*on_message)(struct tine_child *child, const void *data, size_t len, void *arg);
	/*
	 * Could not be started; or, TINE_E_TOO_LARGE, has sent a message over message_max and was killed; or -ENOMEM, the same; or,
	 * -EPROTO, the channel has ended within a message, which is lost: on_end comes next, and the child may go on.
	 */
	void (*on_error)(struct tine_child *child, int error, void *arg);
	void (*on_exit)(struct tine_child *child, const struct tine_child_exit *how, void *arg);
	void (*on_close)(struct tine_child *child, void *arg);
	void *arg; /* handed to all; must live until on_close, or worker_stop */
};

/* Starts a program. *ret may be used in the callbacks too; ret NULL: nobody needs it. */
TINE_EXPORT int tine_child_spawn(struct tine_worker *worker,
	const struct tine_child_options *options, struct tine_child **ret);

/* --- all at once --- */

struct tine_child_result {
	size_t size; /* sizeof(struct tine_child_result) */
	/*
	 * 0 when it ran until it ended by itself, however that was: see `how`. Else what on_error is told; or TINE_E_TOO_LARGE: it
	 * wrote more than max_buffer, and its group was killed; or TINE_E_TIMEOUT. The output so far is there in any case.
	 */
	int error;
	struct tine_child_exit how; /* if it was started */
	const char *output;         /* what it wrote, with a NUL behind it */
	size_t output_len;
	const char *errors; /* the same of standard error */
	size_t errors_len;
	const char *text; /* what the error is about, as tine_child_text(); "" when there is none */
};

/* The last call for a child. The result is valid until it returns. */
typedef void (*tine_child_done_fn)(const struct tine_child_result *result, void *arg);

/*
 * Runs `command` by /bin/sh -c. options may be NULL; its program, argv and callbacks but on_writable do not count. `arg` is handed to
 * on_done, and options->arg to on_writable. Never put what a client sent into a command: use tine_child_exec_file().
 */
TINE_EXPORT int tine_child_exec(struct tine_worker *worker, const char *command,
	const struct tine_child_options *options, tine_child_done_fn on_done, void *arg,
	struct tine_child **ret);

/* The same for a program and its arguments, without a shell. */
TINE_EXPORT int tine_child_exec_file(struct tine_worker *worker,
	const struct tine_child_options *options, tine_child_done_fn on_done, void *arg,
	struct tine_child **ret);

/* --- with messages --- */

/*
 * Starts a child with a message channel; it has the other end in descriptor 3: tine/channel.h says what is spoken there.
 *
 * Either `program`: as tine_child_spawn(), with TINE_CHANNEL=3 in its environment, also where that is given.
 *
 * Or `function`: it is run in a real fork(2) of the worker, with what the worker has in memory at that moment, and its return
 * value becomes the exit status. Of the worker's threads none is there but this one. It may use `channel`, its standard streams,
 * its own memory, the C library (malloc included), and the functions of tine/channel.h; nothing else of tine, not the
 * loop, no descriptor of the worker's (they are closed), and no lock that another thread might have held. It ends without the
 * worker's atexit(3) functions. The size of the worker's memory is what a fork costs: a program starts faster.
 */
TINE_EXPORT int tine_child_fork(struct tine_worker *worker,
	const struct tine_child_options *options, struct tine_child **ret);

/*
 * Sends a message over the channel. Messages arrive whole and in order. Returns 0; TINE_E_FULL when it would not fit queue_max:
 * on_writable will be called with TINE_CHILD_CHANNEL; TINE_E_TOO_LARGE when it never would, or is more than message_max;
 * TINE_E_CLOSED when there is no channel, or no more; -ENOMEM, and it may be cut off.
 */
TINE_EXPORT int tine_child_send(struct tine_child *child, const void *data, size_t len);

/* --- its streams --- */

/*
 * Writes to its standard input, all of it or nothing. Returns 0; TINE_E_FULL when it would not fit queue_max: on_writable will be
 * called with TINE_CHILD_STDIN; TINE_E_TOO_LARGE when it never would; TINE_E_CLOSED when the input is no pipe, or closed by one side;
 * -ENOMEM, and it may have been closed.
 */
TINE_EXPORT int tine_child_write(struct tine_child *child, const void *data, size_t len);

/*
 * Closes our end: of standard input and of the channel after what was written has left; of standard output and error at once,
 * without an on_end. A closed channel brings no more messages. NULL and closed streams are fine.
 */
TINE_EXPORT void tine_child_close(struct tine_child *child, enum tine_child_stream stream);

/* Reads no more from its output, its errors or the channel until told to go on; the child then waits when its pipe is full. */
TINE_EXPORT void tine_child_pause(struct tine_child *child, enum tine_child_stream stream);
TINE_EXPORT void tine_child_resume(struct tine_child *child, enum tine_child_stream stream);

/* --- its process --- */

/*
 * Sends a signal: to its process group, also when the child itself has ended and only what it started is left; with same_group to
 * the child alone. Never to a process that merely has the same number. Returns 0; TINE_E_GONE when nobody of it is alive, also in
 * on_exit; -EINVAL for what is no signal, 0 among it; or -EPERM. Once the child itself has ended, each call looks through /proc for what
 * is left of its group.
 */
TINE_EXPORT int tine_child_kill(struct tine_child *child, int signal);

/* Its number, for people to read; 0 when it could not be started. Use tine_child_kill() to signal it. */
TINE_EXPORT pid_t tine_child_pid(const struct tine_child *child);

/*
 * What the error was about that on_error was called with, and the reason: see above. Of messages, "message: cut off by the end of
 * the channel". Valid until on_close has returned; "" when there was none.
 */
TINE_EXPORT const char *tine_child_text(const struct tine_child *child);

#ifdef __cplusplus
}
#endif
#endif

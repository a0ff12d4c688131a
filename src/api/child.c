/*
 * tine/child.h: checks what modules hand in and calls down. Runs in the worker, on the loop's thread.
 */
#include <signal.h>
#include <string.h>

#include <tine/channel.h>
#include <tine/child.h>

#include "base/sized.h"
#include "runtime/module.h"
#include "runtime/subprocess.h"

#define SHELL "/bin/sh"

_Static_assert(TINE_CHANNEL_FD == (int)TINE_CHILD_CHANNEL, "streams are numbered as descriptors");

/* What TINE_CHILD_DEFAULT stands for: input, output, error. */
static const enum tine_child_stdio_kind of_spawn[] = {
	TINE_CHILD_PIPE, TINE_CHILD_PIPE, TINE_CHILD_PIPE};
static const enum tine_child_stdio_kind of_run[] = {
	TINE_CHILD_IGNORE, TINE_CHILD_PIPE, TINE_CHILD_PIPE};
static const enum tine_child_stdio_kind of_fork[] = {
	TINE_CHILD_INHERIT, TINE_CHILD_INHERIT, TINE_CHILD_INHERIT};

static bool are_streams_sound(const struct tine_child_options *o)
{
	for (int i = 0; i < 3; i++) {
		const struct tine_child_stdio *s = &o->stdio[i];

		if ((unsigned)s->kind > TINE_CHILD_FD || (s->kind == TINE_CHILD_FD && s->fd < 0))
			return false;
	}
	return true;
}

static bool is_sound(const struct tine_child_options *o)
{
	if (o->program && (!*o->program || (o->argv && !o->argv[0])))
		return false;
	return are_streams_sound(o) && o->message_max <= TINE_CHILD_MESSAGE_MOST;
}

/* A copy that is complete, for a worker that may start children; or a negative errno. NULL stands for options without any. */
static int complete(const struct tine_worker *worker, const struct tine_child_options *given,
	const enum tine_child_stdio_kind defaults[3], struct tine_child_options *ret)
{
	struct tine_child_options o = {0};
	int r;

	if (!worker)
		return -EINVAL;
	if (!worker->subprocesses)
		return TINE_E_CLOSED;
	r = given ? SIZED_TAKE(&o, given, arg) : 0;
	if (r < 0)
		return r;
	if (!is_sound(&o))
		return -EINVAL;
	for (int i = 0; i < 3; i++) {
		if (o.stdio[i].kind == TINE_CHILD_DEFAULT)
			o.stdio[i].kind = defaults[i];
	}
	o.grace_us = o.grace_us ? o.grace_us : TINE_CHILD_GRACE_US;
	o.queue_max = o.queue_max ? o.queue_max : TINE_CHILD_QUEUE_MAX;
	o.message_max = o.message_max ? o.message_max : TINE_CHILD_MESSAGE_MAX;
	o.max_buffer = o.max_buffer ? o.max_buffer : TINE_CHILD_BUFFER_MAX;
	*ret = o;
	return 0;
}

static int start(struct tine_worker *worker, const struct tine_child_options *o, bool channel,
	struct tine_child **ret)
{
	struct tine_child *child;
	int r = subprocess_start(worker->subprocesses, o, channel, &child);

	if (r == 0 && ret)
		*ret = child;
	return r;
}

int tine_child_spawn(struct tine_worker *worker, const struct tine_child_options *options,
	struct tine_child **ret)
{
	struct tine_child_options o;
	int r = complete(worker, options, of_spawn, &o);

	if (r < 0)
		return r;
	return o.program && !o.function ? start(worker, &o, false, ret) : -EINVAL;
}

int tine_child_fork(struct tine_worker *worker, const struct tine_child_options *options,
	struct tine_child **ret)
{
	struct tine_child_options o;
	int r = complete(worker, options, of_fork, &o);

	if (r < 0)
		return r;
	return !o.program != !o.function ? start(worker, &o, true, ret) : -EINVAL;
}

static int run(struct tine_worker *worker, const struct tine_child_options *o,
	tine_child_done_fn on_done, void *arg, struct tine_child **ret)
{
	struct tine_child *child;
	int r;

	if (!on_done || !o->program || o->function)
		return -EINVAL;
	r = subprocess_run(worker->subprocesses, o, on_done, arg, &child);
	if (r == 0 && ret)
		*ret = child;
	return r;
}

int tine_child_exec_file(struct tine_worker *worker, const struct tine_child_options *options,
	tine_child_done_fn on_done, void *arg, struct tine_child **ret)
{
	struct tine_child_options o;
	int r = complete(worker, options, of_run, &o);

	return r < 0 ? r : run(worker, &o, on_done, arg, ret);
}

int tine_child_exec(struct tine_worker *worker, const char *command,
	const struct tine_child_options *options, tine_child_done_fn on_done, void *arg,
	struct tine_child **ret)
{
	const char *const argv[] = {SHELL, "-c", command, NULL};
	struct tine_child_options o;
	int r = command ? complete(worker, options, of_run, &o) : -EINVAL;

	if (r < 0)
		return r;
	o.program = SHELL;
	o.argv = argv;
	o.function = NULL;
	return run(worker, &o, on_done, arg, ret);
}

int tine_child_send(struct tine_child *child, const void *data, size_t len)
{
	return child && (data || len == 0) ? subprocess_send(child, data, len) : -EINVAL;
}

int tine_child_write(struct tine_child *child, const void *data, size_t len)
{
	return child && (data || len == 0) ? subprocess_write(child, data, len) : -EINVAL;
}

void tine_child_close(struct tine_child *child, enum tine_child_stream stream)
{
	if (child && (unsigned)stream <= TINE_CHILD_CHANNEL)
		subprocess_close(child, stream);
}

void tine_child_pause(struct tine_child *child, enum tine_child_stream stream)
{
	if (child && (unsigned)stream <= TINE_CHILD_CHANNEL)
		subprocess_pause(child, stream, true);
}

void tine_child_resume(struct tine_child *child, enum tine_child_stream stream)
{
	if (child && (unsigned)stream <= TINE_CHILD_CHANNEL)
		subprocess_pause(child, stream, false);
}

int tine_child_kill(struct tine_child *child, int signal)
{
	return child && signal > 0 && signal < NSIG ? subprocess_kill(child, signal) : -EINVAL;
}

pid_t tine_child_pid(const struct tine_child *child)
{
	return child ? subprocess_pid(child) : 0;
}

const char *tine_child_text(const struct tine_child *child)
{
	return child ? subprocess_text(child) : "";
}

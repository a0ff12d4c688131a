/*
 * Programs whose output is wanted as a whole. On the loop's thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/subprocess.h"

/* What one of its streams has written so far. */
struct output {
	char *data; /* with room for a NUL */
	size_t len, size;
};

struct run {
	tine_child_done_fn on_done;
	void *arg;
	void (*on_writable)(struct tine_child *child, enum tine_child_stream stream, void *arg);
	void *writable_arg;
	size_t max_buffer;
	struct output out, err;
	int error;
	struct tine_child_exit how;
};

static int output_append(struct output *o, const void *data, size_t len)
{
	size_t size = o->size ? o->size : 4096;
	char *more;

	while (size < o->len + len + 1)
		size *= 2;
	if (size != o->size) {
		more = realloc(o->data, size);
		if (!more)
			return -ENOMEM;
		o->data = more;
		o->size = size;
	}
	memcpy(o->data + o->len, data, len);
	o->len += len;
	o->data[o->len] = '\0';
	return 0;
}

/* The first error counts; it is the end of the child. */
static void give_up(struct run *run, struct tine_child *c, int error)
{
	if (run->error == 0) {
		run->error = error;
		if (error == TINE_E_TOO_LARGE)
			subprocess_say(c, "output: more than %zu bytes", run->max_buffer);
		else
			subprocess_say(c, "output: %s", strerror(-error));
	}
	subprocess_end(c);
}

static void on_data(struct tine_child *c, enum tine_child_stream stream, const void *data,
	size_t len, void *arg)
{
	struct run *run = arg;
	struct output *o = stream == TINE_CHILD_STDOUT ? &run->out : &run->err;
	size_t room = run->max_buffer - o->len;
	int r = output_append(o, data, len < room ? len : room);

	if (r < 0)
		give_up(run, c, r);
	else if (len > room)
		give_up(run, c, TINE_E_TOO_LARGE);
	if (run->error != 0) /* it may write on until it is dead */
		subprocess_pause(c, stream, true);
}

static void on_writable(struct tine_child *c, enum tine_child_stream stream, void *arg)
{
	struct run *run = arg;

	if (run->on_writable)
		run->on_writable(c, stream, run->writable_arg);
}

static void on_error(struct tine_child *c, int error, void *arg)
{
	struct run *run = arg;

	run->error = error;
}

static void on_exit_of_child(struct tine_child *c, const struct tine_child_exit *how, void *arg)
{
	struct run *run = arg;

	run->how = *how;
}

static void on_close(struct tine_child *c, void *arg)
{
	struct run *run = arg;
	struct tine_child_result result = {.size = sizeof(result),
		.error = run->error,
		.how = run->how,
		.output = run->out.data ? run->out.data : "",
		.output_len = run->out.len,
		.errors = run->err.data ? run->err.data : "",
		.errors_len = run->err.len,
		.text = subprocess_text(c)};

	if (result.error == 0 && subprocess_has_timed_out(c)) {
		result.error = TINE_E_TIMEOUT;
		result.how.timed_out = 1;
		subprocess_say(c, "timed out");
	}
	run->on_done(&result, run->arg);
}

static void forget(void *arg)
{
	struct run *run = arg;

	free(run->out.data);
	free(run->err.data);
	free(run);
}

/* Starts a program and calls on_done when it has ended, once. Returns as subprocess_start(). */
int subprocess_run(struct subprocesses *all, const struct tine_child_options *o,
	tine_child_done_fn on_done, void *arg, struct tine_child **ret)
{
	struct tine_child_options own = *o;
	struct run *run = calloc(1, sizeof(*run));
	int r;

	if (!run)
		return -ENOMEM;
	*run = (struct run){.on_done = on_done,
		.arg = arg,
		.on_writable = o->on_writable,
		.writable_arg = o->arg,
		.max_buffer = o->max_buffer};
	own.on_data = on_data;
	own.on_end = NULL;
	own.on_message = NULL;
	own.on_writable = on_writable;
	own.on_error = on_error;
	own.on_exit = on_exit_of_child;
	own.on_close = on_close;
	own.arg = run;
	r = subprocess_start(all, &own, false, ret);
	if (r < 0)
		forget(run);
	else
		subprocess_set_forget(*ret, forget);
	return r;
}

/* Child processes of a process that runs modules. On the loop's thread. */
#pragma once

#include <stdbool.h>

#include <tine/child.h>

struct event_base;
struct subprocesses;

int subprocesses_new(struct event_base *base, struct subprocesses **ret);
void subprocesses_end(struct subprocesses *all);
struct subprocesses *subprocesses_free(struct subprocesses *all);
int subprocess_start(struct subprocesses *all, const struct tine_child_options *o, bool channel,
	struct tine_child **ret);
int subprocess_run(struct subprocesses *all, const struct tine_child_options *o,
	tine_child_done_fn on_done, void *arg, struct tine_child **ret);
int subprocess_write(struct tine_child *c, const void *data, size_t len);
int subprocess_send(struct tine_child *c, const void *data, size_t len);
void subprocess_close(struct tine_child *c, enum tine_child_stream stream);
void subprocess_pause(struct tine_child *c, enum tine_child_stream stream, bool on);
int subprocess_signal(struct tine_child *c, int sig);
int subprocess_kill(struct tine_child *c, int sig);
void subprocess_say(struct tine_child *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
const char *subprocess_text(const struct tine_child *c);
void subprocess_end(struct tine_child *c);
pid_t subprocess_pid(const struct tine_child *c);
bool subprocess_has_timed_out(const struct tine_child *c);
void subprocess_set_forget(struct tine_child *c, void (*forget)(void *arg));

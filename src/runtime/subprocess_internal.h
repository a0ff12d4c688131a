/* What the files of child processes share. */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>
#include <sys/types.h>

#include <tine/child.h>

#include "runtime/subprocess_message.h"

#define N_STREAMS 4

/* Our end of a standard stream or of the channel. */
struct child_stream {
	struct tine_child *child;
	enum tine_child_stream name;
	int fd; /* -1: there is none, or no more */
	struct event ev_read, ev_write;

	/* what is to be written */
	char *queue;
	size_t begin, end, size; /* what waits is from begin to end */
	bool refused;            /* somebody waits for on_writable */
	bool closing;            /* when the queue is empty */

	/* what comes */
	bool paused;
	struct message_reader reader; /* of the channel */
};

struct tine_child {
	TAILQ_ENTRY(tine_child) link;
	struct subprocesses *all;
	/* Numbers, callbacks, arg; the strings are gone once it has been started. */
	struct tine_child_options o;
	void (*forget)(void *arg); /* frees o.arg, if that is ours */
	pid_t pid;                 /* 0: it could not be started */
	int pidfd;
	struct event ev_exit, ev_timer;
	struct event ev_settle; /* what is to be called, but not from within another call */
	struct child_stream streams[N_STREAMS];
	struct tine_child_exit how;
	bool exited;    /* not reaped yet: its number is kept for its group */
	bool reaped;    /* it may be another one's by now */
	bool timed_out; /* and was sent SIGTERM */
	bool cut;       /* killed: nobody waits for its streams */
	int error;      /* still to be told; 0: none */
	char text[256]; /* why */
};

struct subprocesses {
	struct event_base *base;
	TAILQ_HEAD(, tine_child) children;
	unsigned n;
	bool ending;  /* none is started any more */
	int null_fd;  /* /dev/null; -1: not opened yet */
	char *buffer; /* for what is read; NULL: not needed yet */
};

/* subprocess.c */
void subprocess_settle(struct tine_child *c);
void subprocess_fail(struct tine_child *c, int error);
void subprocess_tell(struct tine_child *c, int error);

/* subprocess_stream.c */
void child_stream_init(struct child_stream *s, struct tine_child *c, enum tine_child_stream name);
int child_stream_open(struct child_stream *s, int fd);
int child_stream_write(
	struct child_stream *s, const void *head, size_t head_len, const void *data, size_t len);
void child_stream_finish(struct child_stream *s);
void child_stream_close(struct child_stream *s);
void child_stream_pause(struct child_stream *s);
void child_stream_resume(struct child_stream *s);

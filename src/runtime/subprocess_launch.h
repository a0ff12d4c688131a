/* From a running process to another program, or to a function in a fork: what lies between. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define LAUNCH_FDS_MAX 4

/* On the way to what it is to be. */
enum launch_step {
	LAUNCH_PROCESS,
	LAUNCH_STREAMS,
	LAUNCH_USER,
	LAUNCH_DIRECTORY,
	LAUNCH_PROGRAM,
};

/* What a child is to be. Everything it points to was made ready before: in the child there are system calls only. */
struct launch {
	char **paths; /* to be tried in turn, ends with NULL; NULL: function is run */
	char *const *argv, *const *environment;
	int (*function)(int channel, void *arg);
	void *arg;

	int fds[LAUNCH_FDS_MAX]; /* what is to be descriptor 0, 1, 2, 3 */
	int n_fds;
	const char *directory; /* NULL: stays */
	const uid_t *uid;      /* these two NULL: stay */
	const gid_t *gid;
	bool own_group;
};

int launch(const struct launch *l, pid_t *ret_pid, int *ret_pidfd, enum launch_step *ret_step);

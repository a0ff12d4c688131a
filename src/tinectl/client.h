/*
 * Talking to the daemon: a command on the control socket (ipc/commands.h), lines of JSON back. Runs in tinectl.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Exit statuses of tinectl; the manual page has the same table. */
enum tinectl_status {
	TINECTL_OK,
	TINECTL_FAILED,      /* the daemon tried, and it did not work out */
	TINECTL_USAGE,       /* the command cannot be meant */
	TINECTL_UNREACHABLE, /* no daemon answers there */
	TINECTL_DENIED,      /* it may not be told by us */
	TINECTL_BUSY,        /* not now */
	TINECTL_TIMEOUT,     /* no answer in time */
	TINECTL_GONE,        /* the connection ended before the answer did */
};

#define CLIENT_ERROR_MAX 512

struct client_options {
	const char *path;
	uint64_t timeout_us; /* for the whole of it; 0: none */
	bool until_unread;   /* stop, with TINECTL_OK, when nobody reads standard output any more */
};

/* Gets every object but the last, borrowed. Returns false to stop listening. */
typedef bool (*client_record_fn)(json_t *record, void *arg);

/*
 * Runs one command. *ret_last: the last object, a new reference, when there was one. error: what is wrong, for any
 * status but TINECTL_OK; of what the daemon said printable characters and newlines only.
 * Nothing else is to be believed: whatever answers there may send any text, and without end.
 */
enum tinectl_status client_run(const struct client_options *o, const char *command,
	client_record_fn on_record, void *arg, json_t **ret_last, char error[CLIENT_ERROR_MAX * 8]);

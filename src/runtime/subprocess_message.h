/* Messages in a stream of bytes: a length of four bytes in the machine's order, then the payload. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_HEAD 4

/* What has come of messages that are not complete, or not wanted yet. All zero at first, but max. */
struct message_reader {
	char *data;
	size_t used, size;
	uint32_t max; /* of a payload; more is an error */
};

/* Returns whether it wants the next one too. */
typedef bool (*message_fn)(const void *data, size_t len, void *arg);

int message_reader_feed(
	struct message_reader *m, const void *data, size_t len, message_fn fn, void *arg);
void message_reader_reset(struct message_reader *m);

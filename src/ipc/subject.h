/*
 * Subjects: what is published is named by tokens with dots between them, "chat.room.7". In a pattern `*` stands for any one
 * token, and `>`, the last one, for one or more. Tokens are printable ASCII. Any process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ipc/msg.h"

#define SUBJECT_PEER_JOIN  "$tine.peer.join" /* struct msg_peer */
#define SUBJECT_PEER_LEAVE "$tine.peer.leave"
#define SUBJECT_LOCAL      "$local."

enum subject_kind { SUBJECT_PLAIN, SUBJECT_PATTERN };

int subject_check(const char *s, size_t len, enum subject_kind kind, const char **ret_why);
bool subject_matches(const char *pattern, size_t pattern_len, const char *subject, size_t len);
bool subject_intersect(
	const char *a, size_t a_len, const char *b, size_t b_len, char ret[SUBJECT_MAX + 1]);
uint64_t subject_key(const char *s, size_t len);

/* Not everybody's to publish, and for nobody elsewhere; wildcards at the beginning of a pattern do not stand for them. */
static inline bool subject_is_reserved(const char *s, size_t len)
{
	return len > 0 && s[0] == '$';
}

/* Whether a module may publish it: of what is reserved only what workers tell each other, which never leaves the machine. */
static inline bool subject_is_publishable(const char *s, size_t len)
{
	const size_t n = sizeof(SUBJECT_LOCAL) - 1;

	return !subject_is_reserved(s, len) || (len > n && memcmp(s, SUBJECT_LOCAL, n) == 0);
}

/* The bytes of the token that begins here. */
static inline size_t subject_token(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && s[n] != '.')
		n++;
	return n;
}

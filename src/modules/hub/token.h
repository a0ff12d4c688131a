/*
 * Who may publish and subscribe to what: tokens "EXPIRES.PATTERN.RIGHTS.SIGNATURE", signed with a secret that the hub shares with
 * whoever gives them out.
 */
#pragma once

#include <stdint.h>

#include <tine/http.h>

#include "modules/hub/topic.h"

#define TOKEN_SECRETS    8
#define TOKEN_SECRET_MIN 16
#define TOKEN_SECRET_MAX 256

enum token_right {
	TOKEN_PUBLISH = 1,
	TOKEN_SUBSCRIBE = 2,
};

/* Each is good: so that a new one can be introduced before the old one goes. */
struct token_secrets {
	unsigned n;
	struct {
		size_t len;
		char text[TOKEN_SECRET_MAX];
	} secret[TOKEN_SECRETS];
};

struct token {
	uint64_t expires_s; /* since 1970 */
	unsigned rights;    /* enum token_right or-ed */
	struct topic topic;
};

int token_read_secrets(const char *path, struct token_secrets *ret);
int token_parse(const struct token_secrets *secrets, struct tine_text text, uint64_t now_s,
	struct token *ret);

/*
 * Subjects ("chat.room.7") and patterns of them: `*` stands for any one token, `>` as the last one for one or more.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <tine/http.h>

#define TOPIC_MAX       255 /* bytes */
#define TOPIC_TOKENS    16
#define TOPIC_WILDCARDS 4 /* `*`; the bus takes no more */

struct topic {
	size_t len;
	bool is_pattern; /* it has a wildcard in it */
	char text[TOPIC_MAX + 1];
};

int topic_parse(struct tine_text text, struct topic *ret);
const char *topic_fault(struct tine_text text);
int topic_from_path(struct tine_text path, struct topic *ret, const char **ret_fault);
bool topic_matches(struct tine_text pattern, struct tine_text subject);
bool topic_covers(struct tine_text wide, struct tine_text narrow);

static inline struct tine_text topic_text(const struct topic *t)
{
	return (struct tine_text){t->text, t->len};
}

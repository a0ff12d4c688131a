/* Subjects and patterns: parsed strictly, compared token by token. Worker only. */
#include "modules/hub/topic.h"

#include <errno.h>
#include <string.h>

/* The first token of *rest, which is moved behind it and its dot. */
static struct tine_text next_token(struct tine_text *rest)
{
	const char *dot = memchr(rest->data, '.', rest->len);
	size_t len = dot ? (size_t)(dot - rest->data) : rest->len;
	struct tine_text token = {rest->data, len};
	size_t used = dot ? len + 1 : len;

	rest->data += used;
	rest->len -= used;
	return token;
}

static bool is(struct tine_text token, char c)
{
	return token.len == 1 && token.data[0] == c;
}

static bool is_plain(struct tine_text token)
{
	for (size_t i = 0; i < token.len; i++) {
		if (token.data[i] <= ' ' || token.data[i] > '~' || token.data[i] == '*' ||
			token.data[i] == '>')
			return false;
	}
	return token.len > 0;
}

/*
 * A subject or a pattern: up to 16 tokens of printable ASCII, 255 bytes in all, up to four `*`; those that begin with `$` are
 * tined's own.
 * Returns 0 or -EINVAL.
 */
int topic_parse(struct tine_text text, struct topic *ret)
{
	struct tine_text left = text;
	unsigned n_tokens = 0, n_wildcards = 0;

	if (text.len == 0 || text.len > TOPIC_MAX || text.data[0] == '$' ||
		text.data[text.len - 1] == '.')
		return -EINVAL;
	ret->is_pattern = false;
	while (left.len > 0) {
		struct tine_text token = next_token(&left);
		bool wild = is(token, '*') || (is(token, '>') && left.len == 0);

		n_wildcards += is(token, '*');
		if ((!wild && !is_plain(token)) || ++n_tokens > TOPIC_TOKENS ||
			n_wildcards > TOPIC_WILDCARDS)
			return -EINVAL;
		ret->is_pattern |= wild;
	}
	memcpy(ret->text, text.data, text.len);
	ret->text[text.len] = '\0';
	ret->len = text.len;
	return 0;
}

/* The path below the mount point, decoded: "/a/b" is a.b, as "/a.b" is. Returns 0 or -EINVAL. */
int topic_from_path(struct tine_text path, struct topic *ret)
{
	char text[TOPIC_MAX];
	size_t len = path.len > 0 ? path.len - 1 : 0;

	if (len == 0 || len > sizeof(text) || path.data[0] != '/')
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		text[i] = path.data[i + 1] == '/' ? '.' : path.data[i + 1];
	return topic_parse((struct tine_text){text, len}, ret);
}

/* Whether the pattern `wide` stands for all that `narrow`, a subject or a pattern, does. Both are well-formed. */
bool topic_covers(struct tine_text wide, struct tine_text narrow)
{
	while (wide.len > 0 && narrow.len > 0) {
		struct tine_text w = next_token(&wide), n = next_token(&narrow);

		if (is(w, '>'))
			return true;
		if (is(n, '>') ||
			(!is(w, '*') && (w.len != n.len || memcmp(w.data, n.data, w.len) != 0)))
			return false;
	}
	return wide.len == 0 && narrow.len == 0;
}

/* Whether the subject is one of those that the pattern stands for. */
bool topic_matches(struct tine_text pattern, struct tine_text subject)
{
	return topic_covers(pattern, subject);
}

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

/* What is wrong with a token, or NULL. */
static const char *token_fault(struct tine_text token, bool is_last)
{
	if (token.len == 0)
		return "an empty segment: one before, behind or between `/` and `.`";
	if (is(token, '>') && !is_last)
		return "`>` before the end";
	if (is(token, '*') || is(token, '>'))
		return NULL;
	for (size_t i = 0; i < token.len; i++) {
		if (token.data[i] <= ' ' || token.data[i] > '~')
			return "a byte that is not printable ASCII, or a blank";
		if (token.data[i] == '*' || token.data[i] == '>')
			return "a wildcard that is not a segment of its own";
	}
	return NULL;
}

/*
 * A subject or a pattern: up to 16 tokens of printable ASCII, 255 bytes in all, up to four `*`; those that begin with `$` are
 * tined's own. Returns what is wrong with it, or NULL.
 */
const char *topic_fault(struct tine_text text)
{
	unsigned n_tokens = 0, n_wildcards = 0;
	struct tine_text left = text;
	const char *fault = NULL;

	if (text.len > TOPIC_MAX)
		return "it has more than 255 bytes";
	if (text.len > 0 && text.data[0] == '$')
		return "what begins with `$` is tined's own";
	if (text.len == 0 || text.data[text.len - 1] == '.')
		return token_fault((struct tine_text){"", 0}, true);
	while (!fault && left.len > 0) {
		struct tine_text token = next_token(&left);

		fault = token_fault(token, left.len == 0);
		n_wildcards += is(token, '*');
		if (++n_tokens > TOPIC_TOKENS)
			fault = "it has more than 16 segments";
		else if (n_wildcards > TOPIC_WILDCARDS)
			fault = "it has more than 4 `*`";
	}
	return fault;
}

/* Returns 0, or -EINVAL when topic_fault() says why. */
int topic_parse(struct tine_text text, struct topic *ret)
{
	if (topic_fault(text))
		return -EINVAL;
	ret->is_pattern = memchr(text.data, '*', text.len) || memchr(text.data, '>', text.len);
	memcpy(ret->text, text.data, text.len);
	ret->text[text.len] = '\0';
	ret->len = text.len;
	return 0;
}

/* The path below the mount point, decoded: "/a/b" is a.b, as "/a.b" is. Returns 0, or -EINVAL and what is wrong. */
int topic_from_path(struct tine_text path, struct topic *ret, const char **ret_fault)
{
	char text[TOPIC_MAX + 1]; /* with room for one that is too long */
	size_t len = path.len > 0 ? path.len - 1 : 0;
	struct tine_text topic = {text, len < sizeof(text) ? len : sizeof(text)};

	for (size_t i = 0; i < topic.len; i++)
		text[i] = path.data[i + 1] == '/' ? '.' : path.data[i + 1];
	*ret_fault = topic_fault(topic);
	return *ret_fault ? -EINVAL : topic_parse(topic, ret);
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

/* Who may publish and subscribe, and from which pages. Worker only. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "modules/hub/hub.h"

#define TOKEN_MAX    512
#define ALPHANUMERIC "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

/* --- tokens --- */

static const char *const token_errors[] = {
	"Bearer", "Bearer error=\"invalid_token\"", "Bearer error=\"insufficient_scope\""};

static int refuse(struct tine_request *request, int status, const char *how, const char *why)
{
	tine_respond_header(request, "WWW-Authenticate", how);
	tine_respond(request, status, "text/plain", why, strlen(why));
	return -EACCES;
}

/* The token that came with the request: in a header field, or for browsers, which cannot set one, in the query. */
static bool find_token(struct tine_request *request, char to[TOKEN_MAX], struct tine_text *ret)
{
	static const char scheme[] = "Bearer ";
	struct tine_text field = tine_request_header(request, "authorization");
	size_t len = sizeof(scheme) - 1;

	if (field.len > len && strncasecmp(field.data, scheme, len) == 0) {
		*ret = (struct tine_text){field.data + len, field.len - len};
		return true;
	}
	if (!text_query(tine_request_query(request), "token", to, TOKEN_MAX, &len))
		return false;
	*ret = (struct tine_text){to, len == SIZE_MAX ? 0 : len};
	return true;
}

/*
 * Whether the request may do that. topic: what it is about. Returns 0, or -EACCES when it has been answered with why not.
 */
int access_check(struct hub *h, struct tine_request *request, enum token_right right,
	struct tine_text topic, struct grant *ret)
{
	char buffer[TOKEN_MAX];
	struct tine_text text;
	struct token token;
	int r;

	*ret = (struct grant){.may_publish = h->o.anonymous & TOKEN_PUBLISH};
	if (!h->o.has_secrets || !find_token(request, buffer, &text)) {
		if (h->o.anonymous & right)
			return 0;
		return refuse(request, 401, token_errors[0], "a token is needed\n");
	}
	r = token_parse(&h->o.secrets, text, hub_now_s(), &token);
	if (r < 0)
		return refuse(request, 401, token_errors[1],
			r == -EKEYEXPIRED ? "the token has expired\n"
					  : "this is no token of ours\n");
	if (!topic_covers(topic_text(&token.topic), topic))
		token.rights = 0;
	if (!((token.rights | h->o.anonymous) & right))
		return refuse(request, 403, token_errors[2], "the token is for something else\n");
	ret->may_publish |= (token.rights & TOKEN_PUBLISH) != 0;
	ret->expires_s = token.expires_s;
	return 0;
}

/* --- pages of other sites --- */

static bool is_same(struct tine_text a, struct tine_text b)
{
	return a.len == b.len && strncasecmp(a.data, b.data, a.len) == 0;
}

static bool is_text(struct tine_text a, const char *b)
{
	return is_same(a, (struct tine_text){b, strlen(b)});
}

/* The next one of a list with commas. Returns false at its end. */
static bool next_origin(const char **list, struct tine_text *ret)
{
	size_t len;

	*list += strspn(*list, " \t,");
	len = strcspn(*list, ",");
	*ret = (struct tine_text){*list, len};
	*list += len;
	while (ret->len > 0 && strchr(" \t", ret->data[ret->len - 1]))
		ret->len--;
	return ret->len > 0;
}

/* The host and port of "https://host:port". */
static struct tine_text host_of(struct tine_text origin)
{
	const char *mark = memmem(origin.data, origin.len, "://", 3);

	if (!mark)
		return (struct tine_text){"", 0};
	return (struct tine_text){mark + 3, (size_t)(origin.data + origin.len - mark - 3)};
}

/* Whether it is HOST, HOST:PORT or [ADDRESS]:PORT, of characters that browsers write there. */
static bool is_authority(struct tine_text t)
{
	const char *p = t.data, *end = p + t.len, *begin;
	bool in_brackets = t.len > 0 && *p == '[';
	const char *allowed = in_brackets ? "abcdefABCDEF0123456789.:" : ALPHANUMERIC ".-_";

	p += in_brackets;
	for (begin = p; p < end && strchr(allowed, *p); p++)
		;
	if (p == begin || (in_brackets && (p == end || *p++ != ']')))
		return false;
	if (p == end)
		return true;
	if (*p++ != ':' || p == end || end - p > 5)
		return false;
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p == end;
}

/* Whether browsers may write it so: SCHEME://HOST[:PORT] without anything behind it, or null. */
static bool is_origin(struct tine_text t)
{
	struct tine_text host = host_of(t);
	size_t n = strspn(t.data, ALPHANUMERIC "+-.");

	if (is_text(t, "*") || is_text(t, "null"))
		return true;
	return n > 0 && t.len == n + 3 + host.len && is_authority(host);
}

/* The first one of a list that no browser would send. Returns false when there is none. */
bool access_find_bad_origin(const char *list, struct tine_text *ret)
{
	while (next_origin(&list, ret)) {
		if (!is_origin(*ret))
			return true;
	}
	return false;
}

/* Whether a page of the host that it talks to sends the request. The scheme is not compared: a proxy may have ended TLS. */
bool access_is_own_page(struct tine_request *request)
{
	struct tine_text origin = tine_request_header(request, "origin");

	return origin.data && is_same(host_of(origin), tine_request_host(request));
}

static bool is_listed(const char *list, struct tine_text origin)
{
	struct tine_text item;

	while (list && next_origin(&list, &item)) {
		if (is_text(item, "*") || is_same(item, origin))
			return true;
	}
	return false;
}

/*
 * Browsers say which page a request comes from: others than our own, and those that are listed, are refused, for a page could
 * else publish in its visitor's name. Returns false when it has been answered.
 */
bool access_check_origin(const struct hub *h, struct tine_request *request)
{
	struct tine_text origin = tine_request_header(request, "origin");
	char value[256];

	if (!origin.data || access_is_own_page(request))
		return true;
	if (origin.len >= sizeof(value) || !is_listed(h->o.origins, origin)) {
		tine_respond(request, 403, "text/plain", "not from a page of another site\n", 32);
		return false;
	}
	snprintf(value, sizeof(value), "%.*s", (int)origin.len, origin.data);
	tine_respond_header(request, "Access-Control-Allow-Origin", value);
	tine_respond_header(request, "Vary", "Origin");
	return true;
}

/* Browsers ask before they send for a page of another site what a form could not: a token, say. */
void access_answer_preflight(const struct hub *h, struct tine_request *request)
{
	if (!access_check_origin(h, request))
		return;
	tine_respond_header(request, "Allow", "GET, HEAD, POST, OPTIONS");
	if (tine_request_header(request, "access-control-request-method").data) {
		tine_respond_header(request, "Access-Control-Allow-Methods", "GET, POST");
		tine_respond_header(request, "Access-Control-Allow-Headers",
			"Authorization, Content-Type, Last-Event-ID");
		tine_respond_header(request, "Access-Control-Max-Age", "600");
	}
	tine_respond(request, 204, NULL, NULL, 0);
}

/* What a client is counted under: of an IPv6 address its network, for everybody has very many addresses in it. */
size_t access_client_key(struct tine_text client, unsigned char key[HUB_KEY_MAX])
{
	size_t len = client.len < HUB_KEY_MAX ? client.len : HUB_KEY_MAX;
	char text[INET6_ADDRSTRLEN];

	if (len < sizeof(text)) {
		memcpy(text, client.data, len);
		text[len] = '\0';
		if (inet_pton(AF_INET6, text, key) == 1)
			return 8;
	}
	memcpy(key, client.data, len);
	return len;
}

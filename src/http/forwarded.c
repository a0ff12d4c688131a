/*
 * The client's address from what proxies added to a request. Worker and admin; pure functions.
 *
 * Each proxy appends whom it got the request from, so the list is believed from its right end for as
 * long as the one who wrote the next entry is trusted: the first address that is not a trusted
 * proxy's is the client, and what stands left of it the client may have made up. An entry that is no
 * address ends the walk at the one before.
 *
 * The list is read from left to right all the same, since a quoted string cannot be found from its
 * end: `client` is always the answer for the case that everything to come is trusted.
 */
#include "http/forwarded.h"

#include <string.h>

#include "http/parser.h"

#define TEXT_IS(t, literal) http_text_is((t), (literal), sizeof(literal) - 1)

struct walk {
	const struct netmask_list *trusted;
	struct peer client; /* AF_UNSPEC: none so far */
};

/* One entry of the list; NULL: it names no address. */
static void walk_on(struct walk *w, const struct peer *p)
{
	if (!p)
		w->client.family = AF_UNSPEC;
	else if (w->client.family == AF_UNSPEC || !netmask_list_has(w->trusted, p))
		w->client = *p;
}

static bool is_port(const char *s, const char *end)
{
	if (s == end || end - s > 5)
		return false;
	for (; s < end; s++)
		if (*s < '0' || *s > '9')
			return false;
	return true;
}

/* 192.0.2.1, 192.0.2.1:80, [2001:db8::1], [2001:db8::1]:80, and, if `bare` may be, 2001:db8::1. */
static bool parse_node(struct tine_text t, bool bare, struct peer *ret)
{
	const char *end = t.data + t.len, *colon, *host = t.data, *stop;

	if (t.len == 0)
		return false;
	if (*host == '[') {
		host++;
		stop = memchr(host, ']', (size_t)(end - host));
		if (!stop || !memchr(host, ':', (size_t)(stop - host)))
			return false;
		return (stop + 1 == end || (stop[1] == ':' && is_port(stop + 2, end))) &&
			peer_parse(host, (size_t)(stop - host), ret);
	}
	colon = memchr(host, ':', t.len);
	if (colon && memchr(colon + 1, ':', (size_t)(end - colon - 1)))
		return bare && peer_parse(host, t.len, ret);
	if (colon && !is_port(colon + 1, end))
		return false;
	return peer_parse(host, (size_t)((colon ? colon : end) - host), ret);
}

static void walk_x_forwarded_for(struct walk *w, struct tine_text list)
{
	struct tine_text item;
	struct peer p;

	while (http_list_next(&list, &item))
		walk_on(w, parse_node(item, true, &p) ? &p : NULL);
}

/* --- Forwarded --- */

struct cursor {
	const char *at, *end;
};

static bool skip_blanks(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t'))
		c->at++;
	return c->at < c->end;
}

static bool take(struct cursor *c, char wanted)
{
	if (c->at == c->end || *c->at != wanted)
		return false;
	c->at++;
	return true;
}

static struct tine_text take_token(struct cursor *c)
{
	const char *begin = c->at;

	while (c->at < c->end && http_is_token(c->at, 1))
		c->at++;
	return (struct tine_text){begin, (size_t)(c->at - begin)};
}

/* After its opening quote; *ret is what is between the quotes, still with its backslashes. */
static bool take_quoted(struct cursor *c, struct tine_text *ret)
{
	const char *begin = c->at;

	for (; c->at < c->end && *c->at != '"'; c->at++)
		if (*c->at == '\\' && ++c->at == c->end)
			return false;
	*ret = (struct tine_text){begin, (size_t)(c->at - begin)};
	return take(c, '"');
}

/* token "=" (token | quoted-string) */
static bool take_pair(struct cursor *c, struct tine_text *ret_name, struct tine_text *ret_value)
{
	*ret_name = take_token(c);
	if (ret_name->len == 0 || !take(c, '='))
		return false;
	if (take(c, '"'))
		return take_quoted(c, ret_value);
	*ret_value = take_token(c);
	return ret_value->len > 0;
}

/*
 * The pairs up to the next comma. Returns false when they are malformed; the cursor is then where
 * that was seen. *ret_for: the value of "for", data is NULL when there is none.
 */
static bool take_element(struct cursor *c, struct tine_text *ret_for)
{
	struct tine_text name, value;
	bool more = true;

	*ret_for = (struct tine_text){NULL, 0};
	while (more) {
		skip_blanks(c);
		if (!take_pair(c, &name, &value))
			return false;
		if (TEXT_IS(name, "for")) {
			if (ret_for->data)
				return false; /* twice: which one is meant? */
			*ret_for = value;
		}
		skip_blanks(c);
		more = take(c, ';');
	}
	return c->at == c->end || *c->at == ',';
}

static void walk_forwarded(struct walk *w, struct tine_text list)
{
	struct cursor c = {list.data, list.data + list.len};
	struct tine_text node;
	struct peer p;

	while (skip_blanks(&c)) {
		if (take(&c, ','))
			continue; /* empty elements are to be ignored */
		if (!take_element(&c, &node)) {
			/* A quote may be open: where the next element begins is anybody's guess. */
			walk_on(w, NULL);
			return;
		}
		walk_on(w, node.data && parse_node(node, false, &p) ? &p : NULL);
	}
}

/*
 * Replaces *client, who sent us the request, by the client he names if he is a trusted proxy; see
 * above. Without such a field, or when he is not trusted, it stays.
 */
void forwarded_client(const struct http_head *h, enum client_header field,
	const struct netmask_list *trusted, struct peer *client)
{
	static const struct {
		struct tine_text name;
		void (*walk)(struct walk *w, struct tine_text list);
	} fields[] = {
		[CLIENT_HEADER_X_FORWARDED_FOR] = {{"x-forwarded-for", 15}, walk_x_forwarded_for},
		[CLIENT_HEADER_FORWARDED] = {{"forwarded", 9}, walk_forwarded},
	};
	const struct tine_text *name = &fields[field].name;
	struct walk w = {.trusted = trusted};

	if (!netmask_list_has(trusted, client))
		return;
	for (unsigned i = 0; i < h->n_fields; i++)
		if (http_text_is(h->fields[i].name, name->data, name->len))
			fields[field].walk(&w, h->fields[i].value);
	if (w.client.family != AF_UNSPEC)
		*client = w.client;
}

/* The last element of the last field line of that name: the one that the proxy next to us wrote. */
static struct tine_text last_element(const struct http_head *h, const char *name, size_t len)
{
	struct tine_text value = {NULL, 0}, item;

	for (unsigned i = 0; i < h->n_fields; i++)
		if (http_text_is(h->fields[i].name, name, len))
			value = h->fields[i].value;
	while (http_list_next(&value, &item))
		if (value.len == 0)
			return item;
	return (struct tine_text){NULL, 0};
}

/* Whether the proxy next to us says that it got the request over TLS. */
bool forwarded_is_https(const struct http_head *h, enum client_header field)
{
	static const char wanted[] = "proto=https";
	struct tine_text t;
	const char *end;

	if (field == CLIENT_HEADER_X_FORWARDED_FOR)
		return TEXT_IS(last_element(h, "x-forwarded-proto", 17), "https");
	t = last_element(h, "forwarded", 9);
	for (; t.len >= sizeof(wanted) - 1; t.len -= (size_t)(end - t.data), t.data = end) {
		while (t.len > 0 && (*t.data == ';' || *t.data == ' ')) {
			t.data++;
			t.len--;
		}
		end = memchr(t.data, ';', t.len);
		if (!end)
			end = t.data + t.len;
		if (TEXT_IS(((struct tine_text){t.data, (size_t)(end - t.data)}), "proto=https"))
			return true;
	}
	return false;
}

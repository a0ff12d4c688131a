/*
 * The opening handshake of a WebSocket: checks the head of a request against RFC 6455 and what the service wants. Worker
 * only; pure functions, nothing is kept and nothing but the answer's fields is written.
 */
#include "http/websocket_handshake.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#include "http/deflate.h"

#define TEXT(literal)       ((struct tine_text){"" literal, sizeof(literal) - 1})
#define TEXT_IS(t, literal) http_text_is((t), (literal), sizeof(literal) - 1)
#define KEY_LEN             24 /* base64 of 16 bytes */
#define KEY_SALT            "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

static bool text_equal(struct tine_text a, struct tine_text b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool text_equal_nocase(struct tine_text a, struct tine_text b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (lower(a.data[i]) != lower(b.data[i]))
			return false;
	return true;
}

/* The fields of one name, in order. Begins with *i = 0; returns false at the end. `name` is in lower case. */
static bool next_field(
	const struct http_head *h, struct tine_text name, unsigned *i, struct tine_text *ret)
{
	while (*i < h->n_fields) {
		const struct http_field *f = &h->fields[(*i)++];

		if (http_text_is(f->name, name.data, name.len)) {
			*ret = f->value;
			return true;
		}
	}
	return false;
}

/* Returns how often the field is there, and its last value. */
static unsigned find_field(
	const struct http_head *h, struct tine_text name, struct tine_text *ret_value)
{
	unsigned i = 0, n = 0;

	*ret_value = (struct tine_text){NULL, 0};
	while (next_field(h, name, &i, ret_value))
		n++;
	return n;
}

/* --- what must be there --- */

static bool asks_for_websocket(const struct http_head *h)
{
	struct tine_text value, item;
	unsigned i = 0;

	if (!h->upgrade || h->minor == 0)
		return false;
	while (next_field(h, TEXT("upgrade"), &i, &value))
		while (http_list_next(&value, &item))
			if (TEXT_IS(item, "websocket"))
				return true;
	return false;
}

static bool is_base64(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		c == '+' || c == '/';
}

/* Base64 of 16 bytes, which nobody looks at. */
static bool key_is_valid(struct tine_text key)
{
	if (key.len != KEY_LEN || key.data[KEY_LEN - 2] != '=' || key.data[KEY_LEN - 1] != '=')
		return false;
	for (unsigned i = 0; i < KEY_LEN - 2; i++)
		if (!is_base64(key.data[i]))
			return false;
	return true;
}

static void compute_accept(struct tine_text key, char ret[29])
{
	unsigned char text[KEY_LEN + sizeof(KEY_SALT) - 1], hash[SHA_DIGEST_LENGTH];

	memcpy(text, key.data, KEY_LEN);
	memcpy(text + KEY_LEN, KEY_SALT, sizeof(KEY_SALT) - 1);
	SHA1(text, sizeof(text), hash);
	EVP_EncodeBlock((unsigned char *)ret, hash, sizeof(hash));
}

/* --- origin: whose page wants to connect (RFC 6454) --- */

/* An authority without the port that its scheme implies. */
static struct tine_text without_port(struct tine_text host, struct tine_text port)
{
	if (host.len > port.len &&
		memcmp(host.data + host.len - port.len, port.data, port.len) == 0)
		host.len -= port.len;
	return host;
}

/*
 * Whether the page came from the host that it now wants to talk to. The scheme is not compared: behind a proxy that ends
 * TLS we are not told it.
 */
static bool origin_is_own(struct tine_text origin, struct tine_text host)
{
	static const struct {
		struct tine_text scheme, port;
	} schemes[] = {{{"http://", 7}, {":80", 3}}, {{"https://", 8}, {":443", 4}}};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
		struct tine_text scheme = schemes[i].scheme, of_origin = origin;

		of_origin.len = origin.len < scheme.len ? origin.len : scheme.len;
		if (!text_equal_nocase(of_origin, scheme))
			continue;
		of_origin.data = origin.data + scheme.len;
		of_origin.len = origin.len - scheme.len;
		return of_origin.len > 0 &&
			text_equal_nocase(without_port(of_origin, schemes[i].port),
				without_port(host, schemes[i].port));
	}
	return false; /* "null", or no web page */
}

static bool origin_is_listed(struct tine_text origin, const char *origins)
{
	struct tine_text list = {origins, strlen(origins)}, item;

	while (http_list_next(&list, &item))
		if (text_equal(item, TEXT("*")) || text_equal_nocase(item, origin))
			return true;
	return false;
}

/* Who is no browser sends no origin, and could send any. */
static bool origin_is_welcome(const struct http_head *h, const char *origins)
{
	struct tine_text origin;
	unsigned n = find_field(h, TEXT("origin"), &origin);

	if (n == 0)
		return true;
	if (n > 1)
		return false;
	return origins ? origin_is_listed(origin, origins) : origin_is_own(origin, h->host);
}

/* --- subprotocol --- */

static bool tokens_are_valid(struct tine_text list)
{
	struct tine_text item;

	while (http_list_next(&list, &item))
		if (item.len > WEBSOCKET_PROTOCOL_MAX || !http_is_token(item.data, item.len))
			return false;
	return true;
}

/* Whether an option may list these subprotocols. NULL is no list, and fine. */
bool websocket_protocols_are_valid(const char *list)
{
	return !list || tokens_are_valid((struct tine_text){list, strlen(list)});
}

static bool client_speaks(const struct http_head *h, struct tine_text protocol)
{
	struct tine_text value, item;
	unsigned i = 0;

	while (next_field(h, TEXT("sec-websocket-protocol"), &i, &value))
		while (http_list_next(&value, &item))
			if (text_equal(item, protocol))
				return true;
	return false;
}

/* Chooses the service's favourite of those the client speaks. Returns 0 or 400. */
static unsigned agree_protocol(
	const struct http_head *h, const char *protocols, struct tine_text *ret)
{
	struct tine_text list = {protocols, protocols ? strlen(protocols) : 0}, item, value;
	unsigned i = 0;

	while (next_field(h, TEXT("sec-websocket-protocol"), &i, &value))
		if (!tokens_are_valid(value))
			return 400;
	while (!ret->data && http_list_next(&list, &item))
		if (client_speaks(h, item))
			*ret = item;
	return 0;
}

/* --- extensions --- */

struct cursor {
	const char *p, *end;
};

static void skip_space(struct cursor *in)
{
	while (in->p < in->end && (*in->p == ' ' || *in->p == '\t'))
		in->p++;
}

/* Takes white space, and then c if it is there. */
static bool take(struct cursor *in, char c)
{
	skip_space(in);
	if (in->p == in->end || *in->p != c)
		return false;
	in->p++;
	return true;
}

static bool take_token(struct cursor *in, struct tine_text *ret)
{
	const char *from;

	skip_space(in);
	from = in->p;
	while (in->p < in->end && http_is_token(in->p, 1))
		in->p++;
	*ret = (struct tine_text){from, (size_t)(in->p - from)};
	return ret->len > 0;
}

/* A token or a quoted string. Escapes are left in: no value we understand has one. */
static bool take_value(struct cursor *in, struct tine_text *ret)
{
	const char *from;

	if (!take(in, '"'))
		return take_token(in, ret);
	for (from = in->p; in->p < in->end && *in->p != '"'; in->p++)
		if (*in->p == '\\' && ++in->p == in->end)
			return false;
	*ret = (struct tine_text){from, (size_t)(in->p - from)};
	return take(in, '"');
}

enum parameter {
	SERVER_NO_CONTEXT = 1,
	CLIENT_NO_CONTEXT = 2,
	SERVER_BITS = 4,
	CLIENT_BITS = 8,
};

/* What a client offers to do; of the sizes of windows only ours matters. */
struct offer {
	unsigned seen; /* enum parameter or-ed */
	unsigned bits;
	bool invalid;
};

/* 8 to 15, without leading zeros; else 0. */
static unsigned bits_from(struct tine_text t)
{
	if (t.len == 1 && (t.data[0] == '8' || t.data[0] == '9'))
		return (unsigned)(t.data[0] - '0');
	if (t.len == 2 && t.data[0] == '1' && t.data[1] >= '0' && t.data[1] <= '5')
		return 10 + (unsigned)(t.data[1] - '0');
	return 0;
}

/* An unknown parameter, one that comes twice or has a bad value makes the whole offer void (RFC 7692 section 7.1). */
static void offer_parameter(struct offer *o, struct tine_text name, struct tine_text value)
{
	static const struct {
		struct tine_text name;
		enum parameter parameter;
		bool may_have, must_have; /* a value */
	} known[] = {
		{{"server_no_context_takeover", 26}, SERVER_NO_CONTEXT, false, false},
		{{"client_no_context_takeover", 26}, CLIENT_NO_CONTEXT, false, false},
		{{"server_max_window_bits", 22}, SERVER_BITS, true, true},
		{{"client_max_window_bits", 22}, CLIENT_BITS, true, false},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		unsigned bits = value.data ? bits_from(value) : 0;

		if (!text_equal_nocase(name, known[i].name))
			continue;
		if ((o->seen & known[i].parameter) || (value.data && !known[i].may_have) ||
			(!value.data && known[i].must_have) || (value.data && bits == 0))
			o->invalid = true;
		o->seen |= known[i].parameter;
		if (known[i].parameter == SERVER_BITS)
			o->bits = bits;
		return;
	}
	o->invalid = true;
}

/* One extension with its parameters. Returns false when it is malformed. */
static bool take_offer(struct cursor *in, struct tine_text *ret_name, struct offer *ret)
{
	struct tine_text name, value;

	*ret = (struct offer){.bits = DEFLATE_BITS_MAX};
	if (!take_token(in, ret_name))
		return false;
	while (take(in, ';')) {
		value = (struct tine_text){NULL, 0};
		if (!take_token(in, &name) || (take(in, '=') && !take_value(in, &value)))
			return false;
		offer_parameter(ret, name, value);
	}
	return true;
}

/* zlib has no window of 8 bits. */
static bool offer_is_good(struct tine_text name, const struct offer *o)
{
	return TEXT_IS(name, "permessage-deflate") && !o->invalid && o->bits >= DEFLATE_BITS_MIN;
}

/* Takes the first good offer of a field's. Returns false when it is malformed. */
static bool agree_in_field(struct tine_text value, struct websocket_handshake *ret)
{
	struct cursor in = {value.data, value.data + value.len};
	struct tine_text name;
	struct offer o;

	while (in.p < in.end) {
		if (take(&in, ',') || in.p == in.end)
			continue;
		if (!take_offer(&in, &name, &o) || (!take(&in, ',') && in.p < in.end))
			return false;
		if (ret->bits == 0 && offer_is_good(name, &o)) {
			ret->bits = (uint8_t)o.bits;
			ret->tell_bits = o.seen & SERVER_BITS;
		}
	}
	return true;
}

/* Returns 0 or 400. */
static unsigned agree_extensions(
	const struct http_head *h, bool compression, struct websocket_handshake *ret)
{
	struct tine_text value;
	unsigned i = 0;

	while (next_field(h, TEXT("sec-websocket-extensions"), &i, &value))
		if (!agree_in_field(value, ret))
			return 400;
	if (!compression)
		ret->bits = 0;
	return 0;
}

/* --- all of it --- */

/* Returns 0, or the status to refuse with. */
static unsigned check_request(
	const struct http_head *h, struct tine_text *ret_key, const char **ret_why)
{
	struct tine_text version;
	unsigned n;

	if (h->method != METHOD_GET)
		return 405;
	if (h->chunked || h->content_length > 0)
		return 400;
	if (!asks_for_websocket(h))
		return 426;
	n = find_field(h, TEXT("sec-websocket-version"), &version);
	if (n != 1) {
		*ret_why = "one Sec-WebSocket-Version is needed, of 13\n";
		return 400;
	}
	if (!text_equal(version, TEXT("13")))
		return 426;
	n = find_field(h, TEXT("sec-websocket-key"), ret_key);
	if (n == 1 && key_is_valid(*ret_key))
		return 0;
	*ret_why = "one Sec-WebSocket-Key is needed, of 16 bytes in base64\n";
	return 400;
}

/*
 * Decides about a request. Returns 0 and what was agreed on, or the status to refuse it with: 400 (no proper handshake),
 * 403 (a page of somebody else's), 405 (not GET), 426 (no WebSocket, or not version 13).
 */
unsigned websocket_handshake(
	const struct http_head *h, const struct websocket_terms *t, struct websocket_handshake *ret)
{
	struct tine_text key;
	unsigned status;

	memset(ret, 0, sizeof(*ret));
	status = check_request(h, &key, &ret->why);
	if (status == 0 && !origin_is_welcome(h, t->origins))
		status = 403;
	if (status == 0)
		status = agree_protocol(h, t->protocols, &ret->protocol);
	if (status == 0)
		status = agree_extensions(h, t->compression, ret);
	if (status == 0)
		compute_accept(key, ret->accept);
	return status;
}

/*
 * Writes the fields of a 101, each with its CRLF. Returns their length; at most
 * WEBSOCKET_FIELDS_MAX.
 */
size_t websocket_handshake_write(const struct websocket_handshake *hs, char *buf, size_t size)
{
	int n = snprintf(
		buf, size, "Upgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n", hs->accept);

	if (hs->protocol.data)
		n += snprintf(buf + n, size - (size_t)n, "Sec-WebSocket-Protocol: %.*s\r\n",
			(int)hs->protocol.len, hs->protocol.data);
	if (hs->bits) {
		n += snprintf(buf + n, size - (size_t)n,
			"Sec-WebSocket-Extensions: permessage-deflate; "
			"server_no_context_takeover; client_no_context_takeover");
		if (hs->tell_bits)
			n += snprintf(
				buf + n, size - (size_t)n, "; server_max_window_bits=%u", hs->bits);
		n += snprintf(buf + n, size - (size_t)n, "\r\n");
	}
	return (size_t)n;
}

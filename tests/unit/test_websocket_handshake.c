/* http/websocket_handshake.c: every case goes through the parser of heads, as on a connection. */
#include <stdio.h>
#include <string.h>

#include "http/websocket_handshake.h"
#include "run.h"

#define GET  "GET /chat HTTP/1.1\r\nHost: example.com\r\n"
#define UP   "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define KEY  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13  "Sec-WebSocket-Version: 13\r\n"
#define GOOD GET UP KEY V13
#define EXT  "Sec-WebSocket-Extensions: "
#define PMD  "permessage-deflate"
#define SUB  "Sec-WebSocket-Protocol: "

struct handshake_case {
	const char *name, *head;
	struct websocket_terms terms;
	unsigned status;
	const char *protocol;
	unsigned bits; /* of the window; 0: no compression */
	bool tell_bits;
};

#define DEFLATE                     \
	{                           \
		.compression = true \
	}

static const struct handshake_case cases[] = {
	{"plain", GOOD, {0}, 0, NULL, 0, false},
	{"in capitals", GET "UPGRADE: WebSocket\r\nCONNECTION: UPGRADE\r\n" KEY V13, {0}, 0, NULL,
		0, false},
	{"among others",
		GET "Upgrade: h2c, websocket\r\nConnection: keep-alive, Upgrade\r\n" KEY V13, {0},
		0, NULL, 0, false},
	{"two upgrades",
		GET "Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" KEY V13, {0}, 0,
		NULL, 0, false},

	/* the request */
	{"POST", "POST / HTTP/1.1\r\nHost: a\r\n" UP KEY V13, {0}, 405, NULL, 0, false},
	{"HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\n" UP KEY V13, {0}, 405, NULL, 0, false},
	{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n" UP KEY V13, {0}, 426, NULL, 0, false},
	{"a body", GOOD "Content-Length: 1\r\n", {0}, 400, NULL, 0, false},
	{"a body in chunks", GOOD "Transfer-Encoding: chunked\r\n", {0}, 400, NULL, 0, false},
	{"an empty body", GOOD "Content-Length: 0\r\n", {0}, 0, NULL, 0, false},
	{"no upgrade", GET KEY V13, {0}, 426, NULL, 0, false},
	{"no Connection", GET "Upgrade: websocket\r\n" KEY V13, {0}, 426, NULL, 0, false},
	{"other Connection", GET "Upgrade: websocket\r\nConnection: close\r\n" KEY V13, {0}, 426,
		NULL, 0, false},
	{"other upgrade", GET "Upgrade: websockets\r\nConnection: Upgrade\r\n" KEY V13, {0}, 426,
		NULL, 0, false},
	{"empty upgrade", GET "Upgrade:\r\nConnection: Upgrade\r\n" KEY V13, {0}, 426, NULL, 0,
		false},
	{"no version", GET UP KEY, {0}, 400, NULL, 0, false},
	{"version 8", GET UP KEY "Sec-WebSocket-Version: 8\r\n", {0}, 426, NULL, 0, false},
	{"version 130", GET UP KEY "Sec-WebSocket-Version: 130\r\n", {0}, 426, NULL, 0, false},
	{"version 013", GET UP KEY "Sec-WebSocket-Version: 013\r\n", {0}, 426, NULL, 0, false},
	{"version twice", GET UP KEY V13 V13, {0}, 400, NULL, 0, false},

	/* the key */
	{"no key", GET UP V13, {0}, 400, NULL, 0, false},
	{"key twice", GET UP KEY KEY V13, {0}, 400, NULL, 0, false},
	{"empty key", GET UP V13 "Sec-WebSocket-Key:\r\n", {0}, 400, NULL, 0, false},
	{"short key", GET UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n", {0}, 400, NULL, 0,
		false},
	{"key without padding", GET UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\r\n", {0},
		400, NULL, 0, false},
	{"key with half its padding", GET UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA=\r\n",
		{0}, 400, NULL, 0, false},
	{"long key", GET UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ===\r\n", {0}, 400, NULL,
		0, false},
	{"key that is no base64", GET UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ-==\r\n", {0},
		400, NULL, 0, false},
	{"key with a padding within", GET UP V13 "Sec-WebSocket-Key: dGhlIHNhb=BsZSBub25jZQ==\r\n",
		{0}, 400, NULL, 0, false},

	/* the origin, of the same host */
	{"own origin", GOOD "Origin: http://example.com\r\n", {0}, 0, NULL, 0, false},
	{"own origin by TLS", GOOD "Origin: https://example.com\r\n", {0}, 0, NULL, 0, false},
	{"own origin in capitals", GOOD "Origin: HTTP://EXAMPLE.com\r\n", {0}, 0, NULL, 0, false},
	{"own origin with its port", GOOD "Origin: http://example.com:80\r\n", {0}, 0, NULL, 0,
		false},
	{"own origin, other port", GOOD "Origin: http://example.com:8080\r\n", {0}, 403, NULL, 0,
		false},
	{"the port of the other scheme", GOOD "Origin: http://example.com:443\r\n", {0}, 403, NULL,
		0, false},
	{"own port", "GET / HTTP/1.1\r\nHost: a:8080\r\n" UP KEY V13 "Origin: http://a:8080\r\n",
		{0}, 0, NULL, 0, false},
	{"own port left out",
		"GET / HTTP/1.1\r\nHost: a:443\r\n" UP KEY V13 "Origin: https://a\r\n", {0}, 0,
		NULL, 0, false},
	{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n" UP KEY V13 "Origin: http://[::1]\r\n", {0},
		0, NULL, 0, false},
	{"absolute-form", "GET http://b/ HTTP/1.1\r\nHost: b\r\n" UP KEY V13 "Origin: http://b\r\n",
		{0}, 0, NULL, 0, false},
	{"other host", GOOD "Origin: http://example.org\r\n", {0}, 403, NULL, 0, false},
	{"a host that ends alike", GOOD "Origin: http://evil-example.com\r\n", {0}, 403, NULL, 0,
		false},
	{"a host that begins alike", GOOD "Origin: http://example.com.evil\r\n", {0}, 403, NULL, 0,
		false},
	{"null", GOOD "Origin: null\r\n", {0}, 403, NULL, 0, false},
	{"empty", GOOD "Origin:\r\n", {0}, 403, NULL, 0, false},
	{"no host", GOOD "Origin: http://\r\n", {0}, 403, NULL, 0, false},
	{"nothing but a port", GOOD "Origin: http://:80\r\n", {0}, 403, NULL, 0, false},
	{"other scheme", GOOD "Origin: file://example.com\r\n", {0}, 403, NULL, 0, false},
	{"two origins", GOOD "Origin: http://example.com\r\nOrigin: http://example.com\r\n", {0},
		403, NULL, 0, false},
	/* of a list */
	{"all", GOOD "Origin: http://evil\r\n", {.origins = "*"}, 0, NULL, 0, false},
	{"all, null", GOOD "Origin: null\r\n", {.origins = "*"}, 0, NULL, 0, false},
	{"all, none sent", GOOD, {.origins = "*"}, 0, NULL, 0, false},
	{"listed", GOOD "Origin: https://b.example\r\n",
		{.origins = "https://a.example, https://b.example"}, 0, NULL, 0, false},
	{"listed in capitals", GOOD "Origin: https://A.example\r\n",
		{.origins = "https://a.example"}, 0, NULL, 0, false},
	{"not listed", GOOD "Origin: https://c.example\r\n",
		{.origins = "https://a.example,https://b.example"}, 403, NULL, 0, false},
	{"listed, other scheme", GOOD "Origin: http://a.example\r\n",
		{.origins = "https://a.example"}, 403, NULL, 0, false},
	{"listed, other port", GOOD "Origin: https://a.example:1\r\n",
		{.origins = "https://a.example"}, 403, NULL, 0, false},
	{"own, but not listed", GOOD "Origin: http://example.com\r\n",
		{.origins = "https://a.example"}, 403, NULL, 0, false},
	{"an empty list", GOOD "Origin: http://example.com\r\n", {.origins = ""}, 403, NULL, 0,
		false},
	{"none sent, a list", GOOD, {.origins = "https://a.example"}, 0, NULL, 0, false},

	/* subprotocols */
	{"one", GOOD SUB "chat\r\n", {.protocols = "chat"}, 0, "chat", 0, false},
	{"the service's favourite", GOOD SUB "v1, v2\r\n", {.protocols = "v2, v1"}, 0, "v2", 0,
		false},
	{"the only one in common", GOOD SUB "x, v1\r\n", {.protocols = "v2, v1"}, 0, "v1", 0,
		false},
	{"in two fields", GOOD SUB "x\r\n" SUB "v1\r\n", {.protocols = "v2,v1"}, 0, "v1", 0, false},
	{"none in common", GOOD SUB "x\r\n", {.protocols = "v1"}, 0, NULL, 0, false},
	{"other case", GOOD SUB "CHAT\r\n", {.protocols = "chat"}, 0, NULL, 0, false},
	{"begins alike", GOOD SUB "chat2\r\n", {.protocols = "chat"}, 0, NULL, 0, false},
	{"not offered", GOOD, {.protocols = "chat"}, 0, NULL, 0, false},
	{"not asked for", GOOD SUB "chat\r\n", {0}, 0, NULL, 0, false},
	{"no token", GOOD SUB "a b\r\n", {.protocols = "chat"}, 400, NULL, 0, false},
	{"no token, none spoken", GOOD SUB "chat, \"x\"\r\n", {0}, 400, NULL, 0, false},

	/* extensions */
	{"deflate", GOOD EXT PMD "\r\n", DEFLATE, 0, NULL, 15, false},
	{"deflate in capitals", GOOD EXT "Permessage-Deflate\r\n", DEFLATE, 0, NULL, 15, false},
	{"not wanted", GOOD EXT PMD "\r\n", {0}, 0, NULL, 0, false},
	{"as Chromium offers", GOOD EXT PMD "; client_max_window_bits\r\n", DEFLATE, 0, NULL, 15,
		false},
	{"all parameters",
		GOOD EXT PMD ";server_no_context_takeover;client_no_context_takeover; "
			     "server_max_window_bits=12 ; client_max_window_bits=10\r\n",
		DEFLATE, 0, NULL, 12, true},
	{"quoted", GOOD EXT PMD "; server_max_window_bits=\"9\"\r\n", DEFLATE, 0, NULL, 9, true},
	{"largest window", GOOD EXT PMD "; server_max_window_bits=15\r\n", DEFLATE, 0, NULL, 15,
		true},
	{"smallest window", GOOD EXT PMD "; server_max_window_bits=8\r\n", DEFLATE, 0, NULL, 0,
		false},
	{"client's window may be 8", GOOD EXT PMD "; client_max_window_bits=8\r\n", DEFLATE, 0,
		NULL, 15, false},
	{"second offer", GOOD EXT PMD "; server_max_window_bits=8, " PMD "\r\n", DEFLATE, 0, NULL,
		15, false},
	{"first good offer", GOOD EXT PMD ";x, " PMD "; server_max_window_bits=10, " PMD "\r\n",
		DEFLATE, 0, NULL, 10, true},
	{"in two fields", GOOD EXT "x\r\n" EXT PMD "\r\n", DEFLATE, 0, NULL, 15, false},
	{"unknown extension", GOOD EXT "x-frame; a=b; c=\"d,e;f\\\"g\"\r\n", DEFLATE, 0, NULL, 0,
		false},
	{"behind an unknown one", GOOD EXT "x; a=\"" PMD "\", " PMD "\r\n", DEFLATE, 0, NULL, 15,
		false},
	{"empty elements", GOOD EXT ", ," PMD " , ,\r\n", DEFLATE, 0, NULL, 15, false},
	{"empty field", GOOD EXT "\r\n", DEFLATE, 0, NULL, 0, false},
	{"unknown parameter", GOOD EXT PMD "; x\r\n", DEFLATE, 0, NULL, 0, false},
	{"parameter twice", GOOD EXT PMD "; client_max_window_bits; client_max_window_bits\r\n",
		DEFLATE, 0, NULL, 0, false},
	{"value where none may be", GOOD EXT PMD "; server_no_context_takeover=1\r\n", DEFLATE, 0,
		NULL, 0, false},
	{"value missing", GOOD EXT PMD "; server_max_window_bits\r\n", DEFLATE, 0, NULL, 0, false},
	{"window of 7", GOOD EXT PMD "; server_max_window_bits=7\r\n", DEFLATE, 0, NULL, 0, false},
	{"window of 16", GOOD EXT PMD "; server_max_window_bits=16\r\n", DEFLATE, 0, NULL, 0,
		false},
	{"window of 09", GOOD EXT PMD "; server_max_window_bits=09\r\n", DEFLATE, 0, NULL, 0,
		false},
	{"window of 1e", GOOD EXT PMD "; server_max_window_bits=1e\r\n", DEFLATE, 0, NULL, 0,
		false},
	{"client's window of 16", GOOD EXT PMD "; client_max_window_bits=16\r\n", DEFLATE, 0, NULL,
		0, false},
	{"malformed: no name", GOOD EXT "; a\r\n", DEFLATE, 400, NULL, 0, false},
	{"malformed: no parameter", GOOD EXT PMD ";\r\n", DEFLATE, 400, NULL, 0, false},
	{"malformed: no value", GOOD EXT PMD "; a=\r\n", DEFLATE, 400, NULL, 0, false},
	{"malformed: two words", GOOD EXT PMD " x\r\n", DEFLATE, 400, NULL, 0, false},
	{"malformed: string without end", GOOD EXT PMD "; a=\"b\r\n", DEFLATE, 400, NULL, 0, false},
	{"malformed: escape without end", GOOD EXT PMD "; a=\"b\\\r\n", DEFLATE, 400, NULL, 0,
		false},
	{"malformed: after the string", GOOD EXT PMD "; a=\"b\"c\r\n", DEFLATE, 400, NULL, 0,
		false},
	{"malformed, not wanted", GOOD EXT "=\r\n", {0}, 400, NULL, 0, false},
};

static void check_case(const struct handshake_case *c)
{
	static const struct http_limits limits = {.max_line = 1024, .max_head = 4096};
	struct http_field fields[HTTP_FIELDS_MAX];
	struct websocket_handshake hs;
	struct http_head head;
	char text[4096];
	int len = snprintf(text, sizeof(text), "%s\r\n", c->head);
	unsigned status;

	ck_assert_msg(http_parse_head(text, (size_t)len, &limits, fields, &head) == 0,
		"%s: the parser refuses it", c->name);
	status = websocket_handshake(&head, &c->terms, &hs);
	ck_assert_msg(status == c->status, "%s: %u, not %u", c->name, status, c->status);
	if (status != 0)
		return;
	ck_assert_str_eq(hs.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	ck_assert_msg((hs.protocol.data != NULL) == (c->protocol != NULL), "%s", c->name);
	if (c->protocol)
		ck_assert_msg(hs.protocol.len == strlen(c->protocol) &&
				memcmp(hs.protocol.data, c->protocol, hs.protocol.len) == 0,
			"%s: %.*s", c->name, (int)hs.protocol.len, hs.protocol.data);
	ck_assert_msg(hs.bits == c->bits && (c->bits == 0 || hs.tell_bits == c->tell_bits),
		"%s: %u bits", c->name, hs.bits);
}

START_TEST(test_cases)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_case(&cases[i]);
}
END_TEST

START_TEST(test_write)
{
	static const char name[] = "chat.v2";
	char buf[WEBSOCKET_FIELDS_MAX];
	struct websocket_handshake hs = {.accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="};
	size_t n = websocket_handshake_write(&hs, buf, sizeof(buf));

	ck_assert_int_eq(strlen(buf), n);
	ck_assert_str_eq(buf,
		"Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
	hs.protocol = (struct tine_text){name, 7};
	hs.bits = 15;
	websocket_handshake_write(&hs, buf, sizeof(buf));
	ck_assert_ptr_nonnull(strstr(buf, "\r\nSec-WebSocket-Protocol: chat.v2\r\n"));
	ck_assert_ptr_nonnull(strstr(buf,
		"\r\nSec-WebSocket-Extensions: permessage-deflate; "
		"server_no_context_takeover; client_no_context_takeover\r\n"));
	hs.bits = 10;
	hs.tell_bits = true;
	n = websocket_handshake_write(&hs, buf, sizeof(buf));
	ck_assert_ptr_nonnull(strstr(buf, "; server_max_window_bits=10\r\n"));
	ck_assert_int_eq(strlen(buf), n);
}
END_TEST

/* The longest name that is allowed fits. */
START_TEST(test_protocols)
{
	char name[WEBSOCKET_PROTOCOL_MAX + 2], buf[WEBSOCKET_FIELDS_MAX];
	struct websocket_handshake hs = {
		.accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", .bits = 15, .tell_bits = true};

	memset(name, 'x', sizeof(name));
	name[WEBSOCKET_PROTOCOL_MAX + 1] = '\0';
	ck_assert(!websocket_protocols_are_valid(name));
	name[WEBSOCKET_PROTOCOL_MAX] = '\0';
	ck_assert(websocket_protocols_are_valid(name));
	hs.protocol = (struct tine_text){name, WEBSOCKET_PROTOCOL_MAX};
	ck_assert(websocket_handshake_write(&hs, buf, sizeof(buf)) < sizeof(buf));
	ck_assert_str_eq(buf + strlen(buf) - 2, "\r\n");
	ck_assert(websocket_protocols_are_valid(NULL));
	ck_assert(websocket_protocols_are_valid(""));
	ck_assert(websocket_protocols_are_valid("a, b,c"));
	ck_assert(!websocket_protocols_are_valid("a b"));
	ck_assert(!websocket_protocols_are_valid("a\r\nX: y"));
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_cases);
	tcase_add_test(tc, test_write);
	tcase_add_test(tc, test_protocols);
}

int main(void)
{
	return run_tests("websocket_handshake", add);
}

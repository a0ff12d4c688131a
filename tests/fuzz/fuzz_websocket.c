/*
 * Fuzz target: any header fields as the opening handshake of a WebSocket, and any bytes as a compressed message. The
 * first byte decides. Fields are lines; their first character says which one it is.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/deflate.h"
#include "http/websocket_handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT(literal)                          \
	{                                      \
		(literal), sizeof(literal) - 1 \
	}
#define MESSAGE_MAX 4096
#define PROTOCOLS   "chat.v2, chat.v1"

static void require(bool holds)
{
	if (!holds)
		abort();
}

static struct tine_text field_name(char c)
{
	static const struct tine_text names[] = {TEXT("Sec-WebSocket-Extensions"),
		TEXT("sec-websocket-protocol"), TEXT("Origin"), TEXT("Upgrade"),
		TEXT("Sec-WebSocket-Key"), TEXT("Sec-WebSocket-Version")};

	return names[(unsigned char)c % 6];
}

/* Only what the parser of heads would let through. */
static void add_fields(struct http_head *h, const char *p, size_t size)
{
	while (size > 0 && h->n_fields < HTTP_FIELDS_MAX) {
		const char *end = memchr(p, '\n', size);
		size_t len = end ? (size_t)(end - p) : size;

		if (len > 1 && http_is_value(p + 1, len - 1))
			h->fields[h->n_fields++] =
				(struct http_field){field_name(*p), {p + 1, len - 1}};
		len += end ? 1 : 0;
		p += len;
		size -= len;
	}
}

static void check_result(const struct websocket_handshake *hs, const struct websocket_terms *t)
{
	char buf[WEBSOCKET_FIELDS_MAX];
	size_t n = websocket_handshake_write(hs, buf, sizeof(buf));

	require(n < sizeof(buf) && strlen(buf) == n && strlen(hs->accept) == 28);
	require(hs->bits == 0 || (hs->bits >= DEFLATE_BITS_MIN && hs->bits <= DEFLATE_BITS_MAX));
	require(hs->bits == 0 || t->compression);
	require(!hs->protocol.data || (t->protocols && hs->protocol.len == 7));
}

static void fuzz_handshake(const char *data, size_t size, unsigned how)
{
	static struct http_field fields[HTTP_FIELDS_MAX];
	struct websocket_terms terms = {how & 1 ? PROTOCOLS : NULL,
		how & 2 ? "https://a.example, http://b" : NULL, how & 4};
	struct http_head h = {.fields = fields,
		.method = METHOD_GET,
		.minor = 1,
		.upgrade = true,
		.host = TEXT("a.example:443")};
	struct websocket_handshake hs;
	unsigned status;

	if (how & 8) { /* so that not every input has to spell them out */
		fields[0] = (struct http_field){TEXT("upgrade"), TEXT("websocket")};
		fields[1] = (struct http_field){TEXT("sec-websocket-version"), TEXT("13")};
		fields[2] = (struct http_field){
			TEXT("sec-websocket-key"), TEXT("dGhlIHNhbXBsZSBub25jZQ==")};
		h.n_fields = 3;
	}
	add_fields(&h, data, size);
	status = websocket_handshake(&h, &terms, &hs);
	require(status == 0 || status == 400 || status == 403 || status == 426);
	if (status == 0)
		check_result(&hs, &terms);
}

static void fuzz_unpack(const char *data, size_t size)
{
	static struct deflate d;
	struct tine_text packed = {data, size};
	char *plain[2] = {NULL, NULL};
	size_t len[2] = {0, 0};
	int r = deflate_unpack(&d, packed, MESSAGE_MAX, &plain[0], &len[0]);

	require(r == 0 || r == -EMSGSIZE || r == -EBADMSG);
	require(r != 0 || len[0] <= MESSAGE_MAX);
	require(deflate_unpack(&d, packed, MESSAGE_MAX, &plain[1], &len[1]) == r);
	require(len[0] == len[1] && (len[0] == 0 || memcmp(plain[0], plain[1], len[0]) == 0));
	free(plain[0]);
	free(plain[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] & 16)
		fuzz_unpack((const char *)data + 1, size - 1);
	else
		fuzz_handshake((const char *)data + 1, size - 1, data[0]);
	return 0;
}

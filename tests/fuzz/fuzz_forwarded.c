/*
 * Fuzz target: any text as X-Forwarded-For and as Forwarded, one field a line. Whatever stands left
 * of it, an entry appended by a trusted proxy must be believed, and an untrusted sender never.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/forwarded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct http_field fields[HTTP_FIELDS_MAX];
static struct http_head head = {.fields = fields};
static struct netmask_list trusted;

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void add_line(const char *name, const char *data, size_t len)
{
	head.fields[head.n_fields++] = (struct http_field){{name, strlen(name)}, {data, len}};
}

static void check(enum client_header field, const char *name, const char *appended,
	const char *data, size_t size)
{
	struct peer proxy, stranger, client, expected;
	const char *end = data + size;

	require(peer_parse("10.0.0.1", 8, &proxy) && peer_parse("192.0.2.1", 9, &stranger) &&
		peer_parse("203.0.113.9", 11, &expected));
	head.n_fields = 0;
	while (data < end && head.n_fields < HTTP_FIELDS_MAX - 1) {
		const char *lf = memchr(data, '\n', (size_t)(end - data));
		const char *stop = lf ? lf : end;

		add_line(name, data, (size_t)(stop - data));
		data = lf ? lf + 1 : end;
	}
	client = stranger;
	forwarded_client(&head, field, &trusted, &client);
	require(memcmp(&client, &stranger, sizeof(client)) == 0);
	client = proxy;
	forwarded_client(&head, field, &trusted, &client);
	require(client.family == AF_INET || client.family == AF_INET6);

	add_line(name, appended, strlen(appended));
	client = proxy;
	forwarded_client(&head, field, &trusted, &client);
	require(memcmp(&client, &expected, sizeof(client)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	char why[NETMASK_WHY_MAX];

	if (trusted.n == 0)
		require(netmask_list_parse("10.0.0.0/8, fd00::/8", &trusted, why) == 0);
	check(CLIENT_HEADER_X_FORWARDED_FOR, "X-Forwarded-For", "203.0.113.9, 10.0.0.2",
		(const char *)bytes, size);
	check(CLIENT_HEADER_FORWARDED, "Forwarded", "for=203.0.113.9, for=10.0.0.2;proto=http",
		(const char *)bytes, size);
	return 0;
}

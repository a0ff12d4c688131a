/*
 * Fuzz target: any bytes as a PROXY protocol header. The outcome must not depend on how they are
 * split, and must be known within the bound.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const char *data = (const char *)bytes;
	struct proxy_header whole, part;
	char text[PEER_TEXT_MAX];
	bool known = false;
	int r;

	r = proxy_header_parse(data, size, &whole);
	require(r == 0 || r == -EPROTO || (r == PROXY_HEADER_MORE && size < PROXY_HEADER_MAX));
	if (r == 0) {
		require(whole.size > 0 && whole.size <= size && whole.size <= PROXY_HEADER_MAX);
		require(peer_text(&whole.source, text) == strlen(text));
	}
	for (size_t n = 0; n <= size; n++) {
		int again = proxy_header_parse(data, n, &part);

		require(again == r || (again == PROXY_HEADER_MORE && !known));
		known = known || again != PROXY_HEADER_MORE;
		require(again != 0 ||
			(part.size == whole.size && n >= whole.size &&
				memcmp(&part.source, &whole.source, sizeof(part.source)) == 0));
	}
	return 0;
}

/*
 * Fuzz target: any bytes as the value of Range and Accept-Encoding. The first eight are the size of what is
 * asked for, and the codings there are.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/conditional.h"
#include "http/encoding.h"
#include "http/parser.h"
#include "http/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What is answered lies within the whole and is not longer than it. */
static void check_range(struct tine_text value, uint64_t size)
{
	struct range_set set;
	uint64_t total = 0;
	int r = range_parse(value, size, &set);

	require(r == 0 || r == RANGE_PARTIAL || r == RANGE_UNSATISFIABLE);
	if (r != RANGE_PARTIAL)
		return;
	require(set.n > 0 && set.n <= RANGES_MAX);
	for (unsigned i = 0; i < set.n; i++) {
		require(set.ranges[i].first < size && set.ranges[i].len > 0);
		require(set.ranges[i].len <= size - set.ranges[i].first);
		require(set.ranges[i].len <= size - total);
		total += set.ranges[i].len;
	}
}

static void check_encoding(const struct http_head *h, unsigned available)
{
	unsigned all = (1u << ENCODING_COUNT) - 1, chosen = encoding_choose(h, available & all);

	require(chosen != 0 && (chosen & (chosen - 1)) == 0);
	require(chosen & ((available & all) | ENCODING_IDENTITY));
	/* what is chosen of many is chosen of fewer, too */
	require(encoding_choose(h, chosen) == chosen || chosen == ENCODING_IDENTITY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_field fields[4];
	struct http_head head = {.fields = fields};
	struct tine_text value, range, half;
	uint64_t n;

	if (size < sizeof(n))
		return 0;
	memcpy(&n, data, sizeof(n));
	value = (struct tine_text){(const char *)data + sizeof(n), size - sizeof(n)};
	half = (struct tine_text){value.data, value.len / 2};
	check_range(value, n);

	head.method = METHOD_GET;
	head.n_fields = 4;
	fields[0] = (struct http_field){{"Accept-Encoding", 15}, value};
	fields[1] = (struct http_field){{"accept-encoding", 15}, half};
	fields[2] = (struct http_field){{"Range", 5}, value};
	fields[3] = (struct http_field){{"If-Range", 8}, half};
	check_encoding(&head, (unsigned)n);
	range = conditional_range(&head, (struct tine_text){"\"a\"", 3}, 784111777);
	require(!range.data || range.data == value.data);
	return 0;
}

/*
 * http/parser.c: every case whole, byte by byte and split at every position; then what is
 * understood of a head.
 */
#include <stdlib.h>
#include <string.h>

#include "http/parser.h"
#include "http_cases.h"
#include "run.h"

static const struct http_limits limits = {.max_line = CASE_MAX_LINE, .max_head = CASE_MAX_HEAD};
static struct http_field fields[HTTP_FIELDS_MAX];
static struct http_head head;

/* Parses a copy that ends exactly where the data ends, so that a sanitizer sees any step beyond. */
static int parse(const char *data, size_t len)
{
	static char *copy;

	free(copy);
	copy = malloc(len ? len : 1);
	memcpy(copy, data, len);
	return http_parse_head(copy, len, &limits, fields, &head);
}

START_TEST(test_case)
{
	const struct http_case *c = &http_cases[_i];

	ck_assert_msg(parse(c->data, c->len) == c->want, "%s: got %d, want %d", c->name,
		parse(c->data, c->len), c->want);
	if (c->want == CASE_OK)
		ck_assert_uint_eq(head.size, c->len);
}
END_TEST

/*
 * However the bytes are split: before the outcome is known it is "more", and afterwards it never
 * changes.
 */
START_TEST(test_case_prefixes)
{
	const struct http_case *c = &http_cases[_i];
	int before = PARSER_MORE;

	for (size_t n = 0; n <= c->len; n++) {
		int r = parse(c->data, n);

		if (before != PARSER_MORE)
			ck_assert_msg(r == before, "%s: %d at %zu, then %d", c->name, before, n, r);
		before = r;
	}
	ck_assert_int_eq(before, c->want);
}
END_TEST

/* What follows a head is not looked at. */
START_TEST(test_case_followed)
{
	const struct http_case *c = &http_cases[_i];
	char *data = malloc(c->len + 16);

	if (c->want != CASE_MORE) {
		memcpy(data, c->data, c->len);
		memset(data + c->len, 0, 16);
		ck_assert_int_eq(parse(data, c->len + 16), c->want);
	}
	free(data);
}
END_TEST

static void accept_head(const char *data)
{
	ck_assert_int_eq(parse(data, strlen(data)), 0);
	ck_assert_uint_eq(head.size, strlen(data));
}

#define ck_text(t, want)                                        \
	do {                                                    \
		ck_assert_uint_eq((t).len, strlen(want));       \
		ck_assert_mem_eq((t).data, want, strlen(want)); \
	} while (0)

START_TEST(test_parts)
{
	accept_head("GET /a/b?c=d?e HTTP/1.1\r\nHost: h:1\r\nX-Y:  v w \r\nEmpty:\r\n\r\n");
	ck_assert_int_eq(head.method, METHOD_GET);
	ck_assert_uint_eq(head.minor, 1);
	ck_text(head.line, "GET /a/b?c=d?e HTTP/1.1");
	ck_text(head.path, "/a/b");
	ck_text(head.query, "c=d?e");
	ck_text(head.host, "h:1");
	ck_assert_uint_eq(head.n_fields, 3);
	ck_text(http_head_field(&head, "x-y", 3), "v w");
	ck_assert_ptr_nonnull(http_head_field(&head, "empty", 5).data);
	ck_assert_ptr_null(http_head_field(&head, "none", 4).data);
}
END_TEST

START_TEST(test_absolute)
{
	accept_head("GET http://b:8/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_text(head.host, "b:8");
	ck_text(head.path, "/x");
	ck_text(head.query, "y");
	accept_head("GET http://b?y HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_text(head.path, "/");
	ck_text(head.query, "y");
	accept_head("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_text(head.path, "/");
	ck_assert_ptr_null(head.query.data);
}
END_TEST

START_TEST(test_connection_tokens)
{
	accept_head("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo ,Close, \r\n\r\n");
	ck_assert(head.close && !head.keep_alive);
	accept_head("GET / HTTP/1.0\r\nconnection: KEEP-ALIVE\r\n\r\n");
	ck_assert(!head.close && head.keep_alive);
	ck_assert_uint_eq(head.minor, 0);
	accept_head("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n");
	ck_assert(head.close && head.keep_alive);
	accept_head("GET / HTTP/1.1\r\nHost: a\r\nConnection: closed, keep-aliv\r\n\r\n");
	ck_assert(!head.close && !head.keep_alive && !head.upgrade);
	accept_head("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\r\n");
	ck_assert(!head.close && head.keep_alive && head.upgrade);
}
END_TEST

START_TEST(test_framing)
{
	accept_head("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n");
	ck_assert(head.has_length);
	ck_assert_uint_eq(head.content_length, INT64_MAX);
	accept_head("PUT / HTTP/1.1\r\nHost: a\r\ncontent-lengths: x\r\n\r\n");
	ck_assert(!head.has_length);
	accept_head("PUT / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: \t Chunked \t\r\n\r\n");
	ck_assert(head.chunked && !head.has_length);
	accept_head("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n");
	ck_assert(head.expect && !head.expect_unknown);
	accept_head("PUT / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n");
	ck_assert(!head.expect && head.expect_unknown);
}
END_TEST

/* What a moved head says must not depend on the bytes it was parsed from. */
START_TEST(test_move)
{
	static const char data[] =
		"\r\nGET /a?b HTTP/1.1\r\nHost: h\r\nX-Y: v\r\nEmpty:\r\n\r\nmore";
	struct http_field *kept;
	char *from = strdup(data), *to;

	ck_assert_int_eq(http_parse_head(from, strlen(from), &limits, fields, &head), 0);
	to = malloc(head.size);
	memcpy(to, from, head.size);
	kept = malloc(head.n_fields * sizeof(*kept));
	http_head_move(&head, from, to, kept);
	memset(from, '#', strlen(from));
	memset(fields, 0, sizeof(fields));
	free(from);

	ck_text(head.line, "GET /a?b HTTP/1.1");
	ck_text(head.path, "/a");
	ck_text(head.query, "b");
	ck_text(head.host, "h");
	ck_assert_ptr_eq(head.fields, kept);
	ck_assert_uint_eq(head.n_fields, 3);
	ck_text(kept[1].name, "X-Y");
	ck_text(http_head_field(&head, "x-y", 3), "v");
	ck_assert_ptr_nonnull(http_head_field(&head, "empty", 5).data);
	free(to);
	free(kept);
}
END_TEST

/* What was not there, or stands for itself, is not moved; the fields may stay where they are. */
START_TEST(test_move_in_place)
{
	static const char data[] = "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n";
	char to[sizeof(data)];

	ck_assert_int_eq(http_parse_head(data, strlen(data), &limits, fields, &head), 0);
	memcpy(to, data, sizeof(data));
	http_head_move(&head, data, to, fields);
	ck_text(head.path, "/");
	ck_assert_ptr_null(head.query.data);
	ck_assert_ptr_eq(head.host.data, to + strlen("GET http://"));
	ck_assert_ptr_eq(fields[0].value.data, to + strlen("GET http://b HTTP/1.1\r\nHost: "));
}
END_TEST

START_TEST(test_list)
{
	struct tine_text list = {" a,, b c ,\t,d", 13}, item;

	ck_assert(http_list_next(&list, &item));
	ck_text(item, "a");
	ck_assert(http_list_next(&list, &item));
	ck_text(item, "b c");
	ck_assert(http_list_next(&list, &item));
	ck_text(item, "d");
	ck_assert(!http_list_next(&list, &item));
}
END_TEST

START_TEST(test_what_may_be_written)
{
	ck_assert(http_is_token("X-Y", 3));
	ck_assert(!http_is_token("", 0));
	ck_assert(!http_is_token("X Y", 3));
	ck_assert(http_is_value("", 0));
	ck_assert(http_is_value("a b", 3));
	ck_assert(!http_is_value("a\r\nb", 4));
	ck_assert(!http_is_value("0123456789abcdef\nb", 18));
	ck_assert(!http_is_value(" a", 2));
	ck_assert(!http_is_value("a\t", 2));
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_case, 0, N_HTTP_CASES);
	tcase_add_loop_test(tc, test_case_prefixes, 0, N_HTTP_CASES);
	tcase_add_loop_test(tc, test_case_followed, 0, N_HTTP_CASES);
	tcase_add_test(tc, test_parts);
	tcase_add_test(tc, test_absolute);
	tcase_add_test(tc, test_connection_tokens);
	tcase_add_test(tc, test_framing);
	tcase_add_test(tc, test_move);
	tcase_add_test(tc, test_move_in_place);
	tcase_add_test(tc, test_list);
	tcase_add_test(tc, test_what_may_be_written);
}

int main(void)
{
	return run_tests("parser", add);
}

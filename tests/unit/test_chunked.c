/* http/chunked.c: every case whole, byte by byte and split at every position. */
#include <stdlib.h>
#include <string.h>

#include "http/chunked.h"
#include "run.h"

#define N10  "0123456789"
#define N100 N10 N10 N10 N10 N10 N10 N10 N10 N10 N10
#define N1K  N100 N100 N100 N100 N100 N100 N100 N100 N100 N100
#define N4K  N1K N1K N1K N1K
#define F10  "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n"
#define A10  "a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|a=1|"

struct chunked_case {
	const char *name, *data;
	size_t len;
	int want;            /* CHUNKED_END, CHUNKED_MORE or the status to refuse with */
	const char *body;    /* what was decoded until then */
	const char *trailer; /* "name=value|" for each field */
	size_t rest;         /* bytes that are not of the body */
};

#define C(name, data, ...)                                \
	{                                                 \
		name, data, sizeof(data) - 1, __VA_ARGS__ \
	}

static const struct chunked_case cases[] = {
	C("empty body", "0\r\n\r\n", 0, "", "", 0),
	C("one chunk", "5\r\nhello\r\n0\r\n\r\n", 0, "hello", "", 0),
	C("two chunks", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", 0, "hello!", "", 0),
	C("capital digits", "A\r\n" N10 "\r\n0\r\n\r\n", 0, N10, "", 0),
	C("small digits", "a\r\n" N10 "\r\n0\r\n\r\n", 0, N10, "", 0),
	C("two digits", "64\r\n" N100 "\r\n0\r\n\r\n", 0, N100, "", 0),
	C("leading zeros", "0000000000000005\r\nhello\r\n0\r\n\r\n", 0, "hello", "", 0),
	C("many zeros", "5\r\nhello\r\n0000000000000000\r\n\r\n", 0, "hello", "", 0),
	C("data that looks like framing", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", 0, "\r\n0\r\n\r\n", "",
		0),
	C("a request behind it", "1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n", 0, "x", "", 16),
	C("CRLF behind it", "0\r\n\r\n\r\n", 0, "", "", 2),
	C("extension", "1;a\r\nx\r\n0;b=c\r\n\r\n", 0, "x", "", 0),
	C("extension, quoted", "1 ; a=\"b;c\\\"\" ;d\r\nx\r\n0\t;b\r\n\r\n", 0, "x", "", 0),
	C("extensions at their limit",
		"1;" N4K N10 N10 N10 N10 N10 N10 N10 N10 N10 "01234\r\nx\r\n0\r\n\r\n", 0, "x", "",
		0),
	C("extensions over their limit",
		"1;" N4K N10 N10 N10 N10 N10 N10 N10 N10 N10 "012345\r\nx\r\n", 400, "", "", 0),
	C("many extensions", "1;" N1K N1K "\r\nx\r\n1;" N1K N1K "\r\ny\r\n0;" N100 "\r\n\r\n", 400,
		"xy", "", 0),
	C("an extension without end", "1;" N4K N100, 400, "", "", 0),
	C("extension, all of it", "1;a;b=c\t;d=\"e\" ;f\t=\t\"\\\"\x80;=\";g = h\r\nx\r\n0\r\n\r\n",
		0, "x", "", 0),
	C("extension without a name", "1;\r\nx\r\n", 400, "", "", 0),
	C("extension without a name, more", "1;;a\r\nx\r\n", 400, "", "", 0),
	C("extension without a value", "1;a=\r\nx\r\n", 400, "", "", 0),
	C("extension, space at its end", "1;a \r\nx\r\n", 400, "", "", 0),
	C("extension, space behind its value", "1;a=b \r\nx\r\n", 400, "", "", 0),
	C("extension, two values", "1;a=b=c\r\nx\r\n", 400, "", "", 0),
	C("extension, quote not closed", "1;a=\"b\r\nx\r\n", 400, "", "", 0),
	C("extension, line end within quotes", "1;a=\"b\r\nx\"\r\nx\r\n", 400, "", "", 0),
	C("extension, escaped line end", "1;a=\"b\\\r\nx\r\n", 400, "", "", 0),
	C("extension, text behind quotes", "1;a=\"b\"c\r\nx\r\n", 400, "", "", 0),
	C("extension, name in quotes", "1;\"a\"\r\nx\r\n", 400, "", "", 0),
	C("white space without end", "1 \t \t", CHUNKED_MORE, "", "", 0),
	C("trailer", "1\r\nx\r\n0\r\nA: b\r\nC:\t d e \r\n\r\nG", 0, "x", "A=b|C=d e|", 1),
	C("trailer, empty value", "0\r\nA:\r\n\r\n", 0, "", "A=|", 0),
	C("trailer, 32 fields", "0\r\n" F10 F10 F10 "a:1\r\na:1\r\n\r\n", 0, "",
		A10 A10 A10 "a=1|a=1|", 0),
	C("trailer, 33 fields", "0\r\n" F10 F10 F10 "a:1\r\na:1\r\na:1\r\n\r\n", 400, "",
		A10 A10 A10 "a=1|a=1|", 0),
	C("trailer, long line", "0\r\nA: " N4K "\r\n\r\n", 0, "", "A=" N4K "|", 0),
	C("trailer, line too long", "0\r\nA: " N4K N4K N100 N100 "\r\n\r\n", 400, "", "", 0),
	C("trailer, lines too long", "0\r\nA: " N4K "\r\nA: " N4K N100 N100 "\r\n\r\n", 400, "",
		"A=" N4K "|", 0),

	C("no size", "\r\n", 400, "", "", 0),
	C("space before the size", " 1\r\nx\r\n", 400, "", "", 0),
	C("minus", "-1\r\nx\r\n", 400, "", "", 0),
	C("plus", "+1\r\nx\r\n", 400, "", "", 0),
	C("0x", "0x1\r\nx\r\n", 400, "", "", 0),
	C("no digit", "g\r\n", 400, "", "", 0),
	C("underscore within digits", "1_0\r\n", 400, "", "", 0),
	C("comma within digits", "1,0\r\n", 400, "", "", 0),
	C("NUL behind the size", "1\0\r\nx\r\n", 400, "", "", 0),
	C("vertical tab behind the size", "1\v\r\nx\r\n", 400, "", "", 0),
	C("spaces behind the size", "1 \r\nx\r\n", 400, "", "", 0),
	C("17 digits", "00000000000000001\r\nx\r\n", 400, "", "", 0),
	C("size of 2^63", "8000000000000000\r\n", 400, "", "", 0),
	C("size of 2^64", "10000000000000000\r\n", 400, "", "", 0),
	C("size of 2^64 - 1", "ffffffffffffffff\r\n", 400, "", "", 0),
	C("size of 2^63 - 1", "7fffffffffffffff\r\nxy", CHUNKED_MORE, "xy", "", 0),
	C("LF behind the size", "1\nx\r\n", 400, "", "", 0),
	C("CR behind the size", "1\rx\r\n", 400, "", "", 0),
	C("CR CR LF behind the size", "1\r\r\nx\r\n", 400, "", "", 0),
	C("LF behind an extension", "1;a\nx\r\n", 400, "", "", 0),
	C("CR within an extension", "1;a\rb\r\nx\r\n", 400, "", "", 0),
	C("NUL within an extension", "1;a\0\r\nx\r\n", 400, "", "", 0),
	C("DEL within an extension", "1;a\x7f\r\nx\r\n", 400, "", "", 0),
	C("extension without a semicolon", "1 a\r\nx\r\n", 400, "", "", 0),
	C("longer data than said", "1\r\nxy\r\n", 400, "x", "", 0),
	C("shorter data than said", "3\r\nx\r\n0\r\n\r\n", 400, "x\r\n", "", 0),
	C("LF behind the data", "1\r\nx\n0\r\n\r\n", 400, "x", "", 0),
	C("CR behind the data", "1\r\nx\r0\r\n\r\n", 400, "x", "", 0),
	C("nothing behind the data", "1\r\nx0\r\n\r\n", 400, "x", "", 0),
	C("something and LF behind the data", "1\r\nxy\n0\r\n\r\n", 400, "x", "", 0),
	C("CR and something behind the data", "1\r\nx\ry0\r\n\r\n", 400, "x", "", 0),
	C("extension, DEL within quotes", "1;a=\"\x7f\"\r\nx\r\n", 400, "", "", 0),
	C("LF ends the body", "0\r\n\n", 400, "", "", 0),
	C("LF behind the last size", "0\n\r\n", 400, "", "", 0),
	C("CR ends the body", "0\r\n\rG", 400, "", "", 0),
	C("trailer, space before the colon", "0\r\nA : b\r\n\r\n", 400, "", "", 0),
	C("trailer, folded", "0\r\nA: b\r\n c\r\n\r\n", 400, "", "A=b|", 0),
	C("trailer, no colon", "0\r\nGET / HTTP/1.1\r\n\r\n", 400, "", "", 0),
	C("trailer, no name", "0\r\n: a\r\n\r\n", 400, "", "", 0),
	C("trailer, NUL", "0\r\nA: \0\r\n\r\n", 400, "", "", 0),
	C("trailer, LF", "0\r\nA: b\n\r\n", 400, "", "", 0),
	C("trailer, CR", "0\r\nA: b\rC: d\r\n\r\n", 400, "", "", 0),
	C("trailer, Content-Length", "0\r\nA: b\r\ncontent-length: 5\r\n\r\n", 400, "", "A=b|", 0),
	C("trailer, Transfer-Encoding", "0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "", "", 0),
	C("trailer, Host", "0\r\nHOST: a\r\n\r\n", 400, "", "", 0),
	C("trailer, Authorization", "0\r\nAuthorization: a\r\n\r\n", 400, "", "", 0),
	C("trailer, X-Forwarded-For", "0\r\nX-Forwarded-For: a\r\n\r\n", 400, "", "", 0),

	C("nothing yet", "", CHUNKED_MORE, "", "", 0),
	C("half a size", "1", CHUNKED_MORE, "", "", 0),
	C("a size", "1\r\n", CHUNKED_MORE, "", "", 0),
	C("half the data", "5\r\nhe", CHUNKED_MORE, "he", "", 0),
	C("half a line end", "1\r\nx\r", CHUNKED_MORE, "x", "", 0),
	C("no end", "1\r\nx\r\n0\r\n", CHUNKED_MORE, "x", "", 0),
	C("half an end", "0\r\n\r", CHUNKED_MORE, "", "", 0),
	C("half a trailer line", "0\r\nA: b\r\nC: ", CHUNKED_MORE, "", "A=b|", 0),
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

/* What came of a body that was given in pieces. */
struct outcome {
	int result;
	char body[9000], trailer[9000];
	size_t body_len, trailer_len, used;
};

static void append(char *to, size_t *len, struct tine_text t)
{
	ck_assert_uint_lt(*len + t.len, 9000);
	memcpy(to + *len, t.data, t.len);
	*len += t.len;
}

static void note(struct outcome *o, int r, const struct http_field *f)
{
	if (r == CHUNKED_DATA) {
		ck_assert_uint_gt(f->value.len, 0);
		append(o->body, &o->body_len, f->value);
	} else if (r == CHUNKED_TRAILER) {
		append(o->trailer, &o->trailer_len, f->name);
		append(o->trailer, &o->trailer_len, (struct tine_text){"=", 1});
		append(o->trailer, &o->trailer_len, f->value);
		append(o->trailer, &o->trailer_len, (struct tine_text){"|", 1});
	}
}

/* All that can be told of data[o->used, end), given as a copy that ends exactly there. */
static void decode(struct chunked *d, struct outcome *o, const char *data, size_t end)
{
	char *copy = malloc(end - o->used + 1), *p = copy;
	size_t left = end - o->used, used;
	struct http_field f;

	memcpy(copy, data + o->used, left);
	copy = p = realloc(copy, left ? left : 1);
	do {
		o->result = chunked_decode(d, p, left, &f, &used);
		ck_assert_uint_le(used, left);
		note(o, o->result, &f);
		p += used;
		left -= used;
		o->used += used;
	} while (o->result == CHUNKED_DATA || o->result == CHUNKED_TRAILER);
	free(copy);
}

/* The first piece has `first` bytes, all others `step`. */
static void run(const struct chunked_case *c, size_t first, size_t step, struct outcome *o)
{
	struct chunked d = {0};
	size_t end = first;

	memset(o, 0, sizeof(*o));
	for (;;) {
		end = end < c->len ? end : c->len;
		decode(&d, o, c->data, end);
		if (end == c->len || o->result != CHUNKED_MORE)
			return;
		end += step;
	}
}

static void check(const struct chunked_case *c, const struct outcome *o, size_t first)
{
	ck_assert_msg(o->result == c->want, "%s, split at %zu: got %d, want %d", c->name, first,
		o->result, c->want);
	ck_assert_str_eq(o->body, c->body);
	ck_assert_str_eq(o->trailer, c->trailer);
	if (c->want == CHUNKED_END)
		ck_assert_uint_eq(c->len - o->used, c->rest);
}

START_TEST(test_whole)
{
	struct outcome o;

	run(&cases[_i], cases[_i].len, 1, &o);
	check(&cases[_i], &o, 0);
}
END_TEST

START_TEST(test_split)
{
	const struct chunked_case *c = &cases[_i];
	struct outcome o;

	for (size_t first = 0; first <= c->len; first += c->len < 1000 ? 1 : 37) {
		run(c, first, c->len, &o);
		check(c, &o, first);
	}
	run(c, 1, 1, &o);
	check(c, &o, 1);
	run(c, 3, 7, &o);
	check(c, &o, 3);
}
END_TEST

/* What is left of a line that is not complete is bounded: the caller must keep it. */
START_TEST(test_unfinished_line_is_bounded)
{
	struct chunked d = {0};
	struct http_field f;
	static char data[CHUNKED_TRAILER_MAX];
	size_t used;

	ck_assert_int_eq(chunked_decode(&d, "0\r\n", 3, &f, &used), CHUNKED_MORE);
	memset(data, 'a', sizeof(data));
	ck_assert_int_eq(chunked_decode(&d, data, sizeof(data) - 1, &f, &used), CHUNKED_MORE);
	ck_assert_uint_eq(used, 0);
	ck_assert_int_eq(chunked_decode(&d, data, sizeof(data), &f, &used), 400);
}
END_TEST

START_TEST(test_end_stays_the_end)
{
	struct chunked d = {0};
	struct http_field f;
	size_t used;

	ck_assert_int_eq(chunked_decode(&d, "0\r\n\r\n", 5, &f, &used), CHUNKED_END);
	ck_assert_uint_eq(used, 5);
	ck_assert_int_eq(chunked_decode(&d, "1\r\n", 3, &f, &used), CHUNKED_END);
	ck_assert_uint_eq(used, 0);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_whole, 0, N_CASES);
	tcase_add_loop_test(tc, test_split, 0, N_CASES);
	tcase_add_test(tc, test_unfinished_line_is_bounded);
	tcase_add_test(tc, test_end_stays_the_end);
}

int main(void)
{
	return run_tests("chunked", add);
}

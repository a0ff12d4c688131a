/* http/encoding.c: which content coding a client gets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/encoding.h"
#include "http/parser.h"
#include "run.h"

#define B  ENCODING_BR
#define G  ENCODING_GZIP
#define I  ENCODING_IDENTITY
#define AE "Accept-Encoding: "

static const struct {
	const char *fields;
	unsigned available, want;
} cases[] = {
	{"", B | G, I},
	{AE "\r\n", B | G, I},
	{AE "gzip\r\n", B | G, G},
	{AE "GZip\r\n", B | G, G},
	{AE "x-gzip\r\n", G, G},
	{AE "br\r\n", B | G, B},
	{AE "gzip, deflate, br\r\n", B | G, B},
	{AE "gzip, deflate, br\r\n", G, G},
	{AE "gzip, deflate, br\r\n", 0, I},
	{AE "gzip,,br\r\n", B | G, B},
	{AE "zstd\r\n", B | G, I},
	{AE "gzip;q=0\r\n", G, I},
	{AE "gzip;q=0.0\r\n", G, I},
	{AE "gzip;q=0.000\r\n", G, I},
	{AE "gzip;q=0.001\r\n", G, G},
	{AE "gzip;q=1.0, br;q=0.9\r\n", B | G, G},
	{AE "gzip;q=0.5, br;q=0.5\r\n", B | G, B},
	{AE "gzip ; q=0.8 , br\t;\tq=0.7\r\n", B | G, G},
	{AE "gzip;Q=0\r\n", G, I},
	{AE "gzip;q=0.5, identity\r\n", G, I},
	{AE "gzip;q=0.5, identity;q=0.5\r\n", G, G},
	{AE "gzip;q=0.5, identity;q=0.6\r\n", G, I},
	{AE "identity\r\n", B | G, I},
	{AE "*\r\n", B | G, B},
	{AE "*\r\n", 0, I},
	{AE "*;q=0\r\n", B | G, I},
	{AE "*;q=0, gzip\r\n", B | G, G},
	{AE "gzip;q=0, *\r\n", B | G, B},
	{AE "gzip;q=0, br;q=0, *\r\n", B | G, I},
	{AE "identity;q=0, gzip;q=0.1\r\n", B | G, G},
	{AE "identity;q=0\r\n", B | G, I}, /* rather than 406 */
	{AE "br;q=0, identity;q=0, *;q=0.2\r\n", B | G, G},
	{AE "gzip;q=0, gzip\r\n", G, I},
	{AE "gzip\r\n" AE "br\r\n", B | G, B},
	{AE "deflate\r\nX: y\r\naccept-encoding: gzip\r\n", G, G},
	{"X-" AE "gzip\r\n", G, I},
	/* not of the form: as if it were not there */
	{AE "gzip;q=2\r\n", G, I},
	{AE "gzip;q=1.1\r\n", G, I},
	{AE "gzip;q=1.001\r\n", G, I},
	{AE "gzip;q=0.0001\r\n", G, I},
	{AE "gzip;q=-1\r\n", G, I},
	{AE "gzip;q=\r\n", G, I},
	{AE "gzip;q\r\n", G, I},
	{AE "gzip;\r\n", G, I},
	{AE "gzip;level=9\r\n", G, I},
	{AE "gzip q=1\r\n", G, I},
	{AE "gzip;q=.5\r\n", G, I},
	{AE "gzip;q=0.5;x\r\n", G, I},
	{AE "gzip;q=a, br\r\n", B | G, B},
	{AE "gzipped\r\n", G, I},
	{AE "gzi\r\n", G, I},
};

START_TEST(test_case)
{
	static const struct http_limits limits = {1024, 4096};
	struct http_field fields[HTTP_FIELDS_MAX];
	struct http_head head;
	char data[1024];
	int n = snprintf(
		data, sizeof(data), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", cases[_i].fields);

	ck_assert_int_eq(http_parse_head(data, (size_t)n, &limits, fields, &head), 0);
	ck_assert_msg(encoding_choose(&head, cases[_i].available) == cases[_i].want, "%s",
		cases[_i].fields);
}
END_TEST

static const struct {
	const char *type;
	bool pays;
} types[] = {
	{"text/html; charset=utf-8", true},
	{"text/html ;charset=utf-8", true},
	{"TEXT/CSS", true},
	{"application/json", true},
	{"application/ld+json", true},
	{"image/svg+xml", true},
	{"image/svg+xml; charset=utf-8", true},
	{"text/", false},
	{"texts/plain", false},
	{"image/png", false},
	{"application/gzip", false},
	{"application/jsonp", false},
	{"application/octet-stream; x=text/html", false},
	{"", false},
};

START_TEST(test_types)
{
	struct tine_text type = {types[_i].type, strlen(types[_i].type)};

	ck_assert_msg(encoding_pays(type) == types[_i].pays, "%s", types[_i].type);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_types, 0, sizeof(types) / sizeof(types[0]));
	tcase_add_loop_test(tc, test_case, 0, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
	return run_tests("encoding", add);
}

/*
 * Heads of requests and what must become of them: the parser, the whole server and the fuzzer's
 * corpus are tested with this one table.
 */
#pragma once

#include <stddef.h>

#define CASE_OK   0 /* a whole head, accepted */
#define CASE_MORE 1 /* nothing wrong so far */

struct http_case {
	int want; /* CASE_OK, CASE_MORE or the status to refuse with */
	const char *name, *data;
	size_t len;
};

#define C(want, name, data)                        \
	{                                          \
		want, name, data, sizeof(data) - 1 \
	}
#define HOST "Host: a\r\n"
#define END  "\r\n"
#define GET  "GET / HTTP/1.1\r\n" HOST
#define N10  "0123456789"
#define N100 N10 N10 N10 N10 N10 N10 N10 N10 N10 N10
#define N1K  N100 N100 N100 N100 N100 N100 N100 N100 N100 N100
#define F10  "a:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\n"
#define F90  F10 F10 F10 F10 F10 F10 F10 F10 F10

/* The limits these cases are made for. */
#define CASE_MAX_HEAD 4096
#define CASE_MAX_LINE 2048

static const struct http_case http_cases[] = {
	/* request line */
	C(CASE_OK, "plain GET", GET END),
	C(CASE_OK, "HEAD", "HEAD / HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "POST", "POST / HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "DELETE", "DELETE /x HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "OPTIONS path", "OPTIONS /x HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "CONNECT", "CONNECT a:80 HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "TRACE", "TRACE / HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "one empty line before", "\r\n" GET END),
	C(400, "two empty lines before", "\r\n\r\n" GET END),
	C(400, "CR alone before", "\rGET / HTTP/1.1\r\n" HOST END),
	C(400, "LF alone before", "\nGET / HTTP/1.1\r\n" HOST END),
	C(400, "space before", " GET / HTTP/1.1\r\n" HOST END),
	C(501, "unknown method", "BREW / HTTP/1.1\r\n" HOST END),
	C(501, "method in lower case", "get / HTTP/1.1\r\n" HOST END),
	C(501, "method with a suffix", "GETX / HTTP/1.1\r\n" HOST END),
	C(501, "method with token characters", "M-SEARCH! / HTTP/1.1\r\n" HOST END),
	C(400, "method with a colon", "GE:T / HTTP/1.1\r\n" HOST END),
	C(400, "method with a NUL", "GE\0T / HTTP/1.1\r\n" HOST END),
	C(400, "no method", " / HTTP/1.1\r\n" HOST END),
	C(400, "tab after the method", "GET\t/ HTTP/1.1\r\n" HOST END),
	C(400, "two spaces after the method", "GET  / HTTP/1.1\r\n" HOST END),
	C(400, "two spaces after the target", "GET /  HTTP/1.1\r\n" HOST END),
	C(400, "tab after the target", "GET /\tHTTP/1.1\r\n" HOST END),
	C(400, "space after the version", "GET / HTTP/1.1 \r\n" HOST END),
	C(400, "HTTP/0.9", "GET /\r\n"),
	C(400, "no target", "GET HTTP/1.1\r\n" HOST END),
	C(400, "a TLS greeting", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
	C(505, "HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),

	/* version */
	C(CASE_OK, "HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n"),
	C(CASE_OK, "HTTP/1.0 with Host", "GET / HTTP/1.0\r\n" HOST END),
	C(505, "HTTP/2.0", "GET / HTTP/2.0\r\n" HOST END),
	C(505, "HTTP/1.2", "GET / HTTP/1.2\r\n" HOST END),
	C(505, "HTTP/0.9 spelled out", "GET / HTTP/0.9\r\n" HOST END),
	C(400, "HTTP/1.10", "GET / HTTP/1.10\r\n" HOST END),
	C(400, "HTTP/1", "GET / HTTP/1\r\n" HOST END),
	C(400, "HTTP/1.x", "GET / HTTP/1.x\r\n" HOST END),
	C(400, "http in lower case", "GET / http/1.1\r\n" HOST END),
	C(400, "HTTP 1.1", "GET / HTTP 1.1\r\n" HOST END),
	C(400, "another protocol", "GET / ICAP/1.0\r\n" HOST END),
	C(400, "line ended by LF", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
	C(400, "line ended by CR", "GET / HTTP/1.1\rHost: a\r\n\r\n"),

	/* target */
	C(CASE_OK, "query", "GET /a?b=c&d=%20 HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "empty query", "GET /a? HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "query with slashes", "GET /a?/../b?c HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "what browsers do not encode", "GET /a?[x]={1}|^`\\ HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "all of pchar", "GET /-._~!$&'()*+,;=:@ HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "absolute form", "GET http://b/x HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "absolute form, port", "GET http://b:8080/x?y HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "absolute form, no path", "GET http://b HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "absolute form, query alone", "GET http://b?x HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "absolute form, capitals", "GET HTTP://B/ HTTP/1.1\r\n" HOST END),
	C(400, "absolute form without Host", "GET http://b/x HTTP/1.1\r\n\r\n"),
	C(400, "absolute form, no host", "GET http:///x HTTP/1.1\r\n" HOST END),
	C(400, "absolute form, a port alone", "GET http://:80/x HTTP/1.1\r\n" HOST END),
	C(400, "absolute form, bad Host", "GET http://b/x HTTP/1.1\r\nHost: a/b\r\n\r\n"),
	C(400, "absolute form, two Hosts", "GET http://b/x HTTP/1.1\r\n" HOST HOST END),
	C(400, "absolute form, user", "GET http://u@b/ HTTP/1.1\r\n" HOST END),
	C(400, "absolute form, bad port", "GET http://b:x/ HTTP/1.1\r\n" HOST END),
	C(400, "another scheme", "GET ftp://b/ HTTP/1.1\r\n" HOST END),
	C(400, "relative path", "GET x HTTP/1.1\r\n" HOST END),
	C(400, "* with GET", "GET * HTTP/1.1\r\n" HOST END),
	C(400, "** with OPTIONS", "OPTIONS ** HTTP/1.1\r\n" HOST END),
	C(400, "CONNECT with a path", "CONNECT /x HTTP/1.1\r\n" HOST END),
	C(400, "CONNECT with an empty port", "CONNECT a: HTTP/1.1\r\n" HOST END),
	C(400, "CONNECT without a host", "CONNECT :80 HTTP/1.1\r\n" HOST END),
	C(400, "CONNECT, IPv6 without a port", "CONNECT [::1] HTTP/1.1\r\n" HOST END),
	C(400, "CONNECT, a number alone", "CONNECT 80 HTTP/1.1\r\n" HOST END),
	C(CASE_OK, "CONNECT, IPv6", "CONNECT [::1]:80 HTTP/1.1\r\n" HOST END),
	C(400, "CONNECT without a port", "CONNECT a HTTP/1.1\r\n" HOST END),
	C(400, "fragment", "GET /a#b HTTP/1.1\r\n" HOST END),
	C(400, "quotes in the target", "GET /\"a\" HTTP/1.1\r\n" HOST END),
	C(400, "angle brackets in the target", "GET /<a> HTTP/1.1\r\n" HOST END),
	C(400, "NUL in the target", "GET /a\0b HTTP/1.1\r\n" HOST END),
	C(400, "DEL in the target", "GET /a\x7f HTTP/1.1\r\n" HOST END),
	C(400, "UTF-8 in the target", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST END),
	C(400, "CR in the target", "GET /a\rb HTTP/1.1\r\n" HOST END),
	C(414, "target too long", "GET /" N1K N1K N1K " HTTP/1.1\r\n" HOST END),
	C(414, "method too long", N1K N1K N1K " / HTTP/1.1\r\n" HOST END),
	C(414, "too long and not ended", "GET /" N1K N1K N1K),

	/* Host */
	C(400, "no Host", "GET / HTTP/1.1\r\n\r\n"),
	C(400, "two Hosts", GET HOST END),
	C(400, "two Hosts, HTTP/1.0", "GET / HTTP/1.0\r\n" HOST HOST END),
	C(400, "list of Hosts", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
	C(400, "Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
	C(400, "Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
	C(400, "Host with a bad port", "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n"),
	C(400, "Host with a port too large", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
	C(400, "Host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"),
	C(400, "Host in broken brackets", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
	C(400, "Host, text after brackets", "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"),
	C(400, "Host, a port alone", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n"),
	C(400, "Host with an escape", "GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n"),
	C(400, "Host with a scheme", "GET / HTTP/1.1\r\nHost: http://a\r\n\r\n"),
	C(400, "Host with a query", "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"),
	C(400, "Host with a backslash", "GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n"),
	C(400, "Host with UTF-8", "GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n"),
	C(400, "Host with a NUL", "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n"),
	C(400, "Host, a list with a space", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
	C(400, "Host with a negative port", "GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n"),
	C(400, "two Hosts, the second empty", GET "Host:\r\n" END),
	C(400, "Host, IPv6 without brackets", "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"),
	C(400, "Host, no IPv6 in brackets", "GET / HTTP/1.1\r\nHost: [1:2]\r\n\r\n"),
	C(400, "Host, too long in brackets", "GET / HTTP/1.1\r\nHost: [::" N100 "]\r\n\r\n"),
	C(400, "Host, a name in brackets", "GET / HTTP/1.1\r\nHost: [a]\r\n\r\n"),
	C(CASE_OK, "Host, an empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n"),
	C(CASE_OK, "Host, IPv4 within IPv6", "GET / HTTP/1.1\r\nHost: [::ffff:10.1.2.3]\r\n\r\n"),
	C(400, "Host, empty brackets", "GET / HTTP/1.1\r\nHost: []\r\n\r\n"),
	C(CASE_OK, "Host, empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
	C(CASE_OK, "Host with a port", "GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n"),
	C(CASE_OK, "Host, IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
	C(CASE_OK, "Host in capitals", "GET / HTTP/1.1\r\nHOST: A\r\n\r\n"),
	C(CASE_OK, "Host without a space", "GET / HTTP/1.1\r\nHost:a\r\n\r\n"),

	/* fields */
	C(CASE_OK, "white space around a value", GET "X: \t b \t\r\n" END),
	C(CASE_OK, "empty value", GET "X:\r\n" END),
	C(CASE_OK, "value of white space", GET "X: \t \r\n" END),
	C(CASE_OK, "tab within a value", GET "X: abcdefghijklmnop\tq" N100 "\r\n" END),
	C(CASE_OK, "UTF-8 in a value", GET "X: \xc3\xa4\xff\r\n" END),
	C(CASE_OK, "every tchar in a name", GET "!#$%&'*+-.^_`|~09azAZ: x\r\n" END),
	C(CASE_OK, "100 fields",
		"GET / HTTP/1.1\r\n" HOST F90
		"a:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\na:\r\n" END),
	C(431, "101 fields", "GET / HTTP/1.1\r\n" HOST F90 F10 END),
	C(431, "head too long", GET "X: " N1K N1K N1K N1K N100 "\r\n" END),
	C(431, "head too long and not ended", GET "X: " N1K N1K N1K N1K N100),
	C(431, "many fields too long", GET "X: " N1K N1K "\r\nY: " N1K N1K N100 "\r\nZ: 1\r\n" END),
	C(400, "space before the colon", GET "X : a\r\n" END),
	C(400, "tab before the colon", GET "X\t: a\r\n" END),
	C(400, "no colon", GET "X\r\n" END),
	C(400, "no name", GET ": a\r\n" END),
	C(400, "space within a name", GET "X Y: a\r\n" END),
	C(400, "quote within a name", GET "\"X\": a\r\n" END),
	C(400, "UTF-8 in a name", GET "X\xc3\xa4: a\r\n" END),
	C(400, "folded with a space", GET "X: a\r\n b\r\n" END),
	C(400, "folded with a tab", GET "X: a\r\n\tb\r\n" END),
	C(400, "first field folded", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
	C(400, "LF alone after a value", "GET / HTTP/1.1\r\nHost: a\n\r\n"),
	C(400, "CR alone after a value", GET "X: a\rY: b\r\n" END),
	C(400, "CR CR LF after a value", GET "X: a\r\r\n" END),
	C(400, "LF alone ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\nX"),
	C(400, "CR alone ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\rX"),
	C(400, "NUL in a value", GET "X: a\0b\r\n" END),
	C(400, "NUL in a name", GET "X\0: b\r\n" END),
	C(400, "BEL in a value", GET "X: a\ab\r\n" END),
	C(400, "DEL in a value", GET "X: a\x7f\r\n" END),
	C(400, "control byte far behind", GET "X: " N100 "\x01" N100 "\r\n" END),

	/* framing */
	C(CASE_OK, "Content-Length 0", GET "Content-Length: 0\r\n" END),
	C(CASE_OK, "Content-Length with zeros", GET "Content-Length: 000\r\n" END),
	C(400, "Content-Length, empty", GET "Content-Length:\r\n" END),
	C(400, "Content-Length with a sign", GET "Content-Length: +1\r\n" END),
	C(400, "Content-Length, negative", GET "Content-Length: -1\r\n" END),
	C(400, "Content-Length in hex", GET "Content-Length: 0x1\r\n" END),
	C(400, "Content-Length with a fraction", GET "Content-Length: 1.0\r\n" END),
	C(400, "Content-Length with a space", GET "Content-Length: 1 1\r\n" END),
	C(400, "Content-Length as a list", GET "Content-Length: 1, 1\r\n" END),
	C(400, "Content-Length, repeated", GET "Content-Length: 1\r\nContent-Length: 1\r\n" END),
	C(400, "Content-Length, differing", GET "Content-Length: 1\r\nContent-Length: 2\r\n" END),
	C(400, "Content-Length above 2^63", GET "Content-Length: 9223372036854775808\r\n" END),
	C(400, "Content-Length above 2^64", GET "Content-Length: 18446744073709551617\r\n" END),
	C(CASE_OK, "Content-Length with white space", GET "Content-Length: \t0 \t\r\n" END),
	C(CASE_OK, "Content-Length, another name", GET "Content_Length: 5\r\n" END),
	C(400, "Content-Length with a vertical tab",
		GET "Content-Length: \x0b"
		    "1\r\n" END),
	C(400, "Content-Length in other digits", GET "Content-Length: \xd9\xa1\r\n" END),
	C(400, "Content-Length with a comma", GET "Content-Length: 1,\r\n" END),
	C(400, "Content-Length with a quote", GET "Content-Length: \"1\"\r\n" END),
	C(400, "Content-Length, HTTP/1.0, repeated",
		"GET / HTTP/1.0\r\nContent-Length: 1\r\nContent-Length: 1\r\n" END),
	C(400, "Transfer-Encoding, unknown", GET "Transfer-Encoding: x\r\n" END),
	C(400, "Transfer-Encoding, identity", GET "Transfer-Encoding: identity\r\n" END),
	C(400, "Transfer-Encoding, empty", GET "Transfer-Encoding:\r\n" END),
	C(400, "Transfer-Encoding, gzip before", GET "Transfer-Encoding: gzip, chunked\r\n" END),
	C(400, "Transfer-Encoding, gzip behind", GET "Transfer-Encoding: chunked, gzip\r\n" END),
	C(400, "Transfer-Encoding, twice in a list",
		GET "Transfer-Encoding: chunked, chunked\r\n" END),
	C(400, "Transfer-Encoding, twice",
		GET "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" END),
	C(400, "Transfer-Encoding, another before",
		GET "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n" END),
	C(400, "Transfer-Encoding, another behind",
		GET "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n" END),
	C(400, "Transfer-Encoding, empty element", GET "Transfer-Encoding: ,chunked\r\n" END),
	C(400, "Transfer-Encoding, trailing comma", GET "Transfer-Encoding: chunked,\r\n" END),
	C(400, "Transfer-Encoding with a parameter", GET "Transfer-Encoding: chunked;q=1\r\n" END),
	C(400, "Transfer-Encoding with a suffix", GET "Transfer-Encoding: chunkedx\r\n" END),
	C(400, "Transfer-Encoding with a prefix", GET "Transfer-Encoding: xchunked\r\n" END),
	C(400, "Transfer-Encoding, quoted", GET "Transfer-Encoding: \"chunked\"\r\n" END),
	C(400, "Transfer-Encoding with a vertical tab",
		GET "Transfer-Encoding: \x0b"
		    "chunked\r\n" END),
	C(400, "Transfer-Encoding with a form feed", GET "Transfer-Encoding: chunked\f\r\n" END),
	C(400, "Transfer-Encoding with a NUL", GET "Transfer-Encoding: chunked\0\r\n" END),
	C(400, "Transfer-Encoding with a no-break space",
		GET "Transfer-Encoding: \xa0"
		    "chunked\r\n" END),
	C(400, "Transfer-Encoding, folded", GET "Transfer-Encoding:\r\n chunked\r\n" END),
	C(400, "Transfer-Encoding, space before the colon",
		GET "Transfer-Encoding : chunked\r\n" END),
	C(400, "Transfer-Encoding behind a bare LF",
		GET "X: a\nTransfer-Encoding: chunked\r\n" END),
	C(400, "Transfer-Encoding behind a bare CR",
		GET "X: a\rTransfer-Encoding: chunked\r\n" END),
	C(CASE_OK, "Transfer-Encoding, another name", GET "Transfer_Encoding: chunked\r\n" END),
	C(CASE_OK, "Transfer-Encoding, a longer name", GET "Transfer-Encodings: x\r\n" END),
	C(400, "both framings, length 0",
		GET "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n" END),
	C(400, "both framings, unknown method",
		"BREW / HTTP/1.1\r\n" HOST
		"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" END),
	C(411, "POST of HTTP/1.0 without a length", "POST / HTTP/1.0\r\n" END),
	C(411, "PUT of HTTP/1.0 without a length", "PUT / HTTP/1.0\r\n" HOST END),
	C(411, "PATCH of HTTP/1.0 without a length", "PATCH / HTTP/1.0\r\n" END),
	C(CASE_OK, "POST of HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 0\r\n" END),
	C(CASE_OK, "DELETE of HTTP/1.0 without a length", "DELETE / HTTP/1.0\r\n" END),
	C(400, "both framings", GET "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" END),
	C(400, "both framings turned",
		GET "transfer-encoding: chunked\r\ncontent-length: 1\r\n" END),
	C(400, "Transfer-Encoding, HTTP/1.0",
		"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" END),

	/* not complete */
	C(CASE_MORE, "nothing", ""),
	C(CASE_MORE, "half a method", "GE"),
	C(CASE_MORE, "half a version", "GET / HTT"),
	C(CASE_MORE, "no end of line", "GET / HTTP/1.1\r"),
	C(CASE_MORE, "request line alone", "GET / HTTP/1.1\r\n"),
	C(CASE_MORE, "half a field", "GET / HTTP/1.1\r\nHo"),
	C(CASE_MORE, "no empty line", GET),
	C(CASE_MORE, "half an empty line", GET "\r"),
	C(CASE_MORE, "an empty line and no more", "\r\n"),
};

#define N_HTTP_CASES (sizeof(http_cases) / sizeof(http_cases[0]))

#undef C

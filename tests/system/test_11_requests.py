"""What becomes of a request, byte for byte (RFC 9110, RFC 9112): one table, each case sent at once, byte by byte and in
random pieces, always with another request behind it."""

import pathlib
import random
import subprocess
import tempfile

import pytest

import harness
from harness import DEADLINE, HELLO, tool

HERE = pathlib.Path(__file__).resolve().parent
MAX_BODY = 100000  # [http] max_body of these tests
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"  # is pipelined behind every case; hello answers it

H = b"Host: a\r\n"
L = b" HTTP/1.1\r\n"
G = b"GET / HTTP/1.1\r\n" + H
P = b"POST /echo/ HTTP/1.1\r\n" + H
E = b"\r\n"
CHUNKED = P + b"Transfer-Encoding: chunked\r\n\r\n"


class Case:
    """status: of the answer. closes: the server closes behind it, and what follows is not answered. body: of the
    answer, where it matters. allow: what its field Allow names."""

    def __init__(self, name, raw, status, closes, body=None, allow=None):
        self.name, self.raw, self.status, self.closes, self.body, self.allow = name, raw, status, closes, body, allow


def refused(status, *rows):
    return [Case(name, raw, status, True) for name, raw in rows]


def answered(*rows, status=200, body=None):
    return [Case(name, raw, status, False, body) for name, raw in rows]


def echoed(*rows):
    """The echo says path, query, host, trailer and body like this."""
    return [Case(name, raw, 200, False, want) for name, raw, want in rows]


def target(text, method=b"GET", fields=H):
    return method + b" " + text + L + fields + E


def field(line):
    return G + line + b"\r\n\r\n"


def post(fields, body=b""):
    return P + fields + b"\r\n\r\n" + body


def chunked(body):
    return CHUNKED + body


def in_chunks(data, size):
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


LONG = bytes(range(32, 127)) * 500  # 47,500 bytes

REQUEST_LINE = [
    *answered(
        ("plain", G + E),
        ("one empty line before", E + G + E),
        ("query with dots", target(b"/?q=1&r=/../")),
        ("what browsers do not encode", target(b"/a?[x]={1}|^`\\")),
        ("all of pchar", target(b"/-._~!$&'()*+,;=:@")),
        ("HEAD", target(b"/", b"HEAD")),
        ("longest line", target(b"/" + b"a" * 8000)),
        body=None,
    ),
    *refused(
        400,
        ("two empty lines before", E + E + G + E),
        ("CR before", b"\r" + G + E),
        ("LF before", b"\n" + G + E),
        ("space before", b" " + G + E),
        ("byte order mark before", b"\xef\xbb\xbf" + G + E),
        ("NUL before", b"\0" + G + E),
        ("TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + E + E),
        ("HTTP/0.9", b"GET /" + E),
        ("HTTP/0.9, no path", b"GET" + E),
        ("no method", b" / HTTP/1.1\r\n" + H + E),
        ("no target", b"GET HTTP/1.1\r\n" + H + E),
        ("two spaces behind the method", b"GET  / HTTP/1.1\r\n" + H + E),
        ("tab behind the method", b"GET\t/ HTTP/1.1\r\n" + H + E),
        ("two spaces behind the target", b"GET /  HTTP/1.1\r\n" + H + E),
        ("tab behind the target", b"GET /\tHTTP/1.1\r\n" + H + E),
        ("form feed behind the target", b"GET /\fHTTP/1.1\r\n" + H + E),
        ("space behind the version", b"GET / HTTP/1.1 \r\n" + H + E),
        ("space within the target", target(b"/a b")),
        ("line ended by LF", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("line ended by CR", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
        ("all ended by LF", b"GET / HTTP/1.1\nHost: a\n\n"),
        ("parenthesis in the method", b"G(T / HTTP/1.1\r\n" + H + E),
        ("NUL in the method", b"GE\0T / HTTP/1.1\r\n" + H + E),
        ("http in small letters", b"GET / http/1.1\r\n" + H + E),
        ("version without a dot", b"GET / HTTP/11\r\n" + H + E),
        ("version HTTP/1.10", b"GET / HTTP/1.10\r\n" + H + E),
        ("version HTTP/1", b"GET / HTTP/1\r\n" + H + E),
        ("version HTTP/+1.1", b"GET / HTTP/+1.1\r\n" + H + E),
        ("another protocol", b"GET / ICAP/1.0\r\n" + H + E),
        ("relative target", target(b"nowhere")),
        ("fragment", target(b"/#fragment")),
        ("NUL in the target", target(b"/\0")),
        ("DEL in the target", target(b"/\x7f")),
        ("UTF-8 in the target", target(b"/\xc3\xa4")),
        ("quote in the target", target(b'/"')),
        ("angle bracket in the target", target(b"/<")),
        ("CR in the target", target(b"/a\rb")),
        ("* with GET", target(b"*")),
        ("** with OPTIONS", target(b"**", b"OPTIONS")),
        ("CONNECT with a path", target(b"/x", b"CONNECT")),
        ("CONNECT without a port", target(b"a", b"CONNECT")),
        ("CONNECT with an empty port", target(b"a:", b"CONNECT")),
    ),
    *refused(
        505,
        ("HTTP/2.0", b"GET / HTTP/2.0\r\n" + H + E),
        ("HTTP/1.2", b"GET / HTTP/1.2\r\n" + H + E),
        ("HTTP/0.9 spelled out", b"GET / HTTP/0.9\r\n" + H + E),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ),
    *refused(
        501,
        ("unknown method", target(b"/pot", b"BREW")),
        ("method in small letters", target(b"/", b"get")),
        ("method with a suffix", target(b"/", b"GETS")),
        ("WebDAV", target(b"/", b"PROPFIND")),
    ),
    *refused(
        414,
        ("line too long", target(b"/" + b"a" * 9000)),
        ("line too long and not ended", b"GET /" + b"a" * 9000),
        ("query too long", target(b"/?" + b"a" * 9000)),
        ("method too long", b"A" * 9000 + b" / HTTP/1.1\r\n" + H + E),
    ),
]

TARGET = [
    *echoed(
        ("query", target(b"/echo/a?b=c&d"), b"GET|/echo/a|b=c&d|a||"),
        ("query with dots and escapes", target(b"/echo/?/../%zz?"), b"GET|/echo/|/../%zz?|a||"),
        ("empty query", target(b"/echo/?"), b"GET|/echo/||a||"),
        ("escapes", target(b"/echo/%41%20%c3%a4"), b"GET|/echo/A \xc3\xa4||a||"),
        ("escapes in small letters", target(b"/echo/%5bx%5D"), b"GET|/echo/[x]||a||"),
        ("escaped percent sign", target(b"/echo/%252e"), b"GET|/echo/%2e||a||"),
        ("escaped question mark", target(b"/echo/a%3fb?c"), b"GET|/echo/a?b|c|a||"),
        ("escaped backslash", target(b"/echo/..%5cb"), b"GET|/echo/..\\b||a||"),
        ("dots", target(b"/echo/a/./b/../c"), b"GET|/echo/a/c||a||"),
        ("escaped dots", target(b"/x/%2e%2E/echo/%2e/y"), b"GET|/echo/y||a||"),
        ("dots at the end", target(b"/echo/a/.."), b"GET|/echo/||a||"),
        ("a dot at the end", target(b"/echo/a/."), b"GET|/echo/a/||a||"),
        ("dots beyond the root", target(b"/../../echo/x"), b"GET|/echo/x||a||"),
        ("empty segments", target(b"//echo///x//"), b"GET|/echo/x/||a||"),
        ("names that begin with dots", target(b"/echo/..a/.b/..."), b"GET|/echo/..a/.b/...||a||"),
        ("plus stays plus", target(b"/echo/a+b"), b"GET|/echo/a+b||a||"),
        ("absolute form", target(b"http://b/echo/x?y"), b"GET|/echo/x|y|b||"),
        ("absolute form, port", target(b"http://b:80/echo/"), b"GET|/echo/||b:80||"),
        ("absolute form, capitals", target(b"HTTP://B/echo/"), b"GET|/echo/||B||"),
        ("absolute form, dots", target(b"http://b/a/../echo/x"), b"GET|/echo/x||b||"),
        ("absolute form, IPv6", target(b"http://[::1]/echo/"), b"GET|/echo/||[::1]||"),
        ("absolute form, HTTP/1.0 kept alive",
         b"GET http://b/echo/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET|/echo/||b||"),
        ("Host with a port", target(b"/echo/", fields=b"Host: a.example:8080\r\n"), b"GET|/echo/||a.example:8080||"),
    ),
    *answered(
        ("absolute form, no path", target(b"http://b")),
        ("absolute form, query alone", target(b"http://b?x")),
    ),
    *refused(
        400,
        ("bad escape", target(b"/%zz")),
        ("half an escape", target(b"/%4")),
        ("percent sign alone", target(b"/%")),
        ("escape with a sign", target(b"/%+1")),
        ("escaped NUL", target(b"/a%00b")),
        ("escaped slash", target(b"/a%2Fb")),
        ("escaped slash in dots", target(b"/..%2fb")),
        ("absolute form without Host", target(b"http://b/", fields=b"")),
        ("absolute form, bad Host", target(b"http://b/", fields=b"Host: a/b\r\n")),
        ("absolute form, no host", target(b"http:///x")),
        ("absolute form, a port alone", target(b"http://:80/x")),
        ("absolute form, bad port", target(b"http://b:x/")),
        ("absolute form, user", target(b"http://u@b/")),
        ("absolute form, another scheme", target(b"ftp://b/")),
    ),
]

HOST = [
    *answered(
        ("Host, empty", target(b"/", fields=b"Host:\r\n")),
        ("Host, white space around", target(b"/", fields=b"hOsT: \t a\t \r\n")),
        ("Host, IPv6", target(b"/", fields=b"Host: [::1]:80\r\n")),
        ("Host, IPv4", target(b"/", fields=b"Host: 127.0.0.1\r\n")),
        ("Host, port empty", target(b"/", fields=b"Host: a:\r\n")),
        ("Host last", target(b"/", fields=b"X: y\r\nHost: a\r\n")),
    ),
    *refused(
        400,
        ("no Host", target(b"/", fields=b"")),
        ("two Hosts", field(b"Host: a")),
        ("two Hosts, differing", field(b"Host: b")),
        ("two Hosts, one empty", field(b"Host:")),
        ("two Hosts of HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
        *[
            (f"Host: {value.decode('latin-1')!r}", target(b"/", fields=b"Host: " + value + b"\r\n"))
            for value in (b"a b", b"a, b", b"a/b", b"u@a", b"a?b", b"a#b", b"http://a", b"a:x", b"a:65536", b"a:1:2",
                          b"a:-1", b":80", b"a%2eb", b"[::1", b"[::1]x", b"[]", b"[a]", b"::1", b'"a"', b"a\\b",
                          b"\xc3\xa4", b"a\0", b"<a>")
        ],
    ),
]

FIELDS = [
    *answered(
        ("white space around a value", field(b"X: \t b \t")),
        ("empty value", field(b"X:")),
        ("tab within a value", field(b"X: a\tb")),
        ("UTF-8 in a value", field(b"X: caf\xc3\xa9")),
        ("every tchar in a name", field(b"!#$%&'*+-.^_`|~09azAZ: x")),
        ("100 fields", G + b"X: a\r\n" * 99 + E),
        ("names with an underscore", field(b"Content_Length: 5\r\nTransfer_Encoding: chunked")),
        ("long field", field(b"X: " + b"y" * 15000)),
    ),
    *refused(
        400,
        ("space before the colon", field(b"X : a")),
        ("tab before the colon", field(b"X\t: a")),
        ("space before the colon of Host", target(b"/", fields=b"Host : a\r\n")),
        ("no colon", field(b"no colon")),
        ("no name", field(b": a")),
        ("space within a name", field(b"X Y: a")),
        ("quote in a name", field(b'"X": a')),
        ("slash in a name", field(b"X/Y: a")),
        ("UTF-8 in a name", field(b"X\xc3\xa4: a")),
        ("NUL in a name", field(b"X\0: a")),
        ("folded by a space", field(b"X: a\r\n b")),
        ("folded by a tab", field(b"X: a\r\n\tb")),
        ("folded Content-Length", field(b"Content-Length:\r\n 5")),
        ("space before the first field", target(b"/", fields=b" Host: a\r\n")),
        ("a line of white space", field(b" ")),
        ("NUL in a value", field(b"X: \0")),
        ("BEL in a value", field(b"X: a\ab")),
        ("escape in a value", field(b"X: \x1b[1m")),
        ("DEL in a value", field(b"X: a\x7f")),
        ("form feed in a value", field(b"X: a\fb")),
        ("LF behind a value", field(b"X: a\nY: b")),
        ("CR behind a value", field(b"X: a\rY: b")),
        ("CR CR LF behind a value", field(b"X: a\r")),
        ("LF ends the head", G + b"\n"),
        ("CR ends the head", G + b"\rX"),
        ("a request line for a field", G + NEXT),
    ),
    *refused(
        431,
        ("101 fields", G + b"X: a\r\n" * 100 + E),
        ("200 fields", G + b"X: a\r\n" * 200 + E),
        ("field too long", field(b"X: " + b"a" * 17000)),
        ("field too long and not ended", G + b"X: " + b"a" * 17000),
        ("name too long", G + b"X" * 17000 + b": a\r\n\r\n"),
        ("fields too long", G + (b"X: " + b"a" * 3000 + b"\r\n") * 6 + E),
    ),
    *refused(
        417,
        ("unknown expectation", field(b"Expect: miracles")),
        ("two expectations", field(b"Expect: 100-continue, miracles")),
        ("expectation with a value", field(b"Expect: 100-continue=1")),
    ),
]

LENGTH = [
    *answered(
        ("GET with a body", G + b"Content-Length: 5\r\n\r\nhello"),
        ("body like a request", G + b"Content-Length: %d\r\n\r\n" % len(NEXT) + NEXT),
        ("length 0", G + b"Content-Length: 0\r\n\r\n"),
        ("length with white space", G + b"Content-Length: \t5 \t\r\n\r\nhello"),
    ),
    *echoed(
        ("no body", post(b"X: y"), b"POST|/echo/||a||"),
        ("a body", post(b"Content-Length: 5", b"hello"), b"POST|/echo/||a||hello"),
        ("leading zeros", post(b"Content-Length: 0005", b"hello"), b"POST|/echo/||a||hello"),
        ("a body of all bytes", post(b"Content-Length: 256", bytes(range(256))),
         b"POST|/echo/||a||" + bytes(range(256))),
        ("a large body", post(b"Content-Length: 47500", LONG), b"POST|/echo/||a||" + LONG),
        ("largest body", post(b"Content-Length: 100000", b"x" * 100000), b"POST|/echo/||a||" + b"x" * 100000),
        ("body of PUT", target(b"/echo/", b"PUT", H + b"Content-Length: 2\r\n") + b"hi", b"PUT|/echo/||a||hi"),
        ("body of PATCH", target(b"/echo/", b"PATCH", H + b"Content-Length: 2\r\n") + b"hi", b"PATCH|/echo/||a||hi"),
        ("body of DELETE", target(b"/echo/", b"DELETE", H + b"Content-Length: 2\r\n") + b"hi", b"DELETE|/echo/||a||hi"),
        ("body as large as the route allows",
         target(b"/echo/small", b"POST", H + b"Content-Length: 10\r\n") + b"0123456789",
         b"POST|/echo/small||a||0123456789"),
        ("length told", target(b"/echo/length", b"POST", H + b"Content-Length: 1\r\n") + b"x",
         b"POST|/echo/length||a||x"),
        ("body of HTTP/1.0, kept alive",
         b"POST /echo/ HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", b"POST|/echo/||||x"),
        ("body read as it comes", target(b"/echo/count", b"POST", H + b"Content-Length: 47500\r\n") + LONG, b"47500"),
        ("answered before its body", target(b"/echo/hasty", b"POST", H + b"Content-Length: 47500\r\n") + LONG,
         b"hasty"),
    ),
    *refused(
        400,
        ("length, repeated", post(b"Content-Length: 1\r\nContent-Length: 1", b"x")),
        ("length, differing", post(b"Content-Length: 1\r\nContent-Length: 2", b"xy")),
        ("length, repeated, HTTP/1.0", b"GET / HTTP/1.0\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"),
        *[
            (f"length {value.decode('latin-1')!r}", post(b"Content-Length: " + value, b"x" * 20))
            for value in (b"", b"1, 1", b"1,", b",1", b"+1", b"-1", b"-0", b"0x1", b"1.0", b"1e1", b"1 1", b"1_0",
                          b'"1"', b"one", b"\x0b1", b"\xb9", b"1\0", b"9223372036854775808", b"18446744073709551617",
                          b"99999999999999999999999999999999")
        ],
        ("length and chunked", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")),
        ("chunked and length", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n")),
        ("length 0 and chunked", post(b"Content-Length: 0\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")),
        ("length and unknown coding", post(b"Content-Length: 5\r\nTransfer-Encoding: x", b"hello")),
    ),
    *refused(
        411,
        ("POST of HTTP/1.0 without length", b"POST /echo/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
        ("PUT of HTTP/1.0 without length", b"PUT /echo/ HTTP/1.0\r\n" + H + E),
        ("PATCH of HTTP/1.0 without length", b"PATCH /echo/ HTTP/1.0\r\n" + H + E),
        ("chunked where a length is required",
         target(b"/echo/length", b"POST", H + b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n"),
    ),
    *refused(
        413,
        ("one byte too large", post(b"Content-Length: 100001", b"x")),
        ("as large as can be", post(b"Content-Length: 9223372036854775807", b"x")),
        ("too large for the route", target(b"/echo/small", b"POST", H + b"Content-Length: 11\r\n") + b"01234567890"),
        ("too large, nobody wants it", G + b"Content-Length: 100001\r\n\r\n"),
    ),
]

CODING = [
    *refused(
        400,
        ("chunked, HTTP/1.0", b"POST /echo/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunked, HTTP/1.0, GET", b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunked twice", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")),
        ("chunked behind another", post(b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")),
        ("chunked before another", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b"0\r\n\r\n")),
        ("chunked before identity", post(b"Transfer-Encoding: chunked\r\ntransfer-encoding: identity", b"0\r\n\r\n")),
        ("chunked, folded", post(b"Transfer-Encoding:\r\n chunked", b"0\r\n\r\n")),
        ("chunked, space before the colon", post(b"Transfer-Encoding : chunked", b"0\r\n\r\n")),
        ("chunked behind a bare LF", post(b"X: y\nTransfer-Encoding: chunked", b"0\r\n\r\n")),
        ("chunked behind a bare CR", post(b"X: y\rTransfer-Encoding: chunked", b"0\r\n\r\n")),
        *[
            (f"coding {value.decode('latin-1')!r}", post(b"Transfer-Encoding: " + value, b"0\r\n\r\n"))
            for value in (b"", b"x", b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked",
                          b"chunked, identity", b",chunked", b"chunked,", b"chunked;q=1", b"chunkedx", b"xchunked",
                          b"chunk", b'"chunked"', b"chunked chunked", b"\x0bchunked", b"chunked\f", b"chunked\0",
                          b"\xa0chunked")
        ],
    ),
]

CHUNKS = [
    *echoed(
        ("chunked, empty", chunked(b"0\r\n\r\n"), b"POST|/echo/||a||"),
        ("chunked", chunked(b"5\r\nhello\r\n0\r\n\r\n"), b"POST|/echo/||a||hello"),
        ("chunked, any case", post(b"tRANSFER-eNCODING: \t Chunked\t", b"1\r\nx\r\n0\r\n\r\n"), b"POST|/echo/||a||x"),
        ("two chunks", chunked(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"), b"POST|/echo/||a||hello!"),
        ("sizes in hexadecimal", chunked(b"a\r\n0123456789\r\nB\r\n01234567890\r\n0\r\n\r\n"),
         b"POST|/echo/||a||012345678901234567890"),
        ("sizes with zeros", chunked(b"0000000000000001\r\nx\r\n000\r\n\r\n"), b"POST|/echo/||a||x"),
        ("chunk like framing", chunked(b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"), b"POST|/echo/||a||\r\n0\r\n\r\n"),
        ("chunk like a request", chunked(in_chunks(NEXT, 100)), b"POST|/echo/||a||" + NEXT),
        ("chunks of one byte", chunked(in_chunks(LONG[:2000], 1)), b"POST|/echo/||a||" + LONG[:2000]),
        ("large chunks", chunked(in_chunks(LONG, 30000)), b"POST|/echo/||a||" + LONG),
        ("largest body in chunks", chunked(in_chunks(b"x" * MAX_BODY, 4096)), b"POST|/echo/||a||" + b"x" * MAX_BODY),
        ("extension", chunked(b"1;a\r\nx\r\n0;b=c\r\n\r\n"), b"POST|/echo/||a||x"),
        ("extension, quoted", chunked(b'1 ; a="b;\\" "\r\nx\r\n0\r\n\r\n'), b"POST|/echo/||a||x"),
        ("long extensions", chunked((b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 4 + b"0\r\n\r\n"), b"POST|/echo/||a||xxxx"),
        ("trailer", chunked(b"1\r\nx\r\n0\r\nX-Sum: 42\r\n\r\n"), b"POST|/echo/||a|42|x"),
        ("trailer, many fields", chunked(b"0\r\n" + b"A: b\r\n" * 31 + b"x-sUM:\t a b \t\r\n\r\n"),
         b"POST|/echo/||a|a b|"),
        ("trailer, long", chunked(b"0\r\nX-Sum: " + b"y" * 8000 + b"\r\n\r\n"),
         b"POST|/echo/||a|" + b"y" * 8000 + b"|"),
        ("trailer, empty value", chunked(b"0\r\nX-Sum:\r\n\r\n"), b"POST|/echo/||a||"),
        ("chunked PUT", target(b"/echo/", b"PUT", H + b"Transfer-Encoding: chunked\r\n") + b"1\r\nx\r\n0\r\n\r\n",
         b"PUT|/echo/||a||x"),
        ("chunked GET", target(b"/echo/", b"GET", H + b"Transfer-Encoding: chunked\r\n") + b"1\r\nx\r\n0\r\n\r\n",
         b"GET|/echo/||a||x"),
        ("chunks read as they come", target(b"/echo/count", b"POST", H + b"Transfer-Encoding: chunked\r\n")
         + in_chunks(LONG, 777), b"47500"),
        ("answered before its chunks", target(b"/echo/hasty", b"POST", H + b"Transfer-Encoding: chunked\r\n")
         + in_chunks(LONG, 777), b"hasty"),
    ),
    *answered(
        ("chunks nobody wants", G + b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(LONG, 1000)),
    ),
    *refused(
        400,
        *[
            (f"chunk {body.decode('latin-1')!r}", chunked(body))
            for body in (
                b"\r\n", b" 1\r\nx\r\n0\r\n\r\n", b"-1\r\nx\r\n", b"+1\r\nx\r\n", b"0x1\r\nx\r\n", b"g\r\n", b"1_0\r\n",
                b"1,\r\n", b"1.0\r\n", b'"1"\r\n', b"1\0\r\n", b"1\x0b\r\n", b"1 \r\nx\r\n", b"1\t\r\nx\r\n",
                b"00000000000000001\r\nx\r\n", b"8000000000000000\r\n", b"ffffffffffffffff\r\n",
                b"10000000000000001\r\n",
                b"1\nx\n0\n\n", b"1\rx\r\n", b"1\r\r\nx\r\n", b"1\r\nxy\r\n0\r\n\r\n", b"3\r\nx\r\n0\r\n\r\n",
                b"1\r\nx\n0\r\n\r\n", b"1\r\nx\r0\r\n\r\n", b"1\r\nx0\r\n\r\n", b"1\r\nxy\n0\r\n\r\n",
                b"1\r\nx\ry0\r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\r\n\rG",
                b"1 a\r\nx\r\n", b"1;\r\nx\r\n", b"1;a\nx\r\n", b"1;a\rb\r\nx\r\n", b"1;\n\r\nx\r\n", b"1;a\0\r\nx\r\n",
                b"1;a=\r\nx\r\n", b'1;a="\r\nx\r\n', b'1;a="b\r\nc"\r\nx\r\n', b"1;\x7f\r\nx\r\n",
                b"0\r\nA : b\r\n\r\n", b"0\r\nA: b\r\n c\r\n\r\n", b"0\r\nA\r\n\r\n", b"0\r\n: a\r\n\r\n",
                b"0\r\nA: \0\r\n\r\n", b"0\r\nA: b\n\r\n", b"0\r\nA: b\rC: d\r\n\r\n", b"0\r\n" + NEXT,
                b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nHost: b\r\n\r\n",
                b"0\r\nAuthorization: x\r\n\r\n", b"0\r\nCookie: x\r\n\r\n", b"0\r\nExpect: 100-continue\r\n\r\n",
            )
        ],
        ("chunk extensions too long", chunked((b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 5 + b"0\r\n\r\n")),
        ("one chunk extension too long", chunked(b"1;" + b"a" * 5000 + b"\r\nx\r\n0\r\n\r\n")),
        ("trailer, 33 fields", chunked(b"0\r\n" + b"A: b\r\n" * 33 + b"\r\n")),
        ("trailer, line too long", chunked(b"0\r\nA: " + b"y" * 9000 + b"\r\n\r\n")),
        ("trailer, too long", chunked(b"0\r\n" + (b"A: " + b"y" * 4500 + b"\r\n") * 2 + b"\r\n")),
        ("bad chunk nobody wants", G + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n"),
        ("bad chunk read as it comes",
         target(b"/echo/count", b"POST", H + b"Transfer-Encoding: chunked\r\n") + b"1\r\nxy\r\n"),
    ),
    *refused(
        413,
        ("chunks too large", chunked(in_chunks(b"x" * (MAX_BODY + 1), 50000))),
        ("a chunk too large for the route",
         target(b"/echo/small", b"POST", H + b"Transfer-Encoding: chunked\r\n") + in_chunks(b"01234567890", 11)),
        ("chunks too large for the route",
         target(b"/echo/small", b"POST", H + b"Transfer-Encoding: chunked\r\n") + in_chunks(b"01234567890", 3)),
        ("a chunk as large as can be", chunked(b"7fffffffffffffff\r\n" + b"x" * (MAX_BODY + 1))),
    ),
]

METHODS = [
    *[
        Case(f"{method.decode()} is not allowed",
             target(b"/", method, H + b"Content-Length: %d\r\n" % len(NEXT)) + NEXT, 405, False, allow={"GET", "HEAD"})
        for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"TRACE")
    ],
    Case("POST of chunks is not allowed",
         target(b"/", b"POST", H + b"Transfer-Encoding: chunked\r\n") + in_chunks(NEXT, 9), 405, False,
         allow={"GET", "HEAD"}),
    Case("CONNECT is not allowed", target(b"a:443", b"CONNECT"), 405, True),
    Case("OPTIONS of a path", target(b"/", b"OPTIONS"), 204, False, allow={"GET", "HEAD", "OPTIONS"}),
    Case("OPTIONS *", target(b"*", b"OPTIONS"), 200, False),
    *echoed(("OPTIONS of a route that wants it", target(b"/echo/", b"OPTIONS"), b"OPTIONS|/echo/||a||")),
    *answered(("HEAD of a body", target(b"/echo/x", b"HEAD"))),
]

CONNECTION = [
    Case("HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", 200, True, HELLO),
    Case("HTTP/1.0 with close", b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n", 200, True),
    Case("HTTP/1.0 with both", b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", 200, True),
    Case("HTTP/1.0 kept alive", b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200, False),
    Case("HTTP/1.0 with an expectation", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: x\r\n\r\n", 200, False),
    Case("HTTP/1.0 POST", b"POST /echo/ HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", 200, True, b"POST|/echo/||||x"),
    Case("close", field(b"Connection: close"), 200, True),
    Case("close in a list", field(b"Connection: x , ,CLOSE"), 200, True),
    Case("close in a second field", field(b"Connection: x\r\nConnection: close"), 200, True),
    Case("keep-alive", field(b"Connection: keep-alive"), 200, False),
    Case("something like close", field(b"Connection: closed, xclose"), 200, False),
    Case("close with a body", post(b"Connection: close\r\nContent-Length: 2", b"hi"), 200, True, b"POST|/echo/||a||hi"),
    Case("close with chunks", post(b"Connection: close\r\nTransfer-Encoding: chunked", in_chunks(b"hi", 1)), 200, True,
         b"POST|/echo/||a||hi"),
    Case("upgrade to something unknown", field(b"Connection: upgrade\r\nUpgrade: h2c"), 200, False, HELLO),
]

CASES = REQUEST_LINE + TARGET + HOST + FIELDS + LENGTH + CODING + CHUNKS + METHODS + CONNECTION


def echo(build_module):
    return {"path": build_module(HERE / "echo_module.c"), "listener": "web", "mount": "/echo"}


@pytest.fixture(scope="module")
def server(build_module):
    """One for all cases: no one may harm the next."""
    with tempfile.TemporaryDirectory(prefix="tined-") as path:
        pathlib.Path(path).chmod(0o755)
        daemon = harness.Tined(path, {
            "workers": {"count": 1},
            "http": {"max_body": MAX_BODY, "header_timeout": "30s"},
            "module:echo": echo(build_module),
        }).start()
        (worker,) = daemon.worker_pids()
        yield daemon
        same = daemon.worker_pids() == [worker]
        daemon.close()
        assert same and not daemon.errors(), daemon.tail()


def pieces(raw, how, name):
    """raw, cut up."""
    if how == "at once":
        return [raw]
    chooser = random.Random(name)
    sizes = [1] * 600 if how == "byte by byte" else [chooser.randint(1, 60) for _ in range(20)]
    cut = []
    while raw:
        n = sizes.pop() if sizes else 1499
        cut.append(raw[:n])
        raw = raw[n:]
    return cut


def send(client, parts):
    try:
        for part in parts:
            client.send(part)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has closed, and what it said before is to be read


def response(client, method="GET"):
    """The next answer that is one; leave to go on is not."""
    while True:
        r = client.response(method)
        if r.status >= 200:
            return r


def check(case, client):
    """What comes back must be this, and nothing more."""
    r = response(client, "HEAD" if case.raw.startswith(b"HEAD") else "GET")
    assert r.status == case.status, r
    assert r.closes == case.closes, r
    assert r.header("Date"), r
    if not case.closes and b" HTTP/1.0\r\n" in case.raw:
        assert r.header("Connection") == "keep-alive", r
    if case.body is not None:
        assert r.body == case.body
    if case.allow is not None:
        assert {name.strip() for name in r.header("Allow").split(",")} >= case.allow, r
    if not case.closes:
        assert response(client).body == HELLO, "what follows is answered"
        assert client.request("/again").body == HELLO, "it stays open"
    else:
        assert client.closed(), "what follows is not answered"


def test_the_table_is_whole():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)), "no case hides another"
    assert len(names) >= 150


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(server, case):
    for how in ("at once", "byte by byte", "in pieces"):
        with server.connect() as c:
            send(c, pieces(case.raw + NEXT, how, case.name))
            check(case, c)


def test_all_that_stay_open_on_one_connection(server):
    """In an order of chance, hundreds of requests at once: each is answered as if it were alone."""
    cases = [case for case in CASES if not case.closes and len(case.raw) < 2000]
    random.Random(1).shuffle(cases)
    with server.connect() as c:
        for i in range(0, len(cases), 40):
            some = cases[i : i + 40]
            send(c, [b"".join(case.raw for case in some)])
            for case in some:
                r = response(c, "HEAD" if case.raw.startswith(b"HEAD") else "GET")
                assert (r.status, r.closes) == (case.status, False), case.name
                assert case.body is None or r.body == case.body, case.name
        assert c.request("/again").body == HELLO


@pytest.mark.parametrize("case", [c for c in CASES if c.closes and c.status >= 400][::7], ids=lambda case: case.name)
def test_requests_before_a_refused_one_are_answered(server, case):
    with server.connect() as c:
        send(c, [NEXT * 3 + case.raw + NEXT])
        assert [response(c).body for _ in range(3)] == [HELLO] * 3
        check(case, c)


# --- Expect: 100-continue ---


def silent(client, seconds=0.2):
    """Nothing comes for a while."""
    client.sock.settimeout(seconds)
    try:
        with pytest.raises(TimeoutError):
            client.sock.recv(1)
    finally:
        client.sock.settimeout(DEADLINE)
    return True


@pytest.mark.parametrize("path", [b"/echo/", b"/echo/count"])
@pytest.mark.parametrize("framing, body", [
    (b"Content-Length: 5", b"hello"),
    (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
])
def test_leave_to_continue(server, path, framing, body):
    with server.connect() as c:
        c.send(b"POST " + path + L + H + b"Expect: 100-Continue\r\n" + framing + b"\r\n\r\n")
        r = c.response()
        assert (r.version, r.status, r.fields) == ("HTTP/1.1", 100, [])
        c.send(body)
        r = c.response()
        assert r.status == 200 and not r.closes
        assert r.body == (b"POST|/echo/||a||hello" if path == b"/echo/" else b"5")
        assert c.request("/again").body == HELLO


def test_no_leave_is_given_twice(server):
    with server.connect() as c:
        c.send(post(b"Expect: 100-continue\r\nContent-Length: 5"))
        assert c.response().status == 100
        c.send(b"hel")
        assert silent(c)
        c.send(b"lo")
        assert c.response().body == b"POST|/echo/||a||hello"


@pytest.mark.parametrize("status, head", [
    (413, post(b"Expect: 100-continue\r\nContent-Length: 100001")),
    (413, target(b"/echo/small", b"POST", H + b"Expect: 100-continue\r\nContent-Length: 11\r\n")),
    (411, target(b"/echo/length", b"POST", H + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n")),
    (405, target(b"/echo/count", b"PUT", H + b"Expect: 100-continue\r\nContent-Length: 5\r\n")),
    (405, target(b"/", b"POST", H + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n")),
    (417, post(b"Expect: 200-ok\r\nContent-Length: 5")),
    (200, target(b"/echo/hasty", b"POST", H + b"Expect: 100-continue\r\nContent-Length: 5\r\n")),
])
def test_a_final_answer_instead_of_leave(server, status, head):
    """Whether the body is still to come nobody can tell then: the connection ends."""
    with server.connect() as c:
        c.send(head)
        r = c.response()
        assert r.status == status and r.closes
        c.send(NEXT)
        assert c.closed()


def test_no_leave_for_http_1_0(server):
    with server.connect() as c:
        c.send(b"POST /echo/ HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert silent(c)
        c.send(b"hello")
        assert c.response().body == b"POST|/echo/||||hello"


def test_no_leave_without_a_body(server):
    for framing in (b"X: y", b"Content-Length: 0"):
        with server.connect() as c:
            c.send(post(b"Expect: 100-continue\r\n" + framing))
            r = c.response()
            assert (r.status, r.body) == (200, b"POST|/echo/||a||")


# --- bodies that do not come ---


@pytest.mark.parametrize("framing, body", [
    (b"Content-Length: 10", b"abc"),
    (b"Transfer-Encoding: chunked", b"a\r\nabc"),
    (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n"),
    (b"Transfer-Encoding: chunked", b"0\r\nX: y"),
])
def test_a_client_that_leaves_within_a_body(server, framing, body):
    for path in (b"/echo/", b"/echo/count", b"/echo/hasty", b"/"):
        with server.connect() as c:
            c.send(target(path, b"POST", H + framing + b"\r\n") + body)
    assert server.hello()


def test_a_slow_body_is_answered_408(start, build_module):
    t = start({"http": {"body_timeout": "300ms"}, "module:echo": echo(build_module)})
    for path in (b"/echo/", b"/echo/count"):
        for framing, body in (
            (b"Content-Length: 10", b"abc"),
            (b"Transfer-Encoding: chunked", b"a\r\nabc"),
            (b"Transfer-Encoding: chunked", b"3"),
            (b"Transfer-Encoding: chunked", b"0\r\nX: y"),
        ):
            with t.connect() as c:
                c.send(target(path, b"POST", H + framing + b"\r\n") + body)
                r = c.response()
                assert r.status == 408 and r.closes, (path, body)
                assert c.closed()
    t.hello()


def test_a_slow_body_that_was_answered_is_cut_off(start, build_module):
    t = start({"http": {"body_timeout": "300ms"}, "module:echo": echo(build_module)})
    with t.connect() as c:
        c.send(target(b"/echo/hasty", b"POST", H + b"Content-Length: 10\r\n") + b"abc")
        assert c.response().body == b"hasty"
        assert c.closed()
    t.hello()


# --- clients not written by us ---

needs_curl = pytest.mark.skipif(not tool("curl"), reason="curl is not installed")


def curl(*arguments, data=None):
    command = ["curl", "-sS", "--max-time", str(DEADLINE), *arguments]
    done = subprocess.run(command, input=data, capture_output=True, timeout=DEADLINE + 5)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_curl
def test_curl_uploads_a_stream(server):
    """-T - knows no length: chunked, and it asks for leave where it is told to."""
    assert curl("-T", "-", server.url("/echo/x"), data=LONG).endswith(b"||" + LONG)
    expect = ("-H", "Expect: 100-continue", "--expect100-timeout", str(DEADLINE))
    assert curl(*expect, "-T", "-", server.url("/echo/x"), data=LONG).endswith(b"||" + LONG)
    assert curl(*expect, "-T", "-", server.url("/echo/count"), "-X", "POST", data=LONG) == b"47500"


@needs_curl
@pytest.mark.parametrize("options", [(), ("-H", "Transfer-Encoding: chunked"), ("--http1.0",)])
def test_curl_posts(server, options):
    assert curl(*options, "--data-binary", "@-", server.url("/echo/"), data=LONG).endswith(b"||" + LONG)


@needs_curl
@pytest.mark.parametrize("status, path, options", [
    (b"200", "/echo/", ["-d", "a=b"]),
    (b"405", "/", ["-d", "a=b"]),
    (b"405", "/", ["-d", "a=b", "-H", "Transfer-Encoding: chunked"]),
    (b"413", "/echo/small", ["-d", "01234567890"]),
    (b"413", "/echo/small", ["-d", "01234567890", "-H", "Transfer-Encoding: chunked"]),
    (b"411", "/echo/length", ["-d", "a=b", "-H", "Transfer-Encoding: chunked"]),
    (b"417", "/echo/", ["-d", "a=b", "-H", "Expect: miracles"]),
    (b"501", "/echo/", ["-X", "BREW"]),
])
def test_curl_is_told(server, status, path, options):
    assert curl("-o", "/dev/null", "-w", "%{http_code}", *options, server.url(path)) == status


@needs_curl
def test_curl_reuses_its_connection_after_bodies(server):
    url = server.url("/echo/")
    out = curl("-o", "/dev/null", "-w", "%{num_connects} ", "-d", "a=b", "-H", "Transfer-Encoding: chunked", url,
               "-o", "/dev/null", url, "-o", "/dev/null", url)
    assert out.split() == [b"1", b"0", b"0"]

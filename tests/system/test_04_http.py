"""HTTP/1.1 through the real socket. The parser's own cases are unit tests; these see to framing and closing."""

import email.utils
import re
import subprocess
import time

import pytest

from harness import DEADLINE, HELLO, Client, tool


@pytest.fixture
def web(start):
    return start({"workers": {"count": 1}})


def ask(t, raw):
    with t.connect() as c:
        c.send(raw)
        return c.response()


def refused(t, raw, status):
    """The answer has the status, says that it closes, and does; nothing after it is answered."""
    with t.connect() as c:
        c.send(raw)
        response = c.response()
        assert response.status == status, response
        assert response.closes, response
        assert response.header("Date") and response.header("Content-Length")
        assert c.closed()
    return response


H = b"Host: a\r\n"
REFUSED = [
    # request line
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
    (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    (b"GET  / HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"GET /  HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b" GET / HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"GET /\r\n\r\n", 400),  # HTTP/0.9
    (b"GET / HTTP/1.1 \r\n" + H + b"\r\n", 400),
    (b"GET / http/1.1\r\n" + H + b"\r\n", 400),
    (b"GET / HTTP/11\r\n" + H + b"\r\n", 400),
    (b"GET nowhere HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"GET /a b HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"GET /\x00 HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"GET /\x80 HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"GET /#fragment HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"G(T / HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"GET /%zz HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"GET /%00 HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"GET /a%2Fb HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"GET / HTTP/2.0\r\n" + H + b"\r\n", 505),
    (b"GET / HTTP/1.2\r\n" + H + b"\r\n", 505),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"GET * HTTP/1.1\r\n" + H + b"\r\n", 400),
    # fields
    (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n folded\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"X: a\nY: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"X: a\rb\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"X: \x00\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + b": nameless\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"no colon\r\n\r\n", 400),
    # framing
    (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 1, 1\r\n\r\nx", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: +1\r\n\r\nx", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: -1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 0x1\r\n\r\nx", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: \r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    (b"GET / HTTP/1.1\r\n" + H + b"Expect: miracles\r\n\r\n", 417),
    # limits
    (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 1048577\r\n\r\n", 413),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
    (b"GET /" + b"a" * 9000, 414),
    (b"GET / HTTP/1.1\r\n" + H + b"X: " + b"a" * 17000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n" * 200 + b"\r\n", 431),
    # methods
    (b"BREW /pot HTTP/1.1\r\n" + H + b"\r\n", 501),
    (b"get / HTTP/1.1\r\n" + H + b"\r\n", 501),
]


@pytest.mark.parametrize("raw, status", REFUSED, ids=lambda v: v[:44] if isinstance(v, bytes) else str(v))
def test_refuses(web, raw, status):
    refused(web, raw, status)
    web.hello()  # others are not affected


ANSWERED = [
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 200),
    (b"GET / HTTP/1.1\r\nhOsT:    a\t \r\n\r\n", 200),
    (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200),
    (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    (b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 200),
    (b"GET http://a HTTP/1.1\r\nHost: b\r\n\r\n", 200),
    (b"GET /?q=1&r=/../ HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    (b"GET /a/b/../../..//x HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    (b"GET /%41%20 HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xc3\xa9\r\n\r\n", 200),
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 200),
    (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200),
]


@pytest.mark.parametrize("raw, status", ANSWERED, ids=lambda v: v[:44] if isinstance(v, bytes) else str(v))
def test_answers_and_stays_open(web, raw, status):
    with web.connect() as c:
        c.send(raw)
        response = c.response(method="HEAD" if raw.startswith(b"HEAD") else "GET")
        assert response.status == status and not response.closes
        assert c.request().body == HELLO


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_method_not_allowed(web, method):
    with web.connect() as c:
        response = c.request("/", method)
        assert response.status == 405
        assert response.header("Allow") == "GET, HEAD"
        assert c.request().status == 200


def test_connect_is_not_allowed(web):
    response = ask(web, b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
    assert response.status == 405


def test_body_of_a_refused_method_is_no_request(web):
    body = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    with web.connect() as c:
        c.send(b"POST / HTTP/1.1\r\n" + H + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert c.response().status == 405
        assert c.request("/whoami").json()["generation"] == 1


def test_not_found(start):
    t = start({"module:hello": {"mount": "/deep/er"}})
    with t.connect() as c:
        for path in ("/", "/deep", "/deep/erx", "/deep/er/../x", "/whoamix"):
            response = c.request(path)
            assert (response.status, response.body) == (404, b"404 Not Found\n"), path
        for path in ("/deep/er", "/deep/er/", "/deep/er/anything", "/x/../deep/er/"):
            assert c.request(path).body == HELLO, path


def test_fields_of_an_answer(web):
    with web.connect() as c:
        response = c.request()
        date = response.header("Date")
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
        assert abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time()) < 60
        assert response.header("Connection") is None
        names = [name.lower() for name, _ in response.fields]
        assert len(names) == len(set(names)), "no field twice"


def test_head_has_the_fields_of_get_and_no_body(web):
    with web.connect() as c:
        get, head = c.request("/"), c.request("/", "HEAD")
        assert head.header("Content-Length") == get.header("Content-Length") == "13"
        assert [name for name, _ in head.fields] == [name for name, _ in get.fields]
        assert c.request().body == HELLO, "nothing of a body was in the way"


# --- keep-alive ---


@pytest.mark.parametrize(
    "raw, connection",
    [
        (b"GET / HTTP/1.0\r\n\r\n", "close"),
        (b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n", "close"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "close"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", "close"),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", None),
    ],
)
def test_connection_field(web, raw, connection):
    with web.connect() as c:
        c.send(raw)
        response = c.response()
        assert (response.status, response.body) == (200, HELLO)
        assert response.header("Connection") == connection
        if connection == "close":
            assert c.closed()
        else:
            assert c.request().body == HELLO


def test_many_requests_on_one_connection(web):
    with web.connect() as c:
        for _ in range(500):
            assert c.request().body == HELLO


def test_pipelined_requests_are_answered_in_order(start, module):
    t = start({"module:m": {"path": module, "mount": "/m"}})
    with t.connect() as c:
        c.send(b"".join(b"GET /m/big?%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(50)))
        for i in range(50):
            response = c.response()
            assert (response.status, response.body) == (200, b"x" * i)
        assert c.request().body == HELLO


def test_pipelined_large_answers_to_a_client_that_does_not_read(start, module):
    """More than any socket buffer takes: reading stops, nothing is lost, nothing is out of order."""
    t = start({"module:m": {"path": module, "mount": "/m"}, "workers": {"count": 1}})
    sizes = [300000 + i for i in range(20)]
    with t.connect(receive_buffer=4096) as c:
        c.send(b"".join(b"GET /m/big?%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in sizes))
        t.hello()  # the worker is not held up by it
        for n in sizes:
            assert c.response().body == b"x" * n


def test_pipelined_requests_end_at_close(web):
    with web.connect() as c:
        line = b"GET / HTTP/1.1\r\n" + H
        c.send(line + b"\r\n" + line + b"Connection: close\r\n\r\n" + line + b"\r\n")
        assert not c.response().closes
        assert c.response().closes
        assert c.closed()


def test_pipelined_requests_before_a_bad_one_are_answered(web):
    with web.connect() as c:
        c.send((b"GET / HTTP/1.1\r\n" + H + b"\r\n") * 3 + b"rubbish\r\n\r\n" + b"GET / HTTP/1.1\r\n" + H + b"\r\n")
        assert [c.response().status for _ in range(4)] == [200, 200, 200, 400]
        assert c.closed()


def test_byte_by_byte(web):
    raw = b"GET /whoami HTTP/1.1\r\nHost: a\r\nX-Long: " + b"y" * 60 + b"\r\n\r\n"
    with web.connect() as c:
        for _ in range(2):
            for i in range(len(raw)):
                c.send(raw[i : i + 1])
            assert c.response().status == 200


@pytest.mark.parametrize("size", [7, 4096, 16000])
def test_head_in_pieces(web, size):
    raw = b"GET /whoami HTTP/1.1\r\nHost: a\r\nX-Long: " + b"y" * 15000 + b"\r\n\r\n"
    with web.connect() as c:
        for i in range(0, len(raw), size):
            c.send(raw[i : i + size])
        assert c.response().status == 200


def test_large_body_is_taken_off(web):
    """hello does not want it; it must not pass for the next request, nor be kept."""
    with web.connect() as c:
        c.send(b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 1000000\r\n\r\n")
        for _ in range(100):
            c.send(b"GET / HTT\r\n" * 909 + b"x")
        assert c.response().body == HELLO
        assert c.request().body == HELLO


def test_client_that_leaves_early(web):
    for raw in (b"", b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        for _ in range(20):
            with web.connect() as c:
                c.send(raw)
    web.hello()
    assert not web.errors()


def test_half_close_after_the_request(web):
    """A client may say that it will send no more and still wait for the answer."""
    with web.connect() as c:
        c.send(b"GET / HTTP/1.1\r\n" + H + b"\r\n")
        c.sock.shutdown(1)
        assert c.response().body == HELLO
        assert c.closed()


def test_handler_without_an_answer(start, module):
    t = start({"module:m": {"path": module, "mount": "/m"}})
    assert t.get("/m/silent").status == 500
    t.wait_log(r'the handler of /m/silent gave no answer to "GET /m/silent HTTP/1.1", answering 500')
    t.hello()


# --- time-outs ---


def test_slow_header_is_answered_408(start):
    t = start({"http": {"header_timeout": "300ms"}})
    with t.connect() as c:
        c.send(b"GET / HTTP/1.1\r\nHost")
        response = c.response()
        assert response.status == 408 and response.closes
        assert c.closed()


def test_trickling_does_not_extend_the_header_timeout(start):
    t = start({"http": {"header_timeout": "400ms"}})
    begun = time.monotonic()
    with t.connect(timeout=0.05) as c:
        c.send(b"GET / HTTP/1.1\r\n")
        while time.monotonic() - begun < DEADLINE:
            try:
                c.send(b"X: y\r\n")
                c._more()
                break
            except TimeoutError:
                pass
        assert c.response().status == 408
    assert time.monotonic() - begun < DEADLINE


def test_silent_connection_is_closed_without_an_answer(start):
    t = start({"http": {"header_timeout": "200ms", "idle_timeout": "1h"}})
    with t.connect() as c:
        assert c.closed()


def test_idle_connection_is_closed(start):
    t = start({"http": {"idle_timeout": "200ms", "header_timeout": "1h"}})
    with t.connect() as c:
        assert c.request().status == 200
        assert c.closed()


def test_slow_body_is_cut_off(start):
    t = start({"http": {"body_timeout": "200ms"}})
    with t.connect() as c:
        c.send(b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 10\r\n\r\nabc")
        assert c.response().body == HELLO
        assert c.closed()


def test_client_that_never_reads_is_cut_off(start, module):
    t = start({"http": {"body_timeout": "300ms"}, "module:m": {"path": module, "mount": "/m"}, "workers": {"count": 1}})
    (worker,) = t.worker_pids()
    with t.connect(receive_buffer=4096) as c:
        c.send(b"GET /m/big?8000000 HTTP/1.1\r\n" + H + b"\r\n")
        c.sock.recv(1)
        time.sleep(1)  # what it does not read is the case itself
        with pytest.raises((ConnectionResetError, BrokenPipeError, AssertionError)):
            assert len(c.rest()) >= 8000000
    t.hello()
    assert t.worker_pids() == [worker]


# --- clients not written by us ---

needs_curl = pytest.mark.skipif(not tool("curl"), reason="curl is not installed")


def curl(*arguments):
    command = ["curl", "-sS", "--max-time", str(DEADLINE), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE + 5)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_curl
def test_curl(web):
    assert curl(web.url()) == HELLO
    head = curl("-I", web.url()).decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n") and "Content-Length: 13\r\n" in head


@needs_curl
def test_curl_reuses_its_connection(web):
    url = web.url()
    out = curl("-w", "%{num_connects} ", url, url, url).decode()
    assert out.replace(HELLO.decode(), "").split() == ["1", "0", "0"]


@needs_curl
def test_curl_with_a_body(web):
    status = ["-o", "/dev/null", "-w", "%{http_code}", "-d", "a=b", web.url()]
    assert curl(*status) == b"405"
    assert curl("-H", "Transfer-Encoding: chunked", *status) == b"501"


@pytest.mark.skipif(not tool("wrk"), reason="wrk is not installed")
def test_wrk(web):
    out = subprocess.run(
        ["wrk", "-t1", "-c8", "-d1s", web.url()], capture_output=True, text=True, timeout=DEADLINE
    ).stdout
    assert int(re.search(r"(\d+) requests in", out)[1]) > 0
    assert "Socket errors" not in out and "Non-2xx" not in out


def test_two_hundred_connections(web):
    clients = [Client(web.address()) for _ in range(200)]
    for c in clients:
        c.send(b"GET / HTTP/1.1\r\n" + H + b"\r\n")
    for c in clients:
        assert c.response().body == HELLO
        c.close()

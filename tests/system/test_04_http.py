"""Connections over the real socket: answers, keep-alive, pipelining, time-outs. What becomes of a request is
test_11_requests.py."""

import email.utils
import re
import subprocess
import time

import pytest

from harness import DEADLINE, HELLO, Client, tool, wait_until


@pytest.fixture
def web(start):
    return start({"workers": {"count": 1}})


H = b"Host: a\r\n"


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
        assert c.response().status == 408
        assert c.closed()


def test_client_that_never_reads_is_cut_off(start, module):
    t = start({"http": {"body_timeout": "300ms"}, "module:m": {"path": module, "mount": "/m"}, "workers": {"count": 1}})
    (worker,) = t.worker_pids()
    with t.connect(receive_buffer=4096) as c:
        c.send(b"GET /m/big?8000000 HTTP/1.1\r\n" + H + b"\r\n")
        c.sock.recv(1)
        wait_until(lambda: t.scoreboard()[worker]["connections"] == 0, "it is cut off")
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


@pytest.mark.skipif(not tool("wrk"), reason="wrk is not installed")
def test_wrk(web):
    out = subprocess.run(
        ["wrk", "-t1", "-c8", "-d1s", web.url()], capture_output=True, text=True, timeout=DEADLINE
    ).stdout
    assert int(re.search(r"(\d+) requests in", out)[1]) > 0
    assert "Socket errors" not in out and "Non-2xx" not in out


@pytest.mark.skipif(not tool("ab"), reason="ab is not installed")
@pytest.mark.parametrize("keep_alive", [[], ["-k"]], ids=["close", "keep-alive"])
def test_ab(web, keep_alive):
    """Speaks HTTP/1.0."""
    out = subprocess.run(
        ["ab", *keep_alive, "-n", "2000", "-c", "20", web.url()], capture_output=True, text=True, timeout=DEADLINE
    ).stdout
    assert re.search(r"Complete requests:\s+2000\n", out) and re.search(r"Failed requests:\s+0\n", out), out
    assert "Non-2xx" not in out


def test_two_hundred_connections(web):
    clients = [Client(web.address()) for _ in range(200)]
    for c in clients:
        c.send(b"GET / HTTP/1.1\r\n" + H + b"\r\n")
    for c in clients:
        assert c.response().body == HELLO
        c.close()

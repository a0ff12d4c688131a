"""Answers of every kind through the real socket: later, from a thread, piece by piece, to clients that leave, read slowly or
speak HTTP/1.0. The module is responses_module.c."""

import contextlib
import http.client
import os
import pathlib
import signal
import subprocess
import time

import pytest

from harness import DEADLINE, HELLO, Gone, n_descriptors, wait_until

HERE = pathlib.Path(__file__).resolve().parent
H = b"Host: a\r\n"


@pytest.fixture(scope="session")
def responses_module(build_module):
    return build_module(HERE / "responses_module.c", "-pthread")


@pytest.fixture
def web(start, responses_module):
    def make(http=None, **sections):
        # What the address sanitizer keeps of freed memory would pass for growth.
        options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
        return start({
            "workers": {"count": 1}, "http": http or {}, "module:hello": {"mount": "/hello"},
            "module:r": {"path": responses_module, "listener": "web", "mount": "/r"}, **sections,
        }, env={"ASAN_OPTIONS": options})

    return make


@pytest.fixture
def t(web):
    return web()


def counters(t):
    return t.get("/r/counters").json()


def ask(t, path, method="GET", body=None, headers=None):
    """By a client nobody here wrote. Returns (response, body)."""
    c = http.client.HTTPConnection(*t.address(), timeout=DEADLINE)
    try:
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        return r, r.read()
    finally:
        c.close()


def letters(n):
    return (b"abcdefghijklmnopqrstuvwxyz" * (n // 26 + 1))[:n]


def dechunk(data):
    """(body, trailer lines, rest) of chunked bytes that are complete."""
    body = b""
    while True:
        size, data = data.split(b"\r\n", 1)
        size = int(size, 16)
        if size == 0:
            break
        body, data = body + data[:size], data[size + 2 :]
    lines = []
    while True:
        line, data = data.split(b"\r\n", 1)
        if not line:
            return body, lines, data
        lines.append(line)


def rss(t):
    with open(f"/proc/{t.worker_pids()[0]}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))


# --- later ---


@pytest.mark.parametrize("path", ["/r/later/1", "/r/later/50"])
def test_later(t, path):
    r, body = ask(t, path)
    assert (r.status, body) == (200, path.encode())
    assert (r.getheader("X-Early"), r.getheader("X-Later")) == ("kept", "yes")


def test_from_a_thread(t):
    for _ in range(20):
        assert ask(t, "/r/thread")[1] == b"from a thread"


def test_what_is_pipelined_behind_waits(t):
    """Answers come in the order of requests, whatever takes its time."""
    with t.connect() as c:
        c.send(b"".join(b"GET " + p + b" HTTP/1.1\r\n" + H + b"\r\n" for p in (
            b"/r/later/60", b"/hello", b"/r/thread", b"/r/later/1", b"/hello")))
        assert [c.response().body for _ in range(5)] == [b"/r/later/60", HELLO, b"from a thread", b"/r/later/1", HELLO]


def test_very_many_are_pipelined_behind(t):
    with t.connect() as c:
        c.send(b"GET /r/later/50 HTTP/1.1\r\n" + H + b"\r\n" + (b"GET /hello HTTP/1.1\r\n" + H + b"\r\n") * 2000)
        assert c.response().body == b"/r/later/50"
        assert all(c.response().body == HELLO for _ in range(2000))


def test_body_behind_a_deferred_answer_is_no_request(t):
    with t.connect() as c:
        c.send(b"POST /r/later/30 HTTP/1.1\r\n" + H + b"Content-Length: 40\r\n\r\n")
        c.send(b"GET /r/never HTTP/1.1\r\nHost: smuggled\r\n\r\n"[:40] + b"GET /hello HTTP/1.1\r\n" + H + b"\r\n")
        assert c.response().body == b"/r/later/30"
        assert c.response().body == HELLO


def test_clients_that_leave(t):
    """The module is told, answers all the same, and nothing is left of it."""
    def leave(n):
        clients = [t.connect() for _ in range(n)]
        for c in clients:
            c.send(b"GET /r/later/50?gone HTTP/1.1\r\n" + H + b"\r\n")
        for c in clients:
            c.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: a reset
            c.close()

    leave(100)
    wait_until(lambda: counters(t)["answered"] == 100, "all are answered")
    memory, fds = rss(t), n_descriptors(t.worker_pids()[0])
    for i in range(2, 7):
        leave(100)
        wait_until(lambda: counters(t)["answered"] == 100 * i, "all are answered")
    assert counters(t)["gone"] == 600
    wait_until(lambda: n_descriptors(t.worker_pids()[0]) <= fds, "all descriptors are closed")
    assert rss(t) - memory < 4096  # a sanitizer takes its share


def test_half_closed_client_gets_its_answer(t):
    with t.connect() as c:
        c.send(b"GET /r/later/50 HTTP/1.1\r\n" + H + b"\r\n")
        c.sock.shutdown(1)
        assert c.response().body == b"/r/later/50"
        assert c.closed()


def test_answer_timeout(web):
    t = web({"answer_timeout": "200ms"})
    with t.connect() as c:
        c.send(b"GET /r/never HTTP/1.1\r\n" + H + b"\r\n")
        r = c.response()
        assert (r.status, r.closes) == (503, True)
    assert counters(t)["gone"] == 1
    assert ask(t, "/hello")[1] == HELLO


# --- piece by piece ---


@pytest.mark.parametrize("n", [0, 1, 4096, 100000, 5000000])
@pytest.mark.parametrize("query", ["", "?sized"], ids=["chunked", "sized"])
def test_stream(t, n, query):
    r, body = ask(t, f"/r/stream/{n}{query}")
    assert r.status == 200 and body == letters(n)
    assert r.getheader("Transfer-Encoding") == (None if query else "chunked")
    assert r.getheader("Content-Length") == (str(n) if query else None)


def test_stream_has_a_trailer_and_the_connection_goes_on(t):
    with t.connect() as c:
        c.send(b"GET /r/stream/10 HTTP/1.1\r\n" + H + b"\r\nGET /hello HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n")
        head, rest = c.rest().split(b"\r\n\r\n", 1)
        body, trailer, rest = dechunk(rest)
        assert (body, trailer) == (letters(10), [b"X-Total: all"])
        assert rest.endswith(HELLO)


def test_stream_to_http_1_0(t):
    with t.connect() as c:
        c.send(b"GET /r/stream/100000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, body = c.rest().split(b"\r\n\r\n", 1)
        assert b"Connection: close" in head and b"chunked" not in head and body == letters(100000)


@pytest.mark.parametrize("query", [b"", b"?sized"])
def test_stream_of_head(t, query):
    with t.connect() as c:
        c.send(b"HEAD /r/stream/100000" + query + b" HTTP/1.1\r\n" + H + b"\r\n")
        assert c.response("HEAD").status == 200
        assert c.request("/hello").body == HELLO


def test_reader_that_stops(t):
    """What waits for it is bounded, and when it reads on it gets everything."""
    n = 12 << 20
    with t.connect(receive_buffer=16384) as c:
        c.send(b"GET /r/stream/%d?sized HTTP/1.1\r\n" % n + H + b"Connection: close\r\n\r\n")
        c.sock.recv(1)

        def stands_still():  # that it does not read is the case itself
            room = counters(t)["room"]
            time.sleep(0.3)
            return counters(t)["room"] == room

        wait_until(stands_still, "the module is told to wait")
        memory = rss(t)
        room = counters(t)["room"]
        time.sleep(0.5)
        assert counters(t)["room"] == room
        assert rss(t) - memory < 512
        data = c.rest()
        assert data.split(b"\r\n\r\n", 1)[1] == letters(n)
    assert counters(t)["room"] > room


def test_stream_to_a_client_that_leaves(t):
    with t.connect(receive_buffer=4096) as c:
        c.send(b"GET /r/stream/100000000 HTTP/1.1\r\n" + H + b"\r\n")
        c.sock.recv(1)
    wait_until(lambda: counters(t)["gone"] == 1, "the module is told")
    assert ask(t, "/hello")[1] == HELLO


def test_announced_length(t):
    with t.connect() as c:
        c.send(b"GET /r/short HTTP/1.1\r\n" + H + b"\r\n")
        with pytest.raises((Gone, ConnectionResetError)):
            c.response()
    assert ask(t, "/r/long")[1] == b"abc"
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)):
        ask(t, "/r/broken")


# --- events ---


def events(c, until):
    data = b""
    while until not in data:
        data += c.sock.recv(65536)
    return data


def test_events(web):
    t = web({"websocket_ping": "300ms"})
    with t.connect() as c:
        c.send(b"GET /r/events HTTP/1.1\r\n" + H + b"\r\n")
        data = events(c, b":\n\n\r\n")
        head, rest = data.split(b"\r\n\r\n", 1)
        assert b"Content-Type: text/event-stream" in head and b"Cache-Control: no-store" in head
        body = dechunk(rest + b"0\r\n\r\n")[0]
        assert body.startswith(b"event: greeting\nid: 7\ndata: one\ndata: two\ndata: three\ndata: four\n\ndata: \n\n:\n\n")


def test_events_end_when_the_worker_goes(t):
    with t.connect() as c:
        c.send(b"GET /r/events HTTP/1.1\r\n" + H + b"\r\n")
        events(c, b"data: \n\n")
        t.signal(signal.SIGHUP)
        assert c.rest().endswith(b"0\r\n\r\n")


# --- a reload meanwhile ---


@pytest.mark.parametrize("path", [b"/r/later/700", b"/r/stream/10000000?sized"])
def test_reload_loses_nothing(t, path):
    with t.connect(receive_buffer=65536) as c:
        c.send(b"GET " + path + b" HTTP/1.1\r\n" + H + b"\r\n")
        if b"stream" in path:
            c.buffer = c.sock.recv(1)
        t.reload()
        r = c.response()
        assert r.status == 200 and (r.body == path or r.body == letters(10000000))


# --- bodies ---


@pytest.mark.parametrize("path", ["/r/upload", "/r/upload?paused"])
@pytest.mark.parametrize("n", [0, 1, 5000, 700000])
def test_upload(t, path, n):
    r, body = ask(t, path, "POST", letters(n))
    assert body.decode().startswith(f"{n} bytes, sum {sum(letters(n))},")


def test_upload_chunked_with_trailer(t):
    with t.connect() as c:
        c.send(b"PUT /r/upload HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        time.sleep(0.05)
        c.send(b"2;x=y\r\nde\r\n0\r\nX-Sum: 5\r\n\r\nGET /hello HTTP/1.1\r\n" + H + b"\r\n")
        assert c.response().body == b"5 bytes, sum 495, trailer 5"
        assert c.response().body == HELLO


def test_uploads_that_fail(t):
    """Malformed, or cut short: the module is told, and has to answer nobody."""
    with t.connect() as c:
        c.send(b"PUT /r/upload HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
        r = c.response()
        assert (r.status, r.closes) == (400, True)
    with t.connect() as c:
        c.send(b"PUT /r/upload HTTP/1.1\r\n" + H + b"Content-Length: 100\r\n\r\nabc")
    wait_until(lambda: counters(t)["failed"] == 2, "both are told")


def test_answer_before_the_body(t):
    """A short rest is read and dropped, a long one ends the connection."""
    with t.connect() as c:
        c.send(b"POST /r/early HTTP/1.1\r\n" + H + b"Content-Length: 20\r\n\r\n")
        assert c.response().body == b"early"
        c.send(b"GET /r/never HTTP/1.\nGET /hello HTTP/1.1\r\n" + H + b"\r\n"[:0] + b"\r\n")
        assert c.response().status in (200, 400)
    with t.connect() as c:
        c.send(b"POST /r/early HTTP/1.1\r\n" + H + b"Content-Length: 1000000\r\n\r\n")
        r = c.response()
        assert (r.body, r.closes) == (b"early", True)


@pytest.mark.parametrize("path", ["/r/whole", "/r/slow/whole"])
@pytest.mark.parametrize("n", [0, 10, 100000])
def test_whole_body(t, path, n):
    """Also behind a middleware that takes its time."""
    assert ask(t, path, "POST", letters(n))[1] == letters(n)


def test_whole_body_too_large(t):
    with t.connect() as c:
        c.send(b"POST /r/whole HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # what it has said is to be read
            c.send(b"100001\r\n" + b"x" * 0x100001 + b"\r\n")
        assert c.response().status == 413


def test_expect(t):
    out = subprocess.run(
        ["curl", "-sS", "--max-time", str(DEADLINE), "-H", "Expect: 100-continue", "--expect100-timeout", "1000",
         "--data-binary", "@-", t.url("/r/whole")],
        input=letters(50000), capture_output=True, timeout=DEADLINE + 5)
    assert out.stdout == letters(50000)  # it was not made to wait for its own time-out


# --- middleware, fields ---


def test_middleware(t):
    r, body = ask(t, "/r/guarded/whole", "POST", b"x")
    assert (r.status, body, r.headers.get_all("X-Way")) == (401, b"no key", ["first"])
    r, body = ask(t, "/r/guarded/whole", "POST", b"x", {"X-Key": "k"})
    assert (r.status, body, r.headers.get_all("X-Way")) == (200, b"x", ["first", "second"])
    r, body = ask(t, "/r/guarded/nothing", "GET", None, {"X-Key": "k"})
    assert (r.status, r.headers.get_all("X-Way")) == (404, ["first"])
    assert ask(t, "/r/guarded")[0].status == 401
    assert ask(t, "/r/guardedly")[0].status == 404


def test_nothing_can_be_injected(t):
    r, body = ask(t, "/r/inject")
    assert body == b"ok"
    assert not {name for name, _ in r.getheaders()} & {"X-V", "X-Evil", "Set-Cookie", "X-Late"}


def test_error_pages(web, folder):
    pages = folder / "pages"
    pages.mkdir()
    (pages / "404.html").write_text("<h1>lost</h1>")
    t = web({"error_pages": pages})
    r, body = ask(t, "/r/nothing")
    assert (r.status, body, r.getheader("Content-Type")) == (404, b"<h1>lost</h1>", "text/html; charset=utf-8")
    assert ask(t, "/r/later/1", "DELETE")[0].status == 405

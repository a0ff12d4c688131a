"""Who the client is: the PROXY protocol, trusted proxies; and how many connections one may have."""

import json
import socket
import struct
import subprocess
import threading

import pytest

from harness import Client, Gone, tool, wait_until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n"


def v2(command=1, family=0x11, addresses=None, extensions=b""):
    if addresses is None:
        addresses = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.8") + struct.pack("!HH", 1234, 80)
    rest = addresses + extensions
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack("!H", len(rest)) + rest


V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 1234, 80)

GOOD = {
    "v1 tcp4": (V1, "192.0.2.7"),
    "v1 tcp6": (b"PROXY TCP6 2001:db8::7 ::1 1234 80\r\n", "2001:db8::7"),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    "v2 tcp4": (v2(), "192.0.2.7"),
    "v2 tcp6": (v2(family=0x21, addresses=V6), "2001:db8::7"),
    "v2 unix": (v2(family=0x31, addresses=bytes(216)), "unix:"),
    "v2 local": (v2(command=0), "127.0.0.1"),
    "v2 unspecified": (v2(family=0, addresses=b""), "127.0.0.1"),
    "v2 extensions": (v2(extensions=b"\x04\0\x03abc\x02\0\x07e.local"), "192.0.2.7"),
}

BAD = {
    "none": b"",
    "v1 in lower case": b"proxy tcp4 192.0.2.7 192.0.2.8 1 2\r\n",
    "v1 with a line feed": b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\n",
    "v1 without an end": b"PROXY UNKNOWN " + b"x" * 200,
    "v1 with a name": b"PROXY TCP4 localhost 192.0.2.8 1 2\r\n",
    "v1 with a large port": b"PROXY TCP4 192.0.2.7 192.0.2.8 65536 2\r\n",
    "v2 of version 3": SIGNATURE + b"\x31\x11\0\0",
    "v2 too short": v2(addresses=b"\1\2\3\4"),
    "v2 too long": SIGNATURE + b"\x21\x11\xff\xff",
    "v2 wrong checksum": v2(extensions=b"\x03\0\x04\1\2\3\4"),
    "a greeting of TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
}


@pytest.fixture
def logged(folder):
    """logged(n): the first n requests of the access log, waiting for them."""

    def read(n):
        path = folder / "access.log"
        wait_until(lambda: path.exists() and path.read_text().count("\n") >= n, f"{n} lines in {path}")
        return [json.loads(line) for line in path.read_text().splitlines()]

    return read


@pytest.fixture
def start_with(start, folder):
    """Starts a daemon with an access log in JSON; its [http] options as keywords."""

    def go(changes=None, **http):
        http = {"access_log": f"file:{folder}/access.log", "access_format": "json", **http}
        return start({"http": http, **(changes or {})})

    return go


@pytest.fixture
def start_proxied(start_with):
    return lambda **http: start_with({"listener:web": {"proxy_protocol": "on"}}, **http)


# --- PROXY protocol ---


@pytest.mark.parametrize("name", GOOD)
def test_proxy_header(start_proxied, logged, name):
    header, client = GOOD[name]
    t = start_proxied()
    with t.connect() as c:
        c.send(header + GET % b"1" + GET % b"2")  # with the first requests in one piece
        assert c.response().status == 200 and c.response().status == 200
        assert c.request("/3").status == 200
    with t.connect() as c:
        for i in range(len(header)):  # and byte by byte
            c.send(header[i : i + 1])
        assert c.request("/4").status == 200
    assert sorted((line["client"], line["target"]) for line in logged(4)) == [(client, f"/{i}") for i in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_proxy_header_is_closed(start_proxied, name):
    t = start_proxied()
    with t.connect() as c, pytest.raises((Gone, ConnectionError)):
        c.send(BAD[name] + GET % b"")
        c.response()
    with t.connect() as c:
        c.send(V1)
        assert c.request("/").status == 200


def test_a_proxy_header_that_does_not_come(start_proxied):
    t = start_proxied(header_timeout="200ms", body_timeout="200ms")
    with t.connect() as silent, t.connect() as slow:
        slow.send(V1[:10])
        assert silent.closed() and slow.closed()


def test_a_second_proxy_header_is_no_request(start_proxied):
    t = start_proxied()
    with t.connect() as c:
        c.send(V1 + V1 + GET % b"")
        assert c.response().status == 400


def test_a_proxy_header_where_none_is_expected(start_with):
    """Nobody can pass for another one."""
    t = start_with()
    with t.connect() as c:
        c.send(V1 + GET % b"")
        assert c.response().status == 400
    with t.connect() as c:
        c.send(v2() + GET % b"")
        assert c.response().status == 400


def test_curl_speaks_the_proxy_protocol(start_proxied, logged):
    if not tool("curl"):
        pytest.skip("no curl here")
    t = start_proxied()
    done = subprocess.run(["curl", "-fsS", "--haproxy-protocol", t.url()], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"Hello, World!"
    assert logged(1)[0]["client"] == "127.0.0.1"


# --- trusted proxies ---


@pytest.mark.parametrize(
    "http, fields, client",
    [
        ({}, [("X-Forwarded-For", "192.0.2.7")], "127.0.0.1"),
        ({"trusted_proxies": "10.0.0.0/8"}, [("X-Forwarded-For", "192.0.2.7")], "127.0.0.1"),
        ({"trusted_proxies": "127.0.0.0/8"}, [("X-Forwarded-For", "192.0.2.7")], "192.0.2.7"),
        ({"trusted_proxies": "127.0.0.0/8"}, [], "127.0.0.1"),
        ({"trusted_proxies": "127.0.0.0/8"}, [("Forwarded", "for=192.0.2.7")], "127.0.0.1"),
        ({"trusted_proxies": "127.0.0.0/8"}, [("X-Forwarded-For", "6.6.6.6, 192.0.2.7")], "192.0.2.7"),
        (
            {"trusted_proxies": "127.0.0.1, 10.0.0.0/8"},
            [("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "2001:db8::7, 10.1.1.1")],
            "2001:db8::7",
        ),
        ({"trusted_proxies": "127.0.0.1"}, [("X-Forwarded-For", "192.0.2.7, nonsense")], "127.0.0.1"),
        (
            {"trusted_proxies": "127.0.0.1", "client_header": "forwarded"},
            [("Forwarded", 'for="[2001:db8::7]:99";proto=https'), ("X-Forwarded-For", "6.6.6.6")],
            "2001:db8::7",
        ),
    ],
)
def test_trusted_proxies(start_with, logged, http, fields, client):
    t = start_with(**http)
    t.get("/", headers=fields)
    assert logged(1)[0]["client"] == client


def test_each_request_of_a_connection_names_its_own_client(start_with, logged):
    t = start_with(trusted_proxies="127.0.0.1")
    with t.connect() as c:
        for i in range(3):
            c.request("/", headers=[("X-Forwarded-For", f"192.0.2.{i}")])
        c.request("/")
    assert [line["client"] for line in logged(4)] == ["192.0.2.0", "192.0.2.1", "192.0.2.2", "127.0.0.1"]


def test_a_proxy_over_a_unix_socket(start_with, logged, folder):
    start_with({"listener:web": {"address": f"unix:{folder}/web.sock"}}, trusted_proxies="unix")
    with Client(str(folder / "web.sock")) as c:
        c.request("/", headers=[("X-Forwarded-For", "192.0.2.7")])
    assert logged(1)[0]["client"] == "192.0.2.7"


def test_both_ways_together(start_proxied, logged):
    """The PROXY protocol names a proxy that is trusted, and that one names the client."""
    t = start_proxied(trusted_proxies="192.0.2.7")
    with t.connect() as c:
        c.send(V1)
        c.request("/", headers=[("X-Forwarded-For", "203.0.113.9")])
    assert logged(1)[0]["client"] == "203.0.113.9"


# --- limits ---


def is_refused(t, first=b"", listener="web"):
    """Whether a new connection is told to come back later."""
    try:
        with t.connect(listener) as c:
            c.send(first)
            response = c.request("/")
    except (Gone, ConnectionError):
        return False
    if response.status == 200:
        return False
    assert response.status == 503 and response.closes, response
    assert int(response.header("Retry-After")) >= 1
    return True


def hold(t, n, first=b""):
    """n connections that have been served."""
    clients = [t.connect() for _ in range(n)]
    for c in clients:
        c.send(first)
        assert c.request("/").status == 200
    return clients


def test_max_per_client(start_with):
    t = start_with({"workers": {"count": 3}}, max_per_client=6)
    clients = hold(t, 6)
    assert all(is_refused(t) for _ in range(10))
    assert all(c.request("/").status == 200 for c in clients), "those that are there are served on"
    clients.pop().close()
    wait_until(lambda: not is_refused(t), "there is room for one again")
    for c in clients:
        c.close()


def test_max_per_client_counts_whom_the_proxy_names(start_proxied):
    t = start_proxied(max_per_client=2)
    clients = hold(t, 2, V1)
    other = V1.replace(b"192.0.2.7", b"192.0.2.9")
    assert is_refused(t, V1)
    assert not is_refused(t, other)
    assert is_refused(t, v2())
    for c in clients:
        c.close()
    wait_until(lambda: not is_refused(t, V1), "there is room again")


def test_max_per_client_counts_a_network_of_ipv6_as_one(start_proxied):
    t = start_proxied(max_per_client=2)
    line = "PROXY TCP6 2001:db8:0:{}::{} ::1 1 2\r\n"
    clients = hold(t, 1, line.format(1, 1).encode()) + hold(t, 1, line.format(1, 2).encode())
    assert is_refused(t, line.format(1, 3).encode())
    assert not is_refused(t, line.format(2, 1).encode())
    for c in clients:
        c.close()


def test_max_per_client_does_not_count_unix_sockets(start_with, folder):
    start_with({"listener:web": {"address": f"unix:{folder}/web.sock"}}, max_per_client=1)
    clients = [Client(str(folder / "web.sock")) for _ in range(5)]
    assert all(c.request("/").status == 200 for c in clients)
    for c in clients:
        c.close()


def test_a_crash_gives_the_places_back(start_with, module):
    t = start_with({"workers": {"count": 1}, "module:m": {"path": module, "mount": "/m"}}, max_per_client=3)
    clients = hold(t, 3)
    assert is_refused(t)
    with pytest.raises((Gone, ConnectionError)):
        clients[0].request("/m/abort")
    clients = clients + [wait_until(lambda: connected(t), "there is room again") for _ in range(3)]
    assert is_refused(t)
    for c in clients:
        c.close()


def connected(t):
    """A connection that was served, or None."""
    c = t.connect()
    try:
        if c.request("/").status == 200:
            return c
    except (Gone, ConnectionError):
        pass
    c.close()
    return None


def test_max_total(start_with):
    t = start_with({"workers": {"count": 2}}, max_total=8)
    clients = hold(t, 8)
    assert all(is_refused(t) for _ in range(10))
    for c in clients[:4]:
        c.close()
    wait_until(lambda: not is_refused(t), "there is room again")
    for c in clients[4:]:
        assert c.request("/").status == 200
        c.close()


def test_a_storm_beyond_the_limit_is_answered(start_with):
    """Everybody gets an answer: some are served, the others told to come back."""
    t = start_with({"workers": {"count": 2}}, max_per_client=20)
    statuses, lock = [], threading.Lock()

    def ask():
        for _ in range(25):
            with t.connect() as c:
                status = c.request("/").status
            with lock:
                statuses.append(status)

    held = hold(t, 15)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 200 and set(statuses) <= {200, 503} and 200 in statuses
    assert all(c.request("/").status == 200 for c in held)
    for c in held:
        c.close()
    wait_until(lambda: not is_refused(t), "none of their places is lost")


def test_max_keepalive(start_with):
    t = start_with(max_keepalive=3)
    with t.connect() as c:
        assert [c.request("/").closes for _ in range(3)] == [False, False, True]
        assert c.closed()

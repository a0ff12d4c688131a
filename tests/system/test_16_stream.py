"""Plain TCP and Unix-stream services: listeners with protocol = tcp."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import DEADLINE, Client, line, merge, tool, wait_until

HERE = pathlib.Path(__file__).resolve().parent
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="session")
def service(build_module):
    return build_module(HERE / "stream_module.c")


@pytest.fixture
def serve(tined, service):
    """A daemon with one of the module's services on listener `raw`, beside HTTP on `web`. wait: until it serves."""

    def make(what="lines", changes=None, wait=True, **options):
        t = tined(
            merge(
                {
                    "listener:raw": {"address": "127.0.0.1:0", "protocol": "tcp"},
                    "module:raw": {"path": service, "listener": "raw", "serve": what},
                },
                changes or {},
            ),
            **options,
        )
        return t.start() if wait else t

    return make


def receive(client, n):
    while len(client.buffer) < n:
        client._more()
    data, client.buffer = client.buffer[:n], client.buffer[n:]
    return data


def check_given(client, n):
    """Takes n bytes that were asked for with `give`; each must be the right one."""
    taken, table = 0, ALPHABET * 4000
    while taken < n:
        data = client.buffer or client.sock.recv(65536)
        client.buffer = b""
        assert data, f"closed after {taken} bytes of {n}"
        data, client.buffer = data[: n - taken], data[n - taken :]
        first = taken % 26
        assert data == table[first : first + len(data)], f"wrong bytes after {taken}"
        taken += len(data)


def is_gone(client):
    try:
        return client.closed()
    except ConnectionResetError:
        return True


# --- serving ---


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_echo(serve, accept):
    t = serve("echo", {"listener:raw": {"accept": accept}})
    with t.connect("raw") as c:
        for n in (1, 64, 5000, 300_000):
            data = os.urandom(n)
            threading.Thread(target=c.send, args=(data,)).start()
            assert receive(c, n) == data
        c.sock.shutdown(socket.SHUT_WR)
        assert c.closed()
    t.wait_log("stream: closed: well")
    t.hello()


def test_lines_however_they_are_split(serve):
    t = serve()
    text = b"one\ntwo\n\nthree\n"
    for size in (1, 2, 3, len(text)):
        with t.connect("raw") as c:
            for i in range(0, len(text), size):
                c.send(text[i : i + size])
                time.sleep(0.001)
            assert [line(c) for _ in range(4)] == ["one?", "two?", "?", "three?"]


@pytest.mark.parametrize("address, client", [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("unix", "unix:")])
def test_who_the_client_is(serve, folder, address, client):
    path = str(folder / "raw.sock")
    t = serve(changes={"listener:raw": {"address": f"unix:{path}" if address == "unix" else address}})
    where = path if address == "unix" else (address.split(":0")[0].strip("[]"), t.port("raw"))
    with Client(where) as c:
        assert line(c, "client") == client
        c.send(b"quit\n")
        assert c.closed()


def test_many_at_once(serve):
    t = serve()
    clients = [t.connect("raw") for _ in range(200)]
    for i, c in enumerate(clients):
        c.send(f"{i}\n".encode())
    for i, c in enumerate(clients):
        assert line(c) == f"{i}?"
    pids = {line(c, "pid") for c in clients}

    def both_serve():
        clients.append(t.connect("raw"))
        pids.add(line(clients[-1], "pid"))
        return len(pids) == 2

    wait_until(both_serve, "both workers serve")
    for c in clients:
        c.close()
    t.wait_log("stream: closed: ", count=len(clients))


def test_connections_above_the_limit_wait(serve):
    t = serve(changes={"workers": {"count": 1, "max_connections": 2}})
    held = [t.connect("raw") for _ in range(2)]
    for c in held:
        assert line(c, "x") == "x?"
    with t.connect("raw") as c:
        c.send(b"y\n")
        c.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line(c)
        c.sock.settimeout(DEADLINE)
        held[0].close()
        assert line(c) == "y?"
    held[1].close()


# --- half-close ---


def test_answer_after_a_half_close(serve):
    t = serve("sum")
    with t.connect("raw") as c:
        c.send(b"x" * 1_000_000)
        c.sock.shutdown(socket.SHUT_WR)
        assert c.rest() == b"1000000 bytes\n"
    t.wait_log("stream: closed: well")


@pytest.mark.parametrize("command", [["nc", "-N", "127.0.0.1"], ["socat", "-t30", "-"]], ids=["nc", "socat"])
def test_clients_nobody_here_wrote(serve, command):
    if not tool(command[0]):
        pytest.skip(f"no {command[0]} here")
    t = serve()
    port = str(t.port("raw"))
    command = [*command, port] if command[0] == "nc" else [*command, f"TCP:127.0.0.1:{port}"]
    out = subprocess.run(command, input=b"a\nb\ngive 26000\n", capture_output=True, timeout=DEADLINE, check=True)
    assert out.stdout == b"a?\nb?\n" + ALPHABET * 1000


# --- slow readers ---


def memory(pid):
    """KiB that only this process has."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.M))


def test_slow_readers_do_not_fill_the_worker(serve):
    n, size = 8, 40_000_000
    t = serve(changes={"workers": {"count": 1}})
    (worker,) = t.worker_pids()
    with t.connect("raw") as c:
        c.send(b"give 1000000\n")
        check_given(c, 1_000_000)
    before = memory(worker)
    clients = [t.connect("raw", receive_buffer=65536) for _ in range(n)]
    for c in clients:
        c.send(b"give %d\n" % size)
    with t.connect("raw") as c:
        assert line(c, "x") == "x?", "others are served"
    time.sleep(0.5)
    assert memory(worker) - before < n * 2000, "what may wait for each, in KiB, and what a sanitizer adds"
    for c in clients[:2]:
        check_given(c, size)
    for c in clients:
        c.close()
    t.hello()


def test_reader_that_stops_is_given_up(serve):
    t = serve(changes={"http": {"body_timeout": "300ms"}})
    with t.connect("raw", receive_buffer=65536) as c:
        c.send(b"give 100000000\n")
        t.wait_log("stream: closed: Connection timed out")


def test_echo_to_a_client_that_does_not_read(serve):
    """What cannot be sent back is not read: it waits at the client."""
    t = serve("echo", {"workers": {"count": 1}})
    (worker,) = t.worker_pids()
    before = memory(worker)
    with t.connect("raw") as c:
        sent = 0
        c.sock.settimeout(0.5)
        piece = ALPHABET * 1000
        with pytest.raises(TimeoutError):
            while sent < 500_000_000:
                sent += c.sock.send(piece[sent % 26 : ])
        assert memory(worker) - before < 2000
        c.sock.settimeout(DEADLINE)
        c.sock.shutdown(socket.SHUT_WR)
        check_given(c, sent)
        assert c.closed()


# --- limits ---


@pytest.mark.parametrize("changes, n", [({"module:raw": {"max_input": "100"}}, 100), ({"http": {"max_header": "2K"}}, 2048)])
def test_longest_line(serve, changes, n):
    t = serve(changes=changes)
    with t.connect("raw") as c:
        shown = "x" * min(n, 199) + "?"  # all that the module looks at
        c.send(b"x" * n)
        time.sleep(0.05)
        assert line(c, "") == shown, "left unused: no more than it may"
        c.send(b"x" * (n + 1))
        assert c.closed()
    t.wait_log("stream: closed: Message too long")


def test_idle(serve):
    t = serve(changes={"module:raw": {"idle": "1500ms"}})
    with t.connect("raw") as c:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            assert line(c, "x") == "x?"
        assert c.closed()
    t.wait_log("stream: closed: Connection timed out")


# --- the end of a worker ---


def test_reload_loses_no_byte(serve):
    size = 30_000_000
    t = serve(changes={"workers": {"count": 2}})
    busy = [t.connect("raw", receive_buffer=65536) for _ in range(4)]
    idle = [t.connect("raw") for _ in range(4)]
    for c in busy:
        c.send(b"give %d\n" % size)
    for c in idle:
        assert line(c, "x") == "x?"
    old = {line(c, "pid") for c in idle}
    t.reload()
    for c in idle:
        assert c.rest() == b"bye\n"
    for c in busy:
        check_given(c, size)
        assert c.closed()
    with t.connect("raw") as c:
        assert line(c, "pid") not in old
    wait_until(lambda: len(t.worker_pids()) == 2, "the old workers are gone")
    assert not t.find("drain: deadline")


def test_reload_under_load(serve):
    """Clients that come and go get every answer, or a goodbye in its place."""
    t = serve()
    address, stop, failures, served = t.address("raw"), threading.Event(), [], [0]

    def client():
        while not stop.is_set():
            try:
                with Client(address) as c:
                    for i in range(50):
                        answer = line(c, str(i))
                        if answer == "bye":
                            assert c.closed()
                            break
                        assert answer == f"{i}?"
                        served[0] += 1
            except Exception as e:
                failures.append(repr(e))
                return

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            t.reload()
        wait_until(lambda: served[0] > 100 or failures, "enough answers")
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert not failures, failures[:3]


def test_without_a_goodbye_it_ends_in_a_silence(serve):
    t = serve("echo", {"workers": {"drain_timeout": "4s"}})
    with t.connect("raw") as c:
        c.send(b"x")
        assert receive(c, 1) == b"x"
        t.reload()
        for _ in range(3):
            c.send(b"y")
            assert receive(c, 1) == b"y", "still served"
        assert c.closed()
    t.wait_log("stream: closed: well")
    assert not t.find("drain: deadline")


def test_what_never_ends_is_closed_at_the_deadline(serve):
    t = serve(changes={"workers": {"drain_timeout": "1s", "count": 1}})
    with t.connect("raw", receive_buffer=65536) as c:
        c.send(b"give 1000000000\n")
        receive(c, 1)
        t.reload()
        t.wait_log("stream: closed: Software caused connection abort")


def test_killed_worker(serve):
    """Only its own streams end."""
    t = serve()
    clients = [t.connect("raw") for _ in range(20)]
    pids = [int(line(c, "pid")) for c in clients]
    os.kill(pids[0], signal.SIGKILL)
    for c, pid in zip(clients, pids):
        if pid == pids[0]:
            assert is_gone(c)
        else:
            assert line(c, "x") == "x?"
        c.close()
    t.wait_workers(2)
    for _ in range(10):
        with t.connect("raw") as c:
            assert line(c, "x") == "x?"


def test_aborted_stream(serve):
    t = serve()
    with t.connect("raw") as c:
        c.send(b"give 50000000\nabort\n")
        time.sleep(0.1)
        assert len(c.rest()) < 50_000_000
    t.wait_log("stream: closed: well")


# --- what does not go together ---


@pytest.mark.parametrize(
    "what, listener, words",
    [
        ("none", "raw", ["module:raw.listener: ", "plain tcp", "tine_stream_serve", "not raw"]),
        ("http", "raw", ["module:raw.listener: ", "plain tcp", "protocol = http", "not raw"]),
        ("echo", "web", ["module:raw.listener: ", "HTTP is spoken there", "protocol = tcp", "not web"]),
        ("twice", "raw", ["module:raw: ", "File exists"]),
    ],
)
def test_module_and_listener_that_do_not_fit(serve, what, listener, words):
    t = serve(what, {"module:raw": {"listener": listener, "mount": "/raw"}}, wait=False)
    assert t.run() == 1
    errors = t.errors()
    assert len(errors) == 1, t.tail()
    for word in [str(t.path), *words]:
        assert word in errors[0]


def test_two_modules_on_one_listener(serve, service):
    t = serve("echo", {"module:more": {"path": service, "listener": "raw", "mount": "/more"}}, wait=False)
    assert t.run() == 1
    assert t.find(r"module:more\.listener: raw speaks plain tcp and is served by \[module:raw\] in line \d+ already")


def test_listener_that_nobody_serves(serve):
    t = serve(changes={"module:raw": None})
    t.wait_log(r"warning .*\[listener:raw\]: no module serves it; closing each connection as it comes")
    with t.connect("raw") as c:
        assert c.closed()
    t.hello()

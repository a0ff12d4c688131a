"""Plain connections that change hands: from worker to worker, with what was read and not used. The module is handover_module.c."""

import contextlib
import errno
import os
import signal

import pytest

from conftest import HERE
from harness import Gone, line, n_descriptors, wait_until

FLOOD = 8 << 20


@pytest.fixture(scope="session")
def handover(build_module):
    return build_module(HERE / "handover_module.c", "-D_GNU_SOURCE")


@pytest.fixture
def serve(start, handover):
    """Two workers, unless `workers` says otherwise; `listener` is that of the module."""

    def make(workers=None, **listener):
        return start({
            "workers": {"count": 2, "probe": "off", **(workers or {})},
            "listener:raw": {"address": "127.0.0.1:0", "protocol": "tcp", **listener},
            "module:raw": {"path": handover, "listener": "raw"},
        })

    return make


def connections(t):
    return {pid: w["connections"] for pid, w in t.scoreboard().items()}


def other_than(t, pid):
    (other,) = set(t.worker_pids()) - {pid}
    return other


def test_to_and_fro(serve):
    t = serve()
    before = {pid: n_descriptors(pid) for pid in t.worker_pids()}
    with t.connect("raw") as c:
        pid = int(line(c, "who").split()[0])
        for i in range(50):
            pid = other_than(t, pid)
            assert line(c, f"move {i}") == f"moved {pid} {i}"
            assert line(c, "who") == f"{pid} 127.0.0.1"
        wait_until(lambda: connections(t) == {pid: 1, other_than(t, pid): 0}, "one has it, the other has not")
        wait_until(lambda: sum(map(n_descriptors, before)) == sum(before.values()) + 1, "one descriptor is left")
    wait_until(lambda: {pid: n_descriptors(pid) for pid in before} == before, "nothing is left")
    t.wait_log("handover: closed: 0", count=51)
    assert len(t.find("handover: closed: 0")) == 51


def test_what_was_not_used_goes_along(serve):
    t = serve()
    with t.connect("raw") as c:
        a = int(line(c, "who").split()[0])
        b = other_than(t, a)
        c.send(b"move one\nwho\nmove two\nmove three\nand h")
        assert [line(c) for _ in range(4)] == [f"moved {b} one", f"{b} 127.0.0.1", f"moved {a} two", f"moved {b} three"]
        assert line(c, "alf") == "and half?"


def test_client_is_who_the_proxy_said(serve):
    t = serve(proxy_protocol="on")
    with t.connect("raw") as c:
        c.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n")
        pid = int(line(c, "who").split()[0])
        line(c, "move on")
        assert line(c, "who") == f"{other_than(t, pid)} 192.0.2.7"


def test_comes_back_when_nobody_takes_it(serve):
    t = serve()
    with t.connect("raw") as c:
        pid = int(line(c, "who").split()[0])
        c.send(b"lose\nwho\n")
        assert [line(c), line(c)] == [f"moved {pid} back", f"{pid} 127.0.0.1"]


def test_taker_that_dies(serve):
    """Its message is an error, and the connection comes back; or it had it already, and the client sees its end."""
    t = serve()
    with t.connect("raw") as c:
        pid = int(line(c, "who").split()[0])
        os.kill(other_than(t, pid), signal.SIGSTOP)
        c.send(b"move on\n")
        wait_until(lambda: connections(t)[pid] == 0, "it is under way")
        os.kill(other_than(t, pid), signal.SIGKILL)
        with contextlib.suppress(Gone, ConnectionResetError):
            assert line(c) == f"moved {pid} on"
    t.wait_log(r"starting -> ready", count=3)
    with t.connect("raw") as c:
        pid = int(line(c, "who").split()[0])
        wait_until(lambda: line(c, "move on") == f"moved {other_than(t, pid)} on", "it has heard of the new one")


def test_what_was_written_is_sent_first(serve):
    t = serve()
    with t.connect("raw", receive_buffer=4096) as c:
        pid = int(line(c, "who").split()[0])
        c.send(b"flood\n")
        t.wait_log(rf"cannot detach yet: -{errno.EAGAIN}")
        answer = line(c)
        assert answer.lstrip("x") == f"moved {other_than(t, pid)} late"
        assert answer.count("x") in range(1 << 20, FLOOD + 1)


def test_drained_worker_hands_over(serve):
    """Two workers of which one is to go; what arrives at one that drains ends like what it had."""
    t = serve()
    with t.connect("raw") as c:
        line(c, "who")
        t.reload()
        assert c.closed()


@pytest.mark.parametrize("what", ["nothing", "file", "unconnected", "datagram", "client"])
def test_what_is_no_connection_stays_the_callers(serve, what):
    t = serve()
    with t.connect("raw") as c:
        assert line(c, f"odd {what}") == str(-errno.EINVAL)
    assert not t.find("handover: it was closed")


@pytest.mark.parametrize("most, said", [(2, 0), (1, -errno.EDQUOT)])
def test_limit_of_connections(serve, most, said):
    t = serve(workers={"count": 1, "max_connections": most})
    (pid,) = t.worker_pids()
    with t.connect("raw") as c:
        line(c, "who")
        before = n_descriptors(pid)
        assert line(c, "own") == str(said)
        wait_until(lambda: n_descriptors(pid) == before, "nothing of it is left")
        assert line(c, "who") == f"{pid} 127.0.0.1"

"""Not one request may fail across reloads and scaling: clients that keep their connections and check every answer."""

import os
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import DEADLINE, HELLO, Client, tool, wait_until

N_CLIENTS = 6
N_RELOADS = 10
ENOUGH = 100  # requests at least, however slow the machine is


class Load:
    """Clients in threads, until the end of the block and enough requests; every one must have had nothing but right answers."""

    def __init__(self, t, path="/", body=HELLO, pipeline=1):
        self.address, self.path, self.body, self.pipeline = t.address(), path, body, pipeline
        self.stop = threading.Event()
        self.failures, self.served, self.connections = [], 0, 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._client) for _ in range(N_CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        try:
            if exc[0] is None:
                wait_until(lambda: self.served > ENOUGH or self.failures, f"more than {self.served} requests")
        finally:
            self.stop.set()
            for thread in self.threads:
                thread.join(DEADLINE)
        if exc[0] is None:
            assert not self.failures, f"{len(self.failures)} of {self.served}: {self.failures[:5]}"

    def _client(self):
        while not self.stop.is_set() and not self.failures:
            served = 0
            try:
                with Client(self.address) as c:
                    is_last = False
                    while not is_last and not self.stop.is_set():
                        served += 1
                        is_last = self._burst(c)
                        with self.lock:
                            self.served += self.pipeline
            except Exception as e:  # whatever it is, it is a failed request
                self.failures.append(f"{e!r} at request {served} of its connection")
            with self.lock:
                self.connections += 1

    def _burst(self, c):
        """Sends a burst; every request of it is answered, and only the last answer may say close. True if it did."""
        c.send(f"GET {self.path} HTTP/1.1\r\nHost: test\r\n\r\n".encode() * self.pipeline)
        for left in reversed(range(self.pipeline)):
            response = c.response()
            if (response.status, response.body) != (200, self.body):
                raise AssertionError(f"wrong answer {response!r}")
            if response.closes and left:
                raise AssertionError(f"closes with {left} requests unanswered")
        return response.closes


def reload_often(t, n=N_RELOADS):
    for _ in range(n):
        t.reload()
        time.sleep(0.02)


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
@pytest.mark.parametrize("pipeline", [1, 5])
def test_reloads(start, accept, pipeline):
    t = start({"listener:web": {"accept": accept}})
    with Load(t, pipeline=pipeline) as load:
        reload_often(t)
    assert load.connections > N_CLIENTS, "connections were told to close and were opened anew"
    assert t.whoami()["generation"] == N_RELOADS + 1
    assert not t.errors()
    t.wait_workers(2)


def test_reloads_with_files(start, folder):
    root = folder / "site"
    root.mkdir()
    data = bytes(range(256)) * 400
    (root / "file").write_bytes(data)
    t = start({"module:hello": {"path": "builtin:static", "root": root}})
    with Load(t, "/file", data):
        reload_often(t)
    assert not t.errors()


def test_connections_opened_for_each_request(start):
    """Each goes through the queue of the shared socket, which no reload may lose."""
    t = start()
    failures, stop, served = [], threading.Event(), [0]

    def client():
        while not stop.is_set():
            try:
                with t.connect() as c:
                    assert c.request(headers=[("Connection", "close")]).body == HELLO
                    assert c.closed()
                served[0] += 1
            except Exception as e:
                failures.append(repr(e))

    threads = [threading.Thread(target=client) for _ in range(N_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        reload_often(t)
        wait_until(lambda: served[0] > ENOUGH or failures, "enough of them are served")
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert not failures, failures[:5]


def test_reloads_that_fail(start):
    t = start()
    with Load(t):
        for _ in range(5):
            t.configure({"workers": {"nonsense": 1}})
            t.reload_fails()
            t.configure({"workers": {"nonsense": None}, "module:hello": {"path": "builtin:helo"}})
            t.reload_fails()
            t.configure({"module:hello": {"path": "builtin:hello"}})
            t.reload()
    assert t.whoami()["generation"] > 1


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_scaling_up_and_down(start, accept):
    t = start({"listener:web": {"accept": accept}})
    with Load(t):
        for _ in range(8):
            mark = t.mark()
            t.signal(signal.SIGTTIN)
            t.wait_log(r"starting -> ready", mark)
            mark = t.mark()
            t.signal(signal.SIGTTOU)
            t.wait_log(r"draining -> dead: exited with status 0", mark)
    assert not t.errors()
    t.wait_workers(2)


def test_worker_that_gets_term(start):
    """The operator's own way to recycle one worker."""
    t = start()
    with Load(t):
        for n in range(3, 6):
            os.kill(t.serving_pids()[0], signal.SIGTERM)
            t.wait_log(r"starting -> ready", count=n)
            t.wait_log(r"draining -> dead: exited with status 0", count=n - 2)
    assert not t.errors()


@pytest.mark.skipif(not tool("wrk"), reason="wrk is not installed")
@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_wrk_across_reloads(start, accept):
    """wrk honours Connection: close and counts everything that goes wrong."""
    t = start({"listener:web": {"accept": accept}})
    wrk = subprocess.Popen(["wrk", "-t1", "-c20", f"-d{2 * DEADLINE}s", "--timeout", f"{DEADLINE}s", t.url()], stdout=subprocess.PIPE, text=True)
    try:
        reload_often(t, 5)
        wait_until(lambda: sum(w["requests"] for w in t.scoreboard().values()) > ENOUGH + 20, "the last generation serves, too")
        assert wrk.poll() is None
    finally:
        wrk.send_signal(signal.SIGINT)
        out, _ = wrk.communicate(timeout=DEADLINE)
    assert "Socket errors" not in out and "Non-2xx" not in out, out
    assert int(re.search(r"(\d+) requests in", out)[1]) > ENOUGH

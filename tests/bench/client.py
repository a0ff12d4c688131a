"""Clients on plain sockets, where wrk does not tell enough."""

import contextlib
import heapq
import itertools
import multiprocessing
import random
import re
import selectors
import signal
import socket
import subprocess
import time

from . import provision
from .common import BenchError, WrongAnswer

REQUEST = "GET {} HTTP/1.1\r\nHost: bench\r\n{}\r\n"


def complete(answer):
    """Whether an answer is all there; every server here says how long it is."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end) and (not length or len(body) >= int(length[1]))


def fetch(address, path, timeout=5):
    """One request on a connection of its own. Returns status and body; raises OSError."""
    with socket.create_connection(address, timeout) as s:
        s.sendall(REQUEST.format(path, "Connection: close\r\n").encode())
        answer = b""
        while not complete(answer):
            chunk = s.recv(65536)
            if not chunk:
                raise ConnectionError("closed without a whole answer")
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def ask(server, path, timeout=120, **query):
    """The text that one of the modules here answers with."""
    path += "?" + "&".join(f"{key}={value}" for key, value in query.items())
    status, body = fetch(server.address, path, timeout)
    if status != 200 or body.startswith(b"error"):
        raise WrongAnswer(f"{path}: {status} {body.decode()}")
    return body.decode()


def ask_numbers(server, path, **options):
    return [float(word) for word in ask(server, path, **options).split()]


@contextlib.contextmanager
def burst(port, n):
    """n connections, opened as fast as one process can and kept inside the context."""
    command = [provision.compiled("burst"), str(port), str(n)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if not process.stdout.readline():
                raise BenchError("burst: not all connections could be opened")
            yield
        finally:
            process.stdin.close()
            process.kill()


def one_request(s, path, timeout=5):
    """A request on an open connection, which stays open."""
    s.settimeout(timeout)
    s.sendall(REQUEST.format(path, "").encode())
    answer = s.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise BenchError(f"answered {answer[:100]!r}")


class Checker:
    """One keep-alive connection: sends, checks every answer to the last byte, pauses, sends again. A connection is
    given up only after `Connection: close`; any other end, wrong answer or refusal is a failed request."""

    def __init__(self, address, path, body, longest_pause):
        self.address = address
        self.request = REQUEST.format(path, "").encode()
        self.body = body
        self.longest_pause = longest_pause
        self.n_requests = self.n_renewed = 0
        self.failures = []
        self.socket = None

    def begin(self):
        """Sends a request. Returns whether there is an answer to wait for."""
        self.n_requests += 1
        self.answer = b""
        try:
            if not self.socket:
                self.socket = socket.create_connection(self.address, 5)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.sendall(self.request)
            return True
        except OSError as e:
            self.fail(f"sending: {e}")
            return False

    def read(self):
        """Takes what has come. Returns whether the request is over."""
        try:
            chunk = self.socket.recv(65536)
        except OSError as e:
            chunk = b""
            problem = f"reading: {e}"
        else:
            problem = "closed without an answer" if not self.answer else "closed within an answer"
        if not chunk:
            self.fail(problem)
            return True
        self.answer += chunk
        if not complete(self.answer):
            return False
        head, _, body = self.answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 ") or body != self.body:
            self.fail(f"answered {self.answer[:80]!r}")
        elif b"\r\nconnection: close" in head.lower():
            self.n_renewed += 1
            self.close()
        return True

    def fail(self, why):
        self.failures.append(why)
        self.close()

    def close(self):
        if self.socket:
            self.socket.close()
            self.socket = None

    def pause(self):
        return random.uniform(0, self.longest_pause)


def check_until(stop, checkers):
    """Runs the checkers until the pipe `stop` says something."""
    selector = selectors.DefaultSelector()
    selector.register(stop, selectors.EVENT_READ)
    numbers = itertools.count()  # heaps compare; checkers do not
    pausing = [(0, next(numbers), checker) for checker in checkers]
    while True:
        now = time.monotonic()
        while pausing and pausing[0][0] <= now:
            _, _, checker = heapq.heappop(pausing)
            if checker.begin():
                selector.register(checker.socket, selectors.EVENT_READ, checker)
            else:
                heapq.heappush(pausing, (now + 0.01, next(numbers), checker))
        for key, _ in selector.select(max(0, pausing[0][0] - now) if pausing else None):
            if key.fileobj is stop:
                return
            checker = key.data
            if checker.read():
                selector.unregister(key.fileobj)
                heapq.heappush(pausing, (time.monotonic() + checker.pause(), next(numbers), checker))


class Checkers:
    """Keep-alive clients in processes of their own, at work until result(). Half of them send without a pause, half
    pause up to 20 ms, so that connections are met busy and idle. A context: none is left at its end."""

    def __init__(self, address, path, body, connections, processes=2):
        self.pipes, self.processes = [], []
        for _ in range(processes):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(
                target=self.work, args=(theirs, address, path, body, connections // processes), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.join()

    @staticmethod
    def work(pipe, address, path, body, n):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # the parent decides, see __exit__
        checkers = [Checker(address, path, body, 0.02 if i % 2 else 0) for i in range(n)]
        check_until(pipe, checkers)
        failures = [why for checker in checkers for why in checker.failures]
        pipe.send((sum(c.n_requests for c in checkers), sum(c.n_renewed for c in checkers), failures))

    def result(self):
        """Stops them. Returns requests, connections renewed as the server asked, and what failed."""
        n_requests, n_renewed, failures = 0, 0, []
        for pipe in self.pipes:
            pipe.send(None)
            if not pipe.poll(10):
                raise BenchError("a client does not end")
            requests, renewed, failed = pipe.recv()
            n_requests, n_renewed, failures = n_requests + requests, n_renewed + renewed, failures + failed
        return n_requests, n_renewed, failures

"""Connections per worker after a burst, and what one hung worker costs the others' clients.

8 workers share a socket; one client opens 800 connections as fast as it can and keeps them. Accepted connections
are counted per worker in /proc. Then the same with one worker stopped (SIGSTOP): 800 connections in a row, each
kept, and the time from connect() until its first request is answered.
"""

import contextlib
import random
import signal
import socket
import statistics
import time

from . import processes
from .client import burst, one_request
from .common import many_descriptors, say, wait_until
from .rows import Bar, Row
from .servers import HELLO, Nginx, Tined

N_WORKERS = 8
N_CONNECTIONS = 800


def accepted(server):
    return processes.n_connections(server.workers(), server.port)


def wait_accepted(server, n):
    """Until n connections have been accepted. Returns how many each worker has."""
    counts = []

    def all_there():
        counts[:] = accepted(server)
        return sum(counts) == n

    wait_until(all_there, f"{server.name} has {n} connections", pause=0.05)
    return counts


def unevenness(server):
    """The busiest worker's connections relative to the mean, after a burst."""
    with burst(server.port, N_CONNECTIONS):
        counts = wait_accepted(server, N_CONNECTIONS)
    wait_accepted(server, 0)
    return max(counts) / (sum(counts) / len(counts))


def times_to_serve(server):
    """Milliseconds from connect() to the first answer."""
    times, connections = [], []
    for _ in range(N_CONNECTIONS):
        start = time.perf_counter()
        with contextlib.suppress(TimeoutError):  # then the time-out is the time
            connections.append(socket.create_connection(server.address, 5))
            one_request(connections[-1], HELLO)
        times.append((time.perf_counter() - start) * 1000)
    for s in connections:
        s.close()
    wait_accepted(server, 0)
    return times


@contextlib.contextmanager
def one_stopped(server):
    victim = random.choice(server.workers())
    processes.kill(victim, signal.SIGSTOP)
    try:
        yield
    finally:
        processes.kill(victim, signal.SIGCONT)


def p99(times):
    return sorted(times)[len(times) * 99 // 100]


def delay_rows(free, hung):
    """Each a list of rounds."""
    def row(what, figure, bar):
        return Row(
            f"accept to answer, one of {N_WORKERS} workers stopped: {what}", "ms",
            statistics.median(map(figure, hung)), statistics.median(map(figure, free)), "tined, none stopped",
            bar=Bar("ours", "<=", bar))

    return [row("99th percentile", p99, 3), row("longest", max, 10)]


def run(options):
    rounds = options.rounds or 5
    many_descriptors(N_CONNECTIONS + 200)
    ours, theirs, free, hung = [], [], [], []
    with Tined(options.folder, workers=N_WORKERS, options={"hang_timeout": "1h"}) as tined, \
            Nginx(options.folder, workers=N_WORKERS) as nginx:
        for i in range(rounds):
            say(f"fairness: round {i + 1} of {rounds}")
            ours.append(unevenness(tined))
            theirs.append(unevenness(nginx))
            free.append(times_to_serve(tined))
            with one_stopped(tined):
                hung.append(times_to_serve(tined))
    what = f"{N_CONNECTIONS} connections, {N_WORKERS} workers: busiest / mean, "
    return [
        Row(what + "median", "x", statistics.median(ours), statistics.median(theirs), "nginx",
            bar=Bar("ours", "<=", 1.05)),
        Row(what + "worst", "x", max(ours), max(theirs), "nginx", bar=Bar("ours", "<=", 1.05)),
        *delay_rows(free, hung),
    ]

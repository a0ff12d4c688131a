"""Milliseconds from kill -9 of a worker to its replacement serving, under load; what is left in the primary.

2 workers under a wrk load of 64 keep-alive connections; a random one is killed, 200 times. The time runs from the kill
to the first whole answer that names a process that was not a worker at the kill (/who): a prober opens one connection
after the other, so the time includes being accepted and served beside the load, and is at most one probe too long. wrk
counts the requests that broke; each of its connections always has one in flight, so only as many may break as the
killed workers had connections. The next kill waits until all workers are there and 20 to 60 ms more: every kill meets
a worker that had been serving. nginx is measured in the same way.
"""

import contextlib
import random
import statistics
import time

from . import processes, wrk
from .common import BenchError, say, wait_until
from .rows import Bar, Row
from .servers import HELLO, Nginx, Tined

N_WORKERS = 2
LONGEST = 5  # seconds until a replacement counts as not coming


def kill_one(server):
    """Returns milliseconds until another serves in its place, and the connections that the dead one had."""
    before = set(server.workers())
    victim = random.choice(list(before))
    n_lost = processes.n_connections([victim], server.port)[0]
    start = time.perf_counter()
    processes.kill(victim)
    while time.perf_counter() - start < LONGEST:
        with contextlib.suppress(OSError):  # the probe may have been accepted by the one that died
            if server.who() not in before:
                return (time.perf_counter() - start) * 1000, n_lost
    raise BenchError(f"{server.name}: no replacement after {LONGEST} s")


class State:
    """What crashes may not leave behind in the primary. RSS, not PSS: that depends on who else maps the libraries."""

    def __init__(self, server):
        pid = server.process.pid
        self.descriptors = processes.n_descriptors(pid)
        self.rss_kib = processes.memory_kib(pid, "Rss")
        self.anonymous_kib = processes.memory_kib(pid, "Anonymous")


def settled(server):
    wait_until(lambda: len(server.workers()) == N_WORKERS, f"{server.name} has {N_WORKERS} workers again")


def kill_many(server, n):
    """Returns the times, requests that failed, those that were in flight in the dead, the primary before and after."""
    say(f"crash: {server.name}: {n} kills")
    kills = []
    for _ in range(20):  # what the first crashes load (code, in steps of 64 KiB) is not left behind by crashes
        kill_one(server)
        settled(server)
    before = State(server)
    with wrk.Load(server.url(HELLO), n + 60, connections=64) as load:
        for _ in range(n):
            time.sleep(random.uniform(0.02, 0.06))
            kills.append(kill_one(server))
            settled(server)
        failed = load.result(stop=True).n_errors
    times, lost = zip(*kills)
    return times, failed, sum(lost), before, State(server)


def run(options):
    n = options.rounds or 200
    patient = {"backoff_min": "1ms", "crash_limit": "100000/60s"}
    with Tined(options.folder, workers=N_WORKERS, options=patient) as tined:
        ours, our_failed, our_lost, before, after = kill_many(tined, n)
    with Nginx(options.folder, workers=N_WORKERS) as nginx:
        theirs, their_failed, their_lost, their_before, their_after = kill_many(nginx, n)

    def growth(figure):
        return (getattr(after, figure) - getattr(before, figure),
                getattr(their_after, figure) - getattr(their_before, figure))

    return [
        Row("kill -9 to replacement serves: median", "ms", statistics.median(ours), statistics.median(theirs), "nginx",
            bar=Bar("ours", "<=", 10)),
        Row("kill -9 to replacement serves: longest", "ms", max(ours), max(theirs), "nginx"),
        Row("requests failed per kill", "1", our_failed / n, their_failed / n, "nginx"),
        Row("requests failed that no killed worker had", "1", max(0, our_failed - our_lost),
            max(0, their_failed - their_lost), "nginx", bar=Bar("ours", "==", 0)),
        Row(f"primary after {n} kills: descriptors more", "1", *growth("descriptors"), "nginx",
            bar=Bar("ours", "==", 0)),
        Row(f"primary after {n} kills: RSS more", "KiB", *growth("rss_kib"), "nginx"),  # the ring of crash records too
        Row(f"primary after {n} kills: anonymous memory more", "KiB", *growth("anonymous_kib"), "nginx",
            bar=Bar("ours", "<=", 64)),
    ]

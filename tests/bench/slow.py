"""10,000 slow clients, one byte of a head per second each: what others notice, and when they are gone.

The slow clients (drip.c) are held for a minute (--seconds, at least 12): whom the server closes at header_timeout, 10 s, is
replaced at once. Meanwhile 2000 tiny requests a second tell the 99th percentile, in windows of one second, as they do
for some seconds before and after; the median of the windows counts. The clients are on one CPU, the server has the other
one. A slow client's age is from connect() to the server's close; its clock ticks four times
a second, so half a second more than header_timeout is the bar.
"""

import json
import os
import subprocess
import time

from . import latency, processes, provision
from .common import BenchError, many_descriptors, say, two_cpus
from .rows import Bar, Row
from .servers import Nginx, Tined

N = 10_000
HEADER_TIMEOUT, LATE = 10, 0.5  # seconds
N_WINDOWS = 5  # before, and after


class Drip:
    """Slow clients, as a context; all are there when it is entered."""

    def __init__(self, server, n, cpu):
        self.process = subprocess.Popen(
            [provision.compiled("drip"), str(server.port), str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))

    def __enter__(self):
        if self.process.stdout.readline() != "ready\n":
            raise BenchError("drip: the slow clients could not be opened")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def result(self):
        """Ends them. Returns what became of them: see drip.c."""
        output, _ = self.process.communicate(timeout=10)
        return json.loads(output)


class Measured:
    """One server: the percentiles without and with the slow clients, and what became of these."""

    def __init__(self, server, cpu, seconds):
        def window():
            return latency.measure(server, cpu)

        say(f"slow: {server.name}: {N} slow clients for {seconds} s")
        free = [window() for _ in range(N_WINDOWS)]
        loaded, held, cpu_shares = [], [], []
        with Drip(server, N, cpu) as drip:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if len(loaded) % 5 == 0:
                    held.append(sum(processes.n_connections(server.workers(), server.port)))
                before, start = processes.cpu_ns(server.family()), time.monotonic_ns()
                loaded.append(window())
                cpu_shares.append(
                    (processes.cpu_ns(server.family()) - before) / (time.monotonic_ns() - start) * 100)
            self.clients = drip.result()
        free += [window() for _ in range(N_WINDOWS)]
        say(f"slow: {server.name}: {self.clients}")
        if self.clients["late_ms"] > 500:
            say("slow: the slow clients' bytes were sent late: this machine is busy with something else")
        self.free_ms, self.loaded_ms = latency.p99_ms(free), latency.p99_ms(loaded)
        self.longest_ms = latency.longest_ms(loaded)
        self.held = min(held)
        self.cpu = sum(cpu_shares) / len(cpu_shares)
        self.earliest = self.clients["earliest"] / 1000
        self.latest = max(self.clients["latest"], self.clients["oldest_open"]) / 1000


def run(options):
    server_cpu, load_cpu = two_cpus()
    seconds = max(options.seconds or 60, HEADER_TIMEOUT + 2)
    many_descriptors(N + 4000)
    more = {"cpu": server_cpu, "first": True, "connections": N + 1000}
    limit = f"{HEADER_TIMEOUT}s"
    with Tined(options.folder, http={"header_timeout": limit}, **more) as tined:
        ours = Measured(tined, load_cpu, seconds)
    with Nginx(options.folder, http=f"access_log off; client_header_timeout {limit};", **more) as nginx:
        theirs = Measured(nginx, load_cpu, seconds)

    def row(what, unit, figure, *bar):
        return Row(what, unit, getattr(ours, figure), getattr(theirs, figure), "nginx", bar=bar and Bar("ours", *bar))

    what = f"p99 of tiny requests beside {N} slow clients"
    return [
        Row(what, "ms", ours.loaded_ms, ours.free_ms, "tined without", bar=Bar("ratio", "<=", 2)),
        Row(f"nginx: {what}", "ms", theirs.loaded_ms, theirs.free_ms, "nginx without"),
        row("the longest of them", "ms", "longest_ms"),
        row("CPU meanwhile", "%", "cpu"),
        row("slow clients held, fewest at any time", "1", "held", ">=", N * 0.98),
        row("closed by the server, the first after", "s", "earliest", ">=", HEADER_TIMEOUT - LATE),
        row("closed by the server, the last after", "s", "latest", "<=", HEADER_TIMEOUT + LATE),
    ]

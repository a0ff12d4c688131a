"""CPU per request and requests per second: a canned answer, pipelining, small and larger files.

All servers are up on one CPU; wrk alternates between them on another, a second each, A B B A ...; a ratio is
the median of those of the rounds. So ratios repeat where absolute figures drift. (Pipelined, one CPU of wrk takes about
2 million answers a second and is then the limit: the CPU per request tells what the server could do.)
"""

import dataclasses
import os
import statistics

from . import processes, wrk
from .common import say, two_cpus
from .provision import HERE
from .rows import Bar, Row
from .servers import FILES, HELLO, Epoll, H2o, Nginx, Tined

FILE_SIZES = {"1k": 1024, "100k": 100 * 1024, "300k": 300 * 1024}


@dataclasses.dataclass
class Sample:
    cpu_us: float  # of the server, all its processes, per request
    per_second: float


class Comparison:
    """The same load on several servers in turn; ours is the first."""

    def __init__(self, what, path, servers, **load):
        """load: what wrk.run() takes beyond address and time."""
        self.what, self.path, self.servers, self.load = what, path, servers, load
        self.samples = {server.name: [] for server in servers}
        self.broken = set()

    def run(self, options, cpu):
        rounds = options.rounds or 8
        say(f"http: {self.what}: {', '.join(s.name for s in self.servers)}; {rounds} rounds")
        for server in self.servers:  # warm-up
            wrk.run(server.url(self.path), options.seconds, cpu=cpu, **self.load)
        for i in range(rounds):
            for server in self.servers if i % 2 == 0 else reversed(self.servers):
                self.samples[server.name].append(self.measure(server, options.seconds, cpu))
        return self

    def measure(self, server, seconds, cpu):
        pids = server.family()
        before = processes.cpu_ns(pids)
        result = wrk.run(server.url(self.path), seconds, cpu=cpu, **self.load)
        used = processes.cpu_ns(pids) - before
        if result.errors:
            say(f"ERROR: http: {self.what}: {server.name}: {result.errors}")
            self.broken.add(server.name)
        return Sample(used / 1000 / max(result.requests, 1), result.per_second)

    def row(self, figure, unit, peer, bar=None):
        ours = [getattr(sample, figure) for sample in self.samples[self.servers[0].name]]
        theirs = [getattr(sample, figure) for sample in self.samples[peer.name]]
        kind = {"cpu_us": "CPU per request", "per_second": "requests per second"}[figure]
        return Row(
            name=f"{self.what}: {kind}",
            unit=unit,
            ours=statistics.median(ours),
            peer=statistics.median(theirs),
            peer_name=peer.name,
            ratio=statistics.median(a / max(b, 1e-9) for a, b in zip(ours, theirs)),
            bar=bar,
            broken=bool(self.broken & {self.servers[0].name, peer.name}),
        )

    def cpu(self, peer, bar=None):
        return self.row("cpu_us", "us", peer, bar and Bar("ratio", "<=", bar))

    def rate(self, peer, bar=None):
        return self.row("per_second", "1/s", peer, bar and Bar("ratio", ">=", bar))


def run(options):
    server_cpu, load_cpu = two_cpus()
    for name, size in FILE_SIZES.items():
        (options.folder / "files" / name).write_bytes(os.urandom(size))
    made = [kind(options.folder, server_cpu) for kind in (Tined, Nginx, H2o, Epoll)]
    with made[0] as tined, made[1] as nginx, made[2] as h2o, made[3] as epoll:
        def compare(what, path, *servers, **load):
            return Comparison(what, path, [tined, *servers], **load).run(options, load_cpu)

        hello = compare("hello", HELLO, nginx, epoll)
        pipelined = compare("hello, pipelined x16", HELLO, nginx, h2o, script=HERE / "pipeline.lua")
        small = compare("1 KiB file", FILES + "1k", nginx, h2o)
        large = compare("100 KiB file", FILES + "100k", nginx, h2o)
        # An answer that waits for a delayed acknowledgement (40 ms) hides among 64 connections, but not here.
        alone = compare("300 KiB file, one connection", FILES + "300k", nginx, connections=1)
    return [
        hello.cpu(nginx, bar=0.92), hello.cpu(epoll), hello.rate(nginx),
        pipelined.rate(nginx, bar=6), pipelined.rate(h2o), pipelined.cpu(nginx),
        small.cpu(nginx, bar=0.75), small.cpu(h2o), small.rate(nginx),
        large.cpu(nginx, bar=0.80), large.cpu(h2o), large.rate(nginx),
        alone.rate(nginx),
    ]

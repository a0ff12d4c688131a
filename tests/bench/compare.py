"""The same load on several servers in turn, A B B A ...: CPU time of the server for it, and how fast it went."""

import dataclasses
import statistics

from . import processes
from .common import BenchError, say
from .rows import Bar, Row

MIB = 1 << 20


@dataclasses.dataclass
class Sample:
    cpu_us: float  # of the server, all its processes, per request
    cpu_us_mib: float  # per MiB of answers, where the load counts bytes
    per_second: float


# Of each figure: what it is, per what the load does; the unit; what a bar demands of the ratio.
FIGURES = {
    "cpu_us": ("CPU per {}", "us", "<="),
    "cpu_us_mib": ("CPU per MiB", "us", "<="),
    "per_second": ("{}s per second", "1/s", ">="),
}


class Comparison:
    def __init__(self, bench, what, servers, load, noun="request"):
        """load(server) puts the load on a server and returns a wrk.Result. noun: what that counts."""
        self.bench, self.what, self.servers, self.load, self.noun = bench, what, servers, load, noun
        self.samples = {server.name: [] for server in servers}
        self.broken = set()

    def run(self, rounds):
        say(f"{self.bench}: {self.what}: {', '.join(s.name for s in self.servers)}; {rounds} rounds")
        for server in self.servers:  # warm-up
            self.measure(server)
        for i in range(rounds):
            for server in self.servers if i % 2 == 0 else reversed(self.servers):
                self.samples[server.name].append(self.measure(server))
        return self

    def measure(self, server):
        pids = server.family()
        before = processes.cpu_ns(pids)
        result = self.load(server)
        if set(server.family()) != set(pids):
            raise BenchError(f"{server.name}: a process came or went during the load:\n{server.log()[-2000:]}")
        used_us = (processes.cpu_ns(pids) - before) / 1000
        if result.errors:
            say(f"ERROR: {self.bench}: {self.what}: {server.name}: {result.errors}")
            self.broken.add(server.name)
        return Sample(
            used_us / max(result.requests, 1), used_us / max(result.n_bytes / MIB, 1e-9), result.per_second)

    def row(self, figure, peer, bar=None, of=None):
        """One of FIGURES, of a server (the first of all is ours) relative to a peer."""
        of = of or self.servers[0]
        kind, unit, demand = FIGURES[figure]
        ours = [getattr(sample, figure) for sample in self.samples[of.name]]
        theirs = [getattr(sample, figure) for sample in self.samples[peer.name]]
        return Row(
            name=f"{self.what}: {kind.format(self.noun)}" + (f" of {of.name}" if of is not self.servers[0] else ""),
            unit=unit,
            ours=statistics.median(ours),
            peer=statistics.median(theirs),
            peer_name=peer.name,
            ratio=statistics.median(a / max(b, 1e-9) for a, b in zip(ours, theirs)),
            bar=bar and Bar("ratio", demand, bar),
            broken=bool(self.broken & {of.name, peer.name}),
        )

    def cpu(self, peer, bar=None, of=None):
        return self.row("cpu_us", peer, bar, of)

    def cpu_per_mib(self, peer, bar=None):
        return self.row("cpu_us_mib", peer, bar)

    def rate(self, peer, bar=None):
        return self.row("per_second", peer, bar)

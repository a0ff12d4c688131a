"""Requests that fail while the running binary is replaced 20 times in a row.

The same clients as in the benchmark `reload`. Each upgrade executes a fresh copy of the binary, put in the place of the one
before, and is over when the process before has ended: then the next one begins.
"""

import collections
import pathlib
import re
import shutil
import signal
import statistics
import time

from . import processes, provision, wrk
from .client import Checkers
from .common import BenchError, say, wait_until
from .rows import Bar, Row
from .servers import HELLO, Tined

N_CLIENTS = 32
BODY = b"Hello, World!"
SERVES = re.compile(r"upgrade: pid (\d+) serves in place of pid (\d+)")


class Upgradable(Tined):
    """One with a binary of its own, and the process that it is now."""

    def command(self):
        self.binary = self.folder / "tined.copy"
        shutil.copy(provision.tined(), self.binary)
        _, *rest = super().command()
        return [self.binary, *rest]

    def upgrade(self, pid):
        """Replaces the binary and process pid. Returns the pid of the one that serves now."""
        beside = self.folder / "tined.new"
        shutil.copy(self.binary, beside)
        beside.rename(self.binary)
        processes.kill(pid, signal.SIGUSR2)

        def over():
            log = self.log()
            if "upgrade: failed" in log:
                raise BenchError(f"tined: upgrade failed:\n{log[-2000:]}")
            followed = [int(new) for new, old in SERVES.findall(log) if int(old) == pid]
            return followed[0] if followed else None

        new = wait_until(over, "the new binary serves")
        wait_until(lambda: self.is_over(pid), "the old one has ended")
        return new

    def is_over(self, pid):
        if pid == self.process.pid:
            return self.process.poll() is not None
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True


def run(options):
    n = options.rounds or 20
    times = []
    with Upgradable(options.folder, workers=2, options={"probation": "100ms"}) as tined:
        say(f"upgrade: {n} upgrades")
        pid = tined.process.pid
        try:
            with Checkers(tined.address, HELLO, BODY, N_CLIENTS) as clients, \
                    wrk.Load(tined.url(HELLO), n * 10 + 60, connections=16) as load:
                for _ in range(n):
                    start = time.perf_counter()
                    pid = tined.upgrade(pid)
                    times.append((time.perf_counter() - start) * 1000)
                result = load.result(stop=True)
                n_checked, n_renewed, failures = clients.result()
        finally:
            processes.kill(pid, signal.SIGTERM)
        n_executed = len(set(SERVES.findall(tined.log())))
    say(f"upgrade: {n_checked} checked requests, {n_renewed} connections renewed when asked to, {len(failures)} failed; "
        f"{result.requests} more by wrk, {result.n_errors} failed")
    for why, count in collections.Counter(failures).most_common(5):
        say(f"upgrade: {count} x {why}")
    return [
        Row(f"requests failed over {n} upgrades", "1", len(failures) + result.n_errors, None, "", bar=Bar("ours", "==", 0)),
        Row("upgrades", "1", n_executed, None, "", bar=Bar("ours", "==", n)),
        Row("requests meanwhile", "1", n_checked + result.requests, None, ""),
        Row("time of an upgrade, the old one's end included, median", "ms", statistics.median(times), None, ""),
    ]

"""What others notice while a client pulls a file that is not in the page cache, beside the same pull of one that is.

One worker each, tined and nginx (sendfile, no threads). A client pulls a file of 256 MiB, paced to 64 MiB a second, while 2000
tiny requests a second tell the 99th percentile; 3 s each (--seconds, up to 4), warm and cold in turn. Before each cold pull the
file is evicted (POSIX_FADV_DONTNEED), which mincore(2) has to confirm. The servers read from the disk at most 64
MiB a second (see throttle.py), so that a read that waits does wait, however fast the disk is; and the same number of bytes
is sent warm and cold. Where that cannot be arranged the disk's own speed counts, and the longest answer tells
how long the loop stood still. The file is in /var/tmp.
"""

import ctypes
import mmap
import os
import pathlib
import socket
import tempfile
import threading
import time

from . import latency
from .client import REQUEST
from .common import BenchError, WrongAnswer, say, two_cpus
from .rows import Bar, Row
from .servers import FILES, Nginx, Tined
from .throttle import Throttle

MIB = 1 << 20
SIZE, RATE = 256 * MIB, 64 * MIB
NAME = "cold"


def make(path):
    """Returns the MiB that the file repeats."""
    block = os.urandom(MIB)
    with open(path, "wb") as f:
        for _ in range(SIZE // MIB):
            f.write(block)
        f.flush()
        os.fsync(f.fileno())
    return block


def resident(path):
    """The share of a file that is in the page cache."""
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), SIZE) as mapping:
        n_pages = SIZE // mmap.PAGESIZE
        pages = (ctypes.c_ubyte * n_pages)()
        start = ctypes.c_char.from_buffer(mapping)
        r = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(SIZE), pages)
        del start
        if r != 0:
            raise BenchError(f"mincore: {os.strerror(ctypes.get_errno())}")
        return sum(page & 1 for page in bytes(pages)) / n_pages


def evict(path):
    with open(path, "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident(path) > 0.01:
        raise BenchError(f"{path} cannot be evicted from the page cache")


def warm(path):
    with open(path, "rb") as f:
        while f.read(MIB):
            pass
    if resident(path) < 0.99:
        raise BenchError(f"{path} does not stay in the page cache")


class Pull(threading.Thread):
    """A client that takes the file, paced, until it is told to stop."""

    def __init__(self, server, cpu, block):
        super().__init__(daemon=True)
        self.server, self.cpu, self.twice = server, cpu, memoryview(block * 2)
        self.enough = threading.Event()
        self.error, self.n_bytes, self.seconds = None, 0, 0.0

    def run(self):
        os.sched_setaffinity(0, {self.cpu})
        try:
            with socket.create_connection(self.server.address, 10) as s:
                self.take(s)
        except (OSError, BenchError) as e:
            self.error = f"{self.server.name}: the pull: {e}"

    def take(self, s):
        buffer = memoryview(bytearray(MIB))
        s.sendall(REQUEST.format(FILES + NAME, "").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = s.recv(1)
            if not byte:
                raise WrongAnswer("closed within the head")
            head += byte
        if not head.startswith(b"HTTP/1.1 200 ") or b"\r\ncontent-length: %d\r\n" % SIZE not in head.lower():
            raise WrongAnswer(f"answered {head!r}")
        start = time.monotonic()
        while not self.enough.is_set() and self.n_bytes < SIZE:
            n = s.recv_into(buffer)
            at = self.n_bytes % MIB
            if n == 0 or buffer[:n] != self.twice[at : at + n]:
                raise WrongAnswer(f"not the file's content after {self.n_bytes} bytes")
            self.n_bytes += n
            self.seconds = time.monotonic() - start
            time.sleep(max(0, self.n_bytes / RATE - self.seconds))

    def result(self):
        """MiB per second."""
        self.enough.set()
        self.join(20)
        if self.error or self.is_alive():
            raise WrongAnswer(self.error or f"{self.server.name}: the pull does not end")
        return self.n_bytes / MIB / max(self.seconds, 1e-9)


class Measured:
    """One server: windows of latency and rates of the pulls."""

    def __init__(self, server):
        self.server = server
        self.warm, self.cold, self.rates = [], [], []

    def both(self, path, block, seconds, cpu):
        for get_ready, windows in ((warm, self.warm), (evict, self.cold)):
            get_ready(path)
            pull = Pull(self.server, cpu, block)
            pull.start()
            try:
                windows.append(latency.measure(self.server, cpu, seconds))
            finally:
                rate = pull.result()
        self.rates.append(rate)  # of the cold one

    def row(self, name, bar=None):
        return Row(
            f"{name}p99 of tiny requests beside a cold file", "ms", latency.p99_ms(self.cold),
            latency.p99_ms(self.warm), f"{self.server.name}, warm file", bar=bar)


def run(options):
    server_cpu, load_cpu = two_cpus()
    seconds, rounds = min(options.seconds or 3, 4), options.rounds or 4
    with tempfile.TemporaryDirectory(prefix="tined-bench-", dir="/var/tmp") as name:
        folder = pathlib.Path(name)
        os.chmod(folder, 0o755)
        path = folder / "files" / NAME
        path.parent.mkdir()
        block = make(path)
        with Throttle(path, RATE) as throttle, \
                Tined(folder, server_cpu, first=True) as tined, Nginx(folder, server_cpu, first=True) as nginx:
            ours, theirs = Measured(tined), Measured(nginx)
            for server in (tined, nginx):
                throttle.add(server.family())
            for i in range(rounds):
                say(f"cold: round {i + 1} of {rounds}")
                for measured in (ours, theirs) if i % 2 == 0 else (theirs, ours):
                    measured.both(path, block, seconds, load_cpu)
    return [
        ours.row("", Bar("ratio", "<=", 2)),
        theirs.row("nginx: "),
        Row("the longest of them", "ms", latency.longest_ms(ours.cold), latency.longest_ms(theirs.cold), "nginx"),
        Row("cold pull, slowest", "MiB/s", min(ours.rates), min(theirs.rates), "nginx"),
    ]

"""Memory of a worker that streams without end to clients that have stopped reading, and what others notice.

The module stream.c writes as fast as it may. 1, 10 and 100 clients ask for it and read nothing for 10 s (--seconds); the
worker's RSS is compared with that before them, and its growth in the second half of the time has to be nothing but
noise. Each number meets a server of its own, so that none uses the memory another one left. 2000 tiny requests a second
tell the 99th percentile before and meanwhile. In the end every client reads on and checks what it gets.
"""

import contextlib
import socket
import time

from . import latency, processes
from .client import REQUEST
from .common import WrongAnswer, say, two_cpus, wait_until
from .rows import Bar, Row
from .servers import Tined

PATH = "/stream"
NUMBERS = (1, 10, 100)
BLOCK = 16384  # as in stream.c
KIB_EACH, KIB_NOISE = 512, 64
TO_CHECK = 1 << 20  # bytes of each client's answer


def ask(server):
    s = socket.create_connection(server.address, 5)
    s.sendall(REQUEST.format(PATH, "").encode())
    return s


def check(s, n):
    """Reads n bytes of the stream, which is chunked, and checks that nothing is missing in them."""
    with s.makefile("rb") as answer:
        if answer.readline() != b"HTTP/1.1 200 OK\r\n":
            raise WrongAnswer("stalled: not 200")
        while answer.readline() not in (b"\r\n", b""):
            pass
        body = b""
        while len(body) < n:
            size = int(answer.readline(), 16)
            body += answer.read(size)
            if answer.readline() != b"\r\n":
                raise WrongAnswer("stalled: a chunk does not end where it should")
    for i in range(n // BLOCK):
        if body[i * BLOCK : i * BLOCK + 16] != b"%015d\n" % i:
            raise WrongAnswer(f"stalled: block {i} of the stream is not there")


def grown(tined, n, seconds, cpu):
    """KiB by which the worker grew in the first half and in the second, and windows of latency before and meanwhile."""
    say(f"stalled: {n} readers for {seconds} s")
    for _ in range(2):  # code and tables of the first ones are not the readers'
        with ask(tined) as s:
            check(s, TO_CHECK)
    worker, = tined.workers()
    free = [latency.measure(tined, cpu) for _ in range(3)]
    wait_until(lambda: processes.n_connections([worker], tined.port) == [0], "no connections")
    rss, loaded = [processes.memory_kib(worker, "Rss")], []
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(ask(tined)) for _ in range(n)]
        for _ in range(2):
            end = time.monotonic() + seconds / 2
            while time.monotonic() < end:
                loaded.append(latency.measure(tined, cpu))
            rss.append(processes.memory_kib(worker, "Rss"))
        if tined.workers() != [worker] or processes.n_connections([worker], tined.port) != [n]:
            raise WrongAnswer(f"stalled: not all of {n} readers are still connected\n{tined.log()[-1000:]}")
        for s in readers:
            s.settimeout(10)
            check(s, TO_CHECK)
    return rss[1] - rss[0], rss[2] - rss[1], free, loaded


def run(options):
    server_cpu, load_cpu = two_cpus()
    rows = []
    for n in NUMBERS:
        folder = options.folder / str(n)
        (folder / "files").mkdir(parents=True)
        with Tined(folder, server_cpu, first=True, modules=("stream",)) as tined:
            first, second, free, loaded = grown(tined, n, options.seconds or 10, load_cpu)
        what = f"{n} stalled reader{'s' if n > 1 else ''}: "
        rows += [
            Row(what + "RSS of each", "KiB", (first + second) / n, None, "", bar=Bar("ours", "<=", KIB_EACH)),
            Row(what + "RSS more in the second half", "KiB", second, None, "", bar=Bar("ours", "<=", KIB_NOISE)),
            Row(what + "p99 of tiny requests", "ms", latency.p99_ms(loaded), latency.p99_ms(free), "tined without",
                bar=Bar("ratio", "<=", 2)),
        ]
    return rows

"""Messages from one machine's worker to another's through nats-server, beside libnats by itself.

Two daemons and nats-server on loopback, one worker each. What is published at once, as fast as it goes, must all arrive, in
order. The peer is a C program with two connections to the same server: nothing between it and the library, and no worker,
primary or bridge on either side. Rates are those of the receiver, from the first message to the last; rounds alternate.
"""

import contextlib
import socket
import statistics
import subprocess
import threading
import time
import urllib.request

from . import provision
from .client import ask, ask_numbers
from .common import BenchError, WrongAnswer, per_second, say
from .rows import Bar, Row
from .servers import Tined

PATH = "/bridge_module"


class Joined(Tined):
    def __init__(self, *args, url, **more):
        super().__init__(*args, modules=("bridge_module",), workers=1, **more)
        self.nats = url

    def command(self):
        command = super().command()
        with open(self.folder / "tined.ini", "a", encoding="utf-8") as f:
            f.write(f"[bus]\nnats = {self.nats}\nnats_buffer = 256M\n")
        return command

    def complete(self):
        return super().complete() and "nats: connected" in self.log()

    def numbers(self, what, **query):
        return ask_numbers(self, f"{PATH}/{what}", **query)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@contextlib.contextmanager
def nats_server(folder):
    """Gives its address, and that of its monitoring."""
    port, monitor = free_port(), free_port()
    with open(folder / "nats.log", "wb") as log:
        process = subprocess.Popen(
            [provision.find("nats-server"), "-a", "127.0.0.1", "-p", str(port), "-m", str(monitor)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    try:
        yield f"nats://127.0.0.1:{port}", f"http://127.0.0.1:{monitor}"
    finally:
        process.kill()
        process.wait()


def wait_subscribed(monitor):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{monitor}/connz?subs=1", timeout=5) as answer:
            if b"bench.trip" in answer.read():
                return
        time.sleep(0.05)
    raise BenchError("bridge: nobody has subscribed at nats-server")


def ours(a, b, n, size):
    got = []
    waiter = threading.Thread(target=lambda: got.append(b.numbers("wait", n=n)), daemon=True)
    waiter.start()
    a.numbers("publish", n=n, size=size)
    waiter.join(120)
    if not got or got[0][2] != 0:
        raise WrongAnswer(f"bridge: {n} messages: {got or 'not all came'}, the last figure is what was out of order")
    return per_second(got[0])


def peer(url, *arguments):
    binary = provision.compile_c(provision.HERE / "bridge_peer.c", provision.OWN_BUILD / "bridge_peer", "-Wl,--no-as-needed",
                                 "-lnats")
    return provision.numbers([binary, url, *arguments], "libnats")


def rounds_of(a, b, url, n, rounds):
    rates, theirs = {64: [], 1024: []}, {64: [], 1024: []}
    trips, their_trips = [], []
    for i in range(rounds):
        say(f"bridge: round {i + 1} of {rounds}")
        for size in rates:
            rates[size].append(ours(a, b, n, size))
            theirs[size].append(per_second(peer(url, "rate", n, size)))
        trips.append(a.numbers("trip", n=2000)[0])
        their_trips.append(peer(url, "trip", 2000)[0])
    rows = [Row(f"{size} B, a burst of {n}", "messages/s", statistics.median(rates[size]),
                statistics.median(theirs[size]), "libnats") for size in rates]
    return [*rows, Row("request and answer, p50", "us", statistics.median(trips), statistics.median(their_trips),
                       "libnats", bar=Bar("ratio", "<=", 3))]


def run(options):
    rounds, n = options.rounds or 5, 200000 * (options.seconds or 1)
    provision.need("nats-server")
    provision.need_file("/usr/include/nats/nats.h", "libnats-dev")
    tined = provision.tined()
    if not (tined.parent / "tined-nats.so").exists():
        provision.run(["ninja", "-C", tined.parent, "tined-nats.so"], "build", timeout=300)
    folders = [options.folder / name for name in ("a", "b")]
    for folder in folders:
        (folder / "files").mkdir(parents=True)
    with nats_server(options.folder) as (url, monitor), Joined(folders[0], url=url) as a, Joined(folders[1], url=url) as b:
        ask(b, f"{PATH}/listen")
        wait_subscribed(monitor)
        return rounds_of(a, b, url, n, rounds)

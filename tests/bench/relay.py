"""Messages between workers beside Node's cluster: rate, round trips, sizes, one to eight, a consumer that never reads.

tined: relay_module.c through tine/bus.h, one callback for each message, the number in each of them checked. The peer is
relay_node.js: two workers of Node's cluster module, whose primary passes messages on as the documentation shows. Nothing is
bound to a CPU: three processes share what there is, for both. Rates are the medians of the rounds, which alternate.

The consumer that never reads: one worker fills another one's queue for two minutes while a third sends to a fourth, in turn with a
pair in a daemon that has no such consumer.
"""

import contextlib
import itertools
import pathlib
import re
import socket
import statistics
import threading

from . import provision
from .client import ask_numbers
from .common import BenchError, WrongAnswer, per_second, say
from .rows import Bar, Row
from .servers import Tined

PATH = "/relay_module"
SIZES = (1 << 10, 16 << 10, 64 << 10, 1 << 20, 10 << 20, 100 << 20)
QUEUE_HIGH = 4 << 20
MIB = 1 << 20


def ask(server, what, **query):
    return ask_numbers(server, f"{PATH}/{what}", **query)


def node(*arguments):
    return provision.node("relay_node.js", *arguments)


def beside_node(tined, seconds, rounds):
    ours, theirs, trips, their_trips = [], [], [], []
    for i in range(rounds):
        say(f"relay: round {i + 1} of {rounds}: 64 bytes, rate and round trips")
        ours.append(per_second(ask(tined, "rate", seconds=seconds, size=64)))
        theirs.append(per_second(node("rate", seconds, 64)))
        trips.append(ask(tined, "trip", n=20000, size=64)[0])
        their_trips.append(node("trip", 20000, 64)[0])
    rate, peer = statistics.median(ours), statistics.median(theirs)
    return [
        Row("64 B, worker to worker", "messages/s", rate, peer, "node", bar=Bar("ours", ">=", 5e6)),
        Row("the same, beside Node's", "messages/s", rate, peer, "node", bar=Bar("ratio", ">=", 30)),
        Row("round trip, p50", "us", statistics.median(trips), statistics.median(their_trips), "node",
            bar=Bar("ratio", "<=", 0.5)),
    ]


def by_size(tined, seconds, rounds):
    """Time per MiB must not grow with the size."""
    cost = {size: [] for size in SIZES}
    for i in range(rounds):
        say(f"relay: round {i + 1} of {rounds}: messages of 1 KiB to 100 MiB")
        for size in SIZES:
            n, took, _ = ask(tined, "rate", seconds=seconds, size=size)
            cost[size].append(took / (n * size / MIB))
    rows = []
    for size in SIZES:
        label = f"{size >> 10} KiB" if size < MIB else f"{size >> 20} MiB"
        rows.append(Row(f"messages of {label}", "MiB/s", 1 / statistics.median(cost[size]), None, ""))
    large, small = cost[100 * MIB], cost[MIB]
    rows.append(Row("time per MiB: 100 MiB beside 1 MiB", "us", statistics.median(large) * 1e6, statistics.median(small) * 1e6,
                    "1 MiB", ratio=statistics.median(x / y for x, y in zip(large, small)), bar=Bar("ratio", "<=", 1.5)))
    return rows


def fan_out(folder, seconds, rounds):
    with Tined(folder, workers=9, modules=("relay_module",)) as tined:
        say("relay: one publishes, eight have subscribed")
        rates = [per_second(ask(tined, "fan", seconds=seconds, size=64)) for _ in range(rounds)]
    return [Row("1 publisher, 8 workers subscribed", "deliveries/s", statistics.median(rates), None, "",
                bar=Bar("ours", ">=", 8e6))]


# --- a consumer that never reads ---


class Worker:
    """A connection that stays with one worker."""

    def __init__(self, server):
        self.sock = socket.create_connection(server.address, 120)
        self.peer = int(self.ask("self"))

    def ask(self, what):
        self.sock.sendall(f"GET {PATH}/{what} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.sock.recv(65536)
        head, body = answer.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        while len(body) < length:
            body += self.sock.recv(65536)
        if b" 200 " not in head.split(b"\r\n")[0] or body.startswith(b"error"):
            raise WrongAnswer(f"relay: {what}: {head.splitlines()[0].decode()} {body.decode()}")
        return body.decode()

    def rate(self, to, seconds):
        words = self.ask(f"rate?to={to.peer}&seconds={seconds}&size=64").split()
        return float(words[0]) / float(words[1])


def workers(server, n):
    """One connection to each."""
    found = {}
    for _ in range(50 * n):
        w = Worker(server)
        if found.setdefault(w.peer, w) is not w:
            w.sock.close()
        if len(found) == n:
            return list(found.values())
    raise BenchError(f"relay: connections reach {len(found)} of {n} workers")


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def stuck(folder, seconds):
    """Two daemons, one with such a consumer, in turn: what else the machine does meets both."""
    options = {"hang_timeout": "1s"}
    for name in ("with", "without"):
        (folder / name / "files").mkdir(parents=True)
    with Tined(folder / "with", workers=4, modules=("relay_module",), options=options) as tined, \
            Tined(folder / "without", workers=4, modules=("relay_module",), options=options) as other:
        sender, deaf, a, b = workers(tined, 4)
        _, _, c, d = workers(other, 4)
        segment = max(1, min(3, seconds // 8))
        for pair in (a, b), (c, d):
            pair[0].rate(pair[1], 1)
        was = rss(tined.process.pid)
        deaf.ask("deaf")
        threading.Thread(target=try_flood, args=(sender, deaf), daemon=True).start()
        say(f"relay: a pair beside a consumer that does not read, and one by itself, {seconds} s each")
        beside, alone, grown = [], [], []
        for i in range(seconds // segment):
            for j in ((0, 1) if i % 2 else (1, 0)):
                (beside if j else alone).append(a.rate(b, segment) if j else c.rate(d, segment))
            grown.append(rss(tined.process.pid) - was)
        silent = len(re.findall("no answer", tined.log()))
    ratio = statistics.median(x / y for x, y in zip(beside, alone))
    return [
        Row("pair beside a consumer that never reads", "messages/s", statistics.median(beside), statistics.median(alone),
            "by itself", ratio=ratio, bar=Bar("ratio", ">=", 0.8)),
        Row("primary: memory that grows by it", "MiB", max(grown) / MIB, 4 * QUEUE_HIGH / MIB, "queue_high x lanes",
            bar=Bar("ratio", "<=", 1)),
        Row("PINGs without an answer within a second", "", silent, None, "", bar=Bar("ours", "==", 0)),
    ]


def try_flood(sender, deaf):
    with contextlib.suppress(OSError, WrongAnswer):
        sender.rate(deaf, 3600)


def run(options):
    seconds, rounds = options.seconds or 2, options.rounds or 5
    provision.need("node")
    folders = (options.folder / str(i) for i in itertools.count())
    rows = []
    for part in (lambda folder: on_two(folder, seconds, rounds), lambda folder: fan_out(folder, seconds, rounds),
                 lambda folder: stuck(folder, 60 if options.seconds is None else 10 * seconds)):
        folder = next(folders)
        (folder / "files").mkdir(parents=True)
        rows += part(folder)
    return rows


def on_two(folder, seconds, rounds):
    with Tined(folder, workers=2, modules=("relay_module",), options={"hang_timeout": "1m"}) as tined:
        return beside_node(tined, seconds, rounds) + by_size(tined, max(1, seconds // 2), rounds)

"""Messages between a worker's loop and a thread of its own, beside the thread pool's round trip and Node's worker_threads.

tined: threads_module.c through tine/thread.h, one callback for each message, the number in each of them checked. Nothing is bound to a
CPU. The figures are the medians of the rounds, in which all are measured in turn.
"""

import pathlib
import statistics
import subprocess

from . import provision
from .client import fetch
from .common import BenchError, WrongAnswer, say
from .rows import Bar, Row
from .servers import Tined

PATH = "/threads_module"
TRIPS = 20000
ONE_WAY = 3e6


def ask(server, what, **query):
    """The numbers that the worker answers with; none where it cannot tell."""
    path = f"{PATH}/{what}?" + "&".join(f"{key}={value}" for key, value in query.items())
    status, body = fetch(server.address, path, 120)
    if status != 200 or body.startswith(b"error"):
        raise WrongAnswer(f"threads: {path}: {status} {body.decode()}")
    return [float(word) for word in body.split()]


def node(*arguments):
    command = [provision.find("node"), str(pathlib.Path(__file__).with_name("threads_node.js")), *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError("threads: node did not finish") from None
    if done.returncode != 0:
        raise BenchError(f"threads: node: {done.stderr.strip()[-1000:]}")
    return [float(word) for word in done.stdout.split()]


def per_second(numbers):
    return numbers[0] / numbers[1]


def measure(tined, seconds):
    """One round: {name: figure}."""
    pool = ask(tined, "pool", n=TRIPS)
    return {
        "trip": ask(tined, "trip", n=TRIPS)[0],
        "pool": pool[0],
        "node trip": node("trip", TRIPS)[0],
        "down": per_second(ask(tined, "down", seconds=seconds)),
        "node down": per_second(node("down", seconds)),
        "up": per_second(ask(tined, "up", seconds=seconds)),
        "node up": per_second(node("up", seconds)),
    }


def rows(folder, seconds, rounds):
    """folder: with files/ in it, for a daemon of its own."""
    provision.need("node")
    found = []
    with Tined(folder, modules=("threads_module",), options={"hang_timeout": "1m"}) as tined:
        for i in range(rounds):
            say(f"threads: round {i + 1} of {rounds}")
            found.append(measure(tined, seconds))
    f = {name: found[0][name] and statistics.median(one[name] for one in found) for name in found[0]}
    return [
        Row("thread message there and back, p50", "us", f["trip"], f["pool"], "pool, one in flight",
            bar=Bar("ratio", "<=", 1)),
        Row("the same, beside Node's", "us", f["trip"], f["node trip"], "node"),
        Row("64 B to a thread", "messages/s", f["down"], f["node down"], "node", bar=Bar("ours", ">=", ONE_WAY)),
        Row("64 B from a thread", "messages/s", f["up"], f["node up"], "node", bar=Bar("ours", ">=", ONE_WAY)),
    ]

"""Messages between a worker's loop and a thread of its own, beside the thread pool's round trip and Node's worker_threads.

tined: threads_module.c through tine/thread.h, one callback for each message, the number in each of them checked. Nothing is bound to a
CPU. The figures are the medians of the rounds, in which all are measured in turn.
"""

import statistics

from . import provision
from .client import ask_numbers
from .common import per_second, say
from .rows import Bar, Row
from .servers import Tined

PATH = "/threads_module"
TRIPS = 20000
ONE_WAY = 3e6


def ask(server, what, **query):
    return ask_numbers(server, f"{PATH}/{what}", **query)


def node(*arguments):
    return provision.node("threads_node.js", *arguments)


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

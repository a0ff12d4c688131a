"""Tasks in processes of their own, beside worker-farm and piscina: rate, crashes, large results, what clients notice of it.

tined: farm_module.c through tine/farm.h: one worker submits empty tasks to a farm of two processes, 64 in flight; each answer is
checked. The peers (farm_node.js) are npm's worker-farm, which has processes too, and piscina, which has threads of one process, with
two of them each. The bars are for worker-farm as it has to be set for what a farm of tined promises: one task at a time in each
process, so that a crash takes no other one along. By itself it gives each process ten at a time: a row without a bar. Nothing is
bound to a CPU. Rates are the medians of the rounds, which alternate.

Crashes: each hundredth task kills its process. With retries = 0 those fail and every other one completes; with retries = 1, where it
happens the first time only, all complete. None is lost or done twice.

Requests: how long a tiny answer takes while two tasks of the farm compute, and while two programs beside an idle server do.
"""

import contextlib
import os
import statistics
import threading

from . import provision
from .client import ask, ask_numbers
from .common import WrongAnswer, per_second, say
from .rows import Bar, Row
from .servers import Tined
from .work import N_BUSY, busy_rows

IN_FLIGHT = 64
VERSIONS = {"worker-farm": 1, "piscina": 4}
SIZES = (1 << 10, 64 << 10, 1 << 20, 16 << 20)
MIB = 1 << 20
WINDOW = 1  # seconds


class Farm(Tined):
    def __init__(self, folder, own_session=True, **keys):
        (folder / "files").mkdir(parents=True)
        module = provision.module("farm_module")
        super().__init__(folder, workers=1, modules=("farm_module",), own_session=own_session, sections={
            "farm:bench": {"module": module, "processes": 2, "min": 2, "timeout": "2m", **keys}})

    def load(self, **query):
        """Tasks that were done, those that crashed, and seconds."""
        n, crashed, wrong, took = ask_numbers(self, "/farm_module/rate", **query)
        if wrong:
            raise WrongAnswer(f"farm: {query}: {wrong:.0f} of {n:.0f} tasks were lost, done twice, or have a wrong result")
        return n, crashed, took

    def rate(self, **query):
        n, _, took = self.load(**query)
        return n / took


def node(which, seconds, in_flight, *at_once):
    packages, _ = provision.npm(which, VERSIONS[which])
    return per_second(provision.node("farm_node.js", which, seconds, in_flight, *at_once,
                                     env={**os.environ, "NODE_PATH": str(packages)}))


PEERS = {  # what is run in turn: who, how many are in flight, how many a process is given at a time
    "many": ("worker-farm", IN_FLIGHT, 1),
    "one": ("worker-farm", 1, 1),
    "default": ("worker-farm", IN_FLIGHT),
    "threads": ("piscina", IN_FLIGHT),
}


def beside_node(folder, seconds, rounds):
    ours, theirs = {IN_FLIGHT: [], 1: []}, {name: [] for name in PEERS}
    with Farm(folder) as farm:
        farm.rate(n=1000)
        for i in range(rounds):
            say(f"farm: round {i + 1} of {rounds}: empty tasks")
            for flight, rates in ours.items():
                rates.append(farm.rate(seconds=seconds, flight=flight))
            for name, (which, flight, *more) in PEERS.items():
                theirs[name].append(node(which, seconds, flight, *more))
    many, one = (statistics.median(ours[flight]) for flight in (IN_FLIGHT, 1))
    peer = {name: statistics.median(rates) for name, rates in theirs.items()}
    return [
        Row("empty task, 2 processes, 64 in flight", "tasks/s", many, peer["many"], "worker-farm", bar=Bar("ratio", ">=", 3)),
        Row("one in flight", "tasks/s", one, peer["one"], "worker-farm"),
        Row("64 in flight, beside ten at a time", "tasks/s", many, peer["default"], "worker-farm"),
        Row("64 in flight, beside threads", "tasks/s", many, peer["threads"], "piscina"),
    ]


def with_crashes(folder, seconds, rounds):
    rows = []
    for retries, function in ((0, "crash"), (1, "crash_once")):
        peaceful, crashing = [], []
        with Farm(folder / str(retries), retries=retries) as farm:
            farm.rate(n=1000)
            for i in range(rounds):
                say(f"farm: round {i + 1} of {rounds}: one task in a hundred kills its process, retries = {retries}")
                peaceful.append(farm.rate(seconds=seconds))
                n, crashed, took = farm.load(seconds=seconds, function=function)
                if crashed != (n // 100 if retries == 0 else 0):
                    raise WrongAnswer(f"farm: {crashed:.0f} of {n:.0f} tasks failed by a crash, with retries = {retries}")
                crashing.append(n / took)
        rows.append(Row(f"1 crash in 100 tasks, retries = {retries}", "tasks/s", statistics.median(crashing),
                        statistics.median(peaceful), "no crash", bar=Bar("ratio", ">=", 0.5)))
    return rows


def by_size(folder, seconds):
    rows = []
    with Farm(folder) as farm:
        for size in SIZES:
            say(f"farm: results of {size} bytes")
            rate = farm.rate(seconds=seconds, function="large", size=size)
            label = f"{size >> 10} KiB" if size < MIB else f"{size >> 20} MiB"
            rows.append(Row(f"results of {label}", "MiB/s", rate * size / MIB, None, ""))
    return rows


def beside_requests(folder, rounds):
    """In turn, so that what else the machine does meets both; see busy_rows()."""
    with Farm(folder, own_session=False) as farm:

        @contextlib.contextmanager
        def busy():
            computing = threading.Thread(
                target=ask, args=(farm, "/farm_module/busy"), kwargs={"n": N_BUSY, "seconds": WINDOW + 1})
            computing.start()
            yield
            computing.join()

        return busy_rows(farm, "farm", busy, WINDOW, rounds)


def run(options):
    seconds, rounds = options.seconds or 2, options.rounds or 5
    provision.need("node", "npm")
    rows = beside_node(options.folder / "rate", seconds, rounds)
    rows += with_crashes(options.folder / "crashes", seconds, rounds)
    rows += by_size(options.folder / "sizes", seconds)
    rows += beside_requests(options.folder / "requests", rounds)
    return rows

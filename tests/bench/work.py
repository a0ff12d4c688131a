"""Work off the loop: the thread pool beside libuv's, worker threads, child processes beside Node's.

tined: work_module.c through tine/work.h in a worker; libuv: work_uv.c. Both have four threads, and nothing is bound to a CPU. Rounds
alternate; rates are medians, ratios medians of those of the rounds, since what else the machine does changes from one to the next.

The last row: requests for 13 bytes while two threads of the pool compute, beside those while two processes outside of the server do.
"""

import contextlib
import itertools
import statistics
import subprocess

from . import latency, provision, spawn, threads
from .client import ask, ask_numbers
from .common import per_second, say, two_cpus
from .rows import Bar, Row
from .servers import Tined

PATH = "/work_module"
THREADS, MANY_THREADS = 4, 16
N_BUSY = 2
WINDOWS = 3  # each round: where a thread happens to run decides about many requests that follow each other
FLIGHTS = ((1, 1.0), (64, 1.3), (1024, 1.3))
HEADER = "/usr/include/uv.h"


def ours(server, flight, seconds):
    return per_second(ask_numbers(server, f"{PATH}/tasks", timeout=seconds + 60, flight=flight, seconds=seconds))


def libuv():
    """The program, and the environment that gives it as many threads as tined has."""
    provision.need_file(HEADER, "libuv1-dev")
    binary = provision.compile_c(provision.HERE / "work_uv.c", provision.OWN_BUILD / "work_uv", "-luv")
    return binary, {"UV_THREADPOOL_SIZE": str(THREADS)}


def theirs(flight, seconds):
    binary, environment = libuv()
    return per_second(provision.numbers([binary, flight, seconds], "libuv", timeout=seconds + 60, env=environment))


def paired(a, b):
    return statistics.median(x / y for x, y in zip(a, b))


def beside_libuv(few, many, seconds, rounds):
    """few, many: daemons with four threads and with sixteen."""
    rows = []
    for flight, limit in FLIGHTS:
        say(f"work: {flight} in flight, {rounds} rounds")
        rates = {"few": [], "many": [], "uv": []}
        for i in range(rounds):
            turns = [("few", few), ("many", many), ("uv", None)]
            for name, server in reversed(turns) if i % 2 else turns:
                rates[name].append(ours(server, flight, seconds) if server else theirs(flight, seconds))
        middle = {name: statistics.median(values) for name, values in rates.items()}
        rows += [
            Row(f"empty tasks, {flight} in flight", "tasks/s", middle["few"], middle["uv"], "libuv",
                ratio=paired(rates["few"], rates["uv"]), bar=Bar("ratio", ">=", limit)),
            Row(f"the same, {MANY_THREADS} threads beside {THREADS}", "tasks/s", middle["many"], middle["few"],
                f"{THREADS} threads", ratio=paired(rates["many"], rates["few"]), bar=Bar("ratio", ">=", 0.95)),
        ]
    return rows


@contextlib.contextmanager
def hogs(n):
    """So many processes that compute, of our own priority."""
    running = [subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"], stdin=subprocess.DEVNULL) for _ in range(n)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def busy_rows(server, name, busy, seconds, rounds):
    """
    Requests beside what the server computes. busy(): a context inside of which it computes in N_BUSY threads or processes. The server is
    in our session, as the processes outside of it are: else it would be one autogroup against another.
    """
    _, cpu = two_cpus()
    inside, outside = [], []
    for i in range(WINDOWS * rounds):
        say(f"work: requests while it is busy ({name}), {i + 1} of {WINDOWS * rounds}")
        with hogs(N_BUSY):
            outside.append(latency.measure(server, cpu, seconds).p99_ms)
        with busy():
            inside.append(latency.measure(server, cpu, seconds).p99_ms)
    return [Row(f"p99 of requests while {N_BUSY} tasks compute: {name}", "ms", statistics.median(inside),
                statistics.median(outside), f"{N_BUSY} processes", ratio=paired(inside, outside),
                bar=Bar("ratio", "<=", 2))]


def busy_pool(server):
    """Two threads of its pool compute until they are told to stop."""

    @contextlib.contextmanager
    def busy():
        ask(server, f"{PATH}/busy", n=N_BUSY)
        yield
        ask(server, f"{PATH}/calm")

    return busy


def run(options):
    seconds, rounds = options.seconds or 1, options.rounds or 7
    libuv()
    folders = (options.folder / str(i) for i in itertools.count())
    with contextlib.ExitStack() as stack:
        def tined(n):
            folder = next(folders)
            (folder / "files").mkdir(parents=True)
            return stack.enter_context(
                Tined(folder, workers=1, modules=("work_module",), options={"threads": n}, own_session=False))

        few, many = tined(THREADS), tined(MANY_THREADS)
        rows = beside_libuv(few, many, seconds, rounds)
        rows += busy_rows(few, "pool", busy_pool(few), seconds, rounds)
    for other in threads, spawn:
        folder = next(folders)
        (folder / "files").mkdir(parents=True)
        rows += other.rows(folder, seconds, rounds)
    return rows

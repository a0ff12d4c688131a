"""Seconds until a hang is found, and how many are found that are none, on a machine loaded 8 times over its CPUs.

hang_timeout is 2 s. A worker is made to spin, to sleep in a handler, or is stopped from outside; the time runs from then until
the log says "hung". Then 8 processes for each CPU burn it for two minutes while the workers serve; whatever is said to hang is
a mistake.
"""

import multiprocessing
import os
import re
import signal
import socket
import time

from . import processes
from .client import REQUEST, fetch
from .common import BenchError, say, wait_until
from .rows import Bar, Row
from .servers import HELLO, Tined

HANG_TIMEOUT = 2
OVERLOAD = 8
PATIENT = {"hang_timeout": f"{HANG_TIMEOUT}s", "backoff_min": "1ms", "crash_limit": "100000/60s"}


def n_hung(tined):
    return len(re.findall(r"worker\[\d+\]: hung: ", tined.log()))


def ask(tined, path):
    """Leaves the request unanswered."""
    s = socket.create_connection(tined.address, 5)
    s.sendall(REQUEST.format(path, "").encode())
    return s


def stop_one(tined):
    processes.kill(tined.workers()[0], signal.SIGSTOP)


KINDS = {
    "while (1)": lambda tined: ask(tined, "/stuck/spin"),
    "sleep(60)": lambda tined: ask(tined, "/stuck/sleep"),
    "SIGSTOP": stop_one,
}


def find(tined, make):
    """Seconds until it is found, and until both workers are there again."""
    before, old = n_hung(tined), set(tined.workers())
    start = time.monotonic()
    connection = make(tined)
    wait_until(lambda: n_hung(tined) > before, "the hang is found", 4 * HANG_TIMEOUT)
    found = time.monotonic() - start
    wait_until(lambda: len(tined.workers()) == 2 and set(tined.workers()) != old, "a replacement", 10)
    if connection:
        connection.close()
    wait_until(lambda: fetch(tined.address, HELLO)[0] == 200, "it serves")
    time.sleep(1.5)  # the next one begins with all workers ready
    return found


def burn():
    while True:
        pass


def overload(tined, seconds):
    """Returns false alarms, and answers in that time."""
    n = OVERLOAD * len(os.sched_getaffinity(0))
    say(f"hang: {n} processes burn CPU for {seconds} s")
    before, n_answers = n_hung(tined), 0
    burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(n)]
    for b in burners:
        b.start()
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if fetch(tined.address, HELLO, timeout=60)[0] != 200:
                raise BenchError("a request was not answered as it should be")
            n_answers += 1
            time.sleep(0.05)
    finally:
        for b in burners:
            b.kill()
        for b in burners:
            b.join()
    return n_hung(tined) - before, n_answers


def run(options):
    rows = []
    with Tined(options.folder, workers=2, options=PATIENT, modules=["stuck"]) as tined:
        for name, make in KINDS.items():
            times = [find(tined, make) for _ in range(options.rounds or 3)]
            rows.append(Row(f"{name}: found after, longest of {len(times)}", "s", max(times), None, "",
                            bar=Bar("ours", "<=", HANG_TIMEOUT + 1)))
        seconds = options.seconds or 120
        false, n_answers = overload(tined, seconds)
    rows.append(Row(f"false kills in {seconds} s of {OVERLOAD} times the load", "1", false, None, "",
                    bar=Bar("ours", "==", 0)))
    rows.append(Row("requests answered meanwhile", "1", n_answers, None, ""))
    return rows

"""What 1,000 reloads, 1,000 kills of workers and 1,000 restarts of workers leave behind: nothing.

A few of each come first, for what they load (code, in steps of 64 KiB; the pages of the rings that remember events and
crashes) is not left behind by those that follow. Then everything is counted, before and after: the descriptors, memory and
mappings of the primary, all processes, what lies in /dev/shm. Every tenth kill is SIGABRT, so that the worker tells where it
was; the others are SIGKILL. Between them one of the two workers serves, and a client asks it to.
"""

import os
import random
import signal
import time

from . import processes
from .client import fetch
from .common import BenchError, say, wait_until
from .rows import Bar, Row
from .servers import HELLO, Tined

N_WORKERS = 2
N_FIRST = 100
LONGEST = 180  # seconds for each kind
KILLS = [signal.SIGABRT] + [signal.SIGKILL] * 9


def settled(tined):
    """Waits until there are two workers and nobody else."""
    wait_until(lambda: len(processes.family(tined.process.pid)) == N_WORKERS + 1, f"{N_WORKERS} workers and no others", 30)


def told(tined, *arguments):
    answer = tined.control(*arguments)
    if answer.returncode != 0:
        raise BenchError(f"tinectl {' '.join(arguments)}: {(answer.stdout + answer.stderr).strip()}")


def reload_once(tined, _):
    told(tined, "reload")


def kill_once(tined, i):
    victim = random.choice(tined.workers())
    processes.kill(victim, KILLS[i % len(KILLS)])
    wait_until(lambda: victim not in processes.children(tined.process.pid), "the killed worker is buried")


def restart_once(tined, i):
    """Every second time both, one after the other; so there are as many restarts as rounds."""
    if i % N_WORKERS == 0:
        told(tined, "restart", "all")


KINDS = {"reloads": reload_once, "kills": kill_once, "restarts": restart_once}


class State:
    """What may not grow. What is of all counts what they share once."""

    def __init__(self, tined):
        settled(tined)
        pid = tined.process.pid
        with open(f"/proc/{pid}/maps", encoding="ascii") as f:
            maps = f.read().splitlines()
        self.figures = {
            "descriptors": (processes.n_descriptors(pid), "1", 0),
            "processes": (len(processes.family(pid)), "1", 0),
            "mappings": (len(maps), "1", 0),
            "shared mappings": (sum(" rw-s " in line for line in maps), "1", 0),
            "files in /dev/shm": (sum("tine" in name for name in os.listdir("/dev/shm")), "1", 0),
            "RSS": (processes.memory_kib(pid, "Rss"), "KiB", 64),
            "anonymous memory": (processes.memory_kib(pid, "Anonymous"), "KiB", 64),
            "private memory of all": (self.of_all(tined, "Pss_Anon"), "KiB", 256),
            "shared memory of all": (self.of_all(tined, "Pss_Shmem"), "KiB", 64),
        }

    @staticmethod
    def of_all(tined, field):
        return sum(processes.memory_kib(pid, field) for pid in tined.family())


def repeat(tined, kind, n):
    end = time.monotonic() + LONGEST
    for i in range(n):
        KINDS[kind](tined, i)
        settled(tined)
        if fetch(tined.address, HELLO)[0] != 200:
            raise BenchError("a request was not answered as it should be")
        if time.monotonic() > end:
            raise BenchError(f"{i + 1} of {n} {kind} in {LONGEST} s")


def run(options):
    n = options.rounds or 1000
    rows = []
    settings = {"probation": "0", "backoff_min": "1ms", "backoff_max": "1ms", "crash_limit": "1000000/1d"}
    with Tined(options.folder, workers=N_WORKERS, options=settings) as tined:
        for kind in KINDS:
            repeat(tined, kind, N_FIRST)
        for kind in KINDS:
            say(f"leaks: {n} {kind}")
            before = State(tined)
            start = time.monotonic()
            repeat(tined, kind, n)
            say(f"leaks: {n} {kind} took {time.monotonic() - start:.1f} s")
            after = State(tined)
            for name, (value, unit, most) in after.figures.items():
                more = value - before.figures[name][0]
                rows.append(Row(f"after {n} {kind}: {name} more", unit, more, None, "",
                                bar=Bar("ours", "<=", most)))
    return rows

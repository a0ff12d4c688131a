"""What a worker that dies as soon as it starts costs in a minute, and whether the others' clients notice.

One of three workers dies in its start again and again, with the defaults of crash_limit and back-off; a client asks the other
two all the time. The CPU is that of the primary and of all its children, the dead ones as well (cutime), beyond what the same
load cost before.
"""

import os
import pathlib
import re
import time

from . import processes
from .client import fetch
from .common import BenchError, say, wait_until
from .rows import Bar, Row
from .servers import Tined

PAUSE = 0.01


def cpu_seconds(pid):
    """Of a process and of the children it has buried."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return sum(int(n) for n in text[text.rindex(")") + 2 :].split()[11:15]) / os.sysconf("SC_CLK_TCK")


def load(tined, seconds):
    """Returns the 99th percentile of the answers' times, in milliseconds."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        if fetch(tined.address, "/stuck")[0] != 200:
            raise BenchError("a request was not answered as it should be")
        times.append((time.perf_counter() - start) * 1000)
        time.sleep(PAUSE)
    times.sort()
    return times[int(len(times) * 0.99)]


def run(options):
    seconds = options.seconds or 60
    with Tined(options.folder, workers=3, modules=["stuck"], keys={"crash_slot": 2}) as tined:
        time.sleep(2)
        say(f"budget: three healthy workers, {seconds // 2} s")
        healthy = load(tined, seconds // 2)
        victim = slot_pid(tined, 2)
        (tined.folder / "crash").touch()
        before = cpu_seconds(tined.process.pid)
        own = processes.cpu_ns([victim]) / 1e9  # what the first one had used in its life is no cost of its death
        processes.kill(victim)
        say(f"budget: one dies at once, {seconds} s")
        beside = load(tined, seconds)
        cost = (cpu_seconds(tined.process.pid) - before - own) / seconds * 100
        n_deaths = len(re.findall(r"worker\[2\]: crash: ", tined.log()))
        failed = "worker[2]: dead -> failed" in tined.log()
    return [
        Row(f"CPU of {n_deaths} deaths in {seconds} s", "%", cost, None, "", bar=Bar("ours", "<=", 1)),
        Row("given up in the end", "1", int(failed), None, ""),
        Row("p99 of the healthy workers", "ms", beside, healthy, "before"),
    ]


def slot_pid(tined, slot):
    found = wait_until(
        lambda: [pid for pid in tined.workers() if f"worker[{slot}]" in processes.title(pid)], f"worker {slot}")
    return found[0]

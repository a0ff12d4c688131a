"""What watching over 64 idle workers costs, and how often an idle primary with 2 workers wakes up.

CPU time of the primary and of all workers, who do nothing else than answer heartbeats, over 30 s; and the primary's voluntary
context switches beside 2 workers: for each heartbeat one, and another one for each answer that does not come with the one before.
"""

import pathlib
import re
import time

from . import processes
from .common import say
from .rows import Bar, Row
from .servers import Tined

HEARTBEATS = 2  # a second, without a watchdog that wants more

def cpu_share(tined, seconds):
    """Of one CPU, in percent: the primary's, and everybody's."""
    pids = tined.family()
    before = [processes.cpu_ns([pid]) for pid in pids]
    time.sleep(seconds)
    used = [processes.cpu_ns([pid]) - was for pid, was in zip(pids, before)]
    return used[0] / seconds / 1e7, sum(used) / seconds / 1e7


def n_switches(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.M)[1])


def wakeups(tined, seconds):
    before = n_switches(tined.process.pid)
    time.sleep(seconds)
    return (n_switches(tined.process.pid) - before) / seconds


def run(options):
    seconds = options.seconds or 30
    with Tined(options.folder, workers=64) as tined:
        say(f"supervision: 64 idle workers, {seconds} s")
        time.sleep(3)  # what comes with the start is over
        primary, everybody = cpu_share(tined, seconds)
    (options.folder / "tined").rename(options.folder / "first")
    with Tined(options.folder, workers=2) as tined:
        say(f"supervision: 2 idle workers, {seconds} s")
        time.sleep(3)
        woken = wakeups(tined, seconds)
    return [
        Row("64 idle workers: CPU of the primary", "%", primary, None, ""),
        Row("64 idle workers: CPU of all", "%", everybody, None, "", bar=Bar("ours", "<=", 1)),
        Row("2 idle workers: wake-ups of the primary per heartbeat, which has 2 answers", "1", woken / HEARTBEATS, None, "",
            bar=Bar("ours", "<=", 3)),
    ]

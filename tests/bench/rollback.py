"""Reloads of which every second one must not go through, under load: no request fails, every verdict is right.

The faults take turns: a module that cannot be loaded, that fails to start, that hangs in its start, that crashes a second
after it was ready, and that crashes on its first request. The clients ask the very module that is exchanged. tinectl
brings the verdict.
"""

import collections
import itertools
import re
import statistics
import time

from . import wrk
from .client import Checkers
from .common import BenchError, say
from .rows import Bar, Row
from .servers import Tined

N_CLIENTS = 32
PATH = "/faulty"
BODY = b"Hello, World!"
MINIMUM = 200_000  # requests
# what is wrong: the changed line of the configuration, and what the verdict must speak of
FAULTS = {
    "cannot be loaded": (r"^path = .*faulty\.so$", "path = /nonexistent/faulty.so", "/nonexistent/faulty.so"),
    "fails to start": (r"^fault = .*$", "fault = error", "told to fail"),
    "hangs in its start": (r"^fault = .*$", "fault = hang", "did not get ready"),
    "crashes later": (r"^fault = .*$", "fault = later", "did not survive its probation"),
    "crashes on its first request": (r"^fault = .*$", "fault = first", "of the new generation"),
}


def change(text, pattern, line):
    changed, n = re.subn(pattern, line, text, flags=re.M)
    if n != 1:
        raise BenchError(f"the configuration has {n} lines {pattern}")
    return changed


def wrong_verdict(answer, wanted):
    """What is wrong with it; None: nothing. wanted: None for a reload that must go through."""
    said = answer.stdout + answer.stderr
    if wanted is None:
        return None if answer.returncode == 0 else f"a good reload failed: {said.strip()}"
    if answer.returncode != 1 or wanted not in said:
        return f"status {answer.returncode} and no \"{wanted}\" in: {said.strip()}"
    return None


def reload_many(tined, n):
    """Returns wrong verdicts, and seconds of each kind of reload."""
    path = tined.folder / "tined.ini"
    good = path.read_text()
    wrong, times = [], collections.defaultdict(list)
    for i, fault in zip(range(n), itertools.cycle(FAULTS)):
        pattern, line, wanted = FAULTS[fault]
        bad = i % 2 == 1
        path.write_text(change(good, pattern, line) if bad else good)
        start = time.perf_counter()
        problem = wrong_verdict(tined.control("reload"), wanted if bad else None)
        times[fault if bad else "good"].append(time.perf_counter() - start)
        if problem:
            wrong.append(problem)
            say(f"rollback: {fault if bad else 'good'}: {problem}")
    return wrong, times


def run(options):
    n = options.rounds or 100
    settings = {"probation": "1500ms", "start_timeout": "1s"}
    with Tined(options.folder, workers=2, options=settings, modules=["faulty"], keys={"fault": "none"}) as tined:
        say(f"rollback: {n} reloads")
        with Checkers(tined.address, PATH, BODY, N_CLIENTS) as clients, \
                wrk.Load(tined.url(PATH), n * 10 + 60, connections=16) as load:
            wrong, times = reload_many(tined, n)
            result = load.result(stop=True)
            n_checked, n_renewed, failures = clients.result()
    for kind, seconds in times.items():
        say(f"rollback: {kind}: {len(seconds)} x, median {statistics.median(seconds):.2f} s")
    for why, count in collections.Counter(failures).most_common(5):
        say(f"rollback: {count} x {why}")
    n_requests = n_checked + result.requests
    say(f"rollback: {n_requests} requests, {n_checked} of them checked to the last byte, {n_renewed} connections renewed")
    return [
        Row(f"requests failed over {n} reloads, half of them bad", "1", len(failures) + result.n_errors, None, "",
            bar=Bar("ours", "==", 0)),
        Row("requests meanwhile", "1", n_requests, None, "", bar=Bar("ours", ">=", MINIMUM * n / 100)),
        Row("wrong verdicts", "1", len(wrong), None, "", bar=Bar("ours", "==", 0)),
    ]

"""How long tiny requests take while something else goes on; see latency.c."""

import dataclasses
import json
import os
import statistics
import subprocess

from . import provision
from .common import WrongAnswer
from .servers import HELLO

BODY = "Hello, World!"
CONNECTIONS, RATE = 16, 2000


@dataclasses.dataclass
class Latency:
    p99_ms: float
    longest_ms: float


def measure(server, cpu, seconds=1):
    """RATE requests a second for so long. Raises WrongAnswer: there is no figure then."""
    done = subprocess.run(
        [provision.compiled("latency"), str(server.port), HELLO, BODY, str(CONNECTIONS), str(RATE), str(seconds)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, timeout=seconds + 60,
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    if done.returncode != 0:
        raise WrongAnswer(f"{server.name}: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    return Latency(found["p99"] / 1000, found["max"] / 1000)


def p99_ms(windows):
    """Of several measurements: what else runs on the machine spoils some, not all."""
    return statistics.median(window.p99_ms for window in windows)


def longest_ms(windows):
    return max(window.longest_ms for window in windows)

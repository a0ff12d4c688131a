"""One load of wrk: what it counted, and what went wrong."""

import dataclasses
import os
import re
import signal
import subprocess

from . import provision
from .common import BenchError


@dataclasses.dataclass
class Result:
    requests: int
    per_second: float
    n_errors: int  # connections that broke or timed out, answers that were not 2xx or 3xx
    errors: str  # the same in wrk's words; empty when there were none
    n_bytes: int = 0  # with bytes.lua


def parse(output):
    counts = re.search(r"(\d+) requests in", output)
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", output, re.MULTILINE)
    if not counts or not rate:
        raise BenchError(f"wrk said:\n{output.strip()}")
    wrong = re.findall(r"^\s*(Socket errors:.*|Non-2xx.*)$", output, re.MULTILINE)
    n_errors = sum(int(number) for line in wrong for number in re.findall(r"\b(\d+)\b", line.partition(":")[2]))
    exactly = re.search(r"^exactly (\d+) bytes$", output, re.MULTILINE)
    return Result(
        int(counts[1]), float(rate[1]), n_errors, "; ".join(wrong), int(exactly[1]) if exactly else 0)


class Load:
    """wrk in the background. As a context it is killed at the end, whatever happened."""

    def __init__(self, url, seconds, connections=64, cpu=None, script=None):
        provision.need("wrk")
        command = [provision.find("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", url]
        if script:
            command[1:1] = ["-s", str(script)]
        pin = None if cpu is None else lambda: os.sched_setaffinity(0, {cpu})
        self.seconds = seconds
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=pin,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def result(self, stop=False):
        """Waits for the end; stop: now."""
        if stop:
            self.process.send_signal(signal.SIGINT)
        try:
            output, _ = self.process.communicate(timeout=10 if stop else self.seconds + 10)
        except subprocess.TimeoutExpired:
            raise BenchError("wrk does not end") from None
        return parse(output)


def run(url, seconds, **options):
    with Load(url, seconds, **options) as load:
        return load.result()

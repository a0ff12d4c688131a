"""What every part needs: errors, deadlines, CPUs, descriptors, progress."""

import os
import resource
import sys
import time


class BenchError(Exception):
    """The benchmark cannot be run here; the text says why. Exit status 2."""


class WrongAnswer(BenchError):
    """A load was not served as it has to be. Exit status 1."""


def say(text):
    """Progress; standard output is for results alone."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def per_second(numbers):
    """Of a module or a program that says how many, and in how many seconds."""
    return numbers[0] / numbers[1]


def wait_until(condition, what, seconds=10, pause=0.002):
    """Returns what condition() returns as soon as that is true."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise BenchError(f"not within {seconds} s: {what}")
        time.sleep(pause)


def two_cpus():
    """One CPU for the servers and one for the load: only so does the load not change what is measured."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise BenchError("two CPUs are needed, one for the servers and one for the load")
    return cpus[0], cpus[1]


def many_descriptors(wanted):
    """For this process and, by inheritance, for the servers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, OSError):
            raise BenchError(f"{wanted} descriptors are needed, the limit is {hard} (ulimit -Hn)") from None
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

"""Child processes beside Node's: /bin/true is started, and its end awaited, one at a time and sixteen.

tined: spawn_module.c through tine/child.h. Node: spawn_node.js, child_process.spawn, each child after the 'close' of another. Both
alike with pipes for the standard streams (what Node does by itself) and without; and in a process with 1 GiB of memory in use. What
a machine can do at most is in the rows of posix_spawn(3), with one program that does nothing else, and with one for each CPU: most of
the life of /bin/true is the dynamic loader, which in a virtual machine traps at each CPUID. The program that only ends has none.
Nothing is bound to a CPU. The rounds alternate; figures are medians.
"""

import concurrent.futures
import os
import statistics

from . import provision
from .client import ask_numbers
from .common import per_second, say
from .rows import Bar, Row
from .servers import Tined

PATH = "/spawn_module/rate"
LARGE = 1024  # MiB


def ours(tined, seconds, flight, pipes, mib=0):
    return per_second(ask_numbers(tined, PATH, seconds=seconds, flight=flight, pipes=int(pipes), mib=mib))


def together(n, do):
    """The sum of what n of them return, at the same time."""
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return sum(pool.map(lambda _: do(), range(n)))


def node(program, seconds, flight, pipes, mib=0):
    return per_second(provision.node("spawn_node.js", program, seconds, flight, "pipe" if pipes else "ignore", mib))


def floor(program, seconds, flight, n=1):
    command = [provision.compiled("spawn_floor"), program, seconds, flight]
    return together(n, lambda: per_second(provision.numbers(command, "posix_spawn")))


def beside(tined, program, seconds, rounds, what, **options):
    """One row: the median rates of both, and of their ratios."""
    pairs = []
    for i in range(rounds):
        say(f"spawn: {what}: round {i + 1} of {rounds}")
        theirs = node(program, seconds, **options) if i % 2 else None
        mine = ours(tined, seconds, **options)
        pairs.append((mine, theirs or node(program, seconds, **options)))
    mine, theirs = (statistics.median(column) for column in zip(*pairs))
    ratio = statistics.median(x / y for x, y in pairs)
    return Row(what, "children/s", mine, theirs, "node", ratio=ratio, bar=Bar("ratio", ">=", 5))


def of_program(folder, program, name, seconds, rounds):
    """Each way of starting one program, and what posix_spawn(3) can do at most."""
    (folder / "files").mkdir(parents=True, exist_ok=True)
    found = []
    with Tined(folder, modules=("spawn_module",), options={"hang_timeout": "1m"}, keys={"program": program}) as tined:
        for flight in (1, 16):
            for pipes in (True, False):
                what = f"{name}, {flight} at a time, {'pipes' if pipes else 'no streams'}"
                found.append(beside(tined, program, seconds, rounds, what, flight=flight, pipes=pipes))
            for n in (1, os.cpu_count()):
                most = statistics.median(floor(program, seconds, flight, n) for _ in range(rounds))
                found.append(Row("the same", "children/s", found[-1].ours, most, f"{n} × posix_spawn"))
        what = f"{name}, 1 at a time, {LARGE} MiB in use"
        found.append(beside(tined, program, seconds, rounds, what, flight=1, pipes=True, mib=LARGE))
    return found


def rows(folder, seconds, rounds):
    """All of it, in daemons of its own."""
    provision.need("node")
    nothing = provision.compile_c(
        provision.HERE / "spawn_nothing.c", provision.OWN_BUILD / "spawn_nothing", "-nostdlib", "-static")
    return [
        *of_program(folder / "true", "/bin/true", "/bin/true", seconds, rounds),
        *of_program(folder / "nothing", nothing, "a program that only ends", seconds, rounds),
    ]
